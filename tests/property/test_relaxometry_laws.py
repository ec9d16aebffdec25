import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msksam_cli.measure.relaxometry import FitRules, FitStatus, NoiseFloor, fit_decay

TIMES_MS = (6.0, 12.0, 20.0, 31.0, 45.0)
RULES = st.builds(FitRules, st.sampled_from(list(NoiseFloor)), st.booleans())


def signals(seed):
    generator = np.random.default_rng(seed)
    t2_ms = generator.uniform(12, 90, (4, 3, 2))
    pure = generator.uniform(300, 2000, (4, 3, 2)) * np.exp(-np.array(TIMES_MS)[:, None, None, None] / t2_ms)
    return np.hypot(*(generator.normal(0, 15, (2, *pure.shape)) + np.stack([pure, np.zeros_like(pure)])))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e4), RULES)
def test_times_do_not_depend_on_the_scale_of_the_signals_while_amplitudes_follow_it(seed, factor, rules):
    images = signals(seed)
    one, other = fit_decay(images, TIMES_MS, rules, 15.0), fit_decay(images * factor, TIMES_MS, rules, 15.0 * factor)
    both = (one.status == FitStatus.FITTED) & (other.status == FitStatus.FITTED)
    assert both.sum() >= 0.8 * both.size
    np.testing.assert_allclose(one.time_ms[both], other.time_ms[both], rtol=1e-3)
    np.testing.assert_allclose(one.amplitude[both] * factor, other.amplitude[both], rtol=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.permutations(range(len(TIMES_MS))), RULES)
def test_the_order_of_the_images_changes_nothing(seed, order, rules):
    images = signals(seed)
    one = fit_decay(images, TIMES_MS, rules)
    other = fit_decay(images[order], [TIMES_MS[number] for number in order], rules)
    np.testing.assert_array_equal(one.time_ms, other.time_ms)
    np.testing.assert_array_equal(one.r2, other.r2)
    np.testing.assert_array_equal(one.status, other.status)
    assert one.noise_sd == other.noise_sd


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.2, 5), RULES)
def test_times_stretch_with_the_times_of_the_images(seed, factor, rules):
    images = signals(seed)
    one = fit_decay(images, TIMES_MS, rules, 15.0)
    other = fit_decay(images, [time * factor for time in TIMES_MS], rules, 15.0)
    both = (one.status == FitStatus.FITTED) & (other.status == FitStatus.FITTED)
    np.testing.assert_allclose(one.time_ms[both] * factor, other.time_ms[both], rtol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), RULES)
def test_voxels_fitted_together_are_fitted_as_alone(seed, rules):
    images = signals(seed)
    together = fit_decay(images, TIMES_MS, rules, 15.0)
    alone = fit_decay(images[:, 1:2, 2:3, :1], TIMES_MS, rules, 15.0)
    assert together.status[1, 2, 0] == alone.status[0, 0, 0]
    assert together.time_ms[1, 2, 0] == pytest.approx(alone.time_ms[0, 0, 0], rel=1e-6, nan_ok=True)
