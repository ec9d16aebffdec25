"""Skin, fat, muscles, vessels, organs and the canal of the trunk as fields at points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Points, ellipsoid, ramp
from msksam_cli.phantom.lumbar_shape import LumbarShape
from msksam_cli.phantom.lumbar_tubes import WALL_MM, Tubes

SKIN_MM = 2.6
_FAT_PAINTED = 0.5
_SEPTUM_MM = 0.8
_STREAKS, _STREAK_MM = 12, ((3.0, 8.0), (20.0, 90.0))
_BOWEL_WAVES, _BOWEL_MM = 10, (38.0, 85.0)


@dataclass(frozen=True, eq=False)
class TorsoTissues:
    """The soft parts of one spine; places are in mm, u to the patient's right.

    Attributes:
        shape: dimensions.
        tubes: what lies along the column.
    """

    shape: LumbarShape
    tubes: Tubes

    def skin(self, points: Points) -> Field:
        """Field of the trunk; about a distance near the surface of the back."""
        furrow = np.float32(5.0) * np.exp(-((points.u / np.float32(22.0)) ** 2))
        return self.tubes.trunk(Points(points.u, points.y - furrow * (points.y < -40), points.z), 1.0)

    def fat_mm(self, points: Points) -> Field:
        """Thickness of the subcutaneous fat: thick over the lower back, thinner towards the front."""
        base = np.float32(self.shape.fat_thickness_mm)
        lower = 1.6 - 0.6 * ramp(points.z, -110.0, 0.0)
        return np.asarray(base * (0.55 + 0.45 * ramp(points.y, 20.0, -50.0)) * lower)

    def wall(self, points: Points, fascia: Field) -> NDArray[np.bool_]:
        """The muscles of the abdominal wall, in front of quadratus lumborum."""
        side = self._ahead(points) > -22
        return np.asarray((fascia < 0) & (fascia > -WALL_MM) & side)

    def muscles(self, points: Points, fascia: Field) -> list[tuple[int, int, Field]]:
        """(left tissue, right tissue, field) of each pair of muscles, each to be painted over the ones before."""
        half = Points(np.abs(points.u), points.y, points.z)
        quadratus, psoas = self.tubes.by_name["quadratus"](half), self.tubes.by_name["psoas"](half)
        erector = np.maximum(self.tubes.by_name["erector"](half, 3.0), fascia)
        multifidus = self.tubes.by_name["multifidus"](half, 3.0)
        between = np.maximum(self.tubes.by_name["interspinous"](half, 3.0), np.float32(_SEPTUM_MM) - half.u)
        multifidus = np.maximum(np.minimum(multifidus, between), fascia)
        return [
            (tissues.LEFT_QUADRATUS_LUMBORUM, tissues.RIGHT_QUADRATUS_LUMBORUM, quadratus),
            (tissues.LEFT_PSOAS, tissues.RIGHT_PSOAS, psoas),
            (tissues.LEFT_ERECTOR_SPINAE, tissues.RIGHT_ERECTOR_SPINAE, erector),
            (tissues.LEFT_MULTIFIDUS, tissues.RIGHT_MULTIFIDUS, multifidus),
        ]

    def vessels(self, points: Points) -> list[tuple[int, Field]]:
        """Aorta and vena cava, each with the two iliac branches."""
        half = Points(np.abs(points.u), points.y, points.z)
        tubes = self.tubes.by_name
        return [
            (tissues.VENA_CAVA, np.minimum(tubes["cava"](points, 1.0), tubes["iliac vein"](half, 1.0))),
            (tissues.AORTA, np.minimum(tubes["aorta"](points, 1.0), tubes["iliac artery"](half, 1.0))),
        ]

    def canal(self, points: Points) -> list[tuple[int, Field]]:
        """Bony canal with its fat, dural sac and cord, to be painted in this order."""
        return [
            (tissues.EPIDURAL_FAT, self.tubes.by_name["canal"](points, 1.0)),
            (tissues.SPINAL_CANAL, self.tubes.by_name["sac"](points, 3.0)),
            (tissues.SPINAL_CORD, self.tubes.by_name["cord"](points, 3.0)),
        ]

    def organs(self, points: Points, fascia: Field) -> Field:
        """Field of bowel loops and kidneys, negative inside; `fascia` is the field below subcutaneous fat."""
        swing = np.zeros(points.u.shape, dtype=np.float32)
        for wave in self._bowel:
            swing += np.sin(wave[0] * points.u + wave[1] * points.y + wave[2] * points.z + wave[3])
        cavity = np.maximum(fascia + np.float32(WALL_MM + 3), np.float32(38.0) - self._ahead(points))
        bowel = np.maximum(cavity, np.float32(5.0) * (np.float32(1.0) - np.abs(swing)))
        half = Points(np.abs(points.u), points.y, points.z)
        kidney = ellipsoid(half, (62.0, 4.0, 42.0), (25.0, 22.0, 52.0), 12.0)
        return np.asarray(np.minimum(bowel, kidney))

    def _ahead(self, points: Points) -> Field:
        """How far in front of the column's midline, less beside it."""
        levels = self.tubes.levels[::-1]
        line = np.interp(points.z, levels[:, 2], levels[:, 1]).astype(np.float32)
        return np.asarray(points.y - line + np.float32(0.7) * np.maximum(np.abs(points.u) - 55, 0))

    def fat_streaks(self, points: Points) -> NDArray[np.bool_]:
        """Where fat lies between the fibres of back muscles; its part grows with `fatty_infiltration`."""
        part = _FAT_PAINTED * self.shape.fatty_infiltration
        if part <= 0:
            return np.zeros(points.u.shape, dtype=bool)
        total = np.zeros(points.u.shape, dtype=np.float32)
        for wave in self._streaks:
            total += np.sin(wave[0] * points.u + wave[1] * points.y + wave[2] * points.z + wave[3])
        medial = np.float32(0.35) * (1 - ramp(np.abs(points.u), 8.0, 40.0))
        return np.asarray(total / np.sqrt(_STREAKS / 2) + medial > special.ndtri(1 - part))

    @cached_property
    def _bowel(self) -> NDArray[np.float32]:
        return _waves(self.shape.bending_seed + 1, _BOWEL_WAVES, (_BOWEL_MM, _BOWEL_MM))

    @cached_property
    def _streaks(self) -> NDArray[np.float32]:
        return _waves(self.shape.bending_seed + 2, _STREAKS, _STREAK_MM)


def _waves(seed: int, count: int, lengths_mm: tuple[tuple[float, float], tuple[float, float]]) -> NDArray[np.float32]:
    """(count, 4) wave vectors in rad/mm and phases; wave lengths across and along z are drawn between bounds."""
    rng = np.random.default_rng(seed)
    across, along = (2 * np.pi / rng.uniform(*bounds, count) for bounds in lengths_mm)
    angle = rng.uniform(0, 2 * np.pi, count)
    part = rng.uniform(0.3, 1.0, count)
    sign = rng.choice([-1.0, 1.0], count)
    vectors = np.column_stack([across * np.cos(angle) * part, across * np.sin(angle) * part, sign * along])
    return np.column_stack([vectors, rng.uniform(0, 2 * np.pi, count)]).astype(np.float32)
