from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from msksam_cli.errors import ModelError
from msksam_cli.io.onnx_folder import (
    find_onnx_folder,
    graph_hashes,
    is_onnx_folder,
    read_onnx_folder,
)

FILES = {"encoder.onnx": b"an encoder", "encoder.onnx.data": b"its weights", "decoder.onnx": b"a decoder"}


def make(folder: Path, **model: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    content = {"model": model, "files": graph_hashes(folder)}
    (folder / "parity.json").write_text(json.dumps(content))
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "parity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_export_is_read_when_every_file_has_its_hash(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", name="mine")
    assert graph_hashes(folder) == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert is_onnx_folder(folder)
    assert read_onnx_folder(folder)["model"] == {"name": "mine"}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_cut_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "x")
    for content in (FILES[name] + b".", FILES[name][:-1], b""):
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name} in x has sha256 .*: it is damaged or another file"):
            read_onnx_folder(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} cannot be read"):
        read_onnx_folder(folder)


def test_a_description_that_is_none_is_refused(tmp_path: Path) -> None:
    for number, text in enumerate(("", "{", "[]", '{"model": 3, "files": {}}', '{"model": {}}', "\0")):
        folder = make(tmp_path / str(number))
        (folder / "parity.json").write_text(text)
        with pytest.raises(ModelError, match=r"parity\.json in \d (cannot be read|does not describe)") as refused:
            read_onnx_folder(folder)
        assert refused.value.hint == "Run `msksam export-onnx` again"
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx_folder(tmp_path / "absent")
    assert not is_onnx_folder(tmp_path / "absent")


def test_a_description_that_leads_out_of_the_folder_or_names_no_graphs_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    files = graph_hashes(folder)
    edit(folder, files={**files, "../secret": "0" * 64})
    with pytest.raises(ModelError, match=r"names '\.\./secret', which is no file beside it"):
        read_onnx_folder(folder)
    for none in ({}, {"encoder.onnx": files["encoder.onnx"]}, [], None):
        edit(folder, files=none)
        with pytest.raises(ModelError, match="names no graphs"):
            read_onnx_folder(folder)


def test_the_newest_export_with_the_wanted_values_is_found_and_damaged_ones_are_passed_by(tmp_path: Path) -> None:
    wanted = {"weights_sha256": "a", "normalisation": "unit"}
    assert find_onnx_folder(tmp_path / "absent", wanted) is None
    make(tmp_path / "other", weights_sha256="b", normalisation="unit")
    make(tmp_path / "foreign", weights_sha256="a", normalisation="imagenet")
    (make(tmp_path / "damaged", **wanted) / "parity.json").write_text("{")
    assert find_onnx_folder(tmp_path, wanted) is None
    old, new = make(tmp_path / "old", **wanted), make(tmp_path / "new", **wanted)
    os.utime(old / "parity.json", (1, 1))
    assert find_onnx_folder(tmp_path, wanted) == new


def test_weights_beside_a_graph_that_have_no_hash_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    (folder / "decoder.onnx.data").write_bytes(b"slipped in")
    with pytest.raises(ModelError, match=r"decoder\.onnx\.data in x is not named by parity\.json"):
        read_onnx_folder(folder)
