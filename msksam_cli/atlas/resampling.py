"""Arrays carried from one grid to another through an affine map of world space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.boxed import bounding_box, grown
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import FloatArray, Grid

IDENTITY: FloatArray = np.eye(4)

Array = NDArray[np.float32]

_COARSER = 1.25  # steps above which voxels are averaged
_PARALLEL = 1e-9  # voxels
_SLABS = 8
_SIGMAS = 4.0


def resample(
    values: Array,
    source: Grid,
    target: Grid,
    target_to_source_mm: FloatArray = IDENTITY,
    outside: float = 0.0,
) -> Array:
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
    sigma = np.where(steps > _COARSER, 0.5 * np.sqrt(np.maximum(steps**2 - 1.0, 0.0)), 0.0)
    values = np.asarray(values, dtype=np.float32)
    if np.allclose(matrix[:3, :3], np.diag(np.diag(matrix[:3, :3])), rtol=0.0, atol=_PARALLEL):
        places = [np.arange(n) * matrix[axis, axis] + matrix[axis, 3] for axis, n in enumerate(target.shape)]
        return _along_axes(values, places, sigma, outside)
    smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma.any() else values
    result = ndimage.affine_transform(
        smooth,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=1,
        mode="constant",
        cval=outside,
    )
    return np.asarray(result, dtype=np.float32)


def blurred(values: Array, sigma: Sequence[float]) -> Array:
    """Values (I, J, K) that are 0 nearly everywhere after a Gaussian of so many voxels along each axis."""
    result = np.zeros_like(values)
    if box := bounding_box(values):
        near = grown(box, [int(_SIGMAS * one + 0.5) for one in sigma], values.shape)
        result[near] = ndimage.gaussian_filter(values[near], sigma, truncate=_SIGMAS)
    return result


def interpolated_along(values: Array, axis: int, places: FloatArray) -> Array:
    """Values linearly interpolated at voxel coordinates (n,) along one axis; the outermost are repeated.

    >>> interpolated_along(np.array([[[0.0, 2.0]]], dtype=np.float32), 2, np.array([-1.0, 0.25, 3.0])).tolist()
    [[[0.0, 0.5, 2.0]]]
    """
    last = values.shape[axis] - 1
    inside = np.clip(places, 0, last)
    low = np.minimum(inside.astype(np.intp), max(last - 1, 0))
    weight = (inside - low).astype(np.float32).reshape([-1 if one == axis else 1 for one in range(values.ndim)])
    below = np.take(values, low, axis)
    result: Array = np.take(values, np.minimum(low + 1, last), axis)
    result -= below
    result *= weight
    result += below
    return result


def _along_axes(values: Array, places: Sequence[FloatArray], sigma: FloatArray, outside: float) -> Array:
    """`resample` between grids whose axes are parallel, one axis after the other, so that few voxels are averaged.

    Args:
        values: (I, J, K).
        places: of each axis, the voxel coordinates wanted.
        sigma: (3,) standard deviations in voxels of what is averaged first.
        outside: value beyond the outermost voxel centres.
    """
    if values.flags.f_contiguous and not values.flags.c_contiguous:
        return np.ascontiguousarray(_along_axes(values.T, places[::-1], sigma[::-1], outside).T)

    def along(part: Array, axis: int) -> Array:
        if sigma[axis]:
            part = ndimage.gaussian_filter1d(part, sigma[axis], axis, mode="nearest")
        return interpolated_along(part, axis, places[axis])

    slabs = np.array_split(values, min(_SLABS, len(values)))
    result = along(np.concatenate(spread_over_cores(lambda slab: along(along(slab, 1), 2), slabs, few_cores())), 0)
    for axis, wanted in enumerate(places):
        beyond = (wanted < -_PARALLEL) | (wanted > values.shape[axis] - 1 + _PARALLEL)
        result[(slice(None),) * axis + (beyond,)] = outside
    return result


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
