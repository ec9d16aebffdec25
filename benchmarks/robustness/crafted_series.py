"""Every outcome of `scan` and `convert`, expected against found: python benchmarks/robustness/crafted_series.py.

Besides its own crafted series (`own_series`): `--data` is the folder of real data beside the project, `--zoo` a
script that writes crafted series, one folder per failure, with a table of expected outcomes (case, outcome, volumes,
note) beside it named <script>_expected.csv and its truth as `VOL` (slices, rows, columns). The last column says
whether every voxel is the truth's. The exit status is 1 when one outcome differs.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from own_series import voxels_are_true, write_cases

from msksam_cli.core.series import StudyScan
from msksam_cli.core.volume import Volume
from msksam_cli.errors import InputError, SeriesError
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.pipeline.convert import ConvertOptions, run_convert

SHARED = Path(__file__).resolve().parents[3] / "shared"

# folder below the data, volumes, refused, and the shape and spacing (mm) of the first volume
REAL_DATA = (
    ("knee_bones_mr/study", 1, 0, (512, 512, 143), (0.352, 0.352, 0.704)),
    ("knee_bones_mr/untouched_with_private_tag", 0, 0, None, None),
    ("knee_t2_multiecho/study", 8, 0, (256, 256, 10), (0.625, 0.625, 4.0)),
    ("shoulder_dicom", 1, 0, (64, 64, 4), (2.344, 2.344, 4.0)),
    ("extremity_tumour_t1/dicom/STS_002", 1, 0, (115, 90, 35), (0.977, 0.977, 3.27)),
    ("extremity_tumour_t1/dicom/STS_024", 1, 0, (78, 83, 43), (0.977, 0.977, 3.27)),
    ("extremity_tumour_t1/images", 12, 0, (115, 90, 35), (0.977, 0.977, 3.27)),
    ("extremity_tumour_t1/labels", 12, 0, (115, 90, 35), (0.977, 0.977, 3.27)),
    ("lumbar_vertebrae_mr", 32, 0, (224, 224, 77), (1.0, 1.0, 1.0)),
    ("lumbar_t2_slices", 0, 0, None, None),
    ("knee_labels_dess", 1, 0, (384, 384, 160), (0.365, 0.365, 0.7)),
    ("clair_knee_atlas", 3, 0, (64, 128, 128), (1.4, 0.729, 0.729)),
    # everything at once: the two untouched files carry UIDs of the knee study with other bytes, which refuses it
    (".", 72, 1, None, None),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    expected: str
    found: str
    agrees: bool
    voxels: str
    seconds: float
    volumes: int = 0


def found_outcome(scan: StudyScan, failures: int) -> tuple[str, int]:
    """The outcome in the table's words, and the volumes."""
    volumes = len(scan.series) - failures
    if volumes:
        return "accept", volumes
    if scan.refused or failures:
        return "refuse", 0
    return ("nothing" if scan.hint else "skip"), 0


def read_all(scan: StudyScan) -> tuple[list[Volume], int]:
    """Volumes that can be decoded, and how many cannot."""
    volumes, failures = [], 0
    for series in scan.series:
        try:
            volumes.append(read_series(series)[0])
        except SeriesError:
            failures += 1
    return volumes, failures


def states_are_complete(scan: StudyScan, folder: Path) -> bool:
    """Whether every file below a folder has exactly one record."""
    recorded = sorted(record.path.as_posix() for record in scan.files if not (folder / record.path).is_symlink())
    present = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    return recorded == [path for path in present if "loop/" not in path]


def zoo_truth(zoo: Any, case: str, number: int) -> np.ndarray | None:
    """The voxels (slices, rows, columns) that a crafted series holds; None when its table promises none."""
    volume, slices = zoo.VOL, np.arange(zoo.N)[:, None, None]
    changed = {
        "02": volume[:-1],
        "15": volume * (1 + 0.1 * slices) - 10,
        "16": volume.astype(np.int64) + 40000,
        "17": volume.astype(np.int64) - 500,
        "37": np.clip(volume, 0, 4095),
        "30": None,
    }
    if case[:2] == "05" and number == 1:
        return volume[::-1]
    if case[:2] == "23" and number > 0:
        return volume // (number + 1)
    return changed.get(case[:2], volume)


def zoo_voxels_are_true(zoo: Any, volume: Volume, truth: np.ndarray) -> bool:
    """Whether every pixel is found where the script's own geometry puts it."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in truth.shape), indexing="ij")
    lps = (
        zoo.ORG
        + i[..., None] * zoo.PS[1] * zoo.row
        + j[..., None] * zoo.PS[0] * zoo.col
        + k[..., None] * zoo.DZ * zoo.nrm
    )
    place = volume.grid.to_voxel(lps * (-1, -1, 1))
    nearest = np.rint(place).astype(int)
    if volume.intensities.size != truth.size or np.abs(place - nearest).max() > 0.1:
        return False
    return bool(np.array_equal(volume.intensities[tuple(np.moveaxis(nearest, -1, 0))], truth.astype(np.float32)))


def load_zoo(script: Path) -> Any:
    """The script as a module, for its geometry and its truth."""
    specification = importlib.util.spec_from_file_location("dicom_zoo", script)
    if specification is None or specification.loader is None:
        raise SystemExit(f"{script} is no Python file")
    module, arguments = importlib.util.module_from_spec(specification), sys.argv
    sys.argv = [str(script)]
    try:
        specification.loader.exec_module(module)
    finally:
        sys.argv = arguments
    return module


def zoo_rows(script: Path, folder: Path) -> Iterator[Row]:
    """One row per crafted series."""
    subprocess.run([sys.executable, str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    zoo = load_zoo(script)
    with script.with_name(script.stem + "_expected.csv").open(encoding="utf-8") as lines:
        expected = {row["case"][:2]: row for row in csv.DictReader(lines)}
    for case in sorted(path.name for path in folder.iterdir()):
        row, started = expected[case[:2]], time.perf_counter()
        scan = scan_study(folder / case)
        volumes, failures = read_all(scan)
        outcome, count = found_outcome(scan, failures)
        truths = [zoo_truth(zoo, case, number) for number in range(len(volumes))]
        true = [
            zoo_voxels_are_true(zoo, volume, truth)
            for volume, truth in zip(volumes, truths, strict=True)
            if truth is not None
        ]
        wanted = (row["outcome"], int(row["volumes"] or 0))
        agrees = row["outcome"] == "survive" or (outcome, count) == wanted
        agrees &= all(true) and states_are_complete(scan, folder / case)
        yield Row(
            case,
            f"{wanted[0]} {wanted[1]}",
            f"{outcome} {count}",
            agrees,
            "exact" if true and all(true) else "WRONG" if true else "-",
            time.perf_counter() - started,
            count if row["outcome"] == "survive" else wanted[1],
        )


def own_rows(folder: Path) -> Iterator[Row]:
    """One row per series of `own_series`."""
    for case in write_cases(folder):
        started = time.perf_counter()
        scan = scan_study(folder / case.name)
        volumes, failures = read_all(scan)
        outcome, count = found_outcome(scan, failures)
        true = len(volumes) == len(case.truths) and all(
            any(voxels_are_true(series, volume) for volume in volumes) for series in case.truths
        )
        agrees = true and outcome == case.outcome and states_are_complete(scan, folder / case.name)
        voxels = ("exact" if true else "WRONG") if volumes else "-"
        expected = f"{case.outcome} {len(case.truths)}"
        yield Row(case.name, expected, f"{outcome} {count}", agrees, voxels, time.perf_counter() - started)


def real_rows(data: Path) -> Iterator[Row]:
    """One row per folder of real data, with independent truth where there is some."""
    for name, volumes, refused, shape, spacing_mm in REAL_DATA:
        started = time.perf_counter()
        scan = scan_study(data / name)
        read, failures = read_all(scan)
        found = (len(read), len(scan.refused) + failures)
        agrees = found == (volumes, refused) and states_are_complete(scan, data / name)
        if shape is not None and read:
            grid = read[0].grid
            agrees &= grid.shape == shape and bool(np.allclose(grid.spacing_mm, spacing_mm, atol=1e-3))
        voxels = compare_with_nifti(data, name, read)
        yield Row(
            name,
            f"{volumes} volumes, {refused} refused",
            f"{found[0]} volumes, {found[1]} refused",
            agrees and voxels != "WRONG",
            voxels,
            time.perf_counter() - started,
        )


def compare_with_nifti(data: Path, name: str, volumes: list[Volume]) -> str:
    """Compare with a NIfTI file that someone else made of the same series, where there is one."""
    if name == "knee_bones_mr/study":
        labels = read_label_map(data / "knee_bones_mr" / "labels.nii.gz")
        offsets = volumes[0].grid.to_voxel(labels.grid.corners_mm())
        return "grid" if np.abs(offsets - np.rint(offsets)).max() < 0.01 else "WRONG"
    if "dicom/STS" in name:
        other, _ = read_volume(data / "extremity_tumour_t1" / "images" / f"{Path(name).name}.nii.gz")
        same_grid = other.grid.matches(volumes[0].grid)
        difference = np.abs(other.intensities - volumes[0].intensities).max()
        return "exact" if same_grid and difference <= 2e-3 * np.abs(other.intensities).max() else "WRONG"
    return "-"


def convert_rows(studies: list[tuple[Path, int]]) -> Iterator[Row]:
    """One row per study: as many files as expected, each read back equal to its series."""
    for study, expected in studies:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as output:
            try:
                written = run_convert(ConvertOptions(study, Path(output))).written
            except InputError:
                written = ()
            same = [_equal(read_series(series)[0], Path(output) / name) for series, name in written]
        voxels = "exact" if same and all(same) else "WRONG" if same else "-"
        agrees = len(written) == expected and voxels != "WRONG"
        counts = f"{expected} files", f"{len(written)} files"
        yield Row(f"convert {study.parent.name}/{study.name}", *counts, agrees, voxels, time.perf_counter() - started)


def _equal(volume: Volume, path: Path) -> bool:
    again, _ = read_volume(path)
    return again.grid.matches(volume.grid, 0.01) and bool(np.array_equal(again.intensities, volume.intensities))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--zoo", type=Path, default=SHARED / "tools" / "dicom_zoo.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(zoo_rows(options.zoo, Path(folder) / "zoo")) if options.zoo.is_file() else []
        rows += list(convert_rows([(Path(folder) / "zoo" / row.name, row.volumes) for row in rows]))
        rows += list(own_rows(Path(folder) / "own"))
    if options.data.is_dir():
        rows += list(real_rows(options.data))
        dicom = [(options.data / row[0], row[1]) for row in REAL_DATA if "study" in row[0] or "dicom" in row[0]]
        rows += list(convert_rows(dicom))
    print(f"{'series':44}{'expected':26}{'found':26}{'agrees':8}{'voxels':8}{'s':>6}")
    for row in rows:
        line = f"{row.name[:42]:44}{row.expected:26}{row.found:26}{'yes' if row.agrees else 'NO':8}{row.voxels:8}"
        print(f"{line}{row.seconds:6.2f}")
    wrong, differing = (sum(row.voxels == "WRONG" for row in rows), sum(not row.agrees for row in rows))
    print(f"{len(rows)} outcomes, {differing} not as expected, {wrong} silently wrong")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
