"""Atlases on disk: a folder of three files.

atlas.toml     name, body part, side, grid, populations, provenance with its quality card; its first line is a
               sha256 over the rest of it and both other files
tissues.tsv    names of the label values, a BIDS dseg table
priors.npz     probabilities and templates with 8 bits, and the support
"""

from __future__ import annotations

import hashlib
import io
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from msksam_cli.core.atlases import Atlas, Population
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import AtlasError, InputError
from msksam_cli.io.atomic import write_atomic, write_text
from msksam_cli.io.resources import bundled
from msksam_cli.io.tables import read_tissue_table, write_tissue_table
from msksam_cli.io.toml_text import toml_text

MANIFEST, TABLE, ARRAYS = "atlas.toml", "tissues.tsv", "priors.npz"
FORMAT = 1
_HASH_KEY = "sha256 = "
_CONTRADICTIONS = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, EOFError, OSError, MemoryError, RecursionError,
    NotImplementedError, InputError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip  # whatever readers of TOML and zip trip over in files that have the right hash and are no atlas


@dataclass(frozen=True)
class AtlasHeader:
    """What an atlas says of itself, without its arrays: enough to choose among many.

    Attributes:
        folder: where it lies.
        name: such as "knee-v1".
        body_part: lower case, "" when it does not say.
        tissues: names of its label values.
        sha256: hash over its files.
    """

    folder: Path
    name: str
    body_part: str
    tissues: TissueTable
    sha256: str


def write_atlas(folder: Path, atlas: Atlas) -> Atlas:
    """Write an atlas as a folder; return it with its hash and with the 8-bit values a reader will see.

    The manifest is written last, so that a folder cut short by a crash is never read as an atlas.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    folder = Path(folder)
    arrays, body = _arrays_bytes(atlas), toml_text(_manifest(atlas))
    (folder / MANIFEST).unlink(missing_ok=True)
    write_tissue_table(folder / TABLE, atlas.tissues)
    digest = _digest(body, (folder / TABLE).read_bytes(), arrays)
    write_atomic(folder / ARRAYS, lambda stream: stream.write(arrays))
    write_text(folder / MANIFEST, f'{_HASH_KEY}"{digest}"\n{body}')
    return read_atlas(folder)


def read_atlas(folder: Path) -> Atlas:
    """The atlas in a folder, its hash checked before anything is decoded.

    Raises:
        AtlasError: a file is missing, damaged or contradicts another.
    """
    files = _verified(Path(folder))
    with _contradictions_refused(files.folder):
        return _decoded(files.manifest, files.tissues, files.arrays, files.digest)


def read_atlas_header(folder: Path) -> AtlasHeader:
    """What the atlas in a folder says of itself; its hash is checked, its arrays are not decoded.

    Raises:
        AtlasError: a file is missing, damaged or contradicts another.
    """
    files = _verified(Path(folder))
    with _contradictions_refused(files.folder):
        name, body_part = files.manifest["name"], files.manifest["body_part"]
    return AtlasHeader(files.folder, name, body_part, files.tissues, files.digest)


def user_atlas_folder() -> Path:
    """Where a user's own atlases are looked for by name."""
    return Path(platformdirs.user_data_dir("msksam")) / "atlases"


def bundled_atlas_folder() -> Path:
    """The atlases that came with msksam."""
    return bundled("atlases")


def list_atlases() -> dict[str, Path]:
    """Name → folder of every atlas, bundled ones first; a user's atlas of the same name hides a bundled one."""
    found: dict[str, Path] = {}
    for root in (bundled_atlas_folder(), user_atlas_folder()):
        for manifest in sorted(root.glob(f"*/{MANIFEST}")):
            found[manifest.parent.name] = manifest.parent
    return found


def find_atlas(name: str) -> Path:
    """The folder of an atlas given by name or as a path.

    Raises:
        AtlasError: there is none; the message lists what there is.
    """
    known = list_atlases()
    if name in known:
        return known[name]
    if (Path(name) / MANIFEST).is_file():
        return Path(name)
    raise AtlasError(
        f"no atlas {Path(name).name!r}", f"Use one of {', '.join(known) or '(none installed)'} or a folder"
    )


@dataclass(frozen=True)
class _Files:
    """The contents of an atlas's folder, which match their hash."""

    folder: Path
    manifest: dict[str, Any]
    tissues: TissueTable
    arrays: bytes
    digest: str


def _verified(folder: Path) -> _Files:
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        table, arrays = (folder / TABLE).read_bytes(), (folder / ARRAYS).read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise AtlasError(
            f"{folder.name} is no atlas: {MANIFEST}, {TABLE} or {ARRAYS} cannot be read",
            "Name a folder written by `msksam atlas build`",
        ) from error
    first, _, body = text.partition("\n")
    digest = _digest(body, table, arrays)
    if first != f'{_HASH_KEY}"{digest}"':
        raise AtlasError(f"atlas {folder.name} is damaged: its files do not match their sha256", "Build it again")
    with _contradictions_refused(folder):
        return _Files(folder, tomllib.loads(body), read_tissue_table(folder / TABLE), arrays, digest)


@contextmanager
def _contradictions_refused(folder: Path) -> Iterator[None]:
    """Turn what goes wrong while an atlas is decoded into a refusal of that atlas."""
    try:
        yield
    except _CONTRADICTIONS as error:
        raise AtlasError(f"atlas {folder.name} contradicts itself: {error}", "Build it again") from error


def _manifest(atlas: Atlas) -> dict[str, object]:
    return {
        "format": FORMAT,
        "name": atlas.name,
        "body_part": atlas.body_part,
        "side": atlas.side,
        "shape": list(atlas.grid.shape),
        "affine": [[float(v) for v in row] for row in atlas.grid.affine],
        "templates": list(atlas.templates),
        "populations": {
            str(index): {
                "volume_mean_mm3": round(p.volume_mean_mm3, 3),
                "volume_sd_mm3": round(p.volume_sd_mm3, 3),
                "cases": p.cases,
            }
            for index, p in atlas.populations.items()
        },
        "provenance": _plain(atlas.provenance),
    }


def _plain(value: Any) -> Any:
    """Mappings, lists and numpy scalars as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _arrays_bytes(atlas: Atlas) -> bytes:
    arrays: dict[str, NDArray[np.uint8]] = {}
    for index, probability in atlas.probabilities.items():
        arrays[f"probability/{index}"] = _eight_bits(probability)
    for name, template in atlas.templates.items():
        arrays[f"template/{name}"] = _eight_bits(template)
    if atlas.support is not None:
        arrays["support"] = atlas.support.astype(np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy types the flag among the arrays
    return stream.getvalue()


def _eight_bits(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values * 255.0), 0, 255), dtype=np.uint8)


def _digest(body: str, table: bytes, arrays: bytes) -> str:
    digest = hashlib.sha256()
    for part in (body.encode(), table, arrays):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _decoded(manifest: dict[str, Any], tissues: TissueTable, arrays: bytes, digest: str) -> Atlas:
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}, this version reads {FORMAT}")
    with np.load(io.BytesIO(arrays), allow_pickle=False) as stored:
        values = {name: stored[name] for name in stored.files}
    scale = np.float32(1 / 255)
    atlas = Atlas(
        name=manifest["name"],
        body_part=manifest["body_part"],
        side=manifest["side"],
        grid=Grid(tuple(manifest["shape"]), np.array(manifest["affine"])),
        templates={name: values[f"template/{name}"] * scale for name in manifest["templates"]},
        probabilities={
            int(name.split("/")[1]): array * scale for name, array in values.items() if name.startswith("probability/")
        },
        tissues=tissues,
        populations={int(index): Population(**fields) for index, fields in manifest["populations"].items()},
        provenance=manifest["provenance"],
        sha256=digest,
    )
    return replace(atlas, support=values["support"].astype(bool)) if "support" in values else atlas
