"""Implicit shapes: functions that are negative inside, positive outside and near a distance in mm at the surface.

All take points as arrays of any one shape and return an array of that shape. Distances follow the first-order bound
of Quilez (`k0 (k0 - 1) / k1`), which is exact at the surface and for spheres. Smooth joins are polynomial.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Vector = tuple[float, float, float]

_TINY = np.float32(1e-6)
_LOFT_STEP_MM = 0.1
_BEYOND_MM = 20.0


class Points(NamedTuple):
    """Positions in the frame of a right knee, mm, arrays of one shape.

    Attributes:
        u: lateral.
        y: anterior.
        z: superior.
    """

    u: Field
    y: Field
    z: Field

    def select(self, mask: Mask) -> Points:
        """The points where `mask` is true, as flat arrays."""
        return Points(self.u[mask], self.y[mask], self.z[mask])

    def shifted(self, u: float = 0.0, y: float = 0.0, z: float = 0.0) -> Points:
        """All points moved by an offset in mm."""
        return Points(self.u + np.float32(u), self.y + np.float32(y), self.z + np.float32(z))


def ellipsoid(points: Points, centre: Vector, radii: Vector, tilt_deg: float = 0.0) -> Field:
    """Field of an ellipsoid, turned by `tilt_deg` about the lateral axis (anterior end goes up)."""
    u, y, z = (points[axis] - np.float32(centre[axis]) for axis in range(3))
    if tilt_deg:
        cosine, sine = np.float32(np.cos(np.radians(tilt_deg))), np.float32(np.sin(np.radians(tilt_deg)))
        y, z = cosine * y + sine * z, cosine * z - sine * y
    scaled = [coordinate * np.float32(1 / radius) for coordinate, radius in zip((u, y, z), radii, strict=True)]
    k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    steep = [value * np.float32(1 / radius) for value, radius in zip(scaled, radii, strict=True)]
    k1 = np.sqrt(steep[0] ** 2 + steep[1] ** 2 + steep[2] ** 2)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, _TINY))


@dataclass(frozen=True, eq=False)
class Loft:
    """A tube with elliptical cross-sections along z.

    Attributes:
        table: (n, 5) float32 with columns z, centre u, centre y, half width, half depth in mm, at equal steps of z.
        floor_mm: z below which nothing is inside.
        ceiling_mm: z above which nothing is inside.
    """

    table: Field
    floor_mm: float
    ceiling_mm: float

    def __call__(self, points: Points, rounding_mm: float = 4.0) -> Field:
        """Field of the tube; its ends are rounded over `rounding_mm`."""
        if points.z.size and (
            points.z.min() > self.ceiling_mm + _BEYOND_MM or points.z.max() < self.floor_mm - _BEYOND_MM
        ):
            return np.full(points.z.shape, _BEYOND_MM, dtype=np.float32)
        steps = (points.z - np.float32(self.table[0, 0])) * np.float32(1 / _LOFT_STEP_MM)
        rows = np.clip(steps + np.float32(0.5), 0, len(self.table) - 1).astype(np.int32)
        cu, cy, a, b = (self.table[:, column][rows] for column in range(1, 5))
        su, sy = (points.u - cu) / a, (points.y - cy) / b
        k0 = np.sqrt(su**2 + sy**2)
        k1 = np.sqrt((su / a) ** 2 + (sy / b) ** 2)
        side = k0 * (k0 - 1) / np.maximum(k1, _TINY)
        ends = np.maximum(np.float32(self.floor_mm) - points.z, points.z - np.float32(self.ceiling_mm))
        return smooth_intersection(np.asarray(side), ends, rounding_mm)


def loft(
    knots: Sequence[tuple[float, float, float, float, float]], floor_mm: float = -1e4, ceiling_mm: float = 1e4
) -> Loft:
    """A tube through knots (z, centre u, centre y, half width, half depth), monotone cubic in between."""
    rows = np.array(sorted(knots), dtype=np.float64)
    z = np.arange(rows[0, 0], rows[-1, 0] + _LOFT_STEP_MM / 2, _LOFT_STEP_MM)
    values = PchipInterpolator(rows[:, 0], rows[:, 1:], axis=0)(np.minimum(z, rows[-1, 0]))
    table = np.asfortranarray(np.column_stack([z, values]), dtype=np.float32)
    return Loft(table, floor_mm, ceiling_mm)


def band(points: Points, path: Sequence[Vector], across: Vector, half_width: float, half_depth: float) -> Field:
    """Field of a flat cord along a polyline.

    Args:
        points: where.
        path: (u, y, z) corners in mm.
        across: direction of the cord's width; need not be of unit length.
        half_width: half the width in mm, along `across`.
        half_depth: half the thickness in mm.
    """
    axis = np.asarray(across, dtype=np.float64) / np.linalg.norm(across)
    nearest = np.full(points.u.shape, np.inf, dtype=np.float32)
    for start, end in itertools.pairwise(path):
        nearest = np.minimum(nearest, _segment(points, (np.array(start), np.array(end)), axis, half_width, half_depth))
    return nearest


def _segment(
    points: Points,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    axis: NDArray[np.float64],
    half_width: float,
    half_depth: float,
) -> Field:
    start, step = ends[0], ends[1] - ends[0]
    offsets = [points[c] - np.float32(start[c]) for c in range(3)]
    along = sum(offsets[c] * np.float32(step[c] / (step @ step)) for c in range(3))
    along = np.clip(along, 0, 1)
    offsets = [offsets[c] - along * np.float32(step[c]) for c in range(3)]
    wide = offsets[0] * np.float32(axis[0]) + offsets[1] * np.float32(axis[1]) + offsets[2] * np.float32(axis[2])
    square = offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2
    deep2 = np.maximum(square - wide**2, 0)
    k0 = np.sqrt((wide / np.float32(half_width)) ** 2 + deep2 / np.float32(half_depth**2))
    k1 = np.sqrt((wide / np.float32(half_width**2)) ** 2 + deep2 / np.float32(half_depth**4))
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, _TINY))


def smooth_union(first: Field, second: Field, blend_mm: float) -> Field:
    """Union whose crease is filled over about `blend_mm`."""
    h = np.clip(0.5 + (second - first) * np.float32(0.5 / blend_mm), 0, 1)
    return np.asarray(second + (first - second) * h - np.float32(blend_mm) * h * (1 - h))


def smooth_intersection(first: Field, second: Field, blend_mm: float) -> Field:
    """Intersection whose edge is rounded over about `blend_mm`."""
    return -smooth_union(-first, -second, blend_mm)


def smooth_difference(first: Field, second: Field, blend_mm: float) -> Field:
    """The first without the second, edges rounded over about `blend_mm`."""
    return -smooth_union(-first, second, blend_mm)


def ramp(values: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high` (or the reverse when low > high), smooth in between."""
    t = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
