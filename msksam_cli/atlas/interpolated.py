"""A scalar field between its voxels: its value and how it changes, from the same eight neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_POINTS_AT_ONCE = 1 << 15  # whose intermediate values stay in a core's cache


def value_and_slope(field: Array, at: Array) -> tuple[Array, Array]:
    """A field at points, linear between voxels along each axis, and its derivatives there.

    Beyond the outermost voxel centres the nearest point among them counts.

    Args:
        field: (I, J, K).
        at: (3, N) voxel coordinates.

    Returns:
        (N,) values and (3, N) derivatives per voxel.

    >>> value, slope = value_and_slope(np.array([[[0, 1], [4, 9]]], np.float32), np.float32([[0], [0.5], [0.5]]))
    >>> value.tolist(), slope.ravel().tolist()
    ([3.5], [0.0, 6.0, 3.0])
    """
    count = at.shape[1]
    value, slope = np.empty(count, np.float32), np.empty((3, count), np.float32)
    for start in range(0, count, _POINTS_AT_ONCE):
        part = slice(start, start + _POINTS_AT_ONCE)
        value[part], slope[:, part] = _of_points(field, at[:, part])
    return value, slope


def _of_points(field: Array, at: Array) -> tuple[Array, Array]:
    flat, base, fractions, strides = field.reshape(-1), np.zeros(at.shape[1], np.intp), [], []
    for axis, size in enumerate(field.shape):
        inside = np.clip(at[axis], 0, size - 1)
        low = np.minimum(inside.astype(np.intp), max(size - 2, 0))
        stride = int(np.prod(field.shape[axis + 1 :]))
        base += low * stride
        fractions.append((inside - low).astype(np.float32))
        strides.append(stride if size > 1 else 0)
    i, j, k = fractions
    di, dj, dk = strides

    def along_k(offset: int) -> tuple[Array, Array]:
        low = flat.take(base + offset)
        rise = flat.take(base + (offset + dk)) - low
        return low + k * rise, rise

    (v00, k00), (v01, k01), (v10, k10), (v11, k11) = (along_k(offset) for offset in (0, dj, di, di + dj))
    j0, j1 = v01 - v00, v11 - v10
    v0, v1 = v00 + j * j0, v10 + j * j1
    k0, k1 = k00 + j * (k01 - k00), k10 + j * (k11 - k10)
    return v0 + i * (v1 - v0), np.stack([v1 - v0, j0 + i * (j1 - j0), k0 + i * (k1 - k0)])
