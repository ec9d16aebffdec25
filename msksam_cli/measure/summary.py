"""Summaries of a measure over cases: mean, spread and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_240_601

_CHUNK_VALUES = 2_000_000


@dataclass(frozen=True)
class Summary:
    """A measure over cases; what too few cases cannot give is None.

    Attributes:
        cases: values that went in.
        mean: arithmetic mean, None without a case.
        sd: sample standard deviation (n - 1), None below two cases.
        median: median, None without a case.
        q25: first quartile.
        q75: third quartile.
        ci95_low: lower end of the bootstrap 95 % interval of the mean, None below two cases.
        ci95_high: upper end.
    """

    cases: int
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    q25: float | None = None
    q75: float | None = None
    ci95_low: float | None = None
    ci95_high: float | None = None

    @property
    def iqr(self) -> float | None:
        """Interquartile range."""
        return None if self.q25 is None or self.q75 is None else self.q75 - self.q25


def summarize(values: Iterable[float | None]) -> Summary:
    """Summary of the values that are known; None among them are left out.

    >>> summarize([1.0, None, 3.0]).mean
    2.0
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if known.size == 0:
        return Summary(0)
    q25, median, q75 = (float(value) for value in np.percentile(known, (25, 50, 75)))
    mean = float(known.mean())
    if known.size == 1:
        return Summary(1, mean, None, median, q25, q75)
    low, high = bootstrap_interval(known)
    return Summary(known.size, mean, float(known.std(ddof=1)), median, q25, q75, low, high)


def bootstrap_interval(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of the mean of (N,) values (Efron and Tibshirani 1993); seeded."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // len(values))
    means = [
        values[generator.integers(0, len(values), (min(rows, resamples - start), len(values)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)
