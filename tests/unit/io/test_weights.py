"""Downloads go to a real HTTP server on this machine's loopback address."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from msksam_cli.errors import EnvironmentFault, ModelError
from msksam_cli.io.weights import download, file_sha256, read_weights

CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with ranges and an ETag; `break_after` drops the connection once after so many bytes."""

    content = CONTENT
    etag = '"one"'
    break_after: int | None = None
    asked: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/model.pth")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range") == self.server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(self.server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        body = self.server.content[start:]
        if self.server.break_after is not None:
            body, self.server.break_after = body[: self.server.break_after], None
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(server: Server, target: Path, sha256: str = SHA256, path: str = "/model.pth") -> str:
    return download(server.url.replace("/model.pth", path), target, sha256, allow_loopback_http=True)


def test_a_file_arrives_whole_with_its_hash_and_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    found = download(
        server.url, tmp_path / "new" / "m.pth", SHA256, progress=lambda *at: seen.append(at), allow_loopback_http=True
    )
    assert found == SHA256
    assert (tmp_path / "new" / "m.pth").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_transfer_leaves_no_file_and_the_next_one_resumes_it(server: Server, tmp_path: Path) -> None:
    server.break_after = 300_000
    with pytest.raises(ModelError, match=r"download of m\.pth failed: 300000 of 700000 bytes arrived"):
        fetch(server, tmp_path / "m.pth")
    assert not (tmp_path / "m.pth").exists()
    assert fetch(server, tmp_path / "m.pth") == SHA256
    assert server.asked == [None, "bytes=300000-"]
    assert (tmp_path / "m.pth").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.break_after = 300_000
    with pytest.raises(ModelError, match="failed"):
        fetch(server, tmp_path / "m.pth", "")
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert fetch(server, tmp_path / "m.pth", "") == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_transfer_that_was_killed_just_before_the_rename_is_completed(server: Server, tmp_path: Path) -> None:
    server.break_after = 300_000
    with pytest.raises(ModelError, match="failed"):
        fetch(server, tmp_path / "m.pth")
    (tmp_path / "m.pth.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "m.pth") == SHA256


def test_a_file_with_another_hash_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m.pth has sha256 .*, expected 0000"):
        fetch(server, tmp_path / "m.pth", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_partial_is_noticed_and_the_next_try_starts_from_nothing(server: Server, tmp_path: Path) -> None:
    server.break_after = 300_000
    with pytest.raises(ModelError, match="failed"):
        fetch(server, tmp_path / "m.pth")
    (tmp_path / "m.pth.part").write_bytes(b"x" * 300_000)
    with pytest.raises(ModelError, match="expected"):
        fetch(server, tmp_path / "m.pth")
    assert fetch(server, tmp_path / "m.pth") == SHA256


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/m", "http://example.invalid/m", "ftp://example.invalid/m", "file:///etc/passwd", "m.pth"],
)
def test_only_https_is_spoken(tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelError, match="refusing to download from"):
        download(url, tmp_path / "m.pth", SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_away_from_https_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"refusing to download from http://example\.invalid"):
        fetch(server, tmp_path / "m.pth", path="/away")


def test_a_missing_file_and_a_silent_server_are_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"download of m\.pth failed: Not Found"):
        fetch(server, tmp_path / "m.pth", path="/missing")
    with pytest.raises(ModelError, match=r"download of m\.pth failed"):
        download("http://127.0.0.1:1/m", tmp_path / "m.pth", SHA256, allow_loopback_http=True)


def test_a_folder_that_cannot_be_made_is_an_environment_fault(server: Server, tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    with pytest.raises(EnvironmentFault, match=r"cannot write m\.pth"):
        fetch(server, tmp_path / "in the way" / "m.pth")


def test_weights_are_handed_on_only_when_their_hash_is_the_pinned_one(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(CONTENT)
    assert file_sha256(path) == SHA256
    weights = read_weights(path, SHA256)
    assert (weights.content, weights.sha256, weights.name) == (CONTENT, SHA256, "m.pth")
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    with pytest.raises(ModelError, match=r"m.pth has sha256 .* it is damaged or another file"):
        read_weights(path, SHA256)
    with pytest.raises(ModelError, match=r"checkpoint gone\.pth cannot be read: No such file"):
        read_weights(tmp_path / "gone.pth")
