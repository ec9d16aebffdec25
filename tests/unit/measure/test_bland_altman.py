import math

import numpy as np
import pytest
from scipy import integrate, stats

from msksam_cli.measure.bland_altman import (
    limits_of_agreement,
    percentile_factor,
    proportional_bias,
    rms_cv_percent,
    sem,
    sem_consistency,
    smallest_detectable_change,
)
from msksam_cli.measure.estimate import Estimate


def test_bias_and_sd_are_those_of_the_paper_on_peak_flow(peak_flow):
    limits = limits_of_agreement(peak_flow.wright, peak_flow.mini)
    assert round(limits.bias.value, 1) == -2.1
    assert round(limits.sd.value, 1) == 38.8
    assert [round(end, 1) for end in limits.bias.interval] == [-22.0, 17.8]  # the paper's own interval
    # The paper takes 2 sd: -79.7 and 75.5 from rounded numbers.
    assert limits.low.value == pytest.approx(-79.7 + 0.04 * 38.8, abs=0.1)
    assert limits.high.value == pytest.approx(75.5 - 0.04 * 38.8, abs=0.1)


def test_the_exact_interval_of_a_limit_reaches_further_out_and_less_far_in_than_the_papers_approximation(peak_flow):
    low = limits_of_agreement(peak_flow.wright, peak_flow.mini).low
    assert low.low < -114.3  # the paper: -114.3 to -45.1, around 2 sd
    assert low.high < -45.1
    assert low.value - low.low > low.high - low.value


@pytest.mark.parametrize(("cases", "factor"), [(10, 2.911), (20, 2.396), (30, 2.220)])
def test_factors_are_those_of_the_tables_of_one_sided_normal_tolerance(cases, factor):
    assert percentile_factor(cases, 0.95, 0.95) == pytest.approx(factor, abs=5e-4)  # Owen 1968; ISO 16269-6


@pytest.mark.parametrize("cases", [3, 16, 400])
@pytest.mark.parametrize("confidence", [0.025, 0.975])
def test_factors_have_their_confidence_by_integration_over_the_spread(cases, confidence):
    # P(mean + k sd > percentile) = ∫ P(mean > percentile - k s) f(s) ds, with s² ~ χ²/(N - 1) of a standard normal.
    k, z, freedom = percentile_factor(cases, 0.975, confidence), stats.norm.ppf(0.975), cases - 1

    def weighed(q):
        s = math.sqrt(q / freedom)
        return stats.norm.cdf((k * s - z) * math.sqrt(cases)) * stats.chi2.pdf(q, freedom)

    span = stats.chi2.ppf([1e-12, 0.5, 1 - 1e-12], freedom)
    found = integrate.quad(weighed, span[0], span[1])[0] + integrate.quad(weighed, span[1], span[2])[0]
    assert found == pytest.approx(confidence, abs=1e-6)


def test_the_repeatability_of_both_meters_is_that_of_the_paper(peak_flow):
    wright, mini = sem(peak_flow.wright, peak_flow.wright_again), sem(peak_flow.mini, peak_flow.mini_again)
    assert [round(math.sqrt(2) * one.value, 1) for one in (wright, mini)] == [21.6, 28.2]
    assert smallest_detectable_change(wright).value == pytest.approx(1.959964 * 21.647, abs=0.01)


def test_without_the_bias_the_error_is_the_sd_of_the_differences_over_root_two(peak_flow):
    shifted = peak_flow.mini + 1000
    found = sem_consistency(limits_of_agreement(peak_flow.wright, shifted).sd)
    assert found.value == pytest.approx(38.765 / math.sqrt(2), abs=1e-3)
    assert sem(peak_flow.wright, shifted).value > 700


def test_rms_cv_is_the_root_mean_square_of_each_pairs_own():
    # Pairs 9, 11 and 98, 102: sd √2 and √8, over 10 and 100; √((0.02 + 0.0008) / 2) = 0.10198.
    found = rms_cv_percent(np.array([9.0, 98.0]), np.array([11.0, 102.0]))
    assert found.value == pytest.approx(100 * math.sqrt((2 / 100 + 8 / 10_000) / 2))
    assert found.value == pytest.approx(10.198, abs=1e-3)


def test_a_relative_error_of_values_around_zero_is_unknown():
    found = rms_cv_percent(np.array([-1.0, 3.0, 5.0]), np.array([1.0, 3.0, 6.0]))
    assert found == Estimate(None, reason="a relative error needs values above 0")


def test_the_slope_and_its_p_are_those_of_least_squares(peak_flow):
    slope, p = proportional_bias(peak_flow.wright, peak_flow.mini)
    judge = stats.linregress((peak_flow.wright + peak_flow.mini) / 2, peak_flow.wright - peak_flow.mini)
    reach = stats.t.ppf(0.975, 15) * judge.stderr
    assert slope.value == pytest.approx(judge.slope)
    assert slope.interval == pytest.approx((judge.slope - reach, judge.slope + reach))
    assert p.value == pytest.approx(judge.pvalue)


def test_predictions_ten_percent_too_large_have_a_slope_without_interval_for_want_of_error():
    reference = np.array([10.0, 20.0, 40.0])
    slope, p = proportional_bias(1.1 * reference, reference)
    assert slope.value == pytest.approx(0.1 / 1.05)
    assert (slope.interval, p.value) == (None, None)
    assert slope.reason == p.reason == "the differences lie on a line"


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_differences_that_do_not_vary_have_a_bias_and_nothing_else(shift):
    reference = np.array([1.3, 2.7, 9.1])
    limits = limits_of_agreement(reference + shift, reference)
    assert limits.bias.value == pytest.approx(shift)
    for one in (limits.sd, limits.low, limits.high, *proportional_bias(reference + shift, reference)):
        assert one == Estimate(None, reason="the differences do not vary")
    assert limits.bias.interval is None


def test_equal_sides_have_no_error_to_state():
    same = np.array([1.0, 2.0, 3.0])
    for one in (sem(same, same), rms_cv_percent(same, same), smallest_detectable_change(sem(same, same))):
        assert one == Estimate(None, reason="prediction and reference are equal in every case")


def test_cases_of_one_size_have_no_slope():
    slope, p = proportional_bias(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    assert slope == p == Estimate(None, reason="the cases are all of one size")
