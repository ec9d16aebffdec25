"""Agreement without a normal distribution: ranks, medians and quantiles, which single cases move little."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from msksam_cli.measure.bland_altman import NO_SPREAD
from msksam_cli.measure.estimate import Estimate, Values, unknown, vary
from msksam_cli.measure.reliability import ONE_SIZE

FEWEST_FOR_QUANTILES = 39
"""With fewer cases the 2.5 % quantile lies outside the sample."""

_ROUNDING = 1e-12
_Z95 = float(stats.norm.ppf(0.975))
_MAD_TO_SD = float(1 / stats.norm.ppf(0.75))
_MAD_OF_FEW = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}


def median_difference(predicted: Values, reference: Values) -> Estimate:
    """Median of prediction minus reference, with the distribution-free interval of its order statistics.

    The k-th smallest and largest difference, k the largest with P(B < k) ≤ 2.5 % for B binomial with share one half
    (Thompson 1936), so that it covers at least 95 %.
    """
    differences = np.sort(predicted - reference)
    cases, median = len(differences), float(np.median(differences))
    k = int(stats.binom.ppf(0.025, cases, 0.5))
    if stats.binom.cdf(k, cases, 0.5) <= 0.025:
        k += 1
    if k < 1:
        return Estimate(median, reason="needs 6 cases")
    return Estimate(median, float(differences[k - 1]), float(differences[cases - k]))


def mad_limits(predicted: Values, reference: Values) -> tuple[Estimate, Estimate]:
    """95 % limits as median ± 1.96 sd, the sd from the median absolute deviation.

    Rousseeuw and Croux 1993; made unbiased for small samples by the factors of Croux and Rousseeuw 1992.
    """
    differences = predicted - reference
    median = float(np.median(differences))
    mad = float(np.median(np.abs(differences - median)))
    if not vary(np.array([mad, 0.0]), np.concatenate((predicted, reference))):
        none = unknown("more than half of the differences are equal")
        return none, none
    cases = len(differences)
    reach = _Z95 * _MAD_TO_SD * mad * _MAD_OF_FEW.get(cases, cases / (cases - 0.8))
    return Estimate(median - reach), Estimate(median + reach)


def quantile_limits(predicted: Values, reference: Values) -> tuple[Estimate, Estimate]:
    """2.5 % and 97.5 % quantile of the differences, at rank p (N + 1) (Bland and Altman 1999, section 3.4)."""
    differences = predicted - reference
    if len(differences) < FEWEST_FOR_QUANTILES:
        none = unknown(f"needs {FEWEST_FOR_QUANTILES} cases")
        return none, none
    if not vary(differences, np.concatenate((predicted, reference))):
        return unknown(NO_SPREAD), unknown(NO_SPREAD)
    low, high = np.quantile(differences, (0.025, 0.975), method="weibull")
    return Estimate(float(low)), Estimate(float(high))


def rank_icc(predicted: Values, reference: Values) -> Estimate:
    """Intraclass correlation of ranks among all 2N values, both sides exchangeable (Tu, Li and Shepherd 2023)."""
    values = np.concatenate((predicted, reference))
    if not vary(values, values):
        return unknown(ONE_SIZE)
    ranks = stats.rankdata(values) - (len(values) + 1) / 2
    one, other = ranks[: len(predicted)], ranks[len(predicted) :]
    return Estimate(float(2 * (one @ other) / (ranks @ ranks)))


def passing_bablok(predicted: Values, reference: Values) -> tuple[Estimate, Estimate]:
    """Slope and intercept of prediction on reference (Passing and Bablok 1983), both sides with error.

    The shifted median of the slopes between all pairs of cases; exchanging the sides inverts the slope. A slope whose
    interval leaves out 1 is proportional bias, an intercept whose interval leaves out 0 a constant one.
    """
    if not vary(reference, reference) or not vary(predicted, predicted):
        return unknown("one side is the same in every case"), unknown("one side is the same in every case")
    first, second = np.triu_indices(len(predicted), 1)
    run, rise = reference[second] - reference[first], predicted[second] - predicted[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.sort(rise / run)
    slopes = slopes[~np.isnan(slopes) & (np.abs(slopes + 1) > _ROUNDING)]
    count, shift = len(slopes), int(np.count_nonzero(slopes < -1))
    middle = slopes[(count - 1) // 2 + shift : count // 2 + shift + 1]
    if len(middle) < 2 - count % 2 or not np.isfinite(middle).all() or middle.mean() <= 0:
        return unknown("the sides do not rise together"), unknown("the sides do not rise together")
    slope = float(middle.mean())
    intercept = float(np.median(predicted - slope * reference))
    cases = len(predicted)
    reach = _Z95 * math.sqrt(cases * (cases - 1) * (2 * cases + 5) / 18)
    lower = round((count - reach) / 2)
    upper = count - lower + 1
    if lower < 1 or upper + shift > count or not np.isfinite(slopes[[lower + shift - 1, upper + shift - 1]]).all():
        few = "too few cases for an interval"
        return Estimate(slope, reason=few), Estimate(intercept, reason=few)
    low, high = float(slopes[lower + shift - 1]), float(slopes[upper + shift - 1])
    ends = sorted(float(np.median(predicted - end * reference)) for end in (low, high))
    return Estimate(slope, low, high), Estimate(intercept, ends[0], ends[1])
