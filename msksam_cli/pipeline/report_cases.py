"""The cases of a run folder as its report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.cores import cores_with_memory, few_cores, spread_over_cores, threads
from msksam_cli.core.geometry import Grid
from msksam_cli.core.series import Series
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError
from msksam_cli.io.figure_layout import Layout, Mark, figure_layout, prompt_marks
from msksam_cli.io.figures import jpeg_from_png, png_size_px
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.preview import Preview, preview
from msksam_cli.io.prompt_files import read_prompts
from msksam_cli.io.report_page import Picture, Table
from msksam_cli.io.review_page import Overlay, ReviewCase, Size
from msksam_cli.io.study import read_series
from msksam_cli.io.tables import read_csv, read_tissue_table
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.qc import WHOLE_CASE
from msksam_cli.pipeline.report_risk import EXPECTED_DICE, MILD, Risk, case_risk, known_number

FIGURES_FOLDER = "figures"

Row = dict[str, str]

_VOLUME_BYTES = 1 << 30  # of a large volume while its preview is made
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


@dataclass(frozen=True, eq=False)
class LaidOut:
    """What is left of labels that were read, to lay prompts over their figure: grid, and layout of the figure."""

    grid: Grid
    layout: Layout

    @classmethod
    def of(cls, labels: LabelMap) -> LaidOut:
        """Of these labels."""
        return cls(labels.grid, figure_layout(labels, titled=True))


@dataclass(frozen=True, eq=False)
class ShownVolume:
    """The volume of a case in the viewer, and its labels, which were read for it."""

    preview: Preview
    labels: LaidOut


@dataclass(frozen=True, eq=False)
class RunFolder:
    """What a run folder holds, by case."""

    folder: Path
    metrics: Mapping[str, list[Row]]
    flags: Mapping[str, list[Row]]
    risks: Mapping[str, Risk]
    tissues: TissueTable
    series: Mapping[str, Series]

    @classmethod
    def of(cls, folder: Path, series: Sequence[Series]) -> RunFolder:
        """Read the tables of a run.

        Raises:
            InputError: a table cannot be read or lacks a column.
        """
        tissue_rows = read_csv(folder / "metrics.csv")
        flag_rows = read_csv(folder / "qc.csv") if (folder / "qc.csv").is_file() else []
        _check_columns(tissue_rows, ("case", "tissue", "status", "voxels"), "metrics.csv")
        _check_columns(flag_rows, ("case", "tissue", "flag", "text"), "qc.csv")
        metrics, flags = _by_case(tissue_rows), _by_case(flag_rows)
        risks = {case: case_risk(rows, flags.get(case, [])) for case, rows in metrics.items()}
        table = folder / "labels.tsv"
        values = {int(row["label"]) for row in tissue_rows if row.get("label", "").isdecimal()}
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

    def review_case(self, case: str, volume: ShownVolume | None, most_bytes: int) -> tuple[ReviewCase, str]:
        """The case as the page shows it, and what is wrong with its files, "" for nothing."""
        rows, flags, risk = self.metrics[case], self.flags.get(case, []), self.risks[case]
        overlay, problem = self._overlay(case, rows, volume.labels if volume else None, most_bytes)
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
            preview=volume.preview if volume else None,
            labels_sha256=file_sha256(labels) if labels.is_file() else "",
        )
        return found, problem

    def has_volume(self, case: str) -> bool:
        """Whether there are an image and labels of a case, for the viewer."""
        has_image = self._image_path(case).is_file() or case in self.series
        return has_image and self._labels_path(case).is_file()

    def volumes(self, cases: Sequence[str], most: int) -> tuple[dict[str, ShownVolume], list[str]]:
        """Volumes for the viewer of the first cases whose files can be read, and why others are not among them."""
        found: dict[str, ShownVolume] = {}
        problems: list[str] = []
        left = list(cases)
        while left and len(found) < most:
            tried, left = left[: most - len(found)], left[most - len(found) :]
            workers = min(few_cores(), cores_with_memory(_VOLUME_BYTES))
            for case, shown in zip(tried, spread_over_cores(self._volume, tried, workers), strict=True):
                if isinstance(shown, ShownVolume):
                    found[case] = shown
                else:
                    problems.append(f"{case} is not in the viewer: {shown.message}")
        return found, problems

    def _volume(self, case: str) -> ShownVolume | InputError:
        """The volume of a case, or what is wrong with its files."""
        kept = self._image_path(case)
        try:
            with threads(1) as beside:
                reading = beside.submit(read_label_map, self._labels_path(case), self.tissues)
                volume, _ = read_volume(kept) if kept.is_file() else read_series(self.series[case])
            labels = reading.result()
            return ShownVolume(preview(volume, labels, self.tissues), LaidOut.of(labels))
        except InputError as error:
            return error

    def _image_path(self, case: str) -> Path:
        return self.folder / "images" / f"{case}.nii.gz"

    def _labels_path(self, case: str) -> Path:
        return self.folder / "labels" / f"{case}.nii.gz"

    def _cells(self, rows: Sequence[Row], flags: Sequence[Row], risk: Risk) -> tuple[str, ...]:
        states = [row["status"] for row in rows]
        counts = (str(states.count(state)) for state in _STATUSES)
        expected = (_number(risk.expected_dice),) if "expected Dice" in self.columns else ()
        return (*expected, str(len(states)), *counts, str(len(flags)), _number(risk.lowest_iou))

    def _overlay(
        self, case: str, rows: Sequence[Row], labels: LaidOut | None, most_bytes: int
    ) -> tuple[Overlay | None, str]:
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
            marks = self._marks(case, size, labels)
        except InputError as error:
            problem = f"{case}: no prompts are drawn: {error.message}"
        return Overlay(Picture(jpeg_from_png(content, most_bytes), text, caption), size, marks), problem

    def _marks(self, case: str, size: Size, labels: LaidOut | None) -> tuple[Mark, ...]:
        """Prompts in pixels of the figure; none where labels or prompts are missing."""
        prompts = self.folder / "prompts" / f"{case}.json"
        if not (prompts.is_file() and self._labels_path(case).is_file()):
            return ()
        labels = labels or LaidOut.of(read_label_map(self._labels_path(case), self.tissues))
        layout = labels.layout
        if abs(layout.width_px - size.width_px) > _ROUNDED_PX or layout.bottom_px > size.height_px + _ROUNDED_PX:
            raise InputError("the labels are not those of the figure any more")
        return prompt_marks(layout, read_prompts(prompts, labels.grid, self.tissues))

    def _maps(self, case: str) -> Iterable[Picture]:
        for kind, words in _MAPS.items():
            name = f"{case}-{kind}"
            path = self.folder / FIGURES_FOLDER / f"{name}.png"
            if name not in self.metrics and path.is_file():
                yield Picture(jpeg_from_png(path.read_bytes()), f"{words} of {case}", words)


def _check_columns(rows: Sequence[Row], names: Sequence[str], table: str) -> None:
    missing = [name for name in names if rows and name not in rows[0]]
    if missing:
        raise InputError(
            f"{table} has no column {', '.join(missing)}", "Run msksam segment again; it rebuilds its tables"
        )


def _by_case(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


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
    if not text or name not in _DIGITS:
        return text.replace("_", " ")
    value = known_number(text)
    return text if value is None else f"{value:.{_DIGITS[name]}f}"  # else as it stands, for whoever wrote it


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
