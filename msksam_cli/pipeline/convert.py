"""DICOM series to NIfTI files, one per volume, with a record of every input file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from msksam_cli import __version__
from msksam_cli.core.series import FileRecord, Refusal, Series, StudyScan
from msksam_cli.errors import InputError, SeriesError, UsageError
from msksam_cli.io.atomic import clean_temporaries, write_text
from msksam_cli.io.nifti import write_volume
from msksam_cli.io.study import DEFAULT_MIN_SLICES, read_series, scan_study
from msksam_cli.pipeline.scan import file_records, nothing_usable, refusal_record, series_record


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert and where to.

    Attributes:
        study: folder searched to any depth, or one DICOM file.
        output: folder for the NIfTI files and run.json; not inside the study.
        min_slices: volumes with fewer slices are skipped.
    """

    study: Path
    output: Path
    min_slices: int = DEFAULT_MIN_SLICES


@dataclass(frozen=True, eq=False)
class Conversion:
    """What became of a study.

    Attributes:
        written: series converted, with the name of the file in the output folder.
        refused: series and files that could not be used, at scan or while decoding.
        files: every input file in exactly one state.
    """

    written: tuple[tuple[Series, str], ...]
    refused: tuple[Refusal, ...]
    files: tuple[FileRecord, ...]

    @property
    def exit_code(self) -> int:
        """0 when all was converted, 3 when something was refused."""
        return 3 if self.refused else 0


def run_convert(options: ConvertOptions) -> Conversion:
    """Convert every DICOM series of a study; one that fails is recorded and the others go on.

    Raises:
        InputError: no such study, or nothing in it could be converted.
        UsageError: the output folder lies inside the study.
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    study, output = options.study.resolve(), options.output.resolve()
    if output == study or study in output.parents:
        raise UsageError("the output folder lies inside the study", "Choose a folder outside it")
    scan = scan_study(options.study, min_slices=options.min_slices)
    dicom = [series for series in scan.series if series.kind == "dicom"]
    if not dicom and scan.series:
        raise InputError("the study holds only NIfTI files, which need no conversion", "Give them to msksam segment")
    clean_temporaries(output)
    written: list[tuple[Series, str]] = []
    failures: dict[str, SeriesError] = {}
    for series in tqdm(dicom, desc="convert", unit="volume", disable=None):
        try:
            written.append((series, _convert_one(series, output)))
        except SeriesError as error:
            failures[series.case] = error
    conversion = _outcome(scan, written, failures)
    if not written:
        raise nothing_usable(replace(scan, refused=conversion.refused, files=conversion.files))
    _write_record(output, options, conversion)
    return conversion


def _convert_one(series: Series, output: Path) -> str:
    volume, form = read_series(series)
    name = f"{series.case}.nii.gz"
    write_volume(output / name, volume, form)
    return name


def _outcome(scan: StudyScan, written: list[tuple[Series, str]], failures: Mapping[str, SeriesError]) -> Conversion:
    failed = [Refusal(case, error.message, error.hint) for case, error in failures.items()]
    nifti = {series.case for series in scan.series if series.kind == "nifti"}
    files = tuple(_final_state(record, failures, nifti) for record in scan.files)
    return Conversion(tuple(written), (*scan.refused, *failed), files)


def _final_state(record: FileRecord, failures: Mapping[str, SeriesError], nifti: set[str]) -> FileRecord:
    if record.case in failures:
        return replace(record, state="refused", reason=failures[record.case].message)
    if record.case in nifti:
        return replace(record, state="skipped", reason="NIfTI already")
    return record


def _write_record(output: Path, options: ConvertOptions, conversion: Conversion) -> None:
    record = {
        "msksam": __version__,
        "command": "convert",
        "options": {"min_slices": options.min_slices},
        "series": [{**series_record(series), "image": name} for series, name in conversion.written],
        "refused": [refusal_record(refusal) for refusal in conversion.refused],
        "files": file_records(conversion.files),
    }
    write_text(output / "run.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def conversion_text(conversion: Conversion) -> str:
    """The conversion as a few lines for people."""
    lines = [f"wrote    {name}  {series.description}" for series, name in conversion.written]
    lines += [f"refused  {refusal}" for refusal in conversion.refused]
    states = [record.state for record in conversion.files]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("used", "skipped", "refused"))
    return "\n".join([*lines, f"{len(conversion.written)} volumes written; files: {counts}"])
