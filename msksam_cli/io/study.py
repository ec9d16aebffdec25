"""A study folder to series and back to voxels: `scan_study`, `read_series`, `input_sha256`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.quantity import QUANTITIES, QuantityMap
from msksam_cli.core.series import NIFTI_SUFFIXES, FileRecord, FormChoice, Refusal, Series, StudyScan
from msksam_cli.core.volume import Volume
from msksam_cli.errors import InputError, SeriesError
from msksam_cli.io.dicom_reader import read_voxels
from msksam_cli.io.dicom_scan import file_sha256, scan_dicom
from msksam_cli.io.nifti import NiftiForm, form_from_grid, read_header, read_volume

DEFAULT_MIN_SLICES = 4
OUTPUT_FOLDER = "msksam-out"
_TABLES_OF_A_RUN = ("labels.tsv", "labels.label.txt", "labels.ctbl")  # written before a run's first labels
_GRID_TOLERANCE_VOXELS = 0.05


def scan_study(study: Path, *, min_slices: int = DEFAULT_MIN_SLICES, use_form: FormChoice = "") -> StudyScan:
    """Every volume in a folder (to any depth) or single file, and the state of every file; decodes no pixels.

    Raises:
        InputError: there is no such folder or file.
    """
    if min_slices < 2:
        raise ValueError(f"a volume has at least 2 slices, not {min_slices}")
    if not (study.is_dir() or study.is_file()):
        raise InputError("there is no such study folder or file", "Name an existing folder or NIfTI file")
    root = study if study.is_dir() else study.parent
    paths, records = _list_files(study)
    nifti_paths = [path for path in paths if path.name.lower().endswith(NIFTI_SUFFIXES)]
    dicom = scan_dicom(root, sorted(set(paths) - set(nifti_paths)), min_slices)
    cases = _nifti_cases(nifti_paths, {one.case for one in dicom.series} | {refusal.where for refusal in dicom.refused})
    nifti = _scan_nifti(root, dict(zip(nifti_paths, cases, strict=True)), min_slices, use_form)
    return StudyScan(
        series=tuple(sorted((*nifti.series, *dicom.series), key=lambda one: one.case)),
        refused=tuple(sorted((*nifti.refused, *dicom.refused), key=lambda refusal: refusal.where)),
        files=tuple(sorted((*records, *nifti.files, *dicom.records), key=lambda record: record.path)),
        hint=" ".join(dicom.hints),
    )


def read_series(series: Series) -> tuple[Volume, NiftiForm]:
    """Decode a series: its volume on its own grid, and the form that writes labels onto that grid.

    DICOM is decoded in another process with limits on memory and time; what kills that process refuses this series.

    Raises:
        SeriesError: the series cannot be decoded, or the voxels do not lie where the headers said.
    """
    if series.kind == "nifti":
        volume, form = read_volume(series.files[0], series.use_form)
        return volume, form
    expected = series.grid
    if expected is None:
        raise ValueError("a DICOM series has a grid")
    slices = list(zip(series.files, series.frames, strict=True))
    voxels, affine = read_voxels(slices, expected.shape[0] * expected.shape[1] * expected.shape[2])
    if voxels.shape != expected.shape:
        raise SeriesError(f"decoded {voxels.shape} voxels where headers declare {expected.shape}")
    grid = Grid(expected.shape, affine)
    if grid.corner_offset_voxels(expected) > _GRID_TOLERANCE_VOXELS:
        raise SeriesError("converted voxels do not lie where the slices' positions put them")
    return Volume(voxels, grid, series.side, series.body_part), form_from_grid(grid)


def read_quantity(series: Series, unit: str) -> tuple[QuantityMap, NiftiForm]:
    """Decode a ready-made map; values are in the unit its tags name, else in `unit`.

    Raises:
        SeriesError: as `read_series`.
    """
    volume, form = read_series(series)
    slope, intercept = series.real_world or (1.0, 0.0)
    values = volume.intensities * np.float32(slope) + np.float32(intercept)
    return QuantityMap(values, volume.grid, series.unit or unit, series.quantity), form


def input_sha256(series: Series) -> str:
    """Sha256 over the contents of a series' files in geometric order, the frames and the chosen form."""
    digest = hashlib.sha256()
    contents: dict[Path, str] = {}
    for path, frame in zip(series.files, series.frames, strict=True):
        if path not in contents:
            contents[path] = file_sha256(path)
        digest.update(f"{contents[path]} {frame}\n".encode())
    digest.update(series.use_form.encode())
    return digest.hexdigest()


def _list_files(study: Path) -> tuple[list[Path], list[FileRecord]]:
    """Regular files, and records of what is not opened: links, pipes, sockets, devices, unreadable folders."""
    if not study.is_dir():
        return [Path(study.name)], []
    files: list[Path] = []
    records: list[FileRecord] = []

    def unreadable(error: OSError) -> None:
        records.append(FileRecord(Path(os.fsdecode(error.filename)).relative_to(study), "refused", "cannot be listed"))

    for folder, subfolders, names in os.walk(study, onerror=unreadable, followlinks=False):
        here = Path(folder)
        if OUTPUT_FOLDER in subfolders:
            subfolders.remove(OUTPUT_FOLDER)
            records.append(FileRecord((here / OUTPUT_FOLDER).relative_to(study), "skipped", "msksam's own output"))
        for name in [name for name in subfolders if _is_run_folder(here / name)]:
            subfolders.remove(name)
            records.append(FileRecord((here / name).relative_to(study), "skipped", "msksam's own output"))
        links = [name for name in subfolders if (here / name).is_symlink()]
        for name in (*links, *names):
            path = here / name
            reason = _why_not_opened(path)
            if reason:
                records.append(FileRecord(path.relative_to(study), "skipped", reason))
            else:
                files.append(path.relative_to(study))
    return sorted(files), records


def _is_run_folder(folder: Path) -> bool:
    """Whether msksam wrote its results here, whose label volumes are no images."""
    return all((folder / name).is_file() for name in _TABLES_OF_A_RUN)


def _why_not_opened(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "symbolic link, not followed"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def _scan_nifti(root: Path, cases: Mapping[Path, str], min_slices: int, use_form: FormChoice) -> StudyScan:
    series, refused, records = [], [], []
    for path, case in cases.items():
        try:
            opened = read_header(root / path, use_form)
        except SeriesError as error:
            refused.append(Refusal(case, error.message, error.hint))
            records.append(FileRecord(path, "refused", error.message, case))
            continue
        slices = opened.grid.shape[opened.grid.slice_axis]
        if slices < min_slices:
            records.append(FileRecord(path, "skipped", f"fewer than {min_slices} slices: {slices}", case))
            continue
        records.append(FileRecord(path, "used", "", case))
        series.append(
            Series(
                case=case,
                kind="nifti",
                files=(root / path,),
                frames=(0,),
                description="NIfTI",
                grid=opened.grid,
                quantity=next((quantity for quantity in QUANTITIES if case.endswith(f"_{quantity}")), ""),
                use_form=use_form,
                notes=opened.form.notes,
            )
        )
    return StudyScan(tuple(series), tuple(refused), tuple(records))


def _nifti_cases(paths: Sequence[Path], taken: set[str]) -> list[str]:
    """A name per file: its stem, led by as many folders as make it unique, numbered where folders do not suffice."""
    depth = [1] * len(paths)
    for _ in range(max((len(path.parts) for path in paths), default=0)):
        counts = Counter(_joined(path, n).casefold() for path, n in zip(paths, depth, strict=True))
        depth = [
            n + (counts[_joined(path, n).casefold()] > 1 and n < len(path.parts))
            for path, n in zip(paths, depth, strict=True)
        ]
    used, cases = {case.casefold() for case in taken}, []
    for path, n in zip(paths, depth, strict=True):
        name = stem = _joined(path, n)
        number = 1
        while name.casefold() in used:
            number += 1
            name = f"{stem}_{number}"
        used.add(name.casefold())
        cases.append(name)
    return cases


def _joined(path: Path, depth: int) -> str:
    name = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.name[: -len(".nii")]
    parents = path.parent.parts
    return "_".join((*parents[max(0, len(parents) - depth + 1) :], name or "unnamed"))
