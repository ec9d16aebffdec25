import numpy as np
import pytest

from msksam_cli.measure.summary import Summary, bootstrap_interval, summarize


def test_summary_of_four_values_is_what_a_hand_computes():
    result = summarize([1.0, 2.0, None, 4.0, 5.0])
    assert (result.cases, result.mean, result.median) == (4, 3.0, 3.0)
    assert result.sd == pytest.approx(np.sqrt(10 / 3))
    assert (result.q25, result.q75, result.iqr) == (1.75, 4.25, 2.5)


def test_one_value_has_a_mean_but_no_spread_and_no_interval():
    result = summarize([0.5, None])
    assert (result.cases, result.mean, result.sd, result.ci95_low, result.ci95_high) == (1, 0.5, None, None, None)


def test_no_value_has_no_summary():
    assert summarize([None, None]) == Summary(0)
    assert summarize([]).iqr is None


def test_the_interval_is_the_same_each_time_and_near_the_normal_one():
    values = np.random.default_rng(1).normal(10, 2, 200)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_the_interval_of_equal_values_is_a_point():
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_many_values_are_resampled_in_pieces_without_losing_any():
    values = np.arange(3001.0)
    low, high = bootstrap_interval(values, resamples=1400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(3001), rel=0.15)
