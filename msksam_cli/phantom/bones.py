"""Bones of the template knee: fields of femur, tibia, patella and fibula.

The template is a right knee, 82 mm across the epicondyles, with the joint line at z = 0 and the middle of the femoral
condyles near (0, 0, 24). All lengths here are template mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msksam_cli.phantom.fields import (
    Field,
    Points,
    Vector,
    band,
    ellipsoid,
    loft,
    ramp,
    smooth_difference,
    smooth_intersection,
    smooth_union,
)

MEDIAL_PLATE: Vector = (-21.5, -8.0, 0.0)
LATERAL_PLATE: Vector = (21.5, -9.5, 0.0)
PLATE_RADII = (15.5, 20.5)

_SLOPE = np.float32(0.085)

_FEMORAL_SHAFT = loft(
    [
        (20, 0, 2, 31, 17),
        (34, 0, 6, 34, 19),
        (44, 0, 9.5, 30.5, 17.5),
        (54, 1, 12, 25, 16),
        (66, 2, 14, 20, 14.5),
        (84, 3.5, 15.5, 16, 13.5),
        (110, 5.5, 17, 14, 13.2),
        (170, 10, 18, 13.5, 13.5),
    ],
    floor_mm=24,
)
_TIBIAL_SHAFT = loft(
    [
        (-150, -4, -6, 12, 14),
        (-95, -3, -5, 13, 15),
        (-70, -2.5, -4.5, 14.5, 16),
        (-52, -2, -4.5, 18, 18),
        (-36, -1.5, -5.5, 24, 20.5),
        (-22, -0.5, -7.5, 32, 23),
        (-12, 0, -8.5, 37, 24.8),
        (-4, 0, -9, 37.8, 25),
        (8, 0, -9, 37, 24.5),
    ],
)
_FIBULAR_SHAFT = loft(
    [
        (-150, 28, -35.5, 5.5, 6),
        (-70, 30.5, -34.5, 5.8, 6.2),
        (-48, 33, -33.5, 6.2, 6.8),
        (-32, 35.5, -32, 8.8, 9.2),
        (-18, 36.5, -31.5, 10, 10),
    ],
    ceiling_mm=-11,
)


class BoneFields(NamedTuple):
    """Fields of the bones at the same points."""

    femur: Field
    tibia: Field
    patella: Field
    fibula: Field


@dataclass(frozen=True)
class Bones:
    """The four bones, given their proportions in template mm.

    Attributes:
        notch_half_width: of the intercondylar notch.
        groove_depth: of the trochlear groove below the lateral ridge.
        tibial_scale: (width, depth) of the tibia against the template's.
        patella_half: half width, half height and whole thickness of the patella.
        medial_gap: cartilage between femur and medial plateau.
        lateral_gap: the same laterally.
        patellar_gap: cartilage between patella and trochlea.
    """

    notch_half_width: float = 10.0
    groove_depth: float = 5.5
    tibial_scale: tuple[float, float] = (1.0, 1.0)
    patella_half: Vector = (22.0, 21.0, 22.0)
    medial_gap: float = 4.5
    lateral_gap: float = 5.0
    patellar_gap: float = 5.2

    def fields(self, points: Points) -> BoneFields:
        """Fields of all four."""
        return BoneFields(self.femur(points), self.tibia(points), self.patella(points), self.fibula(points))

    def femur(self, points: Points) -> Field:
        """Two condyles, trochlear ridges, epicondyles and shaft, without notch and groove."""
        field = _FEMORAL_SHAFT(points, 10.0)
        for side in (-1.0, 1.0):
            field = smooth_union(field, self._condyle(points, side), 6.0)
        ridge = 24.5 + self.groove_depth
        field = smooth_union(field, ellipsoid(points, (16, 7, 32), (13, ridge - 5, 24)), 5.0)
        field = smooth_union(field, ellipsoid(points, (-15, 6, 29), (13, ridge - 6.5, 22)), 5.0)
        field = smooth_union(field, ellipsoid(points, (0, 6, 30), (15, 21, 20.5)), 6.0)
        groove = [(0, 36.5, 64), (0.5, 37.8, 44), (0, 37.2, 27), (0, 28, 5), (0, 14, -3.5), (0, 3, -5)]
        cut = band(points, groove, (1, 0, 0), 10.0, 4.5 + self.groove_depth)
        field = smooth_difference(field, cut, 7.0)
        return smooth_difference(field, self.notch(points), 3.0)

    def _condyle(self, points: Points, side: float) -> Field:
        lateral = side > 0
        posterior = ellipsoid(points, (side * 24.5, -11, 22.5), (14.0, 20.5, 20.5 if lateral else 21.0))
        distal = ellipsoid(points, (side * 22.5, 2, 28), (14.0, 27.0, 26.0))
        epicondyle = ellipsoid(points, (side * 29.0, -4, 29), (11, 14, 15))
        return smooth_union(smooth_union(posterior, distal, 5.0), epicondyle, 8.0)

    def notch(self, points: Points) -> Field:
        """The intercondylar notch, open below and behind."""
        half = self.notch_half_width
        back = band(points, [(0, -48, 22), (0, -21, 15)], (1, 0, 0), half, 17.0)
        front = ellipsoid(points, (0, -12, 4), (half * 0.96, 16, 15), tilt_deg=-25)
        return smooth_union(back, front, 5.0)

    def plateau(self, u: Field, y: Field) -> Field:
        """Height z of the bony tibial plateau over (u, y): two facets, two spines, slope backwards."""
        u, y = u / np.float32(self.tibial_scale[0]), y / np.float32(self.tibial_scale[1])
        side = ramp(u, -7.0, 7.0)
        facets = (_medial_facet(u, y) + np.float32(self._plateau_levels[0])) * (1 - side)
        facets = facets + (_lateral_facet(u, y) + np.float32(self._plateau_levels[1])) * side
        spines = 8.0 * _bump(u + 5.5, y + 9, 4.0, 8.5) + 7.0 * _bump(u - 6.0, y + 12, 4.0, 7.5)
        valley = 1.5 * _bump(u, y - 8, 8.0, 9.0) + 3.0 * _bump(u, y + 30, 8.0, 9.0)
        return np.asarray(facets + spines - valley, dtype=np.float32)

    @cached_property
    def _plateau_levels(self) -> tuple[float, float]:
        """Heights that leave the cartilage's room between condyle and plateau, medial and lateral."""
        levels = []
        for plate, gap in ((MEDIAL_PLATE, self.medial_gap), (LATERAL_PLATE, self.lateral_gap)):
            u, y = _patch(np.arange(-10, 10.5) + plate[0], np.arange(-14, 14.5) + plate[1])
            facet = _lateral_facet(u, y) if plate[0] > 0 else _medial_facet(u, y)
            surface = Points(u, y, facet)
            levels.append(_seat(partial(self._clearance, surface), gap, -20.0, 5.0))
        return levels[0], levels[1]

    def _clearance(self, surface: Points, shift_z: float) -> float:
        return float(self.femur(surface.shifted(z=shift_z)).min())

    def tibia(self, points: Points) -> Field:
        """Plateau, tuberosity and shaft."""
        wide, deep = self.tibial_scale
        local = Points(points.u / np.float32(wide), points.y / np.float32(deep), points.z)
        field = _TIBIAL_SHAFT(local)
        bulge = ellipsoid(local, (5, 11, -38), (11, 9, 16))
        field = smooth_union(field, bulge, 9.0)
        field = smooth_union(field, ellipsoid(local, (25, 4, -15), (10, 10, 9)), 5.0)
        field = smooth_difference(field, ellipsoid(local, (0, -38, -6), (9, 9, 22)), 6.0)
        return smooth_intersection(field, points.z - self.plateau(points.u, points.y), 3.5)

    def fibula(self, points: Points) -> Field:
        """Head and shaft, behind and lateral."""
        wide, deep = self.tibial_scale
        local = Points(points.u / np.float32(wide), points.y / np.float32(deep), points.z)
        styloid = ellipsoid(local, (36, -33, -12), (6, 5.5, 6))
        return smooth_union(_FIBULAR_SHAFT(local, 8.0), styloid, 5.0)

    @cached_property
    def patella_centre(self) -> Vector:
        """Position of the patella's ridge, resting on the trochlea with the cartilage's room between."""
        height = 35.0
        u, z = _patch(np.arange(-16, 16.5), np.arange(-10, 6.5))
        facet = Points(u, self._facet(u, z), z + np.float32(height))
        start = 60.0
        back = _seat(lambda t: float(self.femur(facet.shifted(y=start - t)).min()), self.patellar_gap, 0.0, 50.0)
        return 1.0, start - back, height

    def _facet(self, u: Field, z: Field) -> Field:
        """Depth of the articular side against its ridge: two facets, curved a little from top to bottom."""
        ridge = np.sqrt(np.where(u > 0, 0.38 * u, 0.34 * u) ** 2 + 1.0) - 1.0
        return np.asarray(ridge + 0.004 * (z - 3.0) ** 2, dtype=np.float32)

    def patella(self, points: Points) -> Field:
        """A rounded triangle with its tip below, domed in front, with two facets behind."""
        half_width, half_height, thickness = self.patella_half
        ridge_u, ridge_y, middle = self.patella_centre
        u, y, z = points.u - np.float32(ridge_u), points.y - np.float32(ridge_y), points.z - np.float32(middle)
        level = z / np.float32(half_height)
        width = np.float32(half_width) * (1.0 - np.float32(0.42) * ramp(level, 0.15, -1.1))
        k0 = np.sqrt((u / width) ** 2 + np.abs(level) ** 2.4)
        outline = (k0 - 1) * np.float32(min(half_width, half_height) * 0.95)
        behind = (self._facet(u, z) - y) * np.float32(0.92) + 2.5 * ramp(level, -0.35, -0.9)
        dome = np.float32(thickness) - np.float32(0.012) * u**2 - np.float32(0.016) * (z - 3) ** 2
        front = y - dome
        field = smooth_intersection(np.asarray(outline, dtype=np.float32), np.asarray(behind), 5.0)
        return smooth_intersection(field, np.asarray(front), 7.0)


def _medial_facet(u: Field, y: Field) -> Field:
    """Height of the medial plateau against its level: a shallow dish that slopes backwards by 5 degrees."""
    back = y + np.float32(9)
    return np.asarray(np.float32(0.006) * (u + np.float32(21.5)) ** 2 + np.float32(0.002) * back**2 + _SLOPE * back)


def _lateral_facet(u: Field, y: Field) -> Field:
    """Height of the lateral plateau against its level: domed from front to back."""
    back = y + np.float32(9)
    return np.asarray(np.float32(0.005) * (u - np.float32(21.5)) ** 2 - np.float32(0.0025) * back**2 + _SLOPE * back)


def _patch(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[Field, Field]:
    """All pairs of two rows of coordinates, flat."""
    a, b = np.meshgrid(first, second)
    return a.astype(np.float32).ravel(), b.astype(np.float32).ravel()


def _bump(u: Field, y: Field, width: float, depth: float) -> Field:
    return np.asarray(np.exp(-((u / np.float32(width)) ** 2) - (y / np.float32(depth)) ** 2))


def _seat(clearance: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The position where a falling `clearance` equals `wanted`, by bisection."""
    for _ in range(24):
        middle = (low + high) / 2
        if clearance(middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
