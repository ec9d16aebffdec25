"""Distances to the surface of a mask."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def signed_distance_mm(inside: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance (I, J, K) of each voxel's centre to the nearest one on the other side, negative inside; ± ∞ if none is.

    By Maurer, Qi and Raghavan, IEEE TPAMI 2003, in SimpleITK.
    """
    if inside.all() or not inside.any():
        return np.full(inside.shape, -np.inf if inside.all() else np.inf, dtype=np.float32)
    outer, inner = _to_nearest_mm(inside, spacing_mm), _to_nearest_mm(~inside, spacing_mm)
    return np.where(inside, -inner, outer)


def _to_nearest_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance of each voxel outside a mask to its nearest voxel; what is inside holds anything."""
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    maurer = sitk.SignedMaurerDistanceMapImageFilter()
    maurer.SetNumberOfThreads(1)  # as its callers spread what they ask over the cores
    maurer.SetInsideIsPositive(False)
    maurer.SetSquaredDistance(False)
    maurer.SetUseImageSpacing(True)
    return np.asarray(sitk.GetArrayFromImage(maurer.Execute(image)), dtype=np.float32)
