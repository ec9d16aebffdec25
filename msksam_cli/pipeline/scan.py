"""What a study holds and what would happen to it, as values and as plain records for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msksam_cli.core.series import FileRecord, FormChoice, Refusal, Series, StudyScan
from msksam_cli.errors import InputError
from msksam_cli.io.study import DEFAULT_MIN_SLICES, scan_study


@dataclass(frozen=True)
class ScanOptions:
    """What to scan and how.

    Attributes:
        study: folder searched to any depth, or one file.
        min_slices: volumes with fewer slices are skipped.
        use_form: NIfTI transform to trust where sform and qform disagree, "" to refuse such files.
    """

    study: Path
    min_slices: int = DEFAULT_MIN_SLICES
    use_form: FormChoice = ""


def run_scan(options: ScanOptions) -> StudyScan:
    """Scan a study; decodes no pixels.

    Raises:
        InputError: there is no such study.
    """
    return scan_study(options.study, min_slices=options.min_slices, use_form=options.use_form)


def nothing_usable(scan: StudyScan) -> InputError:
    """The error for a study without a usable volume: how many files there are and what is wrong with most."""
    reasons = Counter(record.reason for record in scan.files if record.state != "used")
    listed = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))
    hint = scan.hint or next((refusal.hint for refusal in scan.refused if refusal.hint), "")
    message = f"nothing usable among {len(scan.files)} files" + (f" ({listed})" if listed else "")
    return InputError(message, hint or "Name a folder with MR images in DICOM or NIfTI")


def exit_code(scan: StudyScan) -> int:
    """0 when every image can be used, 3 when some are refused; a study with nothing usable is an error instead.

    Raises:
        InputError: nothing is usable.
    """
    if not scan.series:
        raise nothing_usable(scan)
    return 3 if scan.refused or scan.count("refused") else 0


def scan_record(scan: StudyScan) -> dict[str, Any]:
    """The scan as plain values for JSON; nothing in it is private."""
    return {
        "series": [series_record(series) for series in scan.series],
        "refused": [refusal_record(refusal) for refusal in scan.refused],
        "files": file_records(scan.files),
        "hint": scan.hint,
    }


def series_record(series: Series) -> dict[str, Any]:
    """One series as plain values."""
    grid = series.grid
    return {
        "case": series.case,
        "kind": series.kind,
        "description": series.description,
        "slices": len(series.files) if series.kind == "dicom" else grid.shape[grid.slice_axis] if grid else None,
        "shape": list(grid.shape) if grid else None,
        "spacing_mm": [round(spacing, 6) for spacing in grid.spacing_mm] if grid else None,
        "orientation": grid.orientation if grid else None,
        "echo_time_ms": series.echo_time_ms,
        "echo_group": series.echo_group,
        "decay": series.decay,
        "quantity": series.quantity,
        "side": series.side,
        "body_part": series.body_part,
        "notes": list(series.notes),
    }


def refusal_record(refusal: Refusal) -> dict[str, str]:
    """One refusal as plain values."""
    return {"where": refusal.where, "reason": refusal.reason, "hint": refusal.hint}


def file_records(files: Iterable[FileRecord]) -> list[dict[str, str]]:
    """The state of every file under a name that may leave the machine."""
    return [
        {"file": record.public_name, "state": record.state, "reason": record.reason, "case": record.case}
        for record in files
    ]


def scan_text(scan: StudyScan) -> str:
    """The scan as a few lines for people."""
    lines = [_series_line(series) for series in scan.series]
    lines += [f"  note: {series.case}: {note}" for series in scan.series for note in series.notes]
    lines += [f"refused  {refusal}" for refusal in scan.refused]
    skipped = Counter(record.reason for record in scan.files if record.state == "skipped")
    lines += [f"skipped  {count} file{'s' if count > 1 else ''}: {reason}" for reason, count in skipped.most_common()]
    counts = ", ".join(f"{scan.count(state)} {state}" for state in ("used", "skipped", "refused"))
    return "\n".join([*lines, f"{len(scan.series)} volumes, {len(scan.refused)} refused; files: {counts}"])


def _series_line(series: Series) -> str:
    grid = series.grid
    shape = "×".join(map(str, grid.shape)) if grid else "?"
    spacing = "×".join(f"{spacing:.3g}" for spacing in grid.spacing_mm) + " mm" if grid else "?"
    anatomy = " ".join(filter(None, (series.side, series.body_part)))
    orientation = grid.orientation if grid else "?"
    return "  ".join(filter(None, ("volume ", series.case, shape, spacing, orientation, series.description, anatomy)))
