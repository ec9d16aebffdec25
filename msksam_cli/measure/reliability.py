"""How well two or more ways of measuring tell cases apart: intraclass and concordance correlation.

An ICC compares the spread between cases with the error, so that it rises with the variety of the cases at hand; it is
no measure of error by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from msksam_cli.measure.estimate import Estimate, Values, unknown, vary

ONE_SIZE = "the cases are all of one size"
NO_ERROR = "the error does not vary"

_Z95 = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class MeanSquares:
    """Two-way analysis of variance without replication, N cases by k raters.

    Attributes:
        cases: N.
        raters: k.
        between_cases: mean square of the cases' means.
        between_raters: mean square of the raters' means.
        error: residual mean square, exactly 0 when it is rounding.
        total: whether any value differs from another.
    """

    cases: int
    raters: int
    between_cases: float
    between_raters: float
    error: float
    total: bool


def mean_squares(values: NDArray[np.float64]) -> MeanSquares:
    """Mean squares of (N, k) values, a case in each row and a rater in each column; N ≥ 2, k ≥ 2."""
    cases, raters = values.shape
    mean = values.mean()
    of_cases, of_raters = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    residuals = values - mean - of_cases[:, None] - of_raters[None, :]
    between_cases = raters * float(of_cases @ of_cases) / (cases - 1) if vary(of_cases, values) else 0.0
    error = float((residuals**2).sum()) / ((cases - 1) * (raters - 1)) if vary(residuals, values) else 0.0
    between_raters = cases * float(of_raters @ of_raters) / (raters - 1)
    return MeanSquares(cases, raters, between_cases, between_raters, error, vary(values, values))


def icc_2_1(values: NDArray[np.float64]) -> Estimate:
    """ICC(2,1) of (N, k) values: absolute agreement of single measurements, raters drawn at random.

    Shrout and Fleiss 1979, ICC(A,1) of McGraw and Wong 1996; interval by F with Satterthwaite's degrees of freedom,
    from the same. The estimate may be negative; where those degrees of freedom fall below 1, which they only do then,
    there is no interval.
    """
    found = mean_squares(values)
    if not found.total:
        return unknown(ONE_SIZE)
    n, k, rows, columns, error = found.cases, found.raters, found.between_cases, found.between_raters, found.error
    icc = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    if not rows or not error:
        return Estimate(icc, reason=NO_ERROR if rows else ONE_SIZE)
    ratio, spread = columns / error, n * (1 + (k - 1) * icc) - k * icc
    freedom = (k - 1) * (n - 1) * (k * icc * ratio + spread) ** 2
    freedom /= (n - 1) * (k * icc * ratio) ** 2 + spread**2
    if freedom < 1:
        return Estimate(icc, reason="too far below 0 for an interval")
    lower, upper = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    shared = k * columns + (k * n - k - n) * error
    low = n * (rows - lower * error) / (lower * shared + n * rows)
    high = n * (upper * rows - error) / (shared + n * upper * rows)
    return Estimate(icc, float(low), float(high))


def icc_3_1(values: NDArray[np.float64]) -> Estimate:
    """ICC(3,1) of (N, k) values: consistency of single measurements by these raters, differences in level ignored.

    Shrout and Fleiss 1979, ICC(C,1) of McGraw and Wong 1996; the interval is exact by F.
    """
    found = mean_squares(values)
    k, rows, error = found.raters, found.between_cases, found.error
    if not rows + error:
        return unknown(ONE_SIZE)
    icc = (rows - error) / (rows + (k - 1) * error)
    if not rows or not error:
        return Estimate(icc, reason=NO_ERROR if rows else ONE_SIZE)
    freedom = (found.cases - 1) * (k - 1)
    low = rows / error / float(stats.f.ppf(0.975, found.cases - 1, freedom))
    high = rows / error * float(stats.f.ppf(0.975, freedom, found.cases - 1))
    return Estimate(icc, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def ccc(predicted: Values, reference: Values) -> Estimate:
    """Concordance correlation coefficient of (N,) pairs, N ≥ 3, moments over N (Lin 1989).

    The interval is normal after Fisher's z transform, with the variance as corrected in Lin 2000.
    """
    n, shift = len(predicted), float(predicted.mean() - reference.mean())
    of_predicted, of_reference = float(predicted.var()), float(reference.var())
    if not vary(np.concatenate((predicted, reference)), np.concatenate((predicted, reference))):
        return unknown(ONE_SIZE)
    covariance = float(np.mean((predicted - predicted.mean()) * (reference - reference.mean())))
    c = 2 * covariance / (of_predicted + of_reference + shift**2)
    if not vary(predicted, predicted) or not vary(reference, reference):
        return Estimate(c, reason="one side is the same in every case")
    r = covariance / math.sqrt(of_predicted * of_reference)
    rounding = 1e-12
    if abs(r) < rounding or 1 - abs(r) < rounding:
        return Estimate(c, reason="the correlation is exactly 0 or 1")
    shift_squared = shift**2 / math.sqrt(of_predicted * of_reference)
    variance = (1 - r**2) * c**2 / ((1 - c**2) * r**2)
    variance += 2 * c**3 * (1 - c) * shift_squared / (r * (1 - c**2) ** 2)
    variance -= c**4 * shift_squared**2 / (2 * r**2 * (1 - c**2) ** 2)
    reach = _Z95 * math.sqrt(variance / (n - 2))
    return Estimate(c, math.tanh(math.atanh(c) - reach), math.tanh(math.atanh(c) + reach))
