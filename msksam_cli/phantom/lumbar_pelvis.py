"""The iliac wings beside the sacrum with the muscles on both of their faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Points, ramp, smooth_intersection

_BACK_END, _FRONT_END = (44.0, -44.0), (116.0, 60.0)
_BOW_MM = 7.0
_CREST_MM, _ENDS_MM = 68.0, -10.0
_INWARDS = 0.24
_NOTCH_MM = -62.0
_ILIACUS_MM, _MEDIUS_MM, _MAXIMUS_MM = 13.0, 20.0, 24.0
_MAXIMUS_PART = 0.38


@dataclass(frozen=True)
class Pelvis:
    """Both iliac wings, mirror images of each other.

    Attributes:
        y: of the middle of S1 in mm.
        z: of the middle of S1 in mm.
        scale: size relative to the mean.
        widest_mm: furthest that a wing may reach from the midline.
    """

    y: float
    z: float
    scale: float
    widest_mm: float

    @property
    def highest_mm(self) -> float:
        """No part of the pelvis lies above."""
        return self.z + (_CREST_MM + 5) * self.scale

    def bone(self, points: Points) -> Field:
        """Field of the wings: thick at the sacrum and the crest, thin between."""
        part, off, below = self._place(points)
        thick = 3.2 + 6.0 * ramp(part, 0.3, 0.0) + 3.0 * ramp(below, 14.0, 3.0)
        ends = np.maximum(-part, part - 1) * np.float32(120 * self.scale)
        notch = np.where(part < 0.36, np.float32(self.z + _NOTCH_MM * self.scale) - points.z, np.float32(-50))
        return smooth_intersection(np.abs(off) - thick, np.maximum(np.maximum(ends, -below), notch), 3.0)

    def outside(self, points: Points) -> NDArray[np.bool_]:
        """Where the abdominal wall has ended: beside and behind the wings."""
        if points.z.size == 0 or points.z.min() > self.highest_mm:
            return np.zeros(points.u.shape, dtype=bool)
        part, off, below = self._place(points)
        return np.asarray((off > 0) & (below > -3) & (part < 0.97))

    def muscles(self, points: Points) -> list[tuple[int, Field]]:
        """Iliacus inside the wings, the glutei outside; to be painted before the bone."""
        if points.z.size == 0 or points.z.min() > self.highest_mm:
            return []
        part, off, below = self._place(points)
        room = np.clip(below * np.float32(0.45), 0, 1e3)
        ends = np.maximum(0.02 - part, part - 0.98) * np.float32(120 * self.scale)
        medius = np.maximum(np.maximum(off - np.minimum(room, np.float32(_MEDIUS_MM)), -off), ends)
        maximus = np.maximum(np.maximum(off - np.minimum(room, np.float32(_MAXIMUS_MM)), -off - 8), ends)
        behind = (part - np.float32(_MAXIMUS_PART)) * np.float32(120)
        iliacus = np.maximum(np.maximum(-off - np.minimum(room, np.float32(_ILIACUS_MM)), off), ends)
        iliacus = np.maximum(iliacus, (0.3 - part) * np.float32(120))
        return [
            (tissues.ILIOPSOAS, np.asarray(iliacus)),
            (tissues.GLUTEUS_MEDIUS, np.asarray(np.maximum(medius, -behind))),
            (tissues.GLUTEUS_MAXIMUS, np.asarray(np.maximum(maximus, behind))),
        ]

    def _place(self, points: Points) -> tuple[Field, Field, Field]:
        """Part of the way from the back end to the front, mm outwards of the wing's middle, mm below the crest."""
        start, end = np.array(_BACK_END) * self.scale, np.array(_FRONT_END) * self.scale
        end[0] = min(end[0], self.widest_mm)
        along = (end - start) / np.linalg.norm(end - start)
        height = points.z - np.float32(self.z)
        u = np.abs(points.u) - np.float32(start[0]) - np.float32(_INWARDS) * np.minimum(height, 0)
        y = points.y - np.float32(self.y + start[1])
        part = (u * np.float32(along[0]) + y * np.float32(along[1])) * np.float32(1 / np.linalg.norm(end - start))
        arch = np.maximum(np.sin(np.pi * np.clip(part, 0, 1)), 0)
        off = u * np.float32(along[1]) - y * np.float32(along[0]) - np.float32(_BOW_MM) * arch
        crest = np.float32(self.scale) * (_ENDS_MM + (_CREST_MM - _ENDS_MM) * np.sqrt(arch))
        return np.asarray(part), np.asarray(off), np.asarray(crest - height)
