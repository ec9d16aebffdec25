"""Encoders translated for OpenVINO, kept in a folder: `encoder.xml`, `encoder.bin` and `files.json` with their sha256.

`files.json` is written last; a folder without one, or with another hash, holds nothing that would be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msksam_cli.errors import InputError, ModelError
from msksam_cli.io.atomic import atomic_folder, clean_temporaries
from msksam_cli.io.tables import read_json, write_json
from msksam_cli.io.weights import file_sha256

GRAPH_FILE, WEIGHTS_FILE, HASHES_FILE = "encoder.xml", "encoder.bin", "files.json"


def kept_graph(folder: Path) -> Path | None:
    """The graph in a folder, after comparing both files with their hashes; None without one or where one is damaged."""
    try:
        hashes = read_json(folder / HASHES_FILE)
        if not isinstance(hashes, Mapping) or set(hashes) != {GRAPH_FILE, WEIGHTS_FILE}:
            return None
        is_intact = all(file_sha256(folder / name) == expected for name, expected in hashes.items())
    except (InputError, ModelError):
        return None
    return folder / GRAPH_FILE if is_intact else None


def keep_graph(folder: Path, save: Callable[[Path], object]) -> Path:
    """Keep a graph in a folder, instead of what may be there; returns where it is.

    Args:
        folder: created if need be.
        save: writes the graph as the path it is given, which ends in .xml, and its weights beside it as .bin.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    clean_temporaries(folder)
    with atomic_folder(folder, HASHES_FILE) as temporary:
        save(temporary / GRAPH_FILE)
        write_json(
            temporary / HASHES_FILE, {name: file_sha256(temporary / name) for name in (GRAPH_FILE, WEIGHTS_FILE)}
        )
    return folder / GRAPH_FILE
