import math

import numpy as np
import pytest

from msksam_cli.measure.reliability import ccc, icc_2_1, icc_3_1, mean_squares

VARIED = np.array([1.0, 2.0, 4.0, 7.0])


def test_mean_squares_are_those_of_shrout_and_fleiss(ratings):
    found = mean_squares(ratings)
    assert round(found.between_cases, 2) == 11.24
    assert round(found.between_raters, 2) == 32.49
    assert round(found.error, 2) == 1.02


def test_iccs_are_those_of_shrout_and_fleiss(ratings):
    assert round(icc_2_1(ratings).value, 2) == 0.29
    assert round(icc_3_1(ratings).value, 2) == 0.71


def test_intervals_are_those_of_an_independent_package_on_the_same_table(ratings):
    # pingouin 0.7.0, intraclass_corr: ICC(A,1) [0.02, 0.76], ICC(C,1) [0.34, 0.95]
    assert [round(end, 2) for end in icc_2_1(ratings).interval] == [0.02, 0.76]
    assert [round(end, 2) for end in icc_3_1(ratings).interval] == [0.34, 0.95]


def test_a_shift_of_one_rater_lowers_agreement_and_leaves_consistency(ratings):
    shifted = ratings + np.array([0.0, 0.0, 5.0, 0.0])
    assert icc_3_1(shifted).value == pytest.approx(icc_3_1(ratings).value)
    assert icc_3_1(shifted).interval == pytest.approx(icc_3_1(ratings).interval)
    assert icc_2_1(np.c_[ratings[:, 0], ratings[:, 0] + 5]).value < 0.3


def test_ccc_of_peak_flow_is_pearsons_r_times_the_bias_correction(peak_flow):
    found = ccc(peak_flow.wright, peak_flow.mini)
    r = np.corrcoef(peak_flow.wright, peak_flow.mini)[0, 1]
    assert round(r, 2) == 0.94  # Bland and Altman 1986
    scale = peak_flow.wright.std() / peak_flow.mini.std()
    shift = (peak_flow.wright.mean() - peak_flow.mini.mean()) ** 2 / (peak_flow.wright.std() * peak_flow.mini.std())
    assert found.value == pytest.approx(r * 2 / (scale + 1 / scale + shift))  # Lin 1989, ρc = ρ C_b


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (60.0, 1.0), (-90.0, 1.4)])
def test_the_interval_of_ccc_has_the_variance_that_the_delta_method_gives(peak_flow, shift, scale):
    x, y = peak_flow.wright, scale * peak_flow.mini + shift
    moments = np.array([x.mean(), y.mean(), x.var(), y.var(), np.cov(x, y, bias=True)[0, 1]])

    def transformed(m):
        return math.atanh(2 * m[4] / (m[2] + m[3] + (m[0] - m[1]) ** 2))

    steps = np.diag(1e-5 * np.abs(moments))
    gradient = [(transformed(moments + step) - transformed(moments - step)) / (2 * step.sum()) for step in steps]
    a, b, c = moments[2:]
    covariance = np.zeros((5, 5))  # of the moments of a normal sample, times N
    covariance[:2, :2] = [[a, c], [c, b]]
    covariance[2:4, 2:4] = [[2 * a * a, 2 * c * c], [2 * c * c, 2 * b * b]]
    covariance[2:, 4] = covariance[4, 2:] = [2 * a * c, 2 * b * c, a * b + c * c]
    reach = 1.959963985 * math.sqrt(gradient @ covariance @ gradient / (len(x) - 2))
    found = ccc(x, y)
    middle = math.atanh(found.value)
    assert found.interval == pytest.approx((math.tanh(middle - reach), math.tanh(middle + reach)), abs=1e-6)


def test_equal_sides_agree_perfectly_and_have_no_interval():
    both = np.c_[VARIED, VARIED]
    for one in (icc_2_1(both), icc_3_1(both), ccc(VARIED, VARIED)):
        assert one.value == pytest.approx(1.0)
        assert one.interval is None
        assert one.reason


def test_a_constant_shift_is_consistent_and_does_not_agree():
    both = np.c_[VARIED + 3, VARIED]
    assert icc_3_1(both).value == 1.0
    assert icc_2_1(both).value == pytest.approx(7.0 / (7.0 + 9.0 / 2))  # variance of the cases over it and the raters'
    assert ccc(VARIED + 3, VARIED).value == pytest.approx(2 * VARIED.var() / (2 * VARIED.var() + 9))
    assert icc_2_1(both).interval is None


def test_values_that_are_all_equal_have_no_correlation():
    same = np.full(4, 0.1 + 0.2)
    for one in (icc_2_1(np.c_[same, same]), icc_3_1(np.c_[same, same]), ccc(same, same)):
        assert (one.value, one.interval) == (None, None)
        assert one.reason == "the cases are all of one size"


def test_one_constant_side_does_not_agree_and_says_why_there_is_no_interval():
    found = ccc(VARIED, np.full(4, 3.0))
    assert found.value == pytest.approx(0.0)
    assert found.reason == "one side is the same in every case"


def test_opposite_sides_have_negative_correlations():
    both = np.c_[VARIED, VARIED[::-1]]
    assert icc_2_1(both).value < -0.5
    assert ccc(VARIED, VARIED[::-1]).value < -0.5
    assert icc_3_1(both).low >= -1


def test_far_below_zero_there_is_no_interval_of_agreement():
    found = icc_2_1(np.array([[10.0, 23], [24, 10], [24, 10]]))
    assert found.value < -0.5
    assert (found.interval, found.reason) == (None, "too far below 0 for an interval")
