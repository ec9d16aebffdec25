"""Differences between two ways of measuring the same cases, by the normal distribution.

The difference is prediction minus reference; N cases have one each. Intervals hold where the differences are normal;
`robust_agreement` has what does not ask for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from msksam_cli.measure.estimate import Estimate, Values, unknown, vary

NO_SPREAD = "the differences do not vary"
EQUAL = "prediction and reference are equal in every case"

_Z95 = float(stats.norm.ppf(0.975))
_ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Limits:
    """Bias and 95 % limits of agreement, in the unit of the values.

    Attributes:
        bias: mean difference; its interval is Student's.
        sd: standard deviation of the differences (N - 1).
        low: bias - 1.96 sd.
        high: bias + 1.96 sd.
    """

    bias: Estimate
    sd: Estimate
    low: Estimate
    high: Estimate


def limits_of_agreement(predicted: Values, reference: Values) -> Limits:
    """Bias and limits of (N,) pairs, N ≥ 3 (Bland and Altman 1986).

    The interval of each limit is exact for normal differences (Carkeet 2015, each limit by itself): a limit is a
    percentile of a normal distribution, whose interval comes from the noncentral t distribution.
    """
    differences = predicted - reference
    bias = float(differences.mean())
    if not vary(differences, np.concatenate((predicted, reference))):
        none = unknown(NO_SPREAD)
        return Limits(Estimate(bias, reason=NO_SPREAD), none, none, none)
    cases, sd = len(differences), float(differences.std(ddof=1))
    reach = float(stats.t.ppf(0.975, cases - 1)) * sd / math.sqrt(cases)
    inner, outer = (percentile_factor(cases, 0.975, confidence) for confidence in _ENDS)
    return Limits(
        Estimate(bias, bias - reach, bias + reach),
        Estimate(sd),
        Estimate(bias - _Z95 * sd, bias - outer * sd, bias - inner * sd),
        Estimate(bias + _Z95 * sd, bias + inner * sd, bias + outer * sd),
    )


def percentile_factor(cases: int, share: float, confidence: float) -> float:
    """k such that mean + k sd of a normal sample exceeds the population's `share` percentile with this confidence.

    The one-sided tolerance factor (Owen 1968; ISO 16269-6): a quantile of the noncentral t distribution.

    >>> round(percentile_factor(10, 0.95, 0.95), 3)
    2.911
    """
    root = math.sqrt(cases)
    return float(stats.nct.ppf(confidence, cases - 1, stats.norm.ppf(share) * root)) / root


def proportional_bias(predicted: Values, reference: Values) -> tuple[Estimate, Estimate]:
    """Slope of the difference on the mean of both, and its two-sided p (Bland and Altman 1999, section 3.2).

    Least squares with Student's interval. Without true change of bias the slope is still positive where predictions
    spread more than references, and negative where they spread less.
    """
    differences, means = predicted - reference, (predicted + reference) / 2
    scale = np.concatenate((predicted, reference))
    if not vary(means, scale):
        return unknown("the cases are all of one size"), unknown("the cases are all of one size")
    if not vary(differences, scale):
        return unknown(NO_SPREAD), unknown(NO_SPREAD)
    centred = means - means.mean()
    slope = float(centred @ differences / (centred @ centred))
    residuals = differences - differences.mean() - slope * centred
    if not vary(residuals, scale):
        exact = "the differences lie on a line"
        return Estimate(slope, reason=exact), unknown(exact)
    freedom = len(differences) - 2
    error = math.sqrt(float(residuals @ residuals) / freedom / float(centred @ centred))
    reach = float(stats.t.ppf(0.975, freedom)) * error
    p = 2 * float(stats.t.sf(abs(slope) / error, freedom))
    return Estimate(slope, slope - reach, slope + reach), Estimate(p)


def sem(predicted: Values, reference: Values) -> Estimate:
    """Standard error of measurement, systematic differences included: √(Σd²/2N).

    The root mean square of the cases' own standard deviations (Dahlberg 1940; Glüer 1995), the SEM for agreement of
    de Vet 2006.
    """
    if not vary(np.append(predicted - reference, 0.0), np.concatenate((predicted, reference))):
        return unknown(EQUAL)
    return Estimate(float(np.sqrt(np.mean((predicted - reference) ** 2) / 2)))


def sem_consistency(sd: Estimate) -> Estimate:
    """Standard error of measurement with the bias taken out, sd/√2 (de Vet 2006): for one way of measuring, twice."""
    return sd if sd.value is None else Estimate(sd.value / math.sqrt(2))


def smallest_detectable_change(error: Estimate) -> Estimate:
    """1.96 √2 SEM: a change of one case that is larger is hardly measurement error (de Vet 2006)."""
    return error if error.value is None else Estimate(_Z95 * math.sqrt(2) * error.value)


def rms_cv_percent(predicted: Values, reference: Values) -> Estimate:
    """Root mean square over cases of each pair's standard deviation over its mean, in percent (Glüer 1995)."""
    means, differences = (predicted + reference) / 2, predicted - reference
    if means.min() <= 0:
        return unknown("a relative error needs values above 0")
    if not vary(np.append(differences, 0.0), means):
        return unknown(EQUAL)
    return Estimate(100 * float(np.sqrt(np.mean(differences**2 / 2 / means**2))))
