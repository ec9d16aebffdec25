"""Tubes along the column: where muscles, vessels, canal and the trunk's outline run, and how thick they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from msksam_cli.phantom.fields import Loft, loft
from msksam_cli.phantom.lumbar_bones import spinous_tip
from msksam_cli.phantom.lumbar_column import Column
from msksam_cli.phantom.lumbar_shape import LumbarShape

WALL_MM = 13.0
_OVER_BONE_MM = 11.0
_SAC = (0.82, 0.86, 0.14, 8.4)

Knot = tuple[float, float, float, float, float]
"""Level (2 is the middle of L1, 7 that of S1), u, y from the column's midline, half width and half depth in mm."""

_PSOAS: tuple[Knot, ...] = (
    (1.3, 23, -8, 3, 5),
    (2.0, 26, -8, 7, 9),
    (3.0, 30, -6, 11, 14),
    (4.0, 34, -2, 15, 18),
    (5.0, 38, 3, 18, 21),
    (6.0, 45, 13, 19, 22),
    (7.0, 54, 30, 19, 20),
    (8.0, 61, 46, 18, 19),
    (9.0, 66, 56, 17, 18),
)
_QUADRATUS: tuple[Knot, ...] = (
    (1.6, 40, -27, 8, 4),
    (2.2, 44, -27, 14, 6),
    (3.0, 51, -26, 19, 8),
    (4.0, 57, -24, 22, 10),
    (5.0, 61, -22, 22, 11),
    (5.7, 65, -22, 18, 9),
    (6.1, 68, -22, 11, 5),
)
_MULTIFIDUS: tuple[Knot, ...] = (
    (-2.5, 7.5, -46, 8, 10),
    (0.0, 8, -46, 8.5, 11),
    (2.0, 9.5, -48, 10, 14),
    (3.0, 11, -50, 11.5, 16.5),
    (4.0, 13, -52, 13.5, 18.5),
    (5.0, 15.5, -53, 16, 19.5),
    (6.0, 18.5, -52, 19, 20),
    (7.0, 19.5, -49, 20, 19),
    (8.0, 16.5, -45, 17, 14),
    (9.0, 11.5, -38, 11, 8),
    (9.7, 8, -32, 4, 3),
)
_INTERSPINOUS: tuple[Knot, ...] = (
    (-2.5, 0, -47, 5, 14),
    (2.0, 0, -49, 6, 17),
    (4.0, 0, -51, 7, 19),
    (6.0, 0, -50, 7, 17),
    (7.0, 0, -46, 6, 10),
)
_ERECTOR: tuple[Knot, ...] = (
    (-2.5, 29, -45, 22, 15),
    (0.0, 30, -46, 24, 17),
    (1.0, 32, -47, 26, 18.5),
    (2.0, 35, -48, 29, 20),
    (3.0, 39, -48, 31, 21),
    (4.0, 43, -48, 31, 21),
    (5.0, 46, -49, 28, 20),
    (6.0, 47, -52, 21, 17),
    (7.0, 44, -54, 14, 12),
    (8.0, 37, -52, 7, 7),
    (8.6, 32, -50, 2, 2),
)
_AORTA: tuple[Knot, ...] = (
    (-2.5, -12, 25, 10.5, 10.5),
    (1.0, -8, 27, 10, 10),
    (3.0, -8, 28, 9, 9),
    (4.6, -6, 29, 8, 8),
    (5.2, 0, 29, 8.5, 6.5),
)
_CAVA: tuple[Knot, ...] = (
    (-2.5, 28, 40, 13, 11),
    (1.0, 19, 30, 12.5, 9.5),
    (3.0, 15, 26, 12, 8.5),
    (4.8, 12, 26, 11, 7.5),
    (5.5, 5, 25, 12, 6.5),
)
_ILIAC_ARTERY: tuple[Knot, ...] = ((5.0, 4, 29, 5, 6), (5.6, 11, 32, 5, 5.5), (6.5, 25, 38, 5, 5), (9.0, 52, 62, 5, 5))
_ILIAC_VEIN: tuple[Knot, ...] = ((5.3, 6, 25, 7, 6), (6.0, 15, 26, 6.5, 5.5), (7.0, 30, 34, 6, 6), (9.0, 50, 54, 6, 6))
_BACK: tuple[tuple[float, float], ...] = (
    (-1.5, 63),
    (0.0, 64),
    (2.0, 68),
    (4.0, 70),
    (6.0, 70),
    (7.0, 66),
    (8.0, 60),
    (9.0, 52),
    (10.0, 50),
)


@dataclass(frozen=True, eq=False)
class Tubes:
    """The tubes of one spine; places are in mm, u to the patient's right.

    Attributes:
        shape: dimensions.
        column: what the tubes run along.
    """

    shape: LumbarShape
    column: Column

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """(n, 4) level, y, z, tilt along the column, continued beyond both ends."""
        rows = np.array(self.column.midline())
        first, last = rows[0], rows[-1]
        above = [(first[0] - 2, *(2 * first[1:3] - rows[2, 1:3]), first[3])]
        below = [(last[0] + 2, last[1] + 20, last[2] - 30, last[3])]
        return np.vstack([above, rows, below])

    def _place(self, level: float) -> tuple[float, float, float]:
        """y, z and tilt (degrees) of the column's midline at a level."""
        y, z, tilt = (float(np.interp(level, self.levels[:, 0], self.levels[:, c])) for c in (1, 2, 3))
        return y, z, tilt

    def _tube(self, knots: Sequence[Knot], girth: float = 1.0, closed: tuple[bool, bool] = (True, True)) -> Loft:
        """A tube along the column; closed above and below where asked."""
        wide = self.shape.body_width_mm / 46.5
        deep = self.shape.body_depth_mm / 34.5
        rows = []
        for level, u, dy, a, b in knots:
            y, z, _ = self._place(level)
            rows.append((z, u * wide, y + dy * deep, a * wide * girth, b * deep * girth))
        top, bottom = rows[0][0], rows[-1][0]
        return loft(rows, bottom if closed[1] else -1e4, top if closed[0] else 1e4)

    @cached_property
    def by_name(self) -> dict[str, Loft]:
        """Muscles of the right side, vessels, canal, dural sac and cord."""
        bulk = float(np.sqrt(self.shape.muscle_bulk))
        return {
            "psoas": self._tube(_PSOAS, bulk, (True, False)),
            "quadratus": self._tube(_QUADRATUS, bulk),
            "multifidus": self._tube(_MULTIFIDUS, bulk, (False, True)),
            "interspinous": self._tube(_INTERSPINOUS, 1.0, (False, True)),
            "erector": self._tube(_ERECTOR, bulk, (False, True)),
            "aorta": self._tube(_AORTA, 1.0, (False, True)),
            "cava": self._tube(_CAVA, 1.0, (False, True)),
            "iliac artery": self._tube(_ILIAC_ARTERY, 1.0, (True, False)),
            "iliac vein": self._tube(_ILIAC_VEIN, 1.0, (True, False)),
            "canal": self._canal_tube(1.0, 1.0, 0.0, 10.0),
            "sac": self._canal_tube(*_SAC),
            "cord": self._cord(),
        }

    def _canal_tube(self, wide: float, deep: float, forward: float, end: float) -> Loft:
        """A tube through the bony canal, a fraction of its width and depth, moved forwards by a fraction."""
        rows = []
        for level in np.arange(-1.5, end + 0.01, 0.25):
            y, z, tilt = self._place(float(level))
            narrow = float(np.interp(level, (6.0, 8.0, 10.0), (1.0, 0.7, 0.35)))
            taper = float(np.interp(level, (end - 1.2, end), (1.0, 0.35)))
            half_depth = self.shape.canal_depth_mm / 2 * narrow
            wall = float(np.interp(level, (0.0, 4.0, 6.0, 7.0, 8.0, 10.0), (0.47, 0.5, 0.5, 0.47, 0.37, 0.22)))
            back = wall * self.shape.body_depth_mm + half_depth * (1 - 2 * forward)
            turn = np.radians(tilt)
            centre = (y - np.cos(turn) * back, z - np.sin(turn) * back)
            half_width = self.shape.canal_width_mm / 2 * float(np.interp(level, (0, 4, 6, 8), (0.8, 1.0, 1.1, 0.9)))
            steep = max(float(np.cos(turn)), 0.5)
            rows.append((centre[1], 0.0, centre[0], half_width * wide * taper, half_depth * deep * taper / steep))
        falling = [row for index, row in enumerate(rows) if index == 0 or row[0] < min(r[0] for r in rows[:index])]
        return loft(falling, falling[-1][0], 1e4)

    def _cord(self) -> Loft:
        sac = self._canal_tube(*_SAC).table
        end = self._place(self.shape.conus_level)[1]
        heights = (end, end + 8, end + 30, end + 60, end + 200)
        sizes = ((0.8, 0.8), (2.4, 2.2), (4.6, 3.9), (4.6, 3.7), (4.3, 3.4))
        rows = []
        for z, (a, b) in zip(heights, sizes, strict=True):
            y = float(np.interp(z, sac[:, 0], sac[:, 2]))
            rows.append((z, 0.0, y - 0.5, a, b))
        return loft(rows, end, 1e4)

    @cached_property
    def _tips(self) -> NDArray[np.float64]:
        """(n, 2) y and z of the spinous processes' ends from below."""
        tips = [
            frame.world(*spinous_tip(size, level, self.shape.canal_depth_mm))
            for level, (frame, size) in enumerate(self.column.bodies)
        ]
        return np.array(tips[::-1])

    @cached_property
    def trunk(self) -> Loft:
        """The outline of the trunk."""
        rows = []
        fat = self.shape.fat_thickness_mm
        for level, back in _BACK:
            y, z, _ = self._place(level)
            lower = 1.6 - 0.6 * float(np.interp(z, (-110.0, 0.0), (0.0, 1.0)))
            front = float(np.interp(level, (-1.5, 4.0, 9.0), (8.0, 0.0, -6.0))) + self.shape.torso_depth_mm
            front += self.shape.body_depth_mm / 2 + 0.55 * fat + WALL_MM - y * 0.6
            behind = back * self.shape.body_depth_mm / 34.5 + fat * lower
            behind = max(behind, y - float(np.interp(z, self._tips[:, 1], self._tips[:, 0])) + _OVER_BONE_MM)
            half_width = self.shape.torso_width_mm / 2 + fat * 0.8 + float(np.interp(level, (5, 8), (0.0, 18.0)))
            rows.append((z, 0.0, y + (front - behind) / 2, half_width, (front + behind) / 2))
        return loft(rows)
