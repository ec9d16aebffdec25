"""How much of a volume's local contrast a placed atlas explains.

A surface coil makes one side of a volume bright and the other dark, and where there is no signal there is nothing to
explain. So the image is brought to the mean and spread of its own neighbourhood first. Of the whole volume's local
contrast a placement then explains a share: that of the image which its classes, each in the intensity of the best
joint fit, paint. All placements share one total, so none gains by lying where little happens. The fit is joint because
averages over many people are soft: where two classes mix, neither one's own mean tells what is seen there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from msksam_cli.atlas.affine import ClassFit
from msksam_cli.atlas.evidence import Classes
from msksam_cli.atlas.search import LEAST_OVERLAP
from msksam_cli.core.geometry import FloatArray, Grid

_NEIGHBOURHOOD_MM, _SIGNAL_MM = 15.0, 5.0
_LEAST_SIGNAL, _SPREAD_FLOOR, _MOST_SPREADS = 0.08, 0.02, 2.5
_RIDGE, _LEAST_CLASS = 0.02, 0.005


def local_contrast(image: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance of each voxel from the mean of its neighbourhood in standard deviations; 0 where there is no signal.

    Args:
        image: (I, J, K) intensities 0…1.
        spacing_mm: the grid's spacing.
    """
    wide = [_NEIGHBOURHOOD_MM / step for step in spacing_mm]
    near = [_SIGNAL_MM / step for step in spacing_mm]
    signal = (ndimage.gaussian_filter(image, near, mode="nearest") > _LEAST_SIGNAL).astype(np.float32)
    amount = ndimage.gaussian_filter(signal, wide, mode="nearest") + 1e-3
    mean = ndimage.gaussian_filter(image * signal, wide, mode="nearest") / amount
    square = ndimage.gaussian_filter(image**2 * signal, wide, mode="nearest") / amount
    spread = np.sqrt(np.maximum(square - mean**2, 0.0)) + _SPREAD_FLOOR
    return np.asarray(np.clip((image - mean) / spread, -_MOST_SPREADS, _MOST_SPREADS) * signal, dtype=np.float32)


def joint_fit(classes: Classes, grid: Grid, contrast: NDArray[np.float32]) -> ClassFit:
    """What `refine_affine` needs to place classes by the share of a volume's local contrast that they explain.

    Args:
        classes: the classes that will be placed.
        grid: the volume's grid.
        contrast: (I, J, K) local contrast on it.
    """
    total = max(float((contrast.astype(np.float64) ** 2).sum()), 1e-6)
    sizes = (classes.weights.astype(np.float64) ** 2).sum(axis=(1, 2, 3))
    per_voxel = classes.grid.voxel_volume_mm3 / grid.voxel_volume_mm3

    def fit(weights: FloatArray, values: FloatArray, matrix: FloatArray) -> tuple[FloatArray, float]:
        moments = weights @ values
        levels = _levels(weights @ weights.T, moments, sizes)
        return levels, float(levels @ moments) * per_voxel * abs(float(np.linalg.det(matrix[:3, :3]))) / total

    return fit


def explained_of_shifts(
    posed: list[NDArray[np.float32]], contrast: NDArray[np.float32], inside: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Share of a volume's local contrast explained at every shift, see `search.ShiftScores`.

    Args:
        posed: soft classes, each (A, B, C).
        contrast: (I, J, K) local contrast.
        inside: (I, J, K) 1 inside the field of view.
    """
    full = [a + v - 1 for a, v in zip(posed[0].shape, contrast.shape, strict=True)]
    fast = [fft.next_fast_len(n, real=True) for n in full]
    crop = tuple(slice(0, n) for n in full)
    of_inside, of_contrast = (fft.rfftn(part.astype(np.float32), fast) for part in (inside, contrast * inside))

    def correlated(atlas: NDArray[np.float32], spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
        return np.asarray(fft.irfftn(fft.rfftn(atlas[::-1, ::-1, ::-1], fast) * spectrum, fast)[crop])

    support = np.sum(posed, axis=0)
    classes = [weight for weight in posed if float(weight.sum()) > _LEAST_CLASS * float(support.sum())]
    overlap = correlated(support, of_inside)
    kept = overlap >= LEAST_OVERLAP * overlap.max()
    moments = np.stack([correlated(weight, of_contrast)[kept] for weight in classes], axis=-1).astype(np.float64)
    gram = np.empty((*moments.shape, len(classes)))
    for n, first in enumerate(classes):
        for m, second in enumerate(classes[: n + 1]):
            gram[:, n, m] = gram[:, m, n] = correlated(first * second, of_inside)[kept]
    sizes = np.array([float((weight**2).sum()) for weight in classes])
    share = np.full(full, -np.inf)
    explained = (_levels(gram, moments, sizes) * moments).sum(axis=-1)
    share[kept] = explained / max(float((contrast**2 * inside).sum()), 1e-6)
    return share


def _levels(gram: FloatArray, moments: FloatArray, sizes: FloatArray) -> FloatArray:
    """Intensities (…, C) of the joint least-squares fit, damped in proportion to the classes' sizes (C,).

    Args:
        gram: (…, C, C) products of the classes' weights.
        moments: (…, C) products of weights and values.
        sizes: (C,) the diagonal of `gram` with nothing cut away.
    """
    damped = gram + np.diag(_RIDGE * sizes + 1e-3)
    return np.asarray(np.linalg.solve(damped, moments[..., None])[..., 0])
