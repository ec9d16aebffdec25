"""Agreement of a biomarker between predictions and references: the rows of agreement.csv.

Each row is made of two columns of per_case.csv, so that every number in it can be computed again from that table.
Cases in which a side lacks the tissue have no difference; they are left out and counted. What a sample cannot give is
None with a reason, never NaN and never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msksam_cli.measure.agreement_estimates import ESTIMATES, agreement_estimates
from msksam_cli.measure.comparison import BOTH_EMPTY, COMPARED, MISSING, SPURIOUS, Comparison
from msksam_cli.measure.estimate import Estimate, Values, shown
from msksam_cli.measure.influence import Influence, Statistic, largest_influence, outlying_difference
from msksam_cli.measure.reliability import ccc, icc_2_1

UNKNOWN = "unknown"
LEFT_OUT = (MISSING, SPURIOUS, BOTH_EMPTY, UNKNOWN)
"""Why cases are not among those of a row."""

INFLUENCED: Mapping[str, Statistic] = {
    "bias": lambda predicted, reference: float((predicted - reference).mean()),
    "sd": lambda predicted, reference: float((predicted - reference).std(ddof=1)),
    "icc_2_1": lambda predicted, reference: icc_2_1(np.stack((predicted, reference), axis=1)).value,
    "ccc": lambda predicted, reference: ccc(predicted, reference).value,
}
"""Estimates that are looked at without each case."""

AGREEMENT_COLUMNS = (
    "tissue",
    "label",
    "biomarker",
    "cases",
    *LEFT_OUT,
    *(
        column
        for name, has_interval in ESTIMATES.items()
        for column in (name, *((f"{name}_ci95_low", f"{name}_ci95_high") if has_interval else ()))
    ),
    *(column for name in INFLUENCED for column in (f"{name}_influence_case", f"{name}_without_case")),
    "warning",
    "reason",
)
"""Columns of agreement.csv."""

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Biomarker:
    """A number that both sides have of a tissue, by the columns of per_case.csv that hold it.

    Attributes:
        name: its column in metrics.csv, which ends with its unit.
        predicted: column with the prediction's value.
        reference: column with the reference's value.
    """

    name: str
    predicted: str
    reference: str


BIOMARKERS = (Biomarker("volume_mm3", "volume_pred_mm3", "volume_ref_mm3"),)
"""What agreement.csv has rows for. One that a tissue has in no case on neither side gets no row."""


@dataclass(frozen=True)
class Pair:
    """One case's biomarker on both sides, in the biomarker's unit."""

    case: str
    predicted: float
    reference: float

    @property
    def difference(self) -> float:
        """Prediction minus reference."""
        return self.predicted - self.reference

    @property
    def mean(self) -> float:
        """Mean of both sides."""
        return (self.predicted + self.reference) / 2


@dataclass(frozen=True)
class Agreement:
    """How a biomarker of one tissue agrees over the cases.

    Attributes:
        tissue: name.
        label: label value.
        biomarker: name of the biomarker.
        pairs: cases that both sides have, in the order of the comparisons.
        left_out: reason from `LEFT_OUT` → number of cases.
        estimates: name from `ESTIMATES` → estimate.
        influences: name from `INFLUENCED` → the case that changes it most.
        warnings: what a reader must know before quoting a number.
    """

    tissue: str
    label: int
    biomarker: str
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]
    estimates: Mapping[str, Estimate]
    influences: Mapping[str, Influence]
    warnings: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why numbers are unknown, each reason once, behind the names it holds for."""
        names: dict[str, list[str]] = {}
        for name, estimate in self.estimates.items():
            if estimate.reason:
                names.setdefault(estimate.reason, []).append(name)
        if len(names) == 1 and not any(estimate.value is not None for estimate in self.estimates.values()):
            return tuple(names)
        return tuple(f"{', '.join(named)}: {reason}" for reason, named in names.items())

    def row(self) -> dict[str, object]:
        """Cells by column of `AGREEMENT_COLUMNS`."""
        cells: dict[str, object] = {"tissue": self.tissue, "label": self.label, "biomarker": self.biomarker}
        cells |= {"cases": len(self.pairs)} | {why: self.left_out.get(why, 0) for why in LEFT_OUT}
        for name, has_interval in ESTIMATES.items():
            estimate = self.estimates[name]
            cells[name] = estimate.value
            if has_interval:
                cells |= {f"{name}_ci95_low": estimate.low, f"{name}_ci95_high": estimate.high}
        for name, influence in self.influences.items():
            cells |= {f"{name}_influence_case": influence.case, f"{name}_without_case": influence.without}
        return cells | {"warning": "; ".join(self.warnings), "reason": "; ".join(self.reasons)}


def tissue_agreements(
    comparisons: Sequence[Comparison], biomarkers: Sequence[Biomarker] = BIOMARKERS
) -> tuple[Agreement, ...]:
    """One agreement per tissue and biomarker, in order of label."""
    by_label: dict[int, list[Comparison]] = {}
    for comparison in comparisons:
        by_label.setdefault(comparison.label, []).append(comparison)
    return tuple(
        _agreement(group, biomarker)
        for _, group in sorted(by_label.items())
        for biomarker in biomarkers
        if any(value is not None for item in group for value in _values(item, biomarker))
    )


def agreement_warnings(
    pairs: Sequence[Pair], estimates: Mapping[str, Estimate], influences: Mapping[str, Influence]
) -> Iterator[str]:
    """Proportional bias, and one case that carries the bias and limits or the ICC(2,1).

    Bias and limits are carried by a case whose difference is an outlier among the others' (`outlying_difference`),
    the ICC by a case without which it leaves its own 95 % interval.
    """
    slope, p = estimates["slope"], estimates["slope_p"]
    if slope.value is not None and (p.value is None or p.value < _SIGNIFICANT):
        found = "exactly" if p.value is None else f"p {p.value:.2g}"
        yield f"the difference changes with size: {slope.value:+.3g} per unit ({found})"
    cases = [pair.case for pair in pairs]
    outlier = outlying_difference(cases, *_sides(pairs))
    if outlier is not None:
        rest = [pair.difference for pair in pairs if pair.case != outlier.case]
        far = (
            "" if outlier.distance_sd is None else f", whose difference lies {outlier.distance_sd:.1f} sd from the rest"
        )
        yield (
            f"{outlier.case} carries bias and limits{far}: without it "
            f"bias {shown(float(np.mean(rest)))} and sd {shown(float(np.std(rest, ddof=1)))}"
        )
    interval, influence = estimates["icc_2_1"].interval, influences.get("icc_2_1")
    if interval and influence and not interval[0] <= influence.without <= interval[1]:
        ends = f"{interval[0]:.3f} … {interval[1]:.3f}"
        yield f"{influence.case} carries the ICC: without it {influence.without:.3f}, outside {ends}"


def _agreement(group: Sequence[Comparison], biomarker: Biomarker) -> Agreement:
    pairs, left_out = [], Counter[str]()
    for item in group:
        predicted, reference = _values(item, biomarker)
        if item.status != COMPARED:
            left_out[item.status] += 1
        elif predicted is None or reference is None:
            left_out[UNKNOWN] += 1
        else:
            pairs.append(Pair(item.case, predicted, reference))
    sides = _sides(pairs)
    estimates = agreement_estimates(*sides)
    cases = [pair.case for pair in pairs]
    found = {name: largest_influence(cases, *sides, statistic) for name, statistic in INFLUENCED.items()}
    influences = {name: influence for name, influence in found.items() if influence is not None}
    warnings = tuple(agreement_warnings(pairs, estimates, influences))
    return Agreement(
        group[0].tissue, group[0].label, biomarker.name, tuple(pairs), left_out, estimates, influences, warnings
    )


def _values(item: Comparison, biomarker: Biomarker) -> tuple[float | None, float | None]:
    return getattr(item, biomarker.predicted), getattr(item, biomarker.reference)


def _sides(pairs: Sequence[Pair]) -> tuple[Values, Values]:
    predicted = np.array([pair.predicted for pair in pairs], dtype=np.float64)
    return predicted, np.array([pair.reference for pair in pairs], dtype=np.float64)
