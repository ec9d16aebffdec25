"""Build report.html from what a run folder holds: tables, figures, prompts, labels and run.json."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.cores import cores
from msksam_cli.core.series import Series
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.io.atomic import write_text
from msksam_cli.io.figure_layout import Mark, figure_layout, prompt_marks
from msksam_cli.io.figures import jpeg_from_png, png_size_px
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.preview import Preview, preview
from msksam_cli.io.prompt_files import read_prompts
from msksam_cli.io.report_page import Picture, Table
from msksam_cli.io.review_page import Overlay, ReviewCase, ReviewPage, Size, review_html
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import read_csv, read_json, read_tissue_table
from msksam_cli.io.viewer_bundle import viewer_bundle
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.qc import WHOLE_CASE
from msksam_cli.pipeline.report_risk import EXPECTED_DICE, MILD, Risk, case_risk, order_words
from msksam_cli.pipeline.run_record import read_records

REPORT_NAME = "report.html"
FIGURES_FOLDER = "figures"
VIEWER_CASES = 20

Row = dict[str, str]

_OVERLAYS_BYTES = 48_000_000
_ROUNDED_PX = 6  # a pixel for each tile of a row
_MAPS = {"thickness": "Thickness map", "map": "Quantitative map"}
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
    EXPECTED_DICE: "expected Dice",
}
_DIGITS = {
    "volume_mm3": 0,
    "mean_intensity": 1,
    "thickness_mean_mm": 2,
    "iou_prediction_mean": 2,
    "prior_dice": 2,
    EXPECTED_DICE: 2,
}
_STATUSES = ("complete", "cut_by_field_of_view", "empty", "failed")


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
        InputError: the folder holds no metrics.csv, a table cannot be read, or there is no such study.
        EnvironmentFault: the viewer is asked for and not installed, or the file cannot be written.
    """
    if options.viewer and viewer_bundle() is None:
        raise EnvironmentFault("the viewer is not installed", 'Run pip install "msksam[viewer]", or use --no-viewer')
    series = scan_study(options.images).series if options.images else ()
    count = 0 if options.viewer is False else options.viewer_cases
    page = run_page(options.run_folder, series, count)
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
    run = _Run.of(run_folder, series)
    order = sorted(run.cases, key=lambda case: run.risks[case].key)
    bundle = viewer_bundle() if viewer_cases else None
    previews, notes = run.previews(order, viewer_cases) if bundle else ({}, [])
    most_bytes = _OVERLAYS_BYTES // max(len(order), 1)
    with ThreadPoolExecutor(cores()) as pool:
        shown = list(pool.map(lambda case: run.review_case(case, previews.get(case), most_bytes), order))
    records = _run_records(run_folder)
    refused = tuple(reason for record in records for reason in _refused(record))
    held = f"The viewer holds the volumes of {len(previews)}. " if previews else ""
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
        viewer=bundle if previews else None,
        notes=(*notes, *(problem for _, problem in shown if problem)),
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run folder holds, by case."""

    folder: Path
    metrics: Mapping[str, list[Row]]
    flags: Mapping[str, list[Row]]
    risks: Mapping[str, Risk]
    tissues: TissueTable
    series: Mapping[str, Series]

    @classmethod
    def of(cls, folder: Path, series: Sequence[Series]) -> _Run:
        """Read the tables of a run."""
        metrics = _by_case(read_csv(folder / "metrics.csv"))
        flags = _by_case(read_csv(folder / "qc.csv") if (folder / "qc.csv").is_file() else [])
        risks = {case: case_risk(rows, flags.get(case, [])) for case, rows in metrics.items()}
        table = folder / "labels.tsv"
        values = {int(row["label"]) for rows in metrics.values() for row in rows if row.get("label")}
        tissues = read_tissue_table(table) if table.is_file() else default_table(values)
        return cls(folder, metrics, flags, risks, tissues, {one.case: one for one in series})

    @property
    def cases(self) -> list[str]:
        """Names in the order of the tables."""
        return list(self.metrics)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the overview, after the case."""
        expected = ("expected Dice",) if any(risk.expected_dice is not None for risk in self.risks.values()) else ()
        statuses = (status.replace("_", " ") for status in _STATUSES)
        return (*expected, "tissues", *statuses, "doubts", "lowest IoU prediction")

    def review_case(self, case: str, shown: Preview | None, most_bytes: int) -> tuple[ReviewCase, str]:
        """The case as the page shows it, and what is wrong with its files, "" for nothing."""
        rows, flags, risk = self.metrics[case], self.flags.get(case, []), self.risks[case]
        overlay, problem = self._overlay(case, rows, most_bytes)
        labels = self._labels_path(case)
        found = ReviewCase(
            name=case,
            rank=risk.words,
            cells=self._cells(rows, flags, risk),
            statuses=tuple(dict.fromkeys(row["status"] for row in rows)),
            flags=tuple(dict.fromkeys(flag["flag"] for flag in flags)),
            doubts=tuple(_sentence(flag) for flag in flags if flag["flag"] not in MILD),
            remarks=tuple(_sentence(flag) for flag in flags if flag["flag"] in MILD),
            overlay=overlay,
            maps=tuple(self._maps(case)),
            tables=(_tissue_table(rows),),
            preview=shown,
            labels_sha256=file_sha256(labels) if labels.is_file() else "",
        )
        return found, problem

    def previews(self, order: Sequence[str], most: int) -> tuple[dict[str, Preview], list[str]]:
        """Volumes for the viewer of the first cases that have one, and why others are not among them."""
        found: dict[str, Preview] = {}
        problems: list[str] = []
        for case in order:
            if len(found) == most or not self._labels_path(case).is_file():
                continue
            try:
                shown = self._preview(case)
            except InputError as error:
                problems.append(f"{case} is not in the viewer: {error.message}")
                continue
            if shown:
                found[case] = shown
        return found, problems

    def _preview(self, case: str) -> Preview | None:
        kept = self.folder / "images" / f"{case}.nii.gz"
        if kept.is_file():
            volume, _ = read_volume(kept)
        elif case in self.series:
            volume, _ = read_series(self.series[case])
        else:
            return None
        return preview(volume, read_label_map(self._labels_path(case), self.tissues), self.tissues)

    def _labels_path(self, case: str) -> Path:
        return self.folder / "labels" / f"{case}.nii.gz"

    def _cells(self, rows: Sequence[Row], flags: Sequence[Row], risk: Risk) -> tuple[str, ...]:
        states = [row["status"] for row in rows]
        counts = (str(states.count(state)) for state in _STATUSES)
        expected = (_number(risk.expected_dice),) if "expected Dice" in self.columns else ()
        return (*expected, str(len(states)), *counts, str(len(flags)), _number(risk.lowest_iou))

    def _overlay(self, case: str, rows: Sequence[Row], most_bytes: int) -> tuple[Overlay | None, str]:
        path = self.folder / FIGURES_FOLDER / f"{case}.png"
        if not path.is_file():
            return None, ""
        content = path.read_bytes()
        size = Size(*png_size_px(content))
        tissues = [row["tissue"] for row in rows if row["voxels"]]
        text = f"Slices of {case} with outlines of {', '.join(tissues) or 'no tissue'}"
        caption = "Radiological view: R and A stand at the patient's right and front. Colours as in the line below."
        problem = ""
        marks: tuple[Mark, ...] = ()
        try:
            marks = self._marks(case, size)
        except InputError as error:
            problem = f"{case}: no prompts are drawn: {error.message}"
        return Overlay(Picture(jpeg_from_png(content, most_bytes), text, caption), size, marks), problem

    def _marks(self, case: str, size: Size) -> tuple[Mark, ...]:
        """Prompts in pixels of the figure; none where labels or prompts are missing."""
        prompts = self.folder / "prompts" / f"{case}.json"
        if not (prompts.is_file() and self._labels_path(case).is_file()):
            return ()
        labels: LabelMap = read_label_map(self._labels_path(case), self.tissues)
        layout = figure_layout(labels, titled=True)
        if abs(layout.width_px - size.width_px) > _ROUNDED_PX or layout.bottom_px > size.height_px + _ROUNDED_PX:
            raise InputError("the labels are not those of the figure any more")
        return prompt_marks(layout, read_prompts(prompts, labels.grid, self.tissues))

    def _maps(self, case: str) -> Iterable[Picture]:
        for kind, words in _MAPS.items():
            name = f"{case}-{kind}"
            path = self.folder / FIGURES_FOLDER / f"{name}.png"
            if name not in self.metrics and path.is_file():
                yield Picture(jpeg_from_png(path.read_bytes()), f"{words} of {case}", words)


def _write(run_folder: Path, page: ReviewPage) -> Path:
    path = run_folder / REPORT_NAME
    write_text(path, review_html(page))
    return path


def _by_case(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def _run_id(run_folder: Path) -> str:
    """A name for the decisions on this run: of its folder and of what was asked, not of its results."""
    setups = sorted({record.setup_sha256 for record in read_records(run_folder)})
    return hashlib.sha256("\n".join((run_folder.resolve().name, *setups)).encode()).hexdigest()[:16]


def _tissue_table(rows: Sequence[Row]) -> Table:
    shown = [name for name in _TISSUE_COLUMNS if name == "tissue" or any(row.get(name) for row in rows)]
    return Table(
        tuple(_TISSUE_COLUMNS[name] for name in shown),
        tuple(tuple(_cell(name, row.get(name, "")) for name in shown) for row in rows),
        "Tissues. The IoU prediction is the network's own guess, not a probability.",
    )


def _sentence(flag: Row) -> str:
    subject = "Whole case" if flag["tissue"] == WHOLE_CASE else flag["tissue"]
    return f"{subject}: {flag['text']} ({flag['flag']})"


def _cell(name: str, text: str) -> str:
    return f"{float(text):.{_DIGITS[name]}f}" if text and name in _DIGITS else text.replace("_", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


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
