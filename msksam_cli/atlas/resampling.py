"""Arrays carried from one grid to another through an affine map of world space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import FloatArray, Grid

IDENTITY: FloatArray = np.eye(4)


def resample(
    values: NDArray[np.float32],
    source: Grid,
    target: Grid,
    target_to_source_mm: FloatArray = IDENTITY,
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Values of `source` seen on `target` by trilinear interpolation, averaged first where the target is coarser.

    Args:
        values: array on `source`.
        source: where the values lie.
        target: where they are wanted.
        target_to_source_mm: (4, 4) map from the target's world to the source's world.
        outside: value beyond the source's outermost voxel centres.
    """
    matrix = np.linalg.inv(source.affine) @ target_to_source_mm @ target.affine
    steps = np.abs(matrix[:3, :3]).max(axis=1)
    sigma = np.where(steps > 1.25, 0.5 * np.sqrt(np.maximum(steps**2 - 1.0, 0.0)), 0.0)
    smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma.any() else values
    result = ndimage.affine_transform(
        np.asarray(smooth, dtype=np.float32),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=1,
        mode="constant",
        cval=outside,
    )
    return np.asarray(result, dtype=np.float32)


def world_aligned_grid(corners_mm: FloatArray, spacing_mm: float, margin_mm: float = 0.0) -> Grid:
    """The smallest RAS+ grid of isotropic `spacing_mm` that spans all of `corners_mm` (N, 3) and a margin."""
    low, high = corners_mm.min(axis=0) - margin_mm, corners_mm.max(axis=0) + margin_mm
    shape = np.ceil((high - low) / spacing_mm - 1e-6).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - (shape - 1) * spacing_mm / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def coverage(source: Grid, target: Grid, target_to_source_mm: FloatArray = IDENTITY) -> NDArray[np.bool_]:
    """Which voxels of `target` have their centre within half a voxel of `source`'s extent."""
    matrix = np.linalg.inv(source.affine) @ target_to_source_mm @ target.affine
    inside = np.ones(target.shape, dtype=bool)
    i, j, k = np.ogrid[tuple(slice(0, n) for n in target.shape)]
    for axis in range(3):
        row = matrix[axis]
        position = row[0] * i + row[1] * j + row[2] * k + row[3]
        inside &= (position >= -0.5) & (position <= source.shape[axis] - 0.5)
    return inside


def mirror_about_x(centre_mm: FloatArray) -> FloatArray:
    """The (4, 4) reflection of world space that swaps left and right through `centre_mm`."""
    matrix = np.eye(4)
    matrix[0, 0] = -1.0
    matrix[0, 3] = 2.0 * centre_mm[0]
    return matrix


def inverse(matrix: FloatArray) -> FloatArray:
    """The (4, 4) map that undoes a map."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
