"""Damaged DICOM files by the thousand: python benchmarks/robustness/mutated_dicom.py [--files N] [--seed S].

Series are generated in six transfer syntaxes, damaged (bits flipped, header bytes overwritten, cut, inserted, zeroed,
repeated) and read; `--real` adds the series below a folder, such as real ones. Counted are exceptions other than a
refusal, reads that took longer than 15 s, volumes whose grid moved, and scans that do not account for every file.
Changed pixels inside an intact file cannot be noticed and are not counted. The exit status is 1 when a count is not
0.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from damage import damage, report, timed
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
from msksam_cli.io.study import read_series, scan_study

SLICES, ROWS, COLUMNS = 8, 40, 32
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


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


def mutate_dicom(folder: Path, files: int, seed: int, real: Path | None = None) -> Counter[str]:
    """Counts of `files` damaged files: one or several of a series at a time, read from `folder`."""
    chooser, counts = random.Random(seed), Counter[str]()
    originals: dict[Path, dict[Path, bytes]] = {}
    grids = {}
    for syntax in (*NATIVE, *COMPRESSED):
        study = folder / syntax
        write_series(study, syntax)
        originals[study] = {path: path.read_bytes() for path in study.iterdir()}
        grids[study] = scan_study(study).series[0].grid
    for number, series in enumerate(scan_study(real).series if real else ()):
        study = folder / f"real-{number}"
        study.mkdir()
        originals[study] = {study / f"{k}": path.read_bytes() for k, path in enumerate(series.files[:SLICES])}
        for path, content in originals[study].items():
            path.write_bytes(content)
        grids[study] = scan_study(study).series[0].grid

    def attempt(study: Path) -> None:
        scan = scan_study(study)
        counts["unaccounted"] += {record.path.name for record in scan.files} != {path.name for path in originals[study]}
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
        chosen = chooser.sample(sorted(originals[study]), min(chooser.choice((1, 1, 2, SLICES)), len(originals[study])))
        for path in chosen:
            path.write_bytes(damage(originals[study][path], chooser))
        counts["files"] += len(chosen)
        timed(lambda study=study: attempt(study), counts)
        for path in chosen:
            path.write_bytes(originals[study][path])
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(report("DICOM", mutate_dicom(Path(folder), options.files, options.seed, options.real)))


if __name__ == "__main__":
    main()
