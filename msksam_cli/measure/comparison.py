"""One tissue against its reference: the rows of per_case.csv and summary.csv.

Empty rules: with both sides empty nothing was asked, so overlap is None and the row counts as both_empty, outside
every mean; with one side empty overlap is 0, distances do not exist, and the row counts as missing or spurious.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.measure.overlap import LabelArray, Overlap, overlaps
from msksam_cli.measure.summary import Summary, summarize
from msksam_cli.measure.surface import assd_mm, hd95_mm, surface_dice, surface_distances

PER_CASE_COLUMNS = (
    "case",
    "label",
    "tissue",
    "status",
    "dice",
    "iou",
    "hd95_mm",
    "assd_mm",
    "surface_dice_1mm",
    "volume_pred_mm3",
    "volume_ref_mm3",
    "volume_error_percent",
)
"""Columns of per_case.csv."""

SUMMARIZED = ("dice", "iou", "hd95_mm", "assd_mm", "surface_dice_1mm", "volume_error_percent")
"""Columns of per_case.csv that summary.csv summarises."""

SUMMARY_COLUMNS = (
    "tissue",
    "label",
    "measure",
    "cases",
    "mean",
    "sd",
    "median",
    "q25",
    "q75",
    "iqr",
    "ci95_low",
    "ci95_high",
    "missing",
    "spurious",
    "both_empty",
)
"""Columns of summary.csv."""

ALL_TISSUES = "all"
"""Stands for the mean over a case's tissues."""

COMPARED, MISSING, SPURIOUS, BOTH_EMPTY = "compared", "missing", "spurious", "both_empty"

_TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class Comparison:
    """One tissue of one case; a value that does not exist is None.

    Attributes:
        case: case name.
        label: label value.
        tissue: its name.
        status: "compared", "missing" (only in the reference), "spurious" (only in the prediction) or "both_empty".
        dice: 0 when one side is empty, None when both are.
        iou: likewise.
        hd95_mm: None unless both sides have voxels.
        assd_mm: likewise.
        surface_dice_1mm: surface Dice at 1 mm; 0 when one side is empty, None when both are.
        volume_pred_mm3: volume of the prediction.
        volume_ref_mm3: volume of the reference.
    """

    case: str
    label: int
    tissue: str
    status: str
    dice: float | None = None
    iou: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    surface_dice_1mm: float | None = None
    volume_pred_mm3: float = 0.0
    volume_ref_mm3: float = 0.0

    @property
    def volume_error_percent(self) -> float | None:
        """Prediction minus reference in percent of the reference, None when the reference is empty."""
        if not self.volume_ref_mm3:
            return None
        return 100 * (self.volume_pred_mm3 - self.volume_ref_mm3) / self.volume_ref_mm3

    def row(self) -> dict[str, object]:
        """Cells by column of `PER_CASE_COLUMNS`."""
        return {column: getattr(self, column) for column in PER_CASE_COLUMNS}


@dataclass(frozen=True)
class TissueSummary:
    """Every measure of one tissue over the cases.

    Attributes:
        tissue: name, or `ALL_TISSUES`.
        label: label value, None for `ALL_TISSUES`.
        measures: name from `SUMMARIZED` → summary.
        statuses: status → number of comparisons.
    """

    tissue: str
    label: int | None
    measures: Mapping[str, Summary]
    statuses: Mapping[str, int]

    def rows(self) -> list[dict[str, object]]:
        """One row per measure, cells by column of `SUMMARY_COLUMNS`."""
        counts = {status: self.statuses.get(status, 0) for status in (MISSING, SPURIOUS, BOTH_EMPTY)}
        names = ("cases", "mean", "sd", "median", "q25", "q75", "iqr", "ci95_low", "ci95_high")
        return [
            {"tissue": self.tissue, "label": self.label, "measure": measure}
            | {name: getattr(summary, name) for name in names}
            | counts
            for measure, summary in self.measures.items()
        ]


def compare_labels(
    case: str, predicted: LabelArray, reference: LabelArray, grid: Grid, names: Mapping[int, str]
) -> list[Comparison]:
    """A comparison of every label above 0 that occurs in either array (I, J, K) on one grid, in order of label.

    `names` gives the tissues; a label it does not know is called "label-<value>".
    """
    return [
        replace(
            _compare(counts, predicted == label, reference == label, grid),
            case=case,
            label=label,
            tissue=names.get(label, f"label-{label}"),
        )
        for label, counts in overlaps(predicted, reference).items()
    ]


def with_empty_comparisons(
    comparisons: Sequence[Comparison], cases: Sequence[str], names: Mapping[int, str]
) -> list[Comparison]:
    """The comparisons and, for each case, a both_empty one per label that is in `names` or occurs in another case.

    Ordered by case, in the order given, and label.
    """
    tissues = dict(names) | {comparison.label: comparison.tissue for comparison in comparisons}
    found = {(comparison.case, comparison.label): comparison for comparison in comparisons}
    return [
        found.get((case, label)) or Comparison(case, label, tissues[label], BOTH_EMPTY)
        for case in cases
        for label in sorted(tissues)
    ]


def summarize_tissues(comparisons: Sequence[Comparison]) -> tuple[TissueSummary, ...]:
    """A summary per tissue, in order of label, and one of the mean over tissues in each case when there are several."""
    by_label: dict[int, list[Comparison]] = {}
    for comparison in comparisons:
        by_label.setdefault(comparison.label, []).append(comparison)
    summaries = [
        TissueSummary(
            group[0].tissue,
            label,
            {measure: summarize(getattr(comparison, measure) for comparison in group) for measure in SUMMARIZED},
            Counter(comparison.status for comparison in group),
        )
        for label, group in sorted(by_label.items())
    ]
    return (*summaries, _over_tissues(comparisons)) if len(summaries) > 1 else tuple(summaries)


def _over_tissues(comparisons: Sequence[Comparison]) -> TissueSummary:
    by_case: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_case.setdefault(comparison.case, []).append(comparison)
    measures = {
        measure: summarize(_mean([getattr(comparison, measure) for comparison in group]) for group in by_case.values())
        for measure in SUMMARIZED
    }
    return TissueSummary(ALL_TISSUES, None, measures, Counter(comparison.status for comparison in comparisons))


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known, None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _compare(counts: Overlap, predicted: NDArray[np.bool_], reference: NDArray[np.bool_], grid: Grid) -> Comparison:
    distances = surface_distances(predicted, reference, grid.spacing_mm)
    return Comparison(
        case="",
        label=0,
        tissue="",
        status=COMPARED if counts.voxels_a and counts.voxels_b else MISSING if counts.voxels_b else SPURIOUS,
        dice=counts.dice,
        iou=counts.iou,
        hd95_mm=hd95_mm(distances),
        assd_mm=assd_mm(distances),
        surface_dice_1mm=surface_dice(distances, _TOLERANCE_MM),
        volume_pred_mm3=counts.voxels_a * grid.voxel_volume_mm3,
        volume_ref_mm3=counts.voxels_b * grid.voxel_volume_mm3,
    )
