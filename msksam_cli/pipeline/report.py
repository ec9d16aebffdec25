"""Build report.html from what a run folder holds: metrics.csv, qc.csv, figures and run.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msksam_cli.errors import InputError
from msksam_cli.io.figures import jpeg_from_png
from msksam_cli.io.report_page import Page, Picture, Section, Table, write_page
from msksam_cli.io.tables import read_csv, read_json

REPORT_NAME = "report.html"
FIGURES_FOLDER = "figures"

Row = dict[str, str]

_TISSUE_COLUMNS = {
    "tissue": "tissue",
    "side": "side",
    "status": "status",
    "reason": "reason",
    "volume_mm3": "volume mm³",
    "slices": "slices",
    "mean_intensity": "mean intensity",
    "thickness_mean_mm": "thickness mm",
    "iou_prediction_mean": "IoU prediction",
    "prior_dice": "Dice with prior",
}
_DIGITS = {"volume_mm3": 0, "mean_intensity": 1, "thickness_mean_mm": 2, "iou_prediction_mean": 2, "prior_dice": 2}


def write_report(run_folder: Path) -> Path:
    """Write report.html into a run folder and return its path; equal inputs give equal bytes.

    Raises:
        InputError: the folder holds no metrics.csv or a table cannot be read.
        EnvironmentFault: the file cannot be written.
    """
    path = run_folder / REPORT_NAME
    write_page(path, run_page(run_folder))
    return path


def run_page(run_folder: Path) -> Page:
    """The page of a run: facts, a table over all cases, and a section per case with doubts, figure and tissues.

    Raises:
        InputError: the folder holds no metrics.csv or a table cannot be read.
    """
    if not (run_folder / "metrics.csv").is_file():
        raise InputError(f"{run_folder.name!r} holds no metrics.csv", "Give the output folder of msksam segment")
    metrics = read_csv(run_folder / "metrics.csv")
    flags = read_csv(run_folder / "qc.csv") if (run_folder / "qc.csv").is_file() else []
    record = read_json(run_folder / "run.json") if (run_folder / "run.json").is_file() else {}
    _check_columns(metrics, ("case", "tissue", "status", "voxels"), "metrics.csv")
    _check_columns(flags, ("case", "tissue", "flag", "text"), "qc.csv")
    cases = list(dict.fromkeys(row["case"] for row in metrics))
    refused = _refused(record)
    sections = [Section("Cases", doubts=refused, tables=(_overview(cases, metrics, flags),))]
    sections += [_case_section(case, metrics, flags, run_folder / FIGURES_FOLDER) for case in cases]
    facts = (*_facts(record), ("cases", str(len(cases))), ("not segmented", str(len(refused))))
    lead = "Labels, measures and doubts of each case. For research; not a medical device."
    return Page("Segmentation report", lead, facts, tuple(sections))


def _check_columns(rows: Sequence[Row], names: Sequence[str], table: str) -> None:
    missing = [name for name in names if rows and name not in rows[0]]
    if missing:
        raise InputError(
            f"{table} has no column {', '.join(missing)}", "Run msksam segment again; it rebuilds its tables"
        )


def _overview(cases: Sequence[str], metrics: Sequence[Row], flags: Sequence[Row]) -> Table:
    rows = []
    for case in cases:
        states = [row["status"] for row in metrics if row["case"] == case]
        doubts = sum(flag["case"] == case for flag in flags)
        counts = (str(states.count(state)) for state in ("complete", "cut_by_field_of_view", "empty", "failed"))
        rows.append((case, str(len(states)), *counts, str(doubts)))
    columns = ("case", "tissues", "complete", "cut by field of view", "empty", "failed", "doubts")
    return Table(columns, tuple(rows), "Tissues of each case by status.")


def _case_section(case: str, metrics: Sequence[Row], flags: Sequence[Row], figures: Path) -> Section:
    rows = [row for row in metrics if row["case"] == case]
    doubts = tuple(f"{_subject(flag)}: {flag['text']} ({flag['flag']})" for flag in flags if flag["case"] == case)
    shown = [name for name in _TISSUE_COLUMNS if name == "tissue" or any(row.get(name) for row in rows)]
    table = Table(
        tuple(_TISSUE_COLUMNS[name] for name in shown),
        tuple(tuple(_cell(name, row.get(name, "")) for name in shown) for row in rows),
        "Tissues. The IoU prediction is the network's own guess, not a probability.",
    )
    figure = figures / f"{case}.png"
    pictures = (_picture(figure, case, rows),) if figure.is_file() else ()
    return Section(case, doubts=doubts, pictures=pictures, tables=(table,))


def _picture(path: Path, case: str, rows: Sequence[Row]) -> Picture:
    found = [row["tissue"] for row in rows if row["voxels"]]
    text = f"Slices of {case} with outlines of {', '.join(found) or 'no tissue'}"
    caption = "Radiological view: R and A stand at the patient's right and front. Colours as in the line below."
    return Picture(jpeg_from_png(path.read_bytes()), text, caption)


def _subject(flag: Row) -> str:
    return "Whole case" if flag["tissue"] == "all" else flag["tissue"]


def _cell(name: str, text: str) -> str:
    if not text or name not in _DIGITS:
        return text.replace("_", " ")
    try:
        return f"{float(text):.{_DIGITS[name]}f}"
    except ValueError:
        return text  # shown as it stands, so that whoever wrote it sees it


def _facts(record: object) -> tuple[tuple[str, str], ...]:
    """Plain values of the run record and its options."""
    if not isinstance(record, dict):
        return ()
    options = record.get("options", {})
    plain = {"version": record.get("msksam"), **(options if isinstance(options, dict) else {})}
    return tuple(
        (str(name).replace("_", " "), str(value))
        for name, value in plain.items()
        if isinstance(value, str | int | float)
    )


def _refused(record: object) -> tuple[str, ...]:
    """Inputs the run record says were refused, with the reason."""
    listed = record.get("refused", []) if isinstance(record, dict) else []
    return tuple(
        f"{item.get('case') or item.get('file') or 'input'}: {item['reason']}"
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict) and item.get("reason")
    )
