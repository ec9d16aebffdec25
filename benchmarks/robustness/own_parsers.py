"""Damaged files for msksam's own parsers: python benchmarks/robustness/own_parsers.py [--files N] [--seed S].

Every file that msksam writes and reads again, or that people write for it, is made, damaged and read: values replaced
by values of other kinds, keys and items dropped, doubled and moved, numbers made huge, negative or not finite, and
bytes damaged as those of images are; nesting without end and numbers of thousands of digits. Files that are believed
by their sha256 (atlases, exports) get a new one, so that the parser behind it is reached. Only a MsksamError may come
out. Each other outcome is printed with the number that makes it again: `--only PARSER --seed N --files 1`. The exit
status is 1 when there is one.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from damage import damage

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.errors import CacheError, MsksamError
from msksam_cli.io import atlas_folder
from msksam_cli.io.embedding_store import DiskStore, entry_parts
from msksam_cli.io.fusion_file import FusionWeights, read_fusion_file, write_fusion_file
from msksam_cli.io.onnx_folder import DECODER_FILE, ENCODER_FILE, PARITY_FILE, graph_hashes, read_onnx_folder
from msksam_cli.io.prompt_files import read_prompts, write_prompts
from msksam_cli.io.registry import Pin, read_pins, read_registry, write_pin
from msksam_cli.io.resources import bundled
from msksam_cli.io.tables import read_csv, read_json, read_tissue_table, write_csv, write_json, write_tissue_table
from msksam_cli.io.toml_text import toml_text
from msksam_cli.io.weights import read_weights
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.measure.slice_signals import SIGNALS
from msksam_cli.pipeline.quality_file import read_quality_file, write_quality_file
from msksam_cli.pipeline.report import write_report
from msksam_cli.pipeline.run_record import CaseRecord, is_done, read_record, write_record, write_tables

TISSUES = TissueTable((Tissue(2, "femur", "F", "#cc3333", "left", "bone"), Tissue(7, "tibia", "T", "#33cc33")))
GRID = Grid((9, 14, 6), np.array([[0.0, 0, -3.0, 10], [0.5, 0, 0, 20], [0, 0.7, 0, 30], [0, 0, 0, 1]]))
KEY = EmbeddingKey.of_slice(np.zeros((3, 5), np.uint8), "e" * 64, "v1", "fp32")
ODD_VALUES = (
    None, True, False, 0, -1, 1, 255, 256, 65536, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308,
    float("nan"), float("inf"), float("-inf"), "", " ", "n/a", "femur", "0", "1e9", "nan", "../../etc/passwd", "/",
    "a" * 300, "\0", "é\u202e", [], [[]], [1], ["x"], [None], {}, {"a": 1}, [0, 0, 0, 0], [[1e308, 1e308]],
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A parser and a file it reads.

    Attributes:
        file: name of the file in a folder of its own.
        write: fills that folder with what is intact.
        read: reads it.
        kind: the way its values are damaged: "json", "toml", "atlas" (TOML below a line with its hash), "tsv", "csv",
            "framed" (JSON behind its length, then a payload) or "bytes".
        seal: makes a damaged folder believable again.
    """

    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    kind: str
    seal: Callable[[Path], object] = lambda folder: None


def _write_prompts(folder: Path) -> None:
    prompts = (
        Prompt(2, 1, Box((1.5, 2.0, 12.0, 8.0)), None, "atlas:knee"),
        Prompt(7, 1, None, Points(((3.0, 1.0), (0.5, 4.0)), (True, False)), "labels"),
    )
    write_prompts(folder / "p.json", prompts, [0.5, 1.25], grid=GRID, tissues=TISSUES, provenance={"model": "m"})


def _quality() -> QualityModel:
    row = tuple(0.5 for _ in SIGNALS)
    return QualityModel(
        tuple(SIGNALS), row, row, row, {"bone": 0.1}, 0.2, ((0.0, 1.0), (0.1, 0.9)), "a" * 64, {"cases": 3}
    )


def _record() -> CaseRecord:
    return CaseRecord(
        case="a", setup_sha256="s", input_sha256="i", outputs={"labels/a.nii.gz": "h"},
        metrics=[{"case": "a", "tissue": "femur", "volume_mm3": 2.5}],
        flags=[{"case": "a", "tissue": "femur", "flag": "empty"}],
        slices=[{"case": "a", "slice": 3}], fit={"atlas": "knee"}, seconds={"read": 0.1}, slices_encoded=1,
    )  # fmt: skip


def _read_run(folder: Path) -> None:
    record = read_record(folder, "a")
    is_done(record, folder, "s", "i")
    write_tables(folder, TISSUES)


def _write_atlas(folder: Path) -> None:
    shape = (5, 4, 3)
    values = np.linspace(0, 1, 60, dtype=np.float32).reshape(shape)
    grid = Grid(shape, np.diag([2.0, 2.2, 5.0, 1.0]))
    atlas = Atlas(
        "fuzz", "knee", "left", grid, {"mean": values}, {2: values, 7: 1 - values}, TISSUES, {}, {"cases": [1, 2]}
    )
    atlas_folder.write_atlas(folder, atlas)


def _seal_atlas(folder: Path) -> None:
    manifest = folder / atlas_folder.MANIFEST
    body = manifest.read_bytes().partition(b"\n")[2]
    parts = (body, (folder / atlas_folder.TABLE).read_bytes(), (folder / atlas_folder.ARRAYS).read_bytes())
    try:
        digest = atlas_folder._digest(body.decode(), *parts[1:])
    except UnicodeDecodeError:
        return
    manifest.write_bytes(f'sha256 = "{digest}"\n'.encode() + body)


def _write_export(folder: Path) -> None:
    for name in (ENCODER_FILE, DECODER_FILE):
        (folder / name).write_bytes(name.encode())
    asking = {"box_as_mask": False, "block_cells": None}
    model: dict[str, Any] = {
        "name": "m", "architecture": "vit_b", "image_side_px": 1024, "cells": 64, "asking": asking,
        "normalisation": "imagenet", "mask_threshold": 0.0, "weights_sha256": "w", "encoder_sha256": "e",
        "metadata": {"a": "b"},
    }  # fmt: skip
    write_json(folder / PARITY_FILE, {"model": model, "files": graph_hashes(folder), "fusion": {"prior_weight": "1"}})


def _read_export(folder: Path) -> None:
    from msksam_cli.sam.onnx_network import parse_onnx_model

    parse_onnx_model(read_onnx_folder(folder)["model"], PARITY_FILE)


def _entry() -> bytes:
    features = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    return b"".join(entry_parts(KEY, Embedding(features, (30, 50))))


def _read_entry(folder: Path) -> None:
    store = DiskStore(folder / "cache")
    path = store.path_of(KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((folder / "e").read_bytes())
    store.verify()
    path.write_bytes((folder / "e").read_bytes())
    if store.get(KEY) is None:
        raise CacheError("damaged")


def _tensors() -> dict[str, Any]:
    import torch

    return {"image_encoder.stem.0.weight": torch.ones(2, 3), "mask_decoder.iou_token.weight": torch.zeros(4)}


def _write_own_checkpoint(folder: Path) -> None:
    from safetensors.torch import save

    about = {"arch": "msksam_small", "image_side_px": "64", "mask_threshold": "0.5", "normalisation": "unit"}
    (folder / "c.safetensors").write_bytes(save(_tensors(), about))


def _write_torch_checkpoint(folder: Path) -> None:
    import torch

    torch.save({"model": _tensors()}, folder / "c.pth")


def _read_checkpoint(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        from msksam_cli.sam.checkpoint import parse_checkpoint

        weights = read_weights(folder / name)
        parse_checkpoint(weights.content, weights.name).build()

    return read


def _write_run(folder: Path) -> None:
    write_record(folder, _record())
    outcome = {"case": "a", "resumed": False, "seconds": {"read": 1.0}, "slices_encoded": 1, "fit": {}, "outputs": {}}
    files = [{"file": "a.nii.gz", "state": "used", "reason": "", "case": "a"}]
    run = {
        "msksam": "0",
        "options": {},
        "segmented": [outcome],
        "refused": [{"case": "b", "reason": "cut"}],
        "files": files,
    }
    write_json(folder / "run.json", run)
    write_tables(folder, TISSUES)


TARGETS = {
    "prompts": Target("p.json", _write_prompts, lambda f: read_prompts(f / "p.json", GRID, TISSUES), "json"),
    "labels.tsv": Target(
        "t.tsv", lambda f: write_tissue_table(f / "t.tsv", TISSUES), lambda f: read_tissue_table(f / "t.tsv"), "tsv"
    ),
    "csv": Target(
        "t.csv",
        lambda f: write_csv(f / "t.csv", ("a", "b"), [{"a": 1, "b": "x"}, {"a": 2.5, "b": None}]),
        lambda f: read_csv(f / "t.csv"),
        "csv",
    ),
    "json": Target(
        "j.json", lambda f: write_json(f / "j.json", {"a": [1, {"b": 2}]}), lambda f: read_json(f / "j.json"), "json"
    ),
    "record": Target("records/a.json", lambda f: write_record(f, _record()), _read_run, "json"),
    "run.json": Target("run.json", _write_run, write_report, "json"),
    "metrics.csv": Target("metrics.csv", _write_run, write_report, "csv"),
    "fusion.toml": Target(
        "m.fusion.toml",
        lambda f: write_fusion_file(f / "m.fusion.toml", FusionWeights(0.5, {"bone": 0.2}, "a" * 64, {"cases": 3})),
        lambda f: read_fusion_file(f / "m.fusion.toml"),
        "toml",
    ),
    "qc.json": Target(
        "m.qc.json",
        lambda f: write_quality_file(f / "m.qc.json", _quality()),
        lambda f: read_quality_file(f / "m.qc.json"),
        "json",
    ),
    "registry": Target(
        "registry.toml",
        lambda f: (f / "registry.toml").write_bytes(bundled("registry.toml").read_bytes()),
        lambda f: read_registry(f / "registry.toml"),
        "toml",
    ),
    "pin": Target(
        "m.pin.json", lambda f: write_pin(f, Pin("m", "m.pth", "a" * 64, 12, "import")), read_pins, "json"
    ),
    "atlas.toml": Target(atlas_folder.MANIFEST, _write_atlas, atlas_folder.read_atlas, "atlas", _seal_atlas),
    "atlas table": Target(atlas_folder.TABLE, _write_atlas, atlas_folder.read_atlas, "tsv", _seal_atlas),
    "atlas arrays": Target(atlas_folder.ARRAYS, _write_atlas, atlas_folder.read_atlas, "bytes", _seal_atlas),
    "embedding": Target("e", lambda f: (f / "e").write_bytes(_entry()), _read_entry, "framed"),
    "checkpoint": Target("c.safetensors", _write_own_checkpoint, _read_checkpoint("c.safetensors"), "framed"),
    "torch checkpoint": Target("c.pth", _write_torch_checkpoint, _read_checkpoint("c.pth"), "bytes"),
    "parity.json": Target(PARITY_FILE, _write_export, _read_export, "json"),
}  # fmt: skip


def damaged_value(value: Any, chooser: random.Random) -> Any:
    """A nested value with one to three of its parts replaced, dropped, doubled or moved."""
    value = copy.deepcopy(value)
    for _ in range(chooser.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chooser.choice(ODD_VALUES)
        parent, key = chooser.choice(places)
        action = chooser.choice(("odd", "odd", "odd", "drop", "double", "swap", "whole"))
        if action == "whole" and chooser.random() < 0.1:
            return chooser.choice(ODD_VALUES)
        if action == "drop":
            del parent[key]
        elif action == "double" and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif action == "double":
            parent[f"{key}_"] = parent[key]
        elif action == "swap":
            other, place = chooser.choice(places)
            if key in range(len(parent)) if isinstance(parent, list) else key in parent:
                parent[key] = copy.deepcopy(other[place])
        else:
            parent[key] = copy.deepcopy(chooser.choice(ODD_VALUES))
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def damaged_content(content: bytes, kind: str, chooser: random.Random) -> bytes:
    """A file's bytes, damaged in the way of its kind or, one time in four, as bytes."""
    if kind == "bytes" or chooser.random() < 0.25:
        return damage(content, chooser)
    if kind in ("json", "toml", "atlas") and chooser.random() < 0.03:
        head, (start, end) = content.partition(b"\n")[0], (b"{", b"}") if kind == "json" else (b"", b"")
        key = b'"a": ' if kind == "json" else b"a = "
        monster = chooser.choice((b"[" * 100_000, b"7" * 10_000, b"[" * 900 + b"]" * 900))
        return (head + b"\n" if kind == "atlas" else b"") + start + key + monster + end
    if kind == "framed":
        end = 8 + int.from_bytes(content[:8], "little")
        head = damaged_content(content[8:end], "json", chooser)
        return len(head).to_bytes(8, "little") + head + content[end:]
    if kind == "json":
        return json.dumps(damaged_value(json.loads(content), chooser)).encode("utf-8", "surrogatepass")
    if kind in ("toml", "atlas"):
        head, body = (content.partition(b"\n")[::2]) if kind == "atlas" else (b"", content)
        try:
            text = toml_text(damaged_value(tomllib.loads(body.decode()), chooser))
        except (TypeError, ValueError, AttributeError):
            return damage(content, chooser)  # a value that TOML cannot hold
        return (head + b"\n" if head else b"") + text.encode("utf-8", "surrogatepass")
    delimiter = "\t" if kind == "tsv" else ","
    cells = [line.split(delimiter) for line in content.decode().splitlines()]
    odd = damaged_value(cells, chooser)
    rows = (
        [[str(cell) for cell in row] if isinstance(row, list) else [str(row)] for row in odd]
        if isinstance(odd, list)
        else []
    )
    return "\n".join(delimiter.join(row) for row in rows).encode("utf-8", "surrogatepass")


def attempt(name: str, folder: Path, seed: int) -> str:
    """What became of one damaged file: "read", "refused", or the exception that came out and where it was raised."""
    target, chooser = TARGETS[name], random.Random(f"{name} {seed}")
    folder.mkdir(exist_ok=True)
    target.write(folder)
    path = folder / target.file
    path.write_bytes(damaged_content(path.read_bytes(), target.kind, chooser))
    target.seal(folder)
    try:
        target.read(folder)
    except MsksamError:
        return "refused"
    except Exception as error:  # noqa: BLE001  # any exception but a refusal is what is being looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
    return "read"


def attack(root: Path, files: int, seed: int, only: str = "") -> dict[str, Counter[str]]:
    """Parser → counts of outcomes of `files` damaged files; an outcome that must not be names its first seed."""
    counts: dict[str, Counter[str]] = {}
    for name in [only] if only else TARGETS:
        found, first = Counter[str](), dict[str, int]()
        for number in range(seed, seed + files):
            outcome = attempt(name, root / name.replace(" ", "-"), number)
            found[outcome] += 1
            first.setdefault(outcome, number)
        bad = {outcome: n for outcome, n in found.items() if outcome not in ("read", "refused")}
        counts[name] = Counter({"read": found["read"], "refused": found["refused"], "crashes": sum(bad.values())})
        counts[name].update({f"  seed {first[outcome]}: {outcome}": n for outcome, n in bad.items()})
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=2_000, help="for each parser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(TARGETS), default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = attack(Path(folder), options.files, options.seed, options.only)
    print(f"{'':14}{'read':>8}{'refused':>10}{'crashes':>10}")
    for name, found in counts.items():
        print(f"{name:14}{found['read']:8}{found['refused']:10}{found['crashes']:10}")
        print("".join(f"{key} ({number})\n" for key, number in found.items() if key.startswith("  ")), end="")
    sys.exit(int(any(found["crashes"] for found in counts.values())))


if __name__ == "__main__":
    main()
