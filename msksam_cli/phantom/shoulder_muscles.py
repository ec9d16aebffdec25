"""Muscles, chest, vessels and outline of the template shoulder, as fields at points.

Names of frames are those of `shoulder_bones`. Lofts with their long axis along the scapula have rows (position along
the blade, centre in front of it, centre height, half thickness, half height).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import (
    Field,
    Points,
    Vector,
    band,
    loft,
    ramp,
    smooth_intersection,
    smooth_union,
)
from msksam_cli.phantom.shoulder_bones import Frames

SKIN_MM = 1.8
_MIDLINE_MM = -180.0
_CHEST_WALL_MM = 13.0
_FAR_OUTSIDE_MM = 30.0

_TORSO = loft(
    [
        (-220, -180, -8, 142, 92),
        (-140, -180, -8, 145, 91),
        (-100, -180, -9, 150, 90),
        (-60, -180, -10, 160, 88),
        (-20, -180, -10, 168, 86),
        (20, -180, -11, 172, 82),
        (60, -180, -14, 165, 70),
        (140, -180, -20, 120, 60),
    ]
)
_ARM = loft(
    [
        (-200, 6, 0, 35, 38),
        (-110, 7, 0, 37, 40),
        (-60, 7, 0, 39, 43),
        (-30, 6, -1, 40, 44),
        (0, 4, -2, 41, 44),
        (25, 0, -3, 38, 41),
        (42, -3, -4, 29, 34),
        (56, -8, -4, 14, 18),
    ],
    ceiling_mm=54,
)
_RIBS = loft(
    [
        (-220, -175, 4, 130, 88),
        (-140, -175, 3, 129, 84),
        (-100, -175, 1, 126, 80),
        (-60, -175, -3, 119, 73),
        (-20, -175, -8, 109, 64),
        (20, -175, -14, 92, 54),
        (50, -175, -20, 70, 44),
        (75, -175, -24, 46, 32),
        (90, -175, -26, 22, 18),
    ],
    ceiling_mm=86,
)
_SUPRASPINATUS = loft(
    [
        (-124, -5, 20, 4, 6),
        (-104, -10, 27, 12, 13),
        (-70, -10, 30, 15, 15),
        (-48, -8, 31, 14, 12.5),
        (-30, -5, 31, 11.5, 8.5),
        (-14, -2, 30, 10, 5),
        (-2, -1, 29, 8.5, 2.5),
    ],
    floor_mm=-123,
    ceiling_mm=-6,
)
_INFRASPINATUS = loft(
    [
        (-125, -5, -22, 4, 22),
        (-104, -11, -28, 12, 36),
        (-75, -14, -24, 15, 32),
        (-50, -16, -13, 15.5, 25),
        (-30, -20.5, -3, 12, 18),
        (-12, -25.5, 2, 7.5, 13),
        (2, -28.5, 4, 4.8, 11),
        (14, -25.5, 6, 3.2, 8),
    ],
    floor_mm=-123,
    ceiling_mm=15,
)
_SUBSCAPULARIS = loft(
    [
        (-123, 3, -20, 3.5, 26),
        (-100, 9, -30, 9.5, 45),
        (-70, 13, -24, 13, 40),
        (-48, 14, -14, 14, 31),
        (-30, 17, -6, 12, 23),
        (-14, 24, -3, 7, 18),
        (-2, 29, -2, 4.5, 15),
        (9, 28.5, -2, 3.2, 11),
    ],
    floor_mm=-120,
    ceiling_mm=10,
)
_BICEPS_AND_CORACOBRACHIALIS = loft(
    [
        (-200, 12, 20, 24, 20),
        (-110, 9, 21, 20, 16),
        (-70, 3, 24, 12, 10),
        (-30, -6, 28, 7, 6),
        (8, -14, 32, 4, 4),
    ],
    ceiling_mm=10,
)
_TRICEPS = loft(
    [
        (-200, 9, -20, 30, 22),
        (-110, 5, -24, 26, 17),
        (-70, -2, -24, 18, 11),
        (-40, -12, -20, 10, 8),
        (-22, -24, -15, 4, 4),
    ],
    ceiling_mm=-20,
)
_BACK_FOLD: tuple[Vector, ...] = ((-92, -56, -112), (-48, -40, -66), (-2, -27, -26))


@dataclass(frozen=True)
class Muscles:
    """Soft tissues round the bones.

    Attributes:
        fat_thickness: of subcutaneous fat, template mm.
        muscle_bulk: factor on the girth of muscles.
        acromion_height: of the acromion's middle above the head's centre, template mm.
        tear: how far the supraspinatus muscle is drawn back, template mm.
    """

    fat_thickness: float = 7.0
    muscle_bulk: float = 1.0
    acromion_height: float = 37.0
    tear: float = 0.0

    def reaches(self, frames: Frames) -> bool:
        """Whether any of the points can lie in the body."""
        return bool((self.fascia(frames) < self.fat_thickness + _FAR_OUTSIDE_MM).any())

    def fascia(self, frames: Frames) -> Field:
        """Field of the body inside its subcutaneous fat: trunk, slope of the neck, shoulder and arm."""
        body = frames.body
        grown = np.float32(14 * (self.muscle_bulk - 1))
        slope = (body.z - np.float32(self.acromion_height + 12) + np.float32(0.4) * body.u) * np.float32(0.928)
        trunk = smooth_intersection(_TORSO(body), np.asarray(slope), 22.0)
        outline = smooth_union(trunk, _ARM(frames.arm, 14.0), 24.0)
        return np.asarray(smooth_union(outline, band(body, _BACK_FOLD, (0, -0.5, 1), 24.0, 13.0), 18.0) - grown)

    def fat(self, body: Points) -> Field:
        """Thickness of subcutaneous fat: thin over the acromion, thicker below and on the trunk."""
        top = ramp(body.z, 10.0, 45.0) * ramp(np.abs(body.u), 70.0, 30.0)
        return np.asarray(np.float32(self.fat_thickness) * (1 - 0.45 * top))

    def skin(self, body: Points) -> Field:
        """Thickness of the skin along the field, which is steeper than a distance on the top of the shoulder."""
        return np.asarray(np.float32(SKIN_MM) * (1 + 0.6 * ramp(body.z, 15.0, 40.0)))

    def ribs(self, body: Points) -> Field:
        """Field of the rib cage's outside."""
        return _RIBS(body)

    def chest_wall(self, body: Points, ribs: Field) -> Field:
        """Field of the rib cage with serratus anterior and the back's muscles on it."""
        beside = ramp(body.z, 45.0, -20.0) * ramp(body.y, 30.0, 0.0)
        return np.asarray(ribs - np.float32(7 * self.muscle_bulk) * beside)

    def lung(self, body: Points, ribs: Field) -> Field:
        """Field of the lung: inside the chest wall, beside the mediastinum."""
        return np.asarray(np.maximum(ribs + np.float32(_CHEST_WALL_MM), np.float32(_MIDLINE_MM + 32) - body.u))

    def rib_marrow(self, body: Points, ribs: Field) -> Field:
        """Field of the ribs inside the wall, which slope down towards the front."""
        phase = (body.z + np.float32(0.35) * body.y) * np.float32(2 * np.pi / 26)
        height = np.float32(26 / (2 * np.pi)) * np.arccos(np.clip(np.cos(phase), -1, 1))
        return np.asarray(np.hypot(height / 5.0, (ribs + np.float32(7.5)) / 3.2) - 1)

    def outer_layers(self, frames: Frames, fascia: Field) -> list[tuple[int, Field]]:
        """(tissue, field) of trapezius, pectoralis major and deltoid, later ones on top."""
        body = frames.body
        inside = np.asarray(fascia + np.float32(0.6))
        found = []
        for tissue, domain, thickness in (
            (tissues.TRAPEZIUS, self._trapezius_domain(body), self._trapezius_thickness(body)),
            (tissues.PECTORALIS_MAJOR, _pectoral_domain(body), np.float32(17 * self.muscle_bulk)),
            (tissues.DELTOID, self._deltoid_domain(body), self._deltoid_thickness(body)),
        ):
            layer = np.maximum(inside, -fascia - thickness)
            found.append((tissue, np.asarray(smooth_intersection(np.asarray(layer), domain, 9.0))))
        tendon: list[Vector] = [(-62, 48, -44), (-28, 36, -50), (2, 25, -54), (13, 17, -56)]
        belly = band(body, tendon, (0, 0, 1), 20.0, 5.5)
        found[1] = (tissues.PECTORALIS_MAJOR, np.maximum(smooth_union(found[1][1], belly, 6.0), inside))
        return found

    def _trapezius_thickness(self, body: Points) -> Field:
        return np.asarray(np.float32(9 * self.muscle_bulk) + 9 * ramp(body.z - 0.3 * body.u, 35.0, 75.0))

    def _trapezius_domain(self, body: Points) -> Field:
        above = np.maximum(np.float32(18) - body.z + np.float32(0.5) * (body.u + 40), body.y - np.float32(4))
        below = np.maximum(body.u + np.float32(96) - np.float32(0.25) * body.z, body.y + np.float32(20))
        return np.asarray(np.minimum(np.maximum(above, body.u + np.float32(18)), below))

    def _deltoid_domain(self, body: Points) -> Field:
        front = np.float32(-20) - np.float32(0.28) * body.z
        behind = np.float32(-40) - np.float32(0.55) * body.z
        border = behind + (front - behind) * ramp(body.y, -16.0, 18.0)
        border = np.maximum(border, np.float32(-26) + 26 * ramp(np.abs(body.y + 4), 46.0, 20.0))
        lower = np.float32(-112) - body.z
        upper = body.z - np.float32(self.acromion_height - 1)
        return np.asarray(np.maximum(np.maximum((border - body.u) * np.float32(0.9), lower), upper))

    def _deltoid_thickness(self, body: Points) -> Field:
        waist = ramp(body.z, 12.0, -35.0) * ramp(body.u, 2.0, 24.0)
        return np.asarray(np.float32(self.muscle_bulk) * (15 + 12 * waist) * (1 - 0.6 * ramp(body.z, -60.0, -115.0)))

    def deep_muscles(self, frames: Frames, flat: Points, fascia: Field, ribs: Field) -> list[tuple[int, Field]]:
        """(tissue, field) of the muscles below the outer layer, later ones on top."""
        body = frames.body
        inside = np.asarray(np.maximum(fascia + np.float32(1.5), np.float32(1.0) - ribs))
        minor: list[Vector] = [(-14, 30, 16), (-45, 36, -12), (-80, 48, -60), (-100, 60, -90)]
        major: list[Vector] = [(-78, -58, -112), (-52, -40, -96), (-20, -6, -68), (0, 10, -58)]
        lesser: list[Vector] = [(-80, -9, -92), (-48, -16, -48), (-16, -28, -21), (10, -25, -9)]
        thicker = np.float32(10 * (self.muscle_bulk - 1))
        drawn = Points(flat.u + np.float32(0.6 * self.tear), flat.y, flat.z)
        found = [
            (tissues.CHEST_WALL, band(body, minor, (1, 0, 1), 13.0, 4.5)),
            (tissues.TERES_MAJOR, band(body, major, (0, -0.5, 1), 15.0, 9.0)),
            (tissues.ARM_MUSCLES, np.minimum(_BICEPS_AND_CORACOBRACHIALIS(frames.arm, 4.0), _TRICEPS(frames.arm, 4.0))),
            (tissues.SUBSCAPULARIS, _SUBSCAPULARIS(_lengthwise(flat), 3.0)),
            (tissues.INFRASPINATUS, _INFRASPINATUS(_lengthwise(flat), 3.0)),
            (tissues.TERES_MINOR, band(flat, lesser, (0, -0.5, 1), 10.0, 7.0)),
            (tissues.SUPRASPINATUS, _SUPRASPINATUS(_lengthwise(drawn), 3.0)),
        ]
        return [(tissue, np.maximum(field - thicker, inside)) for tissue, field in found]

    def vessels(self, body: Points) -> Field:
        """Axillary artery and vein with the plexus between chest and arm."""
        artery: list[Vector] = [(-125, 24, 46), (-72, 17, 20), (-38, 12, -12), (-22, 6, -48), (-8, 0, -130)]
        vein: list[Vector] = [(-125, 32, 36), (-72, 24, 10), (-42, 16, -24), (-29, 4, -56), (-15, -4, -130)]
        return np.minimum(band(body, artery, (1, 0, 0), 3.6, 3.6), band(body, vein, (1, 0, 0), 5.0, 4.0))


def _lengthwise(flat: Points) -> Points:
    """Points with the scapula's long direction as a loft's axis."""
    return Points(flat.y, flat.z, flat.u)


def _pectoral_domain(body: Points) -> Field:
    beside = body.u + np.float32(24) + np.float32(0.28) * body.z
    below = body.z - np.float32(30) - np.float32(0.1) * body.u
    return np.asarray(np.maximum(np.maximum(beside, below), np.float32(14) - body.y))
