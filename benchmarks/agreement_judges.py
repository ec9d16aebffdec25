"""Every column of evaluate's tables once more, by packages that msksam does not use for them.

Overlap and volumes by SimpleITK, surfaces by surface-distance, ICC by pingouin, analysis of variance and least squares
by statsmodels, order statistics and ranks by scipy; where no package has a number, its definition is solved
numerically. Volumes are read by SimpleITK as well.

Needs pingouin, which brings statsmodels: pip install pingouin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pingouin
import SimpleITK
import surface_distance
from scipy import integrate, optimize, stats
from statsmodels.formula.api import ols
from statsmodels.robust import mad
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.weightstats import DescrStatsW
from statsmodels.tools.numdiff import approx_fprime

pingouin.options["round.column.CI95"] = None
Z = 1.959963984540054
Numbers = dict[str, float]


def judged_case(predicted: Path, reference: Path, label: int, value: int) -> Numbers:
    """Columns of per_case.csv for one label of the references, which the predictions call `value`."""
    images = [SimpleITK.ReadImage(str(path), SimpleITK.sitkUInt16) for path in (predicted, reference)]
    masks = [image == wanted for image, wanted in zip(images, (value, label), strict=True)]
    masks[0].CopyInformation(masks[1])  # grids agree within rounding, which SimpleITK does not forgive
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(masks[1], masks[0])
    volumes = []
    for mask in masks:
        shape = SimpleITK.LabelShapeStatisticsImageFilter()
        shape.Execute(mask)
        volumes.append(shape.GetPhysicalSize(1))
    arrays = [SimpleITK.GetArrayFromImage(mask).astype(bool) for mask in masks]
    distances = surface_distance.compute_surface_distances(arrays[1], arrays[0], masks[1].GetSpacing()[::-1])
    means = surface_distance.compute_average_surface_distance(distances)
    areas = [distances[f"surfel_areas_{side}"].sum() for side in ("gt", "pred")]
    return {
        "dice": overlap.GetDiceCoefficient(),
        "iou": overlap.GetJaccardCoefficient(),
        "hd95_mm": surface_distance.compute_robust_hausdorff(distances, 95.0),
        "assd_mm": float(np.average(means, weights=areas)),
        "surface_dice_1mm": surface_distance.compute_surface_dice_at_tolerance(distances, 1.0),
        "volume_pred_mm3": volumes[0],
        "volume_ref_mm3": volumes[1],
        "volume_error_percent": 100 * (volumes[0] / volumes[1] - 1),
    }


def judged_summary(values: pd.Series) -> Numbers:
    """Columns of summary.csv for one measure of one tissue; the bootstrap has random numbers of its own."""
    resampled = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    described = values.describe()
    return {
        "mean": described["mean"],
        "sd": described["std"],
        "median": described["50%"],
        "q25": described["25%"],
        "q75": described["75%"],
        "iqr": float(stats.iqr(values)),
        "ci95_low": resampled.low,
        "ci95_high": resampled.high,
    }


def judged_agreement(predicted: np.ndarray, reference: np.ndarray) -> Numbers:
    """Columns of agreement.csv for the volumes of one tissue in 10 to 38 cases, without those on influence."""
    differences = predicted - reference
    described = DescrStatsW(differences)
    bias, sd = described.mean, math.sqrt(described.sumsquares / (len(differences) - 1))
    found = {"bias": bias, "sd": sd} | _ends("bias", described.tconfint_mean())
    inner, outer = (limit_factor(len(differences), confidence) for confidence in (0.025, 0.975))
    found |= {"limit_low": bias - Z * sd, "limit_high": bias + Z * sd}
    found |= _ends("limit_low", (bias - outer * sd, bias - inner * sd))
    found |= _ends("limit_high", (bias + inner * sd, bias + outer * sd))
    line = ols("d ~ m", pd.DataFrame({"d": differences, "m": (predicted + reference) / 2})).fit()
    found |= {"slope": line.params["m"], "slope_p": line.pvalues["m"]} | _ends("slope", line.conf_int().loc["m"])
    table = long_table(predicted, reference)
    iccs = pingouin.intraclass_corr(table, "case", "side", "value").set_index("Type")
    for name, kind in (("icc_2_1", "ICC(A,1)"), ("icc_3_1", "ICC(C,1)")):
        found |= {name: iccs.loc[kind, "ICC"]} | _ends(name, iccs.loc[kind, "CI95"])
    found |= judged_ccc(predicted, reference)
    one_way = anova_lm(ols("value ~ C(case)", table).fit()).loc["Residual", "mean_sq"]
    two_way = anova_lm(ols("value ~ C(case) + C(side)", table).fit()).loc["Residual", "mean_sq"]
    found |= {"sem": math.sqrt(one_way), "sem_consistency": math.sqrt(two_way)}
    found |= {"sdc": Z * math.sqrt(2 * one_way), "sdc_consistency": Z * math.sqrt(2 * two_way)}
    variation = stats.variation(np.stack((predicted, reference)), axis=0, ddof=1)
    found["rms_cv_percent"] = 100 * float(np.linalg.norm(variation)) / math.sqrt(len(variation))
    median = float(stats.scoreatpercentile(differences, 50))
    ranked = stats.quantile_test(differences, q=median, p=0.5).confidence_interval(0.95)
    found |= {"median_difference": median} | _ends("median_difference", (ranked.low, ranked.high))
    spread = float(mad(differences)) * len(differences) / (len(differences) - 0.8)
    found |= {"mad_limit_low": median - Z * spread, "mad_limit_high": median + Z * spread}
    ranks = stats.rankdata(np.concatenate((predicted, reference)))
    exchanged = np.roll(ranks, len(predicted))  # both orders of every pair: Fisher's intraclass correlation
    found["rank_icc"] = stats.pearsonr(ranks, exchanged).statistic
    return found | judged_line(predicted, reference)


def long_table(predicted: np.ndarray, reference: np.ndarray) -> pd.DataFrame:
    """A row per case and side."""
    wide = pd.DataFrame({"predicted": predicted, "reference": reference})
    return wide.rename_axis("case").reset_index().melt("case", var_name="side", value_name="value")


def limit_factor(cases: int, confidence: float) -> float:
    """k such that mean + k sd exceeds the 97.5 % percentile with this confidence, by integration over the spread."""
    freedom = cases - 1
    spans = stats.chi2.ppf([1e-13, 0.01, 0.5, 0.99, 1 - 1e-13], freedom)

    def excess(k: float) -> float:
        def density(q: float) -> float:
            middle = (k * math.sqrt(q / freedom) - Z) * math.sqrt(cases)
            return stats.norm.cdf(middle) * stats.chi2.pdf(q, freedom)

        parts = (integrate.quad(density, *ends, epsabs=1e-13)[0] for ends in itertools.pairwise(spans))
        return sum(parts) - confidence

    return optimize.brentq(excess, 0.1, 20.0, xtol=1e-12)


def judged_ccc(predicted: np.ndarray, reference: np.ndarray) -> Numbers:
    """CCC as Pearson's r times the bias correction; its interval by the delta method on the five moments."""
    x, y = predicted, reference
    scale, shift = x.std() / y.std(), (x.mean() - y.mean()) ** 2 / (x.std() * y.std())
    value = stats.pearsonr(x, y).statistic * 2 / (scale + 1 / scale + shift)
    moments = np.array([x.mean(), y.mean(), *np.cov(x, y, bias=True).ravel()[[0, 3, 1]]])
    unit = np.sqrt(moments[2])
    scaled = moments / np.array([unit, unit, unit**2, unit**2, unit**2])

    def transformed(m: np.ndarray) -> float:
        return math.atanh(2 * m[4] / (m[2] + m[3] + (m[0] - m[1]) ** 2))

    gradient = approx_fprime(scaled, transformed, centered=True)
    a, b, c = scaled[2:]
    covariance = np.zeros((5, 5))
    covariance[:2, :2] = [[a, c], [c, b]]
    covariance[2:, 2:] = [
        [2 * a * a, 2 * c * c, 2 * a * c],
        [2 * c * c, 2 * b * b, 2 * b * c],
        [2 * a * c, 2 * b * c, a * b + c * c],
    ]
    reach = Z * math.sqrt(gradient @ covariance @ gradient / (len(x) - 2))
    return {"ccc": value} | _ends("ccc", np.tanh(np.arctanh(value) + np.array([-reach, reach])))


def judged_line(predicted: np.ndarray, reference: np.ndarray) -> Numbers:
    """Passing and Bablok's line where Kendall's concordance of y - b x with x + y falls through given counts."""
    cases = len(predicted)
    pairs = cases * (cases - 1) / 2

    def concordance(b: float) -> float:
        return stats.kendalltau(predicted - b * reference, predicted + reference).statistic * pairs

    def rank(r: float) -> float:
        wanted = pairs - 2 * r + 1  # between the counts before and behind the r-th slope
        return optimize.bisect(lambda b: concordance(b) - wanted, -0.999, 1e3, xtol=1e-14, rtol=1e-14)

    half = pairs / 2
    slope = rank((pairs + 1) / 2) if pairs % 2 else (rank(half) + rank(half + 1)) / 2
    reach = Z * math.sqrt(cases * (cases - 1) * (2 * cases + 5) / 18)
    lower = round((pairs - reach) / 2)
    ends = rank(lower), rank(pairs - lower + 1)

    def start(b: float) -> float:
        return float(np.median(predicted - b * reference))

    found = {"passing_bablok_slope": slope, "passing_bablok_intercept": start(slope)}
    found |= _ends("passing_bablok_slope", ends)
    return found | _ends("passing_bablok_intercept", (start(ends[1]), start(ends[0])))


def judged_influence(predicted: np.ndarray, reference: np.ndarray) -> dict[str, tuple[int, float]]:
    """Estimate → the case whose absence changes it most, and the estimate without it."""

    def icc(p: np.ndarray, r: np.ndarray) -> float:
        iccs = pingouin.intraclass_corr(long_table(p, r), "case", "side", "value").set_index("Type")
        return iccs.loc["ICC(A,1)", "ICC"]

    looked_at: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "bias": lambda p, r: DescrStatsW(p - r).mean,
        "sd": lambda p, r: pd.Series(p - r).std(),
        "icc_2_1": icc,
        "ccc": lambda p, r: judged_ccc(p, r)["ccc"],
    }
    found = {}
    for name, statistic in looked_at.items():
        whole = statistic(predicted, reference)
        without = [
            statistic(np.delete(predicted, number), np.delete(reference, number)) for number in range(len(predicted))
        ]
        worst = int(np.argmax(np.abs(np.array(without) - whole)))
        found[name] = worst, without[worst]
    return found


def _ends(name: str, ends: tuple[float, float]) -> Numbers:
    low, high = ends
    return {f"{name}_ci95_low": float(low), f"{name}_ci95_high": float(high)}
