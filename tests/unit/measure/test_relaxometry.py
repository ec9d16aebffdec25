import numpy as np
import pytest
from scipy.optimize import curve_fit

from msksam_cli.measure.decay_fit import rician_mean
from msksam_cli.measure.relaxometry import (
    FitRules,
    FitStatus,
    NoiseFloor,
    fit_decay,
    log_linear,
    noise_sd_from_residuals,
)

TIMES_MS = np.array([6.3, 12.6, 18.9, 25.2, 31.5, 37.8, 44.1, 50.4])


def decay(t2_ms, amplitude=1000.0, times_ms=TIMES_MS):
    return amplitude * np.exp(-np.asarray(times_ms)[:, None, None, None] / np.asarray(t2_ms)[None])


def magnitude(signals, noise_sd, seed=0):
    generator = np.random.default_rng(seed)
    real, imaginary = generator.normal(0, noise_sd, (2, *signals.shape))
    return np.hypot(signals + real, imaginary)


@pytest.mark.parametrize("floor", list(NoiseFloor))
def test_a_decay_without_noise_gives_back_its_time_and_amplitude(floor):
    t2_ms = np.array([8.0, 20.0, 35.0, 60.0, 110.0, 200.0]).reshape(3, 2, 1)
    fit = fit_decay(decay(t2_ms), TIMES_MS, FitRules(floor), noise_sd=1e-3)
    np.testing.assert_allclose(fit.time_ms, t2_ms, rtol=2e-5)
    np.testing.assert_allclose(fit.amplitude, 1000.0, rtol=2e-5)
    np.testing.assert_allclose(fit.r2, 1.0, atol=1e-6)
    assert fit.count(FitStatus.FITTED) == 6
    assert fit.time_ms.shape == fit.r2.shape == (3, 2, 1)


def test_spin_lock_times_may_start_at_0():
    times_ms = (0.0, 10.0, 40.0, 80.0)
    fit = fit_decay(decay(np.full((2, 2, 1), 42.0), times_ms=times_ms), times_ms, noise_sd=0.01)
    np.testing.assert_allclose(fit.time_ms, 42.0, rtol=1e-4)


def test_two_images_give_the_time_of_the_line_through_their_logarithms_and_no_r2():
    signals = np.array([800.0, 500.0]).reshape(2, 1, 1, 1)
    fit = fit_decay(signals, (10.0, 30.0))
    assert fit.time_ms[0, 0, 0] == pytest.approx(20 / np.log(800 / 500), rel=1e-5)
    assert np.isnan(fit.r2[0, 0, 0])
    assert fit.noise_sd is None


@pytest.mark.parametrize("noise_sd", [10.0, 40.0])
@pytest.mark.parametrize("floor", [NoiseFloor.NONE, NoiseFloor.RICIAN])
def test_every_voxel_has_the_time_that_scipy_finds_one_by_one(floor, noise_sd):
    t2_ms = np.random.default_rng(1).uniform(15, 80, (6, 5, 4))
    signals = magnitude(decay(t2_ms), noise_sd)
    fit = fit_decay(signals, TIMES_MS, FitRules(floor), noise_sd=noise_sd)

    def model(times_ms, amplitude, time_ms):
        pure = amplitude * np.exp(-times_ms / time_ms)
        return pure if floor is NoiseFloor.NONE else rician_mean(pure, noise_sd)[0]

    for voxel in np.ndindex(t2_ms.shape):
        expected, _ = curve_fit(model, TIMES_MS, signals[:, *voxel], p0=(1000.0, 40.0))
        assert fit.time_ms[voxel] == pytest.approx(expected[1], rel=1e-3)
        assert fit.amplitude[voxel] == pytest.approx(expected[0], rel=1e-3)


def test_an_offset_is_found_where_it_is_and_never_below_0():
    t2_ms = np.full((4, 3, 2), 25.0)
    fit = fit_decay(decay(t2_ms) + 90.0, TIMES_MS, FitRules(NoiseFloor.OFFSET), noise_sd=1e-3)
    np.testing.assert_allclose(fit.time_ms, 25.0, rtol=1e-4)
    below = decay(t2_ms) - 30.0
    bounded = fit_decay(below, TIMES_MS, FitRules(NoiseFloor.OFFSET), noise_sd=1e-3)
    plain = fit_decay(below, TIMES_MS, FitRules(NoiseFloor.NONE), noise_sd=1e-3)
    np.testing.assert_array_equal(bounded.time_ms, plain.time_ms)


def test_the_noise_floor_lengthens_short_times_unless_it_is_part_of_the_model():
    t2_ms = np.full((40, 25, 2), 15.0)
    signals = magnitude(decay(t2_ms), 80.0)
    means = {floor: np.nanmean(fit_decay(signals, TIMES_MS, FitRules(floor), 80.0).time_ms) for floor in NoiseFloor}
    assert abs(means[NoiseFloor.RICIAN] - 15.0) < 0.6
    assert means[NoiseFloor.NONE] - 15.0 > 1.5


def test_the_spread_of_fitted_times_is_no_more_than_that_of_the_log_linear_start():
    t2_ms = np.full((40, 25, 2), 35.0)
    signals = magnitude(decay(t2_ms), 40.0)
    fit = fit_decay(signals, TIMES_MS, noise_sd=40.0)
    start, _ = log_linear(signals, TIMES_MS)
    assert abs(fit.time_ms.mean() - 35.0) < 0.4
    assert fit.time_ms.std() <= start.std()


def test_without_its_first_echo_a_train_that_lacks_a_stimulated_echo_there_gives_the_true_time():
    signals = decay(np.full((3, 3, 2), 35.0))
    signals[0] *= 0.9
    kept = fit_decay(signals, TIMES_MS, noise_sd=0.01).time_ms.mean()
    skipped = fit_decay(signals[::-1], TIMES_MS[::-1], FitRules(skip_first=True), noise_sd=0.01).time_ms.mean()
    assert skipped == pytest.approx(35.0, rel=1e-4)
    assert kept > 36.0


@pytest.mark.parametrize("noise_sd", [5.0, 30.0])
def test_the_noise_is_estimated_in_tissue_beside_air_that_the_scanner_has_blanked(noise_sd):
    t2_ms = np.where(np.arange(40)[:, None, None] < 20, 35.0, 90.0) * np.ones((40, 30, 6))
    signals = magnitude(decay(t2_ms), noise_sd)
    signals[:, :, :10] = 0
    assert noise_sd_from_residuals(signals, TIMES_MS) == pytest.approx(noise_sd, rel=0.1)


def test_what_neighbours_share_is_no_noise():
    signals = magnitude(decay(np.full((30, 30, 4), 40.0)), 10.0)
    signals[1::2] *= 1.04  # the ripple of imperfect refocusing
    assert noise_sd_from_residuals(signals, TIMES_MS) == pytest.approx(10.0, rel=0.15)


def test_voxels_whose_time_cannot_be_told_are_nan_with_their_reason():
    signals = decay(np.full((5, 1, 1), 30.0))
    signals[:, 0] = 0.0
    signals[:, 1] = 500.0
    signals[:, 2] = signals[::-1, 3]
    signals[3, 4] = np.nan
    fit = fit_decay(signals, TIMES_MS, noise_sd=5.0)
    assert fit.status.ravel().tolist() == [
        FitStatus.NO_SIGNAL,
        FitStatus.OUT_OF_RANGE,
        FitStatus.OUT_OF_RANGE,
        FitStatus.FITTED,
        FitStatus.NO_SIGNAL,
    ]
    unfitted = fit.status != FitStatus.FITTED
    for values in (fit.time_ms, fit.amplitude, fit.r2):
        np.testing.assert_array_equal(np.isnan(values), unfitted)


def test_noise_alone_is_no_signal():
    fit = fit_decay(magnitude(np.zeros((8, 20, 20, 3)), 10.0), TIMES_MS, noise_sd=10.0)
    assert fit.count(FitStatus.NO_SIGNAL) > 0.99 * fit.status.size


@pytest.mark.parametrize(
    ("times_ms", "rules", "message"),
    [
        ((10.0,), FitRules(), "2 images need as many"),
        ((10.0, 10.0), FitRules(), "distinct"),
        ((-1.0, 10.0), FitRules(), "0 or more"),
        ((1.0, 10.0), FitRules(skip_first=True), "2 images where 3 are needed"),
        ((1.0, 10.0), FitRules(NoiseFloor.OFFSET), "2 images where 4 are needed"),
    ],
)
def test_times_that_do_not_fit_the_images_are_refused(times_ms, rules, message):
    with pytest.raises(ValueError, match=message):
        fit_decay(np.ones((2, 3, 3, 3)), times_ms, rules)


def test_the_rician_mean_is_that_of_drawn_magnitudes_and_its_derivative_that_of_differences():
    amplitude = np.array([0.0, 5.0, 20.0, 100.0])
    drawn = magnitude(np.broadcast_to(amplitude, (400_000, 4)), 10.0).mean(axis=0)
    mean, slope = rician_mean(amplitude, 10.0)
    np.testing.assert_allclose(mean, drawn, atol=0.06)
    step = 1e-4
    numeric = (rician_mean(amplitude + step, 10.0)[0] - rician_mean(np.abs(amplitude - step), 10.0)[0]) / (2 * step)
    np.testing.assert_allclose(slope, numeric, atol=1e-5)
