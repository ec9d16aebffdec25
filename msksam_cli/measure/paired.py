"""Differences between two ways of doing the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from msksam_cli.core.quiet import without_warnings
from msksam_cli.measure.summary import bootstrap_interval


@dataclass(frozen=True)
class PairedDifference:
    """First minus second over the cases that both have; what too few cases cannot give is None.

    Attributes:
        cases: pairs that went in.
        mean: mean difference.
        sd: sample standard deviation of the differences, None below two pairs.
        ci95_low: lower end of the bootstrap 95 % interval of the mean difference, None below two pairs.
        ci95_high: upper end.
        wilcoxon_p: two-sided p of the signed-rank test (Wilcoxon 1945); None when no pair differs. With five pairs
            it cannot fall below 0.06.
    """

    cases: int
    mean: float | None = None
    sd: float | None = None
    ci95_low: float | None = None
    ci95_high: float | None = None
    wilcoxon_p: float | None = None


def paired_difference(first: Sequence[float | None], second: Sequence[float | None]) -> PairedDifference:
    """The difference of two equally long series, case by case; a case that either lacks is left out.

    >>> paired_difference([0.9, None, 0.8], [0.7, 0.5, 0.8]).cases
    2

    Raises:
        ValueError: the series differ in length.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    differences = np.array([a - b for a, b in pairs], dtype=np.float64)
    if differences.size == 0:
        return PairedDifference(0)
    mean = float(differences.mean())
    if differences.size == 1:
        return PairedDifference(1, mean)
    low, high = bootstrap_interval(differences)
    sd = float(differences.std(ddof=1))
    return PairedDifference(differences.size, mean, sd, low, high, _signed_rank_p(differences))


def _signed_rank_p(differences: NDArray[np.float64]) -> float | None:
    if not differences.any():
        return None
    with without_warnings():  # ties and zeros make the exact distribution approximate
        return float(stats.wilcoxon(differences).pvalue)
