"""Means of every way of labelling, and paired differences between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msksam_cli.measure.comparison import MISSING, SPURIOUS
from msksam_cli.measure.paired import PairedDifference, paired_difference
from msksam_cli.measure.summary import Summary, summarize
from msksam_cli.pipeline.compare_case import ATLAS, ATLAS_PROMPTS, ELLIPSE, TRUE_PROMPTS, Compared, Way

MEASURES = ("dice", "assd_mm", "hd95_mm", "surface_dice_1mm", "volume_error_percent")
PAIRED_MEASURES = ("dice", "assd_mm", "hd95_mm")
ALL = "all"

SUMMARY_COLUMNS = (
    "tissue",
    "level",
    "column",
    "model",
    "measure",
    "n",
    "mean",
    "sd",
    "median",
    "ci95_low",
    "ci95_high",
    "missing",
    "spurious",
)
"""Columns of compare_summary.csv."""

PAIRED_COLUMNS = (
    "tissue",
    "level",
    "measure",
    "column",
    "model",
    "than_column",
    "than_model",
    "n",
    "mean_difference",
    "sd",
    "ci95_low",
    "ci95_high",
    "wilcoxon_p",
)
"""Columns of paired.csv."""


@dataclass(frozen=True)
class Pool:
    """Tissues that are looked at together: one tissue, a group of several, or all.

    Attributes:
        name: of the tissue or group, or "all".
        level: "tissue", "group" or "all".
        labels: their label values.
    """

    name: str
    level: str
    labels: frozenset[int]


@dataclass(frozen=True)
class WaySummary:
    """One way of labelling one pool of tissues over the cases; a case counts by its mean over the pool."""

    pool: Pool
    way: Way
    measures: dict[str, Summary]
    missing: int
    spurious: int

    def rows(self) -> Iterator[dict[str, object]]:
        """One row per measure, cells by column of `SUMMARY_COLUMNS`."""
        for measure, s in self.measures.items():
            values = (self.pool.name, self.pool.level, self.way.column, self.way.model, measure, s.cases)
            spread = (s.mean, s.sd, s.median, s.ci95_low, s.ci95_high, self.missing, self.spurious)
            yield dict(zip(SUMMARY_COLUMNS, (*values, *spread), strict=True))


@dataclass(frozen=True)
class WayDifference:
    """How much one way differs from another, case by case."""

    pool: Pool
    measure: str
    way: Way
    than: Way
    difference: PairedDifference

    def row(self) -> dict[str, object]:
        """Cells by column of `PAIRED_COLUMNS`."""
        d = self.difference
        names = (self.pool.name, self.pool.level, self.measure, self.way.column, self.way.model)
        values = (self.than.column, self.than.model, d.cases, d.mean, d.sd, d.ci95_low, d.ci95_high, d.wilcoxon_p)
        return dict(zip(PAIRED_COLUMNS, (*names, *values), strict=True))


def pools(compared: Sequence[Compared]) -> tuple[Pool, ...]:
    """Every tissue, every group of several tissues where there are several groups, and all where there are several."""
    tissues = {one.comparison.label: one for one in compared}
    single = [Pool(tissues[label].comparison.tissue, "tissue", frozenset({label})) for label in sorted(tissues)]
    groups: dict[str, set[int]] = {}
    for label, one in sorted(tissues.items()):
        groups.setdefault(one.group, set()).add(label)
    several = [Pool(g, "group", frozenset(labels)) for g, labels in groups.items() if len(labels) > 1]
    every = [Pool(ALL, "all", frozenset(tissues))] if len(tissues) > 1 else []
    return (*single, *(several if len(groups) > 1 else ()), *every)


def ways(compared: Sequence[Compared]) -> tuple[Way, ...]:
    """The ways that occur, in order of first sight."""
    return tuple(dict.fromkeys(one.way for one in compared))


def summarize_ways(compared: Sequence[Compared]) -> tuple[WaySummary, ...]:
    """A summary per pool and way."""
    return tuple(_summary(pool, way, compared) for pool in pools(compared) for way in ways(compared))


def way_differences(compared: Sequence[Compared]) -> tuple[WayDifference, ...]:
    """Paired differences per pool between the ways that `pairs` names."""
    return tuple(
        WayDifference(pool, measure, way, than, paired_difference(first, second))
        for pool in pools(compared)
        for measure in PAIRED_MEASURES
        for way, than in pairs(ways(compared))
        for first, second in [_side_by_side(pool, measure, way, than, compared)]
    )


def pairs(found: Sequence[Way]) -> tuple[tuple[Way, Way], ...]:
    """Which ways are set against which.

    Atlas prompts against the atlas alone, true prompts against the ellipse in the same boxes and against atlas
    prompts, and every further model against the first in the same column.
    """
    models = tuple(dict.fromkeys(way.model for way in found if way.model))
    wanted = [
        pair
        for model in models
        for pair in (
            (Way(ATLAS_PROMPTS, model), Way(ATLAS)),
            (Way(TRUE_PROMPTS, model), Way(ELLIPSE)),
            (Way(TRUE_PROMPTS, model), Way(ATLAS_PROMPTS, model)),
        )
    ]
    wanted += [(Way(c, m), Way(c, models[0])) for m in models[1:] for c in (ATLAS_PROMPTS, TRUE_PROMPTS)]
    return tuple((way, than) for way, than in wanted if way in found and than in found)


def _summary(pool: Pool, way: Way, compared: Sequence[Compared]) -> WaySummary:
    mine = [one for one in compared if one.way == way and one.comparison.label in pool.labels]
    statuses = [one.comparison.status for one in mine]
    measures = {measure: summarize(_by_case(mine, measure).values()) for measure in MEASURES}
    return WaySummary(pool, way, measures, statuses.count(MISSING), statuses.count(SPURIOUS))


def _side_by_side(
    pool: Pool, measure: str, way: Way, than: Way, compared: Sequence[Compared]
) -> tuple[list[float | None], list[float | None]]:
    """Values of both ways case by case, over the tissues for which both have one."""
    values, others = (_values(pool, measure, one, compared) for one in (way, than))
    shared = sorted(values.keys() & others.keys())
    cases = dict.fromkeys(case for case, _ in shared)
    first = [_mean([values[key] for key in shared if key[0] == case]) for case in cases]
    second = [_mean([others[key] for key in shared if key[0] == case]) for case in cases]
    return first, second


def _values(pool: Pool, measure: str, way: Way, compared: Sequence[Compared]) -> dict[tuple[str, int], float]:
    """(Case, label) → measure where it is known."""
    mine = [one.comparison for one in compared if one.way == way and one.comparison.label in pool.labels]
    known = {(one.case, one.label): getattr(one, measure) for one in mine}
    return {key: value for key, value in known.items() if value is not None}


def _by_case(mine: Sequence[Compared], measure: str) -> dict[str, float | None]:
    """Case → mean over the tissues that have the measure."""
    values: dict[str, list[float]] = {}
    for one in mine:
        value = getattr(one.comparison, measure)
        values.setdefault(one.comparison.case, []).extend([] if value is None else [value])
    return {case: _mean(found) for case, found in values.items()}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
