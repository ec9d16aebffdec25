"""Every number said about one biomarker on both sides of the same cases, by name."""

from __future__ import annotations

import numpy as np

from msksam_cli.measure.bland_altman import (
    limits_of_agreement,
    proportional_bias,
    rms_cv_percent,
    sem,
    sem_consistency,
    smallest_detectable_change,
)
from msksam_cli.measure.estimate import FEWEST_CASES, Estimate, Values, unknown
from msksam_cli.measure.reliability import ccc, icc_2_1, icc_3_1
from msksam_cli.measure.robust_agreement import (
    mad_limits,
    median_difference,
    passing_bablok,
    quantile_limits,
    rank_icc,
)

ESTIMATES = {
    "bias": True,
    "sd": False,
    "limit_low": True,
    "limit_high": True,
    "slope": True,
    "slope_p": False,
    "icc_2_1": True,
    "icc_3_1": True,
    "ccc": True,
    "rms_cv_percent": False,
    "sem": False,
    "sem_consistency": False,
    "sdc": False,
    "sdc_consistency": False,
    "median_difference": True,
    "mad_limit_low": False,
    "mad_limit_high": False,
    "quantile_limit_low": False,
    "quantile_limit_high": False,
    "rank_icc": False,
    "passing_bablok_slope": True,
    "passing_bablok_intercept": True,
}
"""Every estimate and whether it has an interval."""


def agreement_estimates(predicted: Values, reference: Values) -> dict[str, Estimate]:
    """Every estimate of `ESTIMATES` for (N,) values of both sides; below three cases all are unknown."""
    if len(predicted) < FEWEST_CASES:
        return dict.fromkeys(ESTIMATES, unknown(f"{len(predicted)} of at least {FEWEST_CASES} cases"))
    limits, both = limits_of_agreement(predicted, reference), np.stack((predicted, reference), axis=1)
    slope, slope_p = proportional_bias(predicted, reference)
    error, own_error = sem(predicted, reference), sem_consistency(limits.sd)
    mad_low, mad_high = mad_limits(predicted, reference)
    quantile_low, quantile_high = quantile_limits(predicted, reference)
    line_slope, line_intercept = passing_bablok(predicted, reference)
    return {
        "bias": limits.bias,
        "sd": limits.sd,
        "limit_low": limits.low,
        "limit_high": limits.high,
        "slope": slope,
        "slope_p": slope_p,
        "icc_2_1": icc_2_1(both),
        "icc_3_1": icc_3_1(both),
        "ccc": ccc(predicted, reference),
        "rms_cv_percent": rms_cv_percent(predicted, reference),
        "sem": error,
        "sem_consistency": own_error,
        "sdc": smallest_detectable_change(error),
        "sdc_consistency": smallest_detectable_change(own_error),
        "median_difference": median_difference(predicted, reference),
        "mad_limit_low": mad_low,
        "mad_limit_high": mad_high,
        "quantile_limit_low": quantile_low,
        "quantile_limit_high": quantile_high,
        "rank_icc": rank_icc(predicted, reference),
        "passing_bablok_slope": line_slope,
        "passing_bablok_intercept": line_intercept,
    }
