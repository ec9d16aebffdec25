"""Relaxation times from images of a decay: T2 and T2* by echo time, T1ρ by spin-lock time, voxel by voxel at once.

A magnitude image does not decay to 0 but to a floor of noise, which makes short times come out too long. Three ways to
meet it are here. `NoiseFloor.RICIAN` fits the mean that Rician noise gives a magnitude: the noise-corrected exponential
of Raya et al. 2010 (Magn Reson Med 63:181), who found it the least biased and as precise as can be. `OFFSET` fits a
constant of 0 or more beside the exponential, which also takes up what imperfect refocusing leaves (Milford et al. 2015,
PLoS ONE 10:e0145255). `NONE` fits the exponential alone.

A voxel whose time cannot be told is NaN and its status says why; nothing is clipped into a range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.cores import spread_over_cores
from msksam_cli.measure.decay_fit import Floats, add_offset, least_squares

LEAST_SIGNAL_SD = 5.0
"""A voxel whose largest signal is less than this many standard deviations of the noise holds no tissue to fit."""

LONGEST_IN_SPANS = 10.0
"""Times above this many spans (last minus first time) are not told: the signal falls by less than 10 % over a span."""

SHORTEST_IN_STEPS = 0.2
"""Times below this share of the smallest step are not told: a step leaves less than 1 % of the signal."""

_VOXELS_AT_ONCE = 16_384
_VOXELS_FOR_NOISE = 1_000_000
_TINY = 1e-30
_SD_PER_MAD = 1.482602218505602  # of a normal distribution


class NoiseFloor(StrEnum):
    """What the magnitude is taken to approach when the signal has decayed."""

    RICIAN = "rician"
    OFFSET = "offset"
    NONE = "none"


class FitStatus(IntEnum):
    """What became of a voxel's fit."""

    FITTED = 0
    NO_SIGNAL = 1
    OUT_OF_RANGE = 2
    NOT_CONVERGED = 3


@dataclass(frozen=True)
class FitRules:
    """How a decay is fitted.

    Attributes:
        noise_floor: see `NoiseFloor`.
        skip_first: leave out the image of the shortest time. In trains of spin echoes it lacks the stimulated echoes
            that the later ones hold (Milford et al. 2015).
    """

    noise_floor: NoiseFloor = NoiseFloor.RICIAN
    skip_first: bool = False

    @property
    def least_images(self) -> int:
        """Images that the fit needs, one more than it has unknowns when it has three."""
        return (4 if self.noise_floor is NoiseFloor.OFFSET else 2) + int(self.skip_first)


@dataclass(frozen=True, eq=False)
class RelaxationFit:
    """A fitted decay; arrays have the shape of one image.

    Attributes:
        time_ms: float32, NaN where not fitted.
        amplitude: float32 signal at time 0, NaN where not fitted.
        r2: float32 coefficient of determination, NaN where not fitted or where there are no more images than unknowns.
        status: uint8, see `FitStatus`.
        noise_sd: standard deviation of the noise that was used, None when it was not known.
    """

    time_ms: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    r2: NDArray[np.float32]
    status: NDArray[np.uint8]
    noise_sd: float | None

    def count(self, status: FitStatus) -> int:
        """Voxels that ended so."""
        return int(np.count_nonzero(self.status == status))


def fit_decay(
    signals: NDArray[Any], times_ms: Sequence[float], rules: FitRules | None = None, noise_sd: float | None = None
) -> RelaxationFit:
    """Mono-exponential fit of every voxel by Levenberg–Marquardt steps from a weighted log-linear start.

    Args:
        signals: (N, …) magnitudes, one image per time, in any order of time.
        times_ms: N distinct echo or spin-lock times, 0 or more.
        rules: how to fit, the Rician mean with all images when not given.
        noise_sd: of either part of the complex noise, in the signals' unit; None to take `noise_sd_from_residuals`.

    Raises:
        ValueError: times and images differ in number, times repeat or are negative, or there are too few.
    """
    rules = rules or FitRules()
    times, images = _in_order(signals, times_ms, rules)
    if noise_sd is None:
        noise_sd = noise_sd_from_residuals(images, times)
    flat = images.reshape(len(times), -1)
    brightest = flat.max(axis=0)
    status = np.full(brightest.shape, FitStatus.NO_SIGNAL, dtype=np.uint8)
    unknown = np.full(brightest.shape, np.nan, dtype=np.float32)
    time_ms, amplitude, r2 = unknown, unknown.copy(), unknown.copy()
    finite = np.isfinite(flat).all(axis=0)
    shown = np.flatnonzero(finite & (brightest > LEAST_SIGNAL_SD * (noise_sd or 0.0)))
    parts = [shown[start : start + _VOXELS_AT_ONCE] for start in range(0, shown.size, _VOXELS_AT_ONCE)]

    def fitted(part: NDArray[np.intp]) -> tuple[Floats, Floats, Floats, NDArray[np.uint8]]:
        return _fit_part(flat[:, part].T.astype(np.float64), times, rules.noise_floor, noise_sd)

    for part, found in zip(parts, spread_over_cores(fitted, parts), strict=True):
        time_ms[part], amplitude[part], r2[part], status[part] = found
    shape = images.shape[1:]
    return RelaxationFit(
        time_ms.reshape(shape), amplitude.reshape(shape), r2.reshape(shape), status.reshape(shape), noise_sd
    )


def log_linear(signals: NDArray[Any], times_ms: Sequence[float]) -> tuple[Floats, Floats]:
    """Relaxation time and amplitude (…) of magnitudes (N, …) by a straight line through their logarithms.

    Each point weighs by its squared signal, since the logarithm's variance is that of the noise over it (Bonny et al.
    1996, Magn Reson Med 36:287). Times are inf or negative where the line does not fall; signals must be above 0.
    """
    times = np.asarray(times_ms, dtype=np.float64)
    rate, logarithm = _line(np.moveaxis(np.asarray(signals, dtype=np.float64), 0, -1), times)
    with np.errstate(divide="ignore", over="ignore"):
        return 1 / rate, np.exp(logarithm)


def noise_sd_from_residuals(signals: NDArray[Any], times_ms: Sequence[float] | Floats) -> float | None:
    """Standard deviation of the noise in images (N, I, …), None when there are too few images or voxels to tell.

    From differences of neighbours' residuals about a log-linear fit, in voxels brighter than half the mean: what the
    model misses is alike in neighbours and cancels, and no air is needed, which scanners often blank. The spread is
    1.48 median absolute deviations, along the axis where it is least. Of large images some planes are enough.
    """
    images, times = np.asarray(signals), np.asarray(times_ms, dtype=np.float64)
    unknowns = 2
    if len(times) <= unknowns or images[0].size < 2:
        return None
    some = images[..., :: max(1, images[0].size // _VOXELS_FOR_NOISE)]
    last = np.moveaxis(some, 0, -1).astype(np.float64)
    shown = (last.min(axis=-1) > 0) & (last[..., 0] > last[..., 0].mean() / 2)
    rate, logarithm = _line(last, times)
    with np.errstate(over="ignore", invalid="ignore"):
        residuals = last - np.exp(logarithm[..., None] - rate[..., None] * times)
    spreads = []
    for axis in range(shown.ndim):
        both = np.take(shown, range(1, shown.shape[axis]), axis) & np.take(shown, range(shown.shape[axis] - 1), axis)
        if both.any():
            spreads.append(float(np.median(np.abs(np.diff(residuals, axis=axis)[both]))))
    if not spreads:
        return None
    return float(_SD_PER_MAD * min(spreads) * np.sqrt(len(times) / (len(times) - unknowns) / 2))


def _in_order(signals: NDArray[Any], times_ms: Sequence[float], rules: FitRules) -> tuple[Floats, NDArray[Any]]:
    """Times and images (N, …) from the shortest to the longest, without the first when that is skipped."""
    times = np.asarray(times_ms, dtype=np.float64)
    if len(times) != len(signals) or len(np.unique(times)) != len(times) or not (times >= 0).all():
        raise ValueError(f"{len(signals)} images need as many distinct times of 0 or more, not {list(times)}")
    if len(times) < rules.least_images:
        raise ValueError(f"{len(times)} images where {rules.least_images} are needed")
    order = np.argsort(times)[int(rules.skip_first) :]
    return times[order], np.asarray(signals)[order]


def _line(signals: Floats, times: Floats) -> tuple[Floats, Floats]:
    """Rate and logarithm of the amplitude (…) by weighted regression on magnitudes (…, N)."""
    weights = np.maximum(signals, 0) ** 2
    logarithms = np.log(np.maximum(signals, _TINY))
    total = weights.sum(axis=-1) + _TINY
    middle, height = (weights @ times) / total, (weights * logarithms).sum(axis=-1) / total
    offsets = times - middle[..., None]
    rate = -(weights * offsets * (logarithms - height[..., None])).sum(axis=-1)
    rate /= (weights * offsets**2).sum(axis=-1) + _TINY
    return rate, height + rate * middle


def _fit_part(
    signals: Floats, times: Floats, floor: NoiseFloor, noise_sd: float | None
) -> tuple[Floats, Floats, Floats, NDArray[np.uint8]]:
    """Times, amplitudes, R² and status (V,) of signals (V, N), all above the noise."""
    scale, step = signals.max(axis=1, keepdims=True), float(np.ptp(times))
    unit = signals / scale
    rate, logarithm = _line(unit, times / step)
    start = np.stack([np.exp(np.clip(logarithm, -50, 50)), np.clip(rate, -50, 50 / SHORTEST_IN_STEPS)], axis=1)
    sd = noise_sd / scale if floor is NoiseFloor.RICIAN and noise_sd else None
    found, settled, residual = least_squares(unit, times / step, start, sd)
    if floor is NoiseFloor.OFFSET:
        add_offset(unit, times / step, found, settled, residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        time_ms = step / found[:, 1]
        r2 = 1 - residual / ((unit - unit.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    if len(times) <= 2 + int(floor is NoiseFloor.OFFSET):
        r2 = np.full_like(r2, np.nan)
    steps = np.diff(times)
    told = (time_ms >= SHORTEST_IN_STEPS * steps.min()) & (time_ms <= LONGEST_IN_SPANS * step) & (found[:, 0] > 0)
    status = np.where(told, FitStatus.FITTED, FitStatus.OUT_OF_RANGE)
    status = np.where(settled, status, FitStatus.NOT_CONVERGED).astype(np.uint8)
    good = status == FitStatus.FITTED
    amplitude = found[:, 0] * scale[:, 0]
    time_ms, amplitude, r2 = (np.where(good, values, np.nan) for values in (time_ms, amplitude, r2))
    return time_ms, amplitude, r2, status
