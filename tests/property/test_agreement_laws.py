import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msksam_cli.measure.agreement_estimates import ESTIMATES, agreement_estimates
from msksam_cli.measure.robust_agreement import passing_bablok

SWAPPED_SIGN = ("bias", "slope", "median_difference")
SAME = ("sd", "slope_p", "icc_2_1", "icc_3_1", "ccc", "rms_cv_percent", "sem", "sem_consistency", "sdc", "rank_icc")
SWAPPED_ENDS = (("limit_low", "limit_high"), ("mad_limit_low", "mad_limit_high"))
OF_UNIT = ("bias", "sd", "limit_low", "limit_high", "sem", "sdc", "sem_consistency", "sdc_consistency")
OF_UNIT += ("median_difference", "mad_limit_low", "mad_limit_high", "passing_bablok_intercept")


@st.composite
def samples(draw, fewest=3, most=45):
    """Whole numbers in two columns, each side different in at least one case."""
    cases = draw(st.integers(fewest, most))
    values = st.lists(st.integers(10, 400), min_size=cases, max_size=cases)
    predicted, reference = (np.array(draw(values), dtype=np.float64) for _ in range(2))
    assume(np.ptp(predicted) > 0 and np.ptp(reference) > 0 and np.ptp(predicted - reference) > 0)
    return predicted, reference


def numbers(estimate):
    return (estimate.value, estimate.low, estimate.high)


def approximately(values):
    return tuple(None if value is None else pytest.approx(value, rel=1e-6, abs=1e-7) for value in values)


@settings(deadline=None)
@given(samples())
def test_exchanging_the_sides_turns_differences_round_and_leaves_correlations(sample):
    predicted, reference = sample
    one, other = agreement_estimates(predicted, reference), agreement_estimates(reference, predicted)
    for name in SAME:
        assert numbers(one[name]) == approximately(numbers(other[name])), name
    for name in SWAPPED_SIGN:
        value, low, high = numbers(other[name])
        turned = (-value if value is not None else None, *(None if end is None else -end for end in (high, low)))
        assert numbers(one[name]) == approximately(turned), name
    for low, high in SWAPPED_ENDS:
        if one[low].value is not None:
            assert one[low].value == pytest.approx(-other[high].value, abs=1e-7)


@settings(deadline=None)
@given(samples(), st.sampled_from([1e-3, 0.5, 8.0, 1e6]))
def test_another_unit_multiplies_what_has_the_unit_and_nothing_else(sample, factor):
    predicted, reference = sample
    one, other = agreement_estimates(predicted, reference), agreement_estimates(factor * predicted, factor * reference)
    for name in ESTIMATES:
        expected = numbers(one[name])
        if name in OF_UNIT or name.startswith("quantile"):
            expected = tuple(None if value is None else factor * value for value in expected)
        found = tuple(
            value if value is None or name not in OF_UNIT else value / factor for value in numbers(other[name])
        )
        if name in OF_UNIT:
            expected = numbers(one[name])
        assert found == approximately(expected), name


@settings(deadline=None)
@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(sample, random):
    predicted, reference = sample
    order = list(range(len(predicted)))
    random.shuffle(order)
    one, other = agreement_estimates(predicted, reference), agreement_estimates(predicted[order], reference[order])
    for name in ESTIMATES:
        assert numbers(one[name]) == approximately(numbers(other[name])), name


@settings(deadline=None)
@given(samples())
def test_intervals_hold_their_value_and_correlations_stay_within_their_bounds(sample):
    found = agreement_estimates(*sample)
    for name, estimate in found.items():
        if estimate.interval is not None and estimate.value is not None:
            assert estimate.low <= estimate.value + 1e-9, name
            assert estimate.value <= estimate.high + 1e-9, name
    assert abs(found["ccc"].value) <= abs(np.corrcoef(*sample)[0, 1]) + 1e-9  # Lin 1989
    cases = len(sample[0])
    for name, least in (("icc_2_1", -cases / (cases - 2)), ("icc_3_1", -1), ("ccc", -1), ("rank_icc", -1)):
        assert least - 1e-9 <= found[name].value <= 1 + 1e-9


@settings(deadline=None)
@given(samples(fewest=6, most=7))
def test_exchanging_the_sides_inverts_the_robust_line_where_the_slopes_are_odd_in_number(sample):
    predicted, reference = sample
    run = np.subtract.outer(reference, reference)[np.triu_indices(len(reference), 1)]
    rise = np.subtract.outer(predicted, predicted)[np.triu_indices(len(reference), 1)]
    assume(((run != 0) & (rise != 0) & (run != -rise)).all())
    slope, inverse = passing_bablok(predicted, reference)[0], passing_bablok(reference, predicted)[0]
    assert (slope.value is None) == (inverse.value is None)
    if slope.value is not None and inverse.value is not None:
        assert slope.value == pytest.approx(1 / inverse.value)
