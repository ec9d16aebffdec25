import numpy as np
import pytest

from msksam_cli.measure.influence import Influence, largest_influence, outlying_difference

NAMES = [f"case-{number}" for number in range(8)]
REFERENCE = np.array([10.0, 12, 15, 19, 24, 30, 37, 45])
NOISE = np.array([0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.1])


def mean_difference(predicted, reference):
    return float((predicted - reference).mean())


def test_the_case_that_moves_the_bias_most_is_named_with_the_bias_of_the_others():
    predicted = REFERENCE + NOISE
    predicted[5] += 8
    found = largest_influence(NAMES, predicted, REFERENCE, mean_difference)
    assert found == Influence("case-5", pytest.approx(np.delete(NOISE, 5).mean()))


def test_where_no_case_changes_a_number_or_too_few_remain_nobody_is_named():
    assert largest_influence(NAMES, REFERENCE + 1, REFERENCE, mean_difference) is None
    assert largest_influence(NAMES[:3], REFERENCE[:3] + NOISE[:3], REFERENCE[:3], mean_difference) is None
    assert largest_influence(NAMES, REFERENCE, REFERENCE, lambda p, r: None) is None


def test_a_difference_far_from_the_others_is_found_with_its_distance():
    predicted = REFERENCE + NOISE
    predicted[2] -= 3
    found = outlying_difference(NAMES, predicted, REFERENCE)
    others = np.delete(NOISE, 2)
    assert found.case == "case-2"
    assert found.distance_sd == pytest.approx(abs(0.1 - 3 - others.mean()) / others.std(ddof=1))


def test_ordinary_differences_have_no_outlier():
    assert outlying_difference(NAMES, REFERENCE + NOISE, REFERENCE) is None
    assert outlying_difference(NAMES, REFERENCE, REFERENCE) is None
    assert outlying_difference(NAMES[:3], REFERENCE[:3] + np.array([0, 0, 9]), REFERENCE[:3]) is None


def test_one_difference_among_equal_ones_is_an_outlier_without_distance():
    predicted = REFERENCE + 1
    predicted[0] += 2
    found = outlying_difference(NAMES, predicted, REFERENCE)
    assert (found.case, found.distance_sd) == ("case-0", None)


@pytest.mark.parametrize("cases", [5, 16, 40])
def test_about_five_of_a_hundred_normal_samples_show_an_outlier(cases):
    samples = np.random.default_rng(3).normal(0.0, 1.0, (1500, cases))
    names = [str(number) for number in range(cases)]
    rate = np.mean([outlying_difference(names, sample, np.full(cases, 100.0)) is not None for sample in samples])
    assert 0.03 < rate < 0.065
