from __future__ import annotations

import pytest

from msksam_cli.measure.paired import PairedDifference, paired_difference

FIRST = [0.90, 0.82, 0.75, 0.88, 0.93, 0.70]
SECOND = [0.85, 0.80, 0.76, 0.80, 0.90, 0.60]


def test_the_mean_difference_is_first_minus_second_with_an_interval_round_it():
    found = paired_difference(FIRST, SECOND)
    assert found.cases == 6
    assert found.mean == pytest.approx(0.045)
    assert found.ci95_low < found.mean < found.ci95_high
    turned = paired_difference(SECOND, FIRST)
    assert turned.mean == pytest.approx(-0.045)
    assert (turned.ci95_low, turned.ci95_high) == pytest.approx((-found.ci95_high, -found.ci95_low), abs=0.004)


def test_the_p_value_is_that_of_the_signed_rank_test_counted_by_hand():
    # Six differences, one negative with the smallest rank: W = 1. Of 64 signings 2 are as low, so two-sided p = 4/64.
    assert paired_difference(FIRST, SECOND).wilcoxon_p == pytest.approx(4 / 64)


def test_pairing_is_narrower_than_the_spread_between_cases():
    found = paired_difference([value + 0.02 for value in SECOND], SECOND)
    assert found.sd == pytest.approx(0.0, abs=1e-9)
    assert (found.ci95_low, found.ci95_high) == pytest.approx((0.02, 0.02))


def test_a_case_that_either_side_lacks_is_left_out():
    found = paired_difference([0.9, None, 0.5], [0.8, 0.7, None])
    assert (found.cases, found.mean, found.sd, found.wilcoxon_p) == (1, pytest.approx(0.1), None, None)
    assert paired_difference([None], [0.3]) == PairedDifference(0)
    assert paired_difference([], []) == PairedDifference(0)


def test_equal_series_differ_by_nought_and_have_no_p():
    found = paired_difference(FIRST, FIRST)
    assert (found.mean, found.ci95_low, found.ci95_high, found.wilcoxon_p) == (0, 0, 0, None)


def test_series_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError, match=r"longer|shorter"):
        paired_difference([1.0], [1.0, 2.0])
