"""Files of weights: hashing, verified reading and resumable downloads. What is inside is `sam.checkpoint`'s matter."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from msksam_cli.errors import EnvironmentFault, ModelError
from msksam_cli.io.atomic import write_text

PARTIAL_SUFFIX = ".part"

_BLOCK = 1 << 20
_TIMEOUT_S = 30.0

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint file read into memory, so that the bytes hashed are the bytes parsed.

    Attributes:
        name: the file's name, for messages.
        content: all of it.
        sha256: hex digest of the content.
    """

    name: str
    content: bytes
    sha256: str


def read_weights(path: Path, sha256: str = "") -> WeightsFile:
    """A checkpoint's bytes, after comparing their hash with the pinned one if there is one.

    Raises:
        ModelError: the file is missing, cannot be read, or has another hash.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"checkpoint {path.name} cannot be read: {error.strerror}", "Check --model") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise hash_mismatch(path.name, sha256, found)
    return WeightsFile(path.name, content, found)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror}") from error


def hash_mismatch(name: str, expected: str, found: str) -> ModelError:
    """The error for a file whose hash is not the pinned one."""
    return ModelError(
        f"{name} has sha256 {found[:16]}…, expected {expected[:16]}…: it is damaged or another file",
        "Delete it and get it again",
    )


def download(
    url: str, target: Path, sha256: str, *, progress: Progress | None = None, allow_loopback_http: bool = False
) -> str:
    """Fetch a file over https; resume what an earlier try left; return its sha256.

    The bytes collect in `<target>.part` and become `target` only when complete and, if a hash is pinned, equal to it.

    Args:
        url: https address; every redirect must stay on https.
        target: final path.
        sha256: pinned hex digest, "" when none is known.
        progress: told bytes so far and in all (None when unknown).
        allow_loopback_http: let plain http reach this machine itself; for tests.

    Raises:
        ModelError: the address is not https, the server refuses, the transfer breaks off, or the hash differs.
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    _check_scheme(url, allow_loopback_http)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fetch(url, partial, progress, allow_loopback_http)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            _forget(partial)
            _fetch(url, partial, progress, allow_loopback_http)
        found = file_sha256(partial)
        if sha256 and found != sha256:
            _forget(partial)
            raise hash_mismatch(target.name, sha256, found)
        os.replace(partial, target)
        _forget(partial)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise ModelError(f"download of {target.name} failed: {reason}", "Run the command again to resume") from error
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {target.name}: {error.strerror}", "Free space or set MSKSAM_MODELS"
        ) from error
    return found


def _fetch(url: str, partial: Path, progress: Progress | None, allow_loopback_http: bool) -> None:
    validator = _read_validator(partial)
    held = partial.stat().st_size if validator and partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "msksam", "Accept-Encoding": "identity"})
    if held:
        request.add_header("Range", f"bytes={held}-")
        request.add_header("If-Range", validator)
    opener = urllib.request.build_opener(_GuardedRedirects(allow_loopback_http))
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = held if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdecimal() else None
        _write_validator(partial, answer.headers)
        with partial.open("ab" if resumed else "wb") as stream:
            while block := answer.read(_BLOCK):
                stream.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
            stream.flush()
            os.fsync(stream.fileno())
    arrived = partial.stat().st_size  # not `done`: another process may have written to the same partial
    if total is not None and arrived != total:
        raise ConnectionError(f"{arrived} of {total} bytes arrived")


class _GuardedRedirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, allow_loopback_http: bool) -> None:
        self._allow_loopback_http = allow_loopback_http

    def redirect_request(  # noqa: PLR0917  # the standard library's signature
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        _check_scheme(newurl, self._allow_loopback_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # typeshed wants HTTPMessage


def _check_scheme(url: str, allow_loopback_http: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (allow_loopback_http and parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise ModelError(
        f"refusing to download from {parts.scheme or 'no scheme'}://{parts.hostname}", "Use an https address"
    )


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _validator_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_validator(partial: Path) -> str:
    """What tells that the server's file is still the one the partial came from; "" when nothing does."""
    try:
        return str(json.loads(_validator_path(partial).read_text(encoding="utf-8"))["validator"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _write_validator(partial: Path, headers: Message) -> None:
    etag = headers.get("ETag", "")
    validator = headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
    write_text(_validator_path(partial), json.dumps({"validator": validator}))


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _validator_path(partial).unlink(missing_ok=True)
