"""Build report.html from what a run folder holds: tables, figures, prompts, labels and run.json."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.cores import cores, threads
from msksam_cli.core.series import Series
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.io.atomic import write_text
from msksam_cli.io.review_page import ReviewPage, review_html
from msksam_cli.io.study import scan_study
from msksam_cli.io.tables import read_json
from msksam_cli.io.viewer_bundle import viewer_bundle
from msksam_cli.pipeline.report_cases import RunFolder
from msksam_cli.pipeline.report_risk import order_words
from msksam_cli.pipeline.run_record import read_records

REPORT_NAME = "report.html"
VIEWER_CASES = 20

_OVERLAYS_BYTES = 48_000_000


@dataclass(frozen=True)
class ReportOptions:
    """Options of `msksam report`.

    Attributes:
        run_folder: output folder of a run.
        images: the study that was segmented, for the volumes of NIfTI input, which a run folder does not keep.
        viewer: whether the page carries the viewer; None for where it is installed.
        viewer_cases: volumes that the page carries at most, of the first cases.
    """

    run_folder: Path
    images: Path | None = None
    viewer: bool | None = None
    viewer_cases: int = VIEWER_CASES


@dataclass(frozen=True)
class WrittenReport:
    """A report that was written: where, and what it carries."""

    path: Path
    cases: int
    volumes: int
    has_viewer: bool
    megabytes: float


def run_report(options: ReportOptions) -> WrittenReport:
    """Write the report of a run again.

    Raises:
        InputError: the folder holds no metrics.csv, a table cannot be read, there is no such study, or the viewer is
            asked for and has nothing to show.
        EnvironmentFault: the viewer is asked for and not installed, or the file cannot be written.
    """
    if options.viewer and viewer_bundle() is None:
        raise EnvironmentFault("the viewer is not installed", 'Run pip install "msksam[viewer]", or use --no-viewer')
    series = scan_study(options.images).series if options.images else ()
    count = 0 if options.viewer is False else options.viewer_cases
    page = run_page(options.run_folder, series, count)
    if options.viewer and page.viewer is None:
        raise InputError("no case has a volume for the viewer", "Give the study with --images, or use --no-viewer")
    path = _write(options.run_folder, page)
    volumes = sum(case.preview is not None for case in page.cases)
    return WrittenReport(path, len(page.cases), volumes, page.viewer is not None, path.stat().st_size / 1e6)


def write_report(run_folder: Path, series: Sequence[Series] = ()) -> Path:
    """Write report.html into a run folder and return its path; equal inputs give equal bytes.

    Args:
        run_folder: of the run.
        series: what was segmented, for the volumes of the viewer.

    Raises:
        InputError: the folder holds no metrics.csv or a table cannot be read.
        EnvironmentFault: the file cannot be written.
    """
    return _write(run_folder, run_page(run_folder, series))


def run_page(run_folder: Path, series: Sequence[Series] = (), viewer_cases: int = VIEWER_CASES) -> ReviewPage:
    """The page of a run; the viewer is in it where it is installed and a case has a volume.

    Raises:
        InputError: the folder holds no metrics.csv or a table cannot be read.
    """
    if not (run_folder / "metrics.csv").is_file():
        raise InputError(f"{run_folder.name!r} holds no metrics.csv", "Give the output folder of msksam segment")
    run = RunFolder.of(run_folder, series)
    order = sorted(run.cases, key=lambda case: run.risks[case].key)
    bundle = viewer_bundle() if viewer_cases else None
    most_bytes = _OVERLAYS_BYTES // max(len(order), 1)
    with threads(cores()) as pool:
        with_volume = [case for case in order if run.has_volume(case)] if bundle else []
        if bundle and with_volume:
            pool.submit(lambda: bundle.packed)
        volumes, notes = run.volumes(with_volume, viewer_cases)
        shown = list(pool.map(lambda case: run.review_case(case, volumes.get(case), most_bytes), order))
    records = _run_records(run_folder)
    refused = tuple(reason for record in records for reason in _refused(record))
    count = "1 volume" if len(volumes) == 1 else f"{len(volumes)} volumes"
    held = f"The viewer holds {count}, of the first cases that have one. " if volumes else ""
    return ReviewPage(
        title="Segmentation report",
        lead=f"{len(order)} {'case' if len(order) == 1 else 'cases'} segmented, {len(refused)} refused. {held}"
        "For research; not a medical device.",
        facts=_facts(records[0] if records else {}),
        run_id=_run_id(run_folder),
        refused=refused,
        order=order_words(list(run.risks.values())),
        columns=run.columns,
        cases=tuple(case for case, _ in shown),
        tissues=run.tissues,
        viewer=bundle if volumes else None,
        notes=(*notes, *(problem for _, problem in shown if problem)),
    )


def _write(run_folder: Path, page: ReviewPage) -> Path:
    path = run_folder / REPORT_NAME
    write_text(path, review_html(page))
    return path


def _run_id(run_folder: Path) -> str:
    """A name for the decisions on this run: of its folder and of what was asked, not of its results."""
    setups = sorted({record.setup_sha256 for record in read_records(run_folder)})
    return hashlib.sha256("\n".join((run_folder.resolve().name, *setups)).encode()).hexdigest()[:16]


def _run_records(run_folder: Path) -> list[Mapping[str, object]]:
    """run.json, or those of all shards."""
    paths = sorted(run_folder.glob("run.json")) or sorted(run_folder.glob("run-*-of-*.json"))
    return [record for record in map(read_json, paths) if isinstance(record, dict)]


def _facts(record: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Plain values of a run record and its options."""
    options = record.get("options", {})
    plain = {"version": record.get("msksam"), **(options if isinstance(options, dict) else {})}
    return tuple(
        (str(name).replace("_", " "), str(value))
        for name, value in plain.items()
        if isinstance(value, str | int | float)
    )


def _refused(record: Mapping[str, object]) -> tuple[str, ...]:
    """Inputs a run record says were refused, with the reason."""
    listed = record.get("refused", [])
    return tuple(
        f"{item.get('case') or item.get('file') or 'input'}: {item['reason']}"
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict) and item.get("reason")
    )
