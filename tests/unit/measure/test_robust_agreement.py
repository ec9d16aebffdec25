import numpy as np
import pytest
from scipy import stats

from msksam_cli.measure.estimate import Estimate
from msksam_cli.measure.robust_agreement import (
    mad_limits,
    median_difference,
    passing_bablok,
    quantile_limits,
    rank_icc,
)

ZERO = np.zeros


@pytest.mark.parametrize(("cases", "rank"), [(6, 1), (8, 1), (9, 2), (16, 4), (20, 6), (40, 14)])
def test_the_interval_of_the_median_has_the_ranks_of_the_tables(cases, rank):
    # Ranks of the 95 % interval: Conover, Practical Nonparametric Statistics; Altman, Statistics with Confidence.
    found = median_difference(np.arange(1.0, cases + 1), ZERO(cases))
    assert found.value == (cases + 1) / 2
    assert found.interval == (rank, cases + 1 - rank)


def test_five_cases_cannot_bound_a_median():
    found = median_difference(np.arange(5.0), ZERO(5))
    assert (found.value, found.interval, found.reason) == (2.0, None, "needs 6 cases")


@pytest.mark.parametrize("cases", [3, 4, 5, 8, 9, 12])
def test_limits_by_the_median_deviation_are_those_of_a_normal_on_average(cases):
    samples = np.random.default_rng(7).normal(5.0, 2.0, (4000, cases))
    found = np.array([[one.value for one in mad_limits(sample, ZERO(cases))] for sample in samples])
    assert found.mean(axis=0) == pytest.approx([5 - 1.96 * 2, 5 + 1.96 * 2], abs=0.12)


def test_one_wild_case_moves_the_median_and_its_limits_little():
    tame = np.array([-2.0, -1.0, -0.5, 0.0, 0.4, 1.1, 1.9])
    wild = np.append(tame[:-1], 1e6)
    assert median_difference(wild, ZERO(7)).value == median_difference(tame, ZERO(7)).value
    assert mad_limits(wild, ZERO(7)) == mad_limits(tame, ZERO(7))


def test_limits_by_quantiles_are_the_smallest_and_largest_of_39_and_unknown_below():
    values = np.random.default_rng(1).permutation(39) + 1.0
    assert [one.value for one in quantile_limits(values, ZERO(39))] == [1.0, 39.0]
    assert quantile_limits(values[:38], ZERO(38))[0] == Estimate(None, reason="needs 39 cases")


def test_a_line_is_found_through_two_wild_cases_among_nine():
    reference = np.array([1.0, 2, 3, 5, 8, 9, 11, 14, 20])
    predicted = 2 * reference + 3
    predicted[[4, 7]] = (400.0, -50.0)
    slope, intercept = passing_bablok(predicted, reference)
    assert (slope.value, intercept.value) == (2.0, 3.0)


def test_the_slope_is_the_median_of_all_slopes_when_none_falls(peak_flow):
    reference = np.array([1.0, 2.0, 4.0, 7.0, 11.0, 16.0])
    predicted = np.array([1.5, 2.0, 4.5, 6.0, 12.0, 15.0])
    slope, intercept = passing_bablok(predicted, reference)
    assert slope.value == pytest.approx(stats.theilslopes(predicted, reference).slope)
    assert intercept.value == pytest.approx(np.median(predicted - slope.value * reference))
    assert slope.low < slope.value < slope.high


def test_slopes_steeper_than_the_falling_diagonal_shift_the_median(peak_flow):
    x, y = peak_flow.mini, peak_flow.wright
    slopes = sorted(
        (y[j] - y[i]) / (x[j] - x[i]) if x[j] != x[i] else np.inf * np.sign(y[j] - y[i])
        for i in range(17)
        for j in range(i + 1, 17)
    )
    slopes = [slope for slope in slopes if slope != -1]  # one pair of subjects falls by as much as the other rises
    assert len(slopes) == 135
    below = sum(slope < -1 for slope in slopes)
    assert below > 0
    assert passing_bablok(y, x)[0].value == pytest.approx(slopes[68 + below - 1])  # rank (N + 1)/2 + K, from 1


def test_four_cases_have_a_line_without_interval():
    slope, intercept = passing_bablok(np.array([1.0, 2, 3, 4.5]), np.array([1.0, 2, 3.5, 4]))
    assert slope.value is not None
    assert slope.interval is None
    assert slope.reason == intercept.reason == "too few cases for an interval"


@pytest.mark.parametrize(
    ("predicted", "reason"),
    [([3.0, 3, 3, 3], "one side is the same in every case"), ([9.0, 6, 3, -1], "the sides do not rise together")],
)
def test_a_line_that_does_not_exist_is_unknown(predicted, reason):
    assert passing_bablok(np.array(predicted), np.array([1.0, 2, 3, 4])) == (Estimate(None, reason=reason),) * 2


def test_rank_icc_counts_order_only_and_is_one_for_equal_sides():
    values = np.array([3.0, 1.0, 9.0, 4.0])
    assert rank_icc(values, values).value == pytest.approx(1.0)
    assert rank_icc(np.exp(values), np.exp(values[[0, 2, 1, 3]])).value == pytest.approx(
        rank_icc(values, values[[0, 2, 1, 3]]).value
    )
    # Ranks 1 3 and 2 4 of two pairs: 2 (-1.5 · -0.5 + 0.5 · 1.5) / (2.25 + 0.25 + 0.25 + 2.25).
    assert rank_icc(np.array([1.0, 3.0]), np.array([2.0, 4.0])).value == pytest.approx(0.6)


def test_degenerate_differences_are_unknown():
    half = np.array([0.0, 0.0, 0.0, 5.0])
    assert mad_limits(half, ZERO(4))[0].reason == "more than half of the differences are equal"
    assert rank_icc(np.ones(3), np.ones(3)).reason == "the cases are all of one size"
    assert quantile_limits(np.arange(40.0), np.arange(40.0))[0].reason == "the differences do not vary"
