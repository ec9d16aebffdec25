"""Distances between the surfaces of two masks: one expensive stage, then small reducers.

A surface is a set of elements, one in each 2×2×2 neighbourhood the surface passes through, with a position and an
area (see `surface_elements`). The distance of an element is that to the nearest element of the other surface. Every
reducer weighs elements by area, so that the numbers do not depend on how finely a surface happens to be cut; they
equal those of the surface-distance package (Nikolov et al. 2018).

A mask is open beyond the edge of its array: a tissue cut by the field of view ends there with a flat surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from msksam_cli.core.boxed import bounding_box
from msksam_cli.core.geometry import FloatArray
from msksam_cli.measure.overlap import union_box
from msksam_cli.measure.surface_elements import FULL_CODE, element_areas_mm2, neighbourhood_codes

Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """How far each element of two surfaces is from the other surface.

    When one surface is empty the other's distances are infinite; reducers then answer None.

    Attributes:
        a_to_b_mm: (N,) distances of the elements of surface a, ascending.
        b_to_a_mm: (M,) distances of the elements of surface b, ascending.
        areas_a_mm2: (N,) areas in the order of `a_to_b_mm`.
        areas_b_mm2: (M,) areas in the order of `b_to_a_mm`.
    """

    a_to_b_mm: FloatArray
    b_to_a_mm: FloatArray
    areas_a_mm2: FloatArray
    areas_b_mm2: FloatArray

    @property
    def comparable(self) -> bool:
        """Whether both surfaces have elements."""
        return self.a_to_b_mm.size > 0 and self.b_to_a_mm.size > 0


def surface_distances(mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_], spacing_mm: Spacing) -> SurfaceDistances:
    """Distances between the surfaces of two masks (I, J, K) on one grid with this spacing.

    Raises:
        ValueError: the masks differ in shape or are not three-dimensional.
    """
    if mask_a.shape != mask_b.shape or mask_a.ndim != 3:
        raise ValueError(f"masks of shape {mask_a.shape} and {mask_b.shape} cannot be compared")
    box = union_box(bounding_box(mask_a), bounding_box(mask_b))
    if box is None:
        nothing = np.empty(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    points_a, areas_a = _elements(mask_a[box], spacing_mm)
    points_b, areas_b = _elements(mask_b[box], spacing_mm)
    a_to_b, areas_a = _sorted(_nearest_mm(points_a, points_b), areas_a)
    b_to_a, areas_b = _sorted(_nearest_mm(points_b, points_a), areas_b)
    return SurfaceDistances(a_to_b, b_to_a, areas_a, areas_b)


def hd95_mm(distances: SurfaceDistances) -> float | None:
    """The 95th percentile of the distances by area, the larger of both directions; None when a surface is empty."""
    return hausdorff_mm(distances, 95.0)


def hausdorff_mm(distances: SurfaceDistances, percent: float = 100.0) -> float | None:
    """The distance within which `percent` of each surface's area lies; None when a surface is empty."""
    if not distances.comparable:
        return None
    return max(
        _percentile(distances.a_to_b_mm, distances.areas_a_mm2, percent),
        _percentile(distances.b_to_a_mm, distances.areas_b_mm2, percent),
    )


def assd_mm(distances: SurfaceDistances) -> float | None:
    """Average symmetric surface distance: the mean over the area of both surfaces; None when a surface is empty."""
    if not distances.comparable:
        return None
    area = distances.areas_a_mm2.sum() + distances.areas_b_mm2.sum()
    weighted = distances.a_to_b_mm @ distances.areas_a_mm2 + distances.b_to_a_mm @ distances.areas_b_mm2
    return float(weighted / area)


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float | None:
    """Share of the area of both surfaces that lies within `tolerance_mm` of the other.

    0 when exactly one surface is empty, None when both are.
    """
    area = distances.areas_a_mm2.sum() + distances.areas_b_mm2.sum()
    if area == 0:
        return None
    near = distances.areas_a_mm2[distances.a_to_b_mm <= tolerance_mm].sum()
    near += distances.areas_b_mm2[distances.b_to_a_mm <= tolerance_mm].sum()
    return float(near / area)


def _elements(mask: NDArray[np.bool_], spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Positions (N, 3) in mm and areas (N,) in mm² of a cropped mask's surface elements."""
    codes = neighbourhood_codes(np.pad(mask, 1))
    where = np.nonzero((codes != 0) & (codes != FULL_CODE))
    return np.stack(where, axis=1) * np.array(spacing_mm), element_areas_mm2(spacing_mm)[codes[where]]


def _nearest_mm(points: FloatArray, others: FloatArray) -> FloatArray:
    if len(others) == 0:
        return np.full(len(points), np.inf)
    distances, _ = KDTree(others).query(points)
    return np.asarray(distances, dtype=np.float64)


def _sorted(distances_mm: FloatArray, areas_mm2: FloatArray) -> tuple[FloatArray, FloatArray]:
    order = np.lexsort((areas_mm2, distances_mm))
    return distances_mm[order], areas_mm2[order]


def _percentile(distances_mm: FloatArray, areas_mm2: FloatArray, percent: float) -> float:
    share = np.cumsum(areas_mm2) / areas_mm2.sum()
    position = int(np.searchsorted(share, percent / 100.0))
    return float(distances_mm[min(position, len(distances_mm) - 1)])
