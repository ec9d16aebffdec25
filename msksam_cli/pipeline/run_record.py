"""What a run leaves besides its labels: a record per case, and the tables rebuilt from all records.

A case is done when its record names the same input, the same setup and outputs that still have the hashes it was
written with. Tables are never appended to: they are made anew from the records, so that a killed run and the run that
completes it give the same tables as a run that was never killed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import InputError
from msksam_cli.io.atomic import TEMPORARY_PREFIX, remove_file
from msksam_cli.io.tables import (
    read_json,
    write_csv,
    write_itksnap_labels,
    write_json,
    write_slicer_colors,
    write_tissue_table,
)
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.morphometry import METRICS_COLUMNS
from msksam_cli.measure.qc import QC_COLUMNS
from msksam_cli.measure.shapes import MORPHOMETRY_COLUMNS
from msksam_cli.pipeline.quality import SLICE_COLUMNS

RECORDS_FOLDER = "records"

Rows = list[Mapping[str, object]]


@dataclass(frozen=True)
class CaseRecord:
    """Everything known about a finished case, as plain values.

    Attributes:
        case: its name.
        setup_sha256: hash of what was asked for, of model and of atlas.
        input_sha256: hash of the input files.
        outputs: path below the run folder → sha256 of the file.
        metrics: rows of metrics.csv.
        flags: rows of qc.csv.
        slices: rows of slices.csv.
        shapes: rows of morphometry.csv.
        fit: how the atlas lay, empty without one.
        seconds: stage → seconds.
        slices_encoded: slices whose embedding was computed.
        slices_cached: slices whose embedding was found.
        prompts: number of prompts decoded.
        map: where its quantitative map is from and how the fit went, empty without one.
        device_memory: what did not fit the device's memory, and what was done about it.
    """

    case: str
    setup_sha256: str
    input_sha256: str
    outputs: Mapping[str, str]
    metrics: Sequence[Mapping[str, object]]
    flags: Sequence[Mapping[str, object]]
    slices: Sequence[Mapping[str, object]] = field(default_factory=list)
    shapes: Sequence[Mapping[str, object]] = field(default_factory=list)
    fit: Mapping[str, object] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    slices_encoded: int = 0
    slices_cached: int = 0
    prompts: int = 0
    map: Mapping[str, object] = field(default_factory=dict)
    device_memory: Sequence[str] = field(default_factory=list)


def setup_sha256(setup: Mapping[str, object]) -> str:
    """Hash of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()


def write_record(run_folder: Path, record: CaseRecord) -> None:
    """Write a case's record; until it is there, the case is not done.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    write_json(run_folder / RECORDS_FOLDER / f"{record.case}.json", asdict(record))


def forget_case(run_folder: Path, case: str, files: Iterable[str]) -> None:
    """Remove what an earlier run left of a case, its record first, so that nothing stale stands beside new tables.

    Raises:
        EnvironmentFault: a file cannot be removed.
    """
    for name in (f"{RECORDS_FOLDER}/{case}.json", *files):
        remove_file(run_folder / name)


def read_record(run_folder: Path, case: str) -> CaseRecord | None:
    """The record of a case, None when there is none that can be read."""
    path = run_folder / RECORDS_FOLDER / f"{case}.json"
    if not path.is_file():
        return None
    try:
        content: Any = read_json(path)
        record = CaseRecord(**content)
    except (InputError, TypeError):
        return None
    return record if record.case == case and _is_sound(record) else None


def _is_sound(record: CaseRecord) -> bool:
    """Whether a record's values are of the kinds that this version writes, as far as tables are made from them."""
    tables = (
        (record.metrics, METRICS_COLUMNS),
        (record.flags, QC_COLUMNS),
        (record.slices, SLICE_COLUMNS),
        (record.shapes, MORPHOMETRY_COLUMNS),
    )
    rows_are_sound = all(
        isinstance(rows, list) and all(_is_row(row, columns) for row in rows) for rows, columns in tables
    )
    if not rows_are_sound or not all(isinstance(row.get("tissue"), str) for row in record.metrics):
        return False
    maps = (record.outputs, record.fit, record.seconds, record.map)
    counts = (record.slices_encoded, record.slices_cached, record.prompts)
    return (
        all(isinstance(values, dict) for values in maps)
        and all(isinstance(digest, str) for digest in record.outputs.values())
        and all(isinstance(seconds, int | float) for seconds in record.seconds.values())
        and all(isinstance(count, int) for count in counts)
        and isinstance(record.device_memory, list)
        and all(isinstance(note, str) for note in record.device_memory)
    )


def _is_row(row: object, columns: Sequence[str]) -> bool:
    """Whether plain values can stand in one line under these columns."""
    return isinstance(row, dict) and all(
        name in columns and (value is None or isinstance(value, str | int) or _is_finite(value))
        for name, value in row.items()
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def read_records(run_folder: Path) -> Iterator[CaseRecord]:
    """All readable records of a run in order of case, one at a time."""
    for name in sorted(path.stem for path in record_files(run_folder)):
        if record := read_record(run_folder, name):
            yield record


def record_files(run_folder: Path) -> list[Path]:
    """The files of all records, in no order."""
    return [p for p in (run_folder / RECORDS_FOLDER).glob("*.json") if not p.name.startswith(TEMPORARY_PREFIX)]


def _state(run_folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether a record was written since: name, time and size of all, in order."""
    found = ((path.name, path.stat()) for path in record_files(run_folder))
    return sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def is_done(record: CaseRecord | None, run_folder: Path, setup: str, inputs: str) -> TypeGuard[CaseRecord]:
    """Whether a record belongs to this input and setup and its outputs are still what was written."""
    if record is None or (record.setup_sha256, record.input_sha256) != (setup, inputs):
        return False
    return all(
        (run_folder / name).is_file() and file_sha256(run_folder / name) == digest
        for name, digest in record.outputs.items()
    )


def write_tables(run_folder: Path, tissues: TissueTable, *, is_last: bool = True) -> None:
    """Rebuild metrics.csv, morphometry.csv, qc.csv and slices.csv from all records, and the label tables.

    Args:
        run_folder: of the run.
        tissues: all that a case might be asked for; the tables name those that one was, and all before the first.
        is_last: whether to go on until no record is newer than the tables.

    Raises:
        EnvironmentFault: a file cannot be written.
    """
    state, asked = None, set[object]()
    while state != (now := _state(run_folder)):  # another shard may have finished a case meanwhile
        state, metrics, flags, shapes = now, Rows(), Rows(), Rows()
        write_csv(run_folder / "slices.csv", SLICE_COLUMNS, _rows_of_slices(run_folder, metrics, flags, shapes))
        write_csv(run_folder / "metrics.csv", METRICS_COLUMNS, metrics)
        write_csv(run_folder / "qc.csv", QC_COLUMNS, flags)
        write_csv(run_folder / "morphometry.csv", MORPHOMETRY_COLUMNS, shapes)
        asked = {row["tissue"] for row in metrics}
        if not is_last:
            break
    tissues = TissueTable(tuple(tissue for tissue in tissues if tissue.name in asked)) if asked else tissues
    write_tissue_table(run_folder / "labels.tsv", tissues)
    write_itksnap_labels(run_folder / "labels.label.txt", tissues)
    write_slicer_colors(run_folder / "labels.ctbl", tissues)


def _rows_of_slices(run_folder: Path, metrics: Rows, flags: Rows, shapes: Rows) -> Iterator[Mapping[str, object]]:
    """Rows of slices.csv, too many to be held at once; those of the other tables are gathered on the way."""
    for record in read_records(run_folder):
        metrics += record.metrics
        flags += record.flags
        shapes += record.shapes
        yield from record.slices
