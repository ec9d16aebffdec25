"""Affine refinement of a placement by Gauss-Newton steps on the correlation ratio.

Each step gives every class of the atlas its mean intensity below the present placement, and moves the atlas so that
the image made of those means fits the volume in the least-squares sense (Lucas and Kanade's method with the target
re-estimated at each step). No contrast is assumed. The normal matrix is damped towards "no change of shape". Moving
out of the field of view costs score, but moving further in earns none: else atlases would shrink to fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.evidence import Classes, information
from msksam_cli.core.geometry import FloatArray, Grid

_STEPS = 40
_SHAPE_DAMPING = 0.02
_STRETCH = (0.75, 1.33)

ClassFit = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, float]]
"""Weights (C, N) of classes at N placed voxels, 0 outside the field of view, the volume's values (N,) there and the
(4, 4) map → the intensity (C,) of each class, and the score of the placement."""


def refine_affine(
    classes: Classes,
    volume: NDArray[np.float32],
    grid: Grid,
    start_mm: FloatArray,
    *,
    rigid: bool = False,
    steps: int = _STEPS,
    fit: ClassFit | None = None,
) -> tuple[FloatArray, float]:
    """The (4, 4) atlas-to-volume map after refinement, and its score, in nats per voxel unless `fit` is given.

    Args:
        classes: the atlas's classes.
        volume: (I, J, K) intensities 0…1 on `grid`.
        grid: the volume's working grid.
        start_mm: (4, 4) atlas world to volume world.
        rigid: keep size and shape.
        steps: most steps taken.
        fit: how classes get their intensities and placements their scores; each class its mean when None.
    """
    fit = fit or _by_means
    where = np.argwhere(classes.support > 0.5)
    weights = classes.weights[:, where[:, 0], where[:, 1], where[:, 2]].astype(np.float64)
    points = classes.grid.to_world_mm(where)
    centre = points.mean(axis=0)
    local = points - centre
    radius = float(np.sqrt((local**2).sum(axis=1).mean()))
    gradients: list[NDArray[np.float32]] = list(np.gradient(volume))
    to_voxel = np.linalg.inv(grid.affine)
    matrix, best, best_score = start_mm.copy(), start_mm.copy(), -np.inf
    best_merit, first_covered, stall = -np.inf, 0.0, 0
    for _ in range(steps):
        if not _plausible(matrix):
            break
        voxels = (points @ matrix[:3, :3].T + matrix[:3, 3]) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        inside = np.all((voxels >= 0) & (voxels <= np.array(grid.shape) - 1), axis=1)
        values = _sample(volume, voxels)
        levels, score = fit(weights * inside, values, matrix)
        covered = float(inside.mean())
        first_covered = first_covered or covered
        merit = score * first_covered / max(covered, first_covered, 1e-6)
        if merit > best_merit + 1e-4:
            best, best_score, best_merit, stall = matrix.copy(), score, merit, 0
        else:
            stall += 1
            if stall > 4:
                break
        residual = (levels @ weights - values) * inside
        slope = np.stack([_sample(g, voxels) for g in gradients], axis=1) @ to_voxel[:3, :3]
        delta = _step(slope * inside[:, None], residual, local / radius, rigid)
        matrix = _moved(matrix, delta, centre, radius)
    return best, best_score


def _by_means(weights: FloatArray, values: FloatArray, matrix: FloatArray) -> tuple[FloatArray, float]:
    del matrix
    counts, sums, inside = weights.sum(axis=1), weights @ values, weights.sum(axis=0) > 0
    score = information(counts, sums, np.asarray((values**2 * inside).sum()), float(len(values)))
    return sums / np.maximum(counts, 1e-3), float(score)


def _plausible(matrix: FloatArray) -> bool:
    """Whether no direction is squeezed or stretched more than anatomy allows."""
    stretches = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return bool(_STRETCH[0] <= stretches.min() and stretches.max() <= _STRETCH[1])


def _step(slope: FloatArray, residual: FloatArray, local: FloatArray, rigid: bool) -> FloatArray:
    """Change (3, 4) of the map in units of the atlas's radius; the last column is the shift in mm."""
    columns = [slope[:, a] * local[:, b] for a in range(3) for b in range(3)] + [slope[:, a] for a in range(3)]
    jacobian = np.stack(columns, axis=1)
    if rigid:
        basis = np.zeros((12, 6))
        for n, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
            basis[3 * a + b, n], basis[3 * b + a, n] = 1.0, -1.0
        basis[9:, 3:] = np.eye(3)
    else:
        basis = np.eye(12)
    jacobian = jacobian @ basis
    normal = jacobian.T @ jacobian
    damping = np.trace(normal) / len(normal) * _SHAPE_DAMPING
    solution = np.linalg.solve(normal + damping * np.eye(len(normal)), jacobian.T @ residual)
    change = basis @ solution
    return np.concatenate([change[:9].reshape(3, 3), change[9:, None]], axis=1)


def _moved(matrix: FloatArray, delta: FloatArray, centre: FloatArray, radius: float) -> FloatArray:
    """The map changed by `delta`, which is limited to a tenth of the radius a step."""
    size = max(float(np.abs(delta).max()), 1e-12)
    delta = delta * min(1.0, 0.08 * radius / size)
    linear = matrix[:3, :3] + delta[:, :3] / radius
    moved = matrix.copy()
    moved[:3, :3] = linear
    moved[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] + delta[:, 3] - linear @ centre
    return moved


def _sample(values: NDArray[np.float32], voxels: FloatArray) -> FloatArray:
    return np.asarray(ndimage.map_coordinates(values, voxels.T, order=1, mode="nearest"), dtype=np.float64)
