"""From a volume to the 8-bit slices a network sees, and back.

A slice is the 2-D array left when the slice axis is fixed: rows run along the first remaining axis, columns along the
second; x is the column and y the row, both counted at pixel centres from 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PREPROCESSING_VERSION = "window-0.5-99.5-foreground-v1"

_LOW_PERCENTILE, _HIGH_PERCENTILE = 0.5, 99.5
_NARROWEST, _WIDEST = 1e-30, 1e30


def plane_axes(slice_axis: int) -> tuple[int, int]:
    """The volume axes of a slice's rows and columns.

    >>> plane_axes(1)
    (0, 2)
    """
    rows, columns = (axis for axis in range(3) if axis != slice_axis)
    return rows, columns


def take_slice(voxels: NDArray[Any], slice_axis: int, index: int) -> NDArray[Any]:
    """View (rows, columns) of one slice of (I, J, K) voxels."""
    selection: list[int | slice] = [slice(None)] * 3
    selection[slice_axis] = index
    return np.asarray(voxels[tuple(selection)])


def intensity_window(intensities: NDArray[np.float32]) -> tuple[float, float]:
    """Low and high intensity of a volume that are shown as black and white.

    The 0.5 and 99.5 percentile of the foreground, which is every voxel above a tenth of the way from the minimum to
    the 99th percentile; one window for the whole volume, so that slices stay comparable. A constant volume gives
    (value, value + 1).
    """
    values = intensities.ravel(order="K")
    low, high = float(values.min()), float(np.percentile(values, 99))
    foreground = values[values > low + 0.1 * (high - low)]
    if foreground.size == 0:
        return low, low + 1.0
    bottom, top = np.percentile(foreground, (_LOW_PERCENTILE, _HIGH_PERCENTILE), overwrite_input=True)
    bottom = min(float(bottom), low + 0.1 * (high - low))
    return bottom, float(top) if top > bottom else bottom + 1.0


def slice_uint8(plane: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey levels 0…255 (rows, columns) of a slice under an intensity window.

    Computed with float32, as the keys of stored embeddings rest on the outcome to the bit, or with float64 where the
    window is so narrow or so wide that float32 cannot hold its scale.
    """
    low, high = window
    width = high - low
    plane = np.asarray(plane, dtype=np.float32)
    if not _NARROWEST < width < _WIDEST:
        plane = plane.astype(np.float64)
    near = np.clip(plane, low - width, high + width)  # what lies further is black or white too, and could overflow
    scaled = (near - low) * (255.0 / width)
    return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
