"""Folders of exported models: `encoder.onnx`, `decoder.onnx`, and `parity.json`, which says what they are.

`parity.json` is written last, when the graphs have been found to give the masks they must; a folder without one is no
export. It holds the sha256 of every other file, compared before any of them is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msksam_cli.errors import InputError, ModelError
from msksam_cli.io.tables import read_json
from msksam_cli.io.weights import file_sha256, hash_mismatch

ENCODER_FILE, DECODER_FILE, PARITY_FILE = "encoder.onnx", "decoder.onnx", "parity.json"
DATA_SUFFIX = ".data"
"""Added to the name of a graph: its weights, where they are too large for the graph itself."""

_HINT = "Run `msksam export-onnx` again"


def is_onnx_folder(path: Path) -> bool:
    """Whether a path is a folder that holds a finished export."""
    return (path / PARITY_FILE).is_file()


def other_files(folder: Path) -> tuple[str, ...]:
    """Names of what lies in a folder and belongs to no export; none where there is no folder."""
    own = {f"{name}{ending}" for name in (ENCODER_FILE, DECODER_FILE) for ending in ("", DATA_SUFFIX)} | {PARITY_FILE}
    return tuple(sorted(path.name for path in folder.iterdir() if path.name not in own)) if folder.is_dir() else ()


def graph_hashes(folder: Path) -> dict[str, str]:
    """Name → sha256 of the files of an export, the weights beside a graph included."""
    return {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.name != PARITY_FILE}


def read_onnx_folder(folder: Path) -> Mapping[str, object]:
    """What `parity.json` says, after comparing every file with the hash it names.

    Raises:
        ModelError: it cannot be read, or a file is missing, has another hash or none.
    """
    content = read_parity(folder)
    files = content["files"]
    if not isinstance(files, Mapping) or not {ENCODER_FILE, DECODER_FILE} <= set(files):
        raise ModelError(f"{PARITY_FILE} in {folder.name} names no graphs", _HINT)
    for name, expected in files.items():
        if Path(name).name != name:
            raise ModelError(f"{PARITY_FILE} in {folder.name} names {name!r}, which is no file beside it", _HINT)
        found = file_sha256(folder / name)
        if found != expected:
            raise hash_mismatch(f"{name} in {folder.name}", str(expected), found)
    for name in (f"{ENCODER_FILE}{DATA_SUFFIX}", f"{DECODER_FILE}{DATA_SUFFIX}"):
        if name not in files and (folder / name).exists():
            raise ModelError(f"{name} in {folder.name} is not named by {PARITY_FILE}", _HINT)
    return content


def read_parity(folder: Path) -> Mapping[str, object]:
    """What `parity.json` says; no other file is looked at.

    Raises:
        ModelError: it cannot be read or does not describe an export.
    """
    try:
        content = read_json(folder / PARITY_FILE)
    except InputError as error:
        raise ModelError(f"{PARITY_FILE} in {folder.name} cannot be read", _HINT) from error
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping) or "files" not in content:
        raise ModelError(f"{PARITY_FILE} in {folder.name} does not describe an exported model", _HINT)
    return content


def find_onnx_folder(root: Path, wanted: Mapping[str, object]) -> Path | None:
    """The export among the folders in `root` whose model has these values, the newest of several, None without one."""
    found = []
    for path in root.glob(f"*/{PARITY_FILE}"):
        try:
            model = read_parity(path.parent)["model"]
        except ModelError:
            continue  # another model's export may be damaged
        if isinstance(model, Mapping) and wanted.items() <= model.items():
            found.append((path.stat().st_mtime, path.parent))
    return max(found)[1] if found else None
