"""Muscles packed into a limb: tubes with turned elliptical sections that share the space between them.

Each bundle is a tube along z. Where tubes approach or overlap, a point belongs to the tube whose field is lowest, so
that neighbours meet along smooth faces as muscles do; a thin septum stays between them, and what no tube reaches is
left to the fat between muscles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Mask, Points, Vector

_STEP_MM = 0.5
_REACH_MM = 14.0
_STRAPS = (tissues.SARTORIUS, tissues.GRACILIS, tissues.OBTURATOR_INTERNUS, tissues.ADDUCTOR_LONGUS)
_STRAP_SHARE = 0.6
_RIPPLES_MM = (27.0, 48.0)
_TINY = np.float32(1e-4)

Knot = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Box:
    """Bounds of points in mm: the least and the greatest u, y and z."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @classmethod
    def of(cls, points: Points) -> Box:
        """Bounds of at least one point."""
        return cls(
            (float(points.u.min()), float(points.y.min()), float(points.z.min())),
            (float(points.u.max()), float(points.y.max()), float(points.z.max())),
        )

    def near(self, path: Sequence[Vector], reach_mm: float) -> bool:
        """Whether a point in the box can lie within `reach_mm` of a polyline, or of one point."""
        corners = np.asarray(path)
        low, high = corners.min(axis=0) - reach_mm, corners.max(axis=0) + reach_mm
        return bool((low < self.high).all() and (high > self.low).all())


@dataclass(frozen=True, eq=False)
class Bundle:
    """A tube along z with elliptical sections that may be turned.

    Attributes:
        tissue: index in the tissue table.
        table: (n, 7) float32 with columns z, centre u, centre y, half width, half depth in mm, cosine and sine of the
            turn, at equal steps of z; nothing lies beyond its first and last z.
    """

    tissue: int
    table: Field

    def scaled(self, girth: float) -> Bundle:
        """The same tube with half widths and half depths times `girth`."""
        table = self.table.copy()
        table[:, 3:5] *= np.float32(girth)
        return Bundle(self.tissue, table)

    def reaches(self, box: Box, reach_mm: float = _REACH_MM) -> bool:
        """Whether a point in the box can lie within `reach_mm` of the tube."""
        z = self.table[:, 0]
        rows = self.table[(z > box.low[2] - reach_mm) & (z < box.high[2] + reach_mm)]
        if not len(rows):
            return False
        radius = rows[:, 3:5].max(axis=1) + reach_mm
        near = [(rows[:, 1 + c] - radius < box.high[c]) & (rows[:, 1 + c] + radius > box.low[c]) for c in range(2)]
        return bool((near[0] & near[1]).any())

    def __call__(self, points: Points) -> Field:
        """Field of the tube, near a distance in mm; its ends are capped."""
        first, last = self.table[0, 0], self.table[-1, 0]
        rows = np.clip((points.z - first) * np.float32(1 / _STEP_MM) + np.float32(0.5), 0, len(self.table) - 1)
        cu, cy, a, b, cosine, sine = self.table[:, 1:].T[:, rows.astype(np.int32)]
        du, dy = points.u - cu, points.y - cy
        su, sy = (cosine * du + sine * dy) / a, (cosine * dy - sine * du) / b
        k0 = np.sqrt(su**2 + sy**2)
        k1 = np.sqrt((su / a) ** 2 + (sy / b) ** 2)
        side = (k0 - 1) * (k0 + _TINY) / (k1 + _TINY / np.minimum(a, b))
        return np.asarray(np.maximum(side, np.maximum(first - points.z, points.z - last)), dtype=np.float32)


def bundle(tissue: int, knots: Sequence[Knot]) -> Bundle:
    """A tube through knots (z, centre u, centre y, half width, half depth, turn in degrees), monotone cubic in between.

    A positive turn moves the lateral end of the width towards the front.
    """
    rows = np.array(sorted(knots), dtype=np.float64)
    z = np.arange(rows[0, 0], rows[-1, 0] + _STEP_MM / 2, _STEP_MM)
    values = PchipInterpolator(rows[:, 0], rows[:, 1:], axis=0)(np.minimum(z, rows[-1, 0]))
    turn = np.radians(values[:, 4])
    table = np.column_stack([z, values[:, :4], np.cos(turn), np.sin(turn)])
    return Bundle(tissue, np.ascontiguousarray(table, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Packed:
    """Which tube owns each point.

    Attributes:
        tissue: uint8, index of the tube with the lowest field; 0 where no tube is near.
        field: its field in mm, large where no tube is near.
        margin: by how much the next tube's field is above it in mm, about twice the distance to the face between.
    """

    tissue: NDArray[np.uint8]
    field: Field
    margin: Field


def pack(bundles: Iterable[Bundle], points: Points) -> Packed:
    """Give each point to the tube whose field is lowest there."""
    best = np.full(points.u.shape, 1e3, dtype=np.float32)
    second = best.copy()
    tissue = np.zeros(points.u.shape, dtype=np.uint8)
    if not points.u.size:
        return Packed(tissue, best, second)
    box = Box.of(points)
    for tube in bundles:
        if not tube.reaches(box):
            continue
        field = tube(points)
        closer = field < best
        same = tissue == tube.tissue
        second = np.where(closer, np.where(same, second, best), np.where(same, second, np.minimum(second, field)))
        best = np.minimum(best, field)
        tissue[closer] = tube.tissue
    return Packed(tissue, best, np.asarray(second - best))


def rippled(points: Points, size_mm: float, seed: int) -> Points:
    """Points moved by short waves of about `size_mm`, which make the faces between muscles uneven."""
    rng = np.random.default_rng(seed)
    moved = [points.u, points.y]
    for axis, other in ((0, 1), (1, 0)):
        for length in _RIPPLES_MM:
            rate = np.float32(2 * np.pi / (length * rng.uniform(0.8, 1.2)))
            slope, phase = np.float32(rng.normal(0, 0.25)), np.float32(rng.uniform(0, 2 * np.pi))
            swing = np.sin(rate * (points[other] + slope * (points[axis] + points.z)) + phase)
            moved[axis] = moved[axis] + np.float32(size_mm) * swing
    return Points(np.asarray(moved[0]), np.asarray(moved[1]), points.z)


def streaks(points: Points, spacing_mm: float, seed: int, along: float = 0.15) -> Field:
    """A smooth wavy pattern between about -1 and 1 whose zero level runs in sheets along z.

    Args:
        points: where.
        spacing_mm: typical distance between sheets.
        seed: which pattern.
        along: how fast it changes along z compared with across.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(points.u.shape, dtype=np.float32)
    for _ in range(4):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        rate = np.pi / spacing_mm * rng.uniform(0.6, 1.4)
        ku, ky = np.float32(rate * np.cos(angle)), np.float32(rate * np.sin(angle))
        kz = np.float32(rate * along * rng.standard_normal())
        total += np.sin(ku * points.u + ky * points.y + kz * points.z + np.float32(phase))
    return np.asarray(total * np.float32(0.5), dtype=np.float32)


def fills(fill_mm: float) -> Field:
    """How far each tissue, by index, spreads from its tube, (256,) in mm; straps keep their own shape."""
    found = np.full(256, fill_mm, dtype=np.float32)
    found[list(_STRAPS)] *= np.float32(_STRAP_SHARE)
    return found


def inside_muscle(packed: Packed, fill_mm: Field, septum_mm: float) -> Mask:
    """Where muscle lies.

    Args:
        packed: which tube owns each point.
        fill_mm: (256,) how far each tissue spreads from its tube.
        septum_mm: thickness of the septa that stay free between neighbours.
    """
    return np.asarray((packed.field < fill_mm[packed.tissue]) & (packed.margin > np.float32(septum_mm)))
