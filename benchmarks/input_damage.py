"""Damaged files by the thousand: python benchmarks/input_damage.py [--dicom N] [--nifti N] [--seed S].

Series and images are generated, damaged (bits flipped, header bytes overwritten, cut, inserted, zeroed, repeated), and
read. Counted are exceptions other than a refusal, reads that took longer than 15 s, and volumes whose grid moved.
Changed pixels inside an intact file cannot be noticed and are not counted. The exit status is 1 when a count is not 0.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import SeriesError
from msksam_cli.io.nifti import read_volume
from msksam_cli.io.study import read_series, scan_study

LIMIT_S = 15
SLICES, ROWS, COLUMNS = 8, 40, 32
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def damage(content: bytes, chooser: random.Random) -> bytes:
    """One kind of damage at a random place."""
    damaged, place = bytearray(content), chooser.randrange(len(content))
    kind = chooser.choice(("flip", "flip", "header", "header", "header", "cut", "insert", "zero", "repeat"))
    if kind == "flip":
        for _ in range(chooser.choice((1, 4, 20, 200))):
            damaged[chooser.randrange(len(damaged))] ^= 1 << chooser.randrange(8)
    elif kind == "header":
        for _ in range(chooser.choice((1, 1, 3, 8))):
            damaged[chooser.randrange(min(len(damaged), 1800))] = chooser.randrange(256)
    elif kind == "cut":
        del damaged[place:]
    elif kind == "insert":
        damaged[place:place] = bytes(chooser.randrange(256) for _ in range(chooser.randrange(1, 40)))
    elif kind == "zero":
        stretch = chooser.randrange(1, 300)
        damaged[place : place + stretch] = bytes(len(damaged[place : place + stretch]))
    else:
        damaged[place:place] = damaged[place : place + chooser.randrange(1, 500)]
    return bytes(damaged)


def write_series(folder: Path, syntax: str) -> None:
    """A small series of 16-bit slices, 3 mm apart."""
    voxels = np.random.default_rng(0).integers(0, 2000, (SLICES, ROWS, COLUMNS)).astype(np.uint16)
    folder.mkdir(parents=True)
    series = generate_uid()
    for index in range(SLICES):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax if syntax in NATIVE else ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.Modality, ds.SeriesNumber = series, "MR", 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-30, 3 * index, 50], [1, 0, 0, 0, 0, -1]
        ds.PixelSpacing, ds.Rows, ds.Columns = [0.5, 0.7], ROWS, COLUMNS
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelData = voxels[index].astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
        ds["PixelData"].VR = "OW"
        if syntax in COMPRESSED:
            ds.compress(syntax, generate_instance_uid=False)
        order = {"little_endian": syntax != ExplicitVRBigEndian, "implicit_vr": syntax == ImplicitVRLittleEndian}
        ds.save_as(folder / f"{index}", enforce_file_format=True, **order)


def moved(grid: Grid, whole: Grid) -> bool:
    """Whether a volume is neither the whole one nor the whole one without its first or last slices."""
    first = whole.to_voxel(grid.to_world_mm((0, 0, 0)))
    step = whole.to_voxel(grid.to_world_mm((1, 1, 1))) - first
    return bool(np.abs(np.abs(step) - 1).max() > 0.05 or np.abs(first - np.rint(first)).max() > 0.1)


def damaged_dicom(folder: Path, files: int, chooser: random.Random, counts: Counter[str]) -> None:
    """Damage one or several slices of a series at a time."""
    originals: dict[Path, dict[Path, bytes]] = {}
    grids = {}
    for syntax in (*NATIVE, *COMPRESSED):
        study = folder / syntax
        write_series(study, syntax)
        originals[study] = {path: path.read_bytes() for path in study.iterdir()}
        grids[study] = scan_study(study).series[0].grid

    def attempt(study: Path) -> None:
        scan = scan_study(study)
        counts["refused"] += len(scan.refused)
        for series in scan.series:
            try:
                grid = read_series(series)[0].grid
            except SeriesError:
                counts["refused"] += 1
            else:
                counts["read"] += 1
                counts["moved"] += moved(grid, grids[study])

    while counts["files"] < files:
        study = chooser.choice(sorted(originals))
        chosen = chooser.sample(sorted(originals[study]), chooser.choice((1, 1, 2, SLICES)))
        for path in chosen:
            path.write_bytes(damage(originals[study][path], chooser))
        counts["files"] += len(chosen)
        timed(lambda study=study: attempt(study), counts)
        for path in chosen:
            path.write_bytes(originals[study][path])


def damaged_nifti(folder: Path, files: int, chooser: random.Random, counts: Counter[str]) -> None:
    """Damage NIfTI-1 and NIfTI-2 files, compressed and not."""
    values = np.random.default_rng(0).integers(0, 900, (12, 11, 8)).astype(np.int16)
    originals = []
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        for name in ("a.nii", "a.nii.gz"):
            kind(values, np.diag([0.5, 0.7, 3, 1])).to_filename(folder / name)
            originals.append((name, (folder / name).read_bytes()))

    def attempt(path: Path) -> None:
        try:
            read_volume(path)
        except SeriesError:
            counts["refused"] += 1
        else:
            counts["read"] += 1

    while counts["files"] < files:
        name, content = chooser.choice(originals)
        (folder / name).write_bytes(damage(content, chooser))
        counts["files"] += 1
        timed(lambda name=name: attempt(folder / name), counts)


def timed(attempt: Callable[[], None], counts: Counter[str]) -> None:
    """Run one attempt; count what must never happen."""
    started = time.perf_counter()
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  # any exception but a refusal is what is being counted
        counts["crashes"] += 1
        counts[f"  {type(error).__name__}"] += 1
    seconds = time.perf_counter() - started
    counts["hangs"] += seconds > LIMIT_S
    counts["slowest_ms"] = max(counts["slowest_ms"], round(seconds * 1000))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dicom", type=int, default=20_000)
    parser.add_argument("--nifti", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, files, run in (
            ("DICOM", options.dicom, damaged_dicom),
            ("NIfTI", options.nifti, damaged_nifti),
        ):
            results[name] = Counter[str]()
            run(Path(folder), files, random.Random(options.seed), results[name])
    columns = ("files", "read", "refused", "crashes", "hangs", "moved", "slowest_ms")
    print(f"{'':8}" + "".join(f"{column:>12}" for column in columns))
    for name, counts in results.items():
        print(f"{name:8}" + "".join(f"{counts[column]:12}" for column in columns))
        print("".join(f"{key} {count}\n" for key, count in counts.items() if key.startswith("  ")), end="")
    sys.exit(int(any(counts[bad] for counts in results.values() for bad in ("crashes", "hangs", "moved"))))


if __name__ == "__main__":
    main()
