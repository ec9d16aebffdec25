"""Exponential decays fitted to many signals at once by Levenberg–Marquardt steps.

Signals (V, N) are of the order of 1 and times (N,) too; parameters (V, P) are amplitude, rate and, where there is one,
a constant beside the exponential.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

_MOST_STEPS = 60
_STEP_TOLERANCE, _COST_TOLERANCE = 1e-6, 1e-9
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-12, 1e12
_TINY = 1e-30


def rician_mean(amplitude: Floats, noise_sd: Floats | float) -> tuple[Floats, Floats]:
    """Mean of a Rician magnitude and its derivative by the noise-free amplitude.

    With x = A² / 4σ² the mean is σ √(π/2) e⁻ˣ ((1 + 2x) I₀(x) + 2x I₁(x)), and its derivative √(π/8) A/σ e⁻ˣ (I₀ + I₁)
    (Rice 1945, Bell Syst Tech J 24:46; Gudbjartsson and Patz 1995, Magn Reson Med 34:910).

    >>> [round(float(value), 3) for value in rician_mean(np.array([0.0, 10.0]), 1.0)[0]]
    [1.253, 10.05]
    """
    x = (amplitude / noise_sd) ** 2 / 4
    i0, i1 = special.i0e(x), special.i1e(x)
    mean = noise_sd * np.sqrt(np.pi / 2) * (i0 + 2 * x * (i0 + i1))
    return mean, np.sqrt(np.pi / 8) * amplitude / noise_sd * (i0 + i1)


def least_squares(
    signals: Floats, times: Floats, start: Floats, sd: Floats | None
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Parameters (V, P), whether they settled (V,), and the sum of squared residuals (V,) (Marquardt 1963).

    All voxels step at once; those that have settled take no further part.
    """
    found, settled = start.copy(), np.zeros(len(start), dtype=bool)
    damping = np.full(len(start), _FIRST_DAMPING)
    cost = ((signals - _model(found, times, sd)[0]) ** 2).sum(axis=1)
    active = np.arange(len(start))
    with np.errstate(over="ignore", invalid="ignore"):  # of steps too long, which are not taken
        for _ in range(_MOST_STEPS):
            if not active.size:
                break
            here, noise = found[active], None if sd is None else sd[active]
            move = _step(signals[active], here, times, noise, damping[active])
            new_cost = ((signals[active] - _model(here + move, times, noise)[0]) ** 2).sum(axis=1)
            gain = cost[active] - new_cost
            better = gain >= 0
            found[active[better]], cost[active[better]] = (here + move)[better], new_cost[better]
            damping[active] = np.clip(damping[active] * np.where(better, 0.1, 10.0), _LEAST_DAMPING, _MOST_DAMPING)
            small = (np.abs(move) <= _STEP_TOLERANCE * (np.abs(here) + _STEP_TOLERANCE)).all(axis=1)
            small |= better & (gain <= _COST_TOLERANCE * new_cost)
            settled[active[small]] = True
            active = active[~small]
    return found, settled, cost


def _step(signals: Floats, here: Floats, times: Floats, sd: Floats | None, damping: Floats) -> Floats:
    """The damped Gauss–Newton step (V, P) from the parameters `here`."""
    mean, slopes = _model(here, times, sd)
    normal = np.matmul(slopes.transpose(0, 2, 1), slopes)
    pull = np.matmul(slopes.transpose(0, 2, 1), (signals - mean)[..., None])
    diagonal = np.einsum("vpp->vp", normal)  # a view
    diagonal += damping[:, None] * diagonal + _TINY
    return np.asarray(np.linalg.solve(normal, pull)[..., 0])


def add_offset(signals: Floats, times: Floats, found: Floats, settled: NDArray[np.bool_], residual: Floats) -> None:
    """Change a fit without an offset, in place, to the best one whose offset is 0 or more.

    Where the residuals of the best fit at offset 0 sum to 0 or less the cost falls only below 0, and that fit stands.
    """
    above = np.flatnonzero((signals - _model(found, times, None)[0]).sum(axis=1) > 0)
    start = np.column_stack([found[above], np.zeros(above.size)])
    better, settled[above], residual[above] = least_squares(signals[above], times, start, None)
    found[above] = better[:, :2]


def _model(parameters: Floats, times: Floats, sd: Floats | None) -> tuple[Floats, Floats]:
    """Expected magnitudes (V, N) and their derivatives by the parameters (V, N, P)."""
    with np.errstate(over="ignore"):
        decay = np.exp(-np.clip(parameters[:, 1:2] * times, -50, 700))
    pure = parameters[:, :1] * decay
    mean, slope = (pure, np.ones_like(pure)) if sd is None else rician_mean(pure, sd)
    columns = [slope * decay, -slope * pure * times]
    if parameters.shape[1] == 3:
        mean = mean + parameters[:, 2:]
        columns.append(np.ones_like(pure))
    return mean, np.stack(columns, axis=2)
