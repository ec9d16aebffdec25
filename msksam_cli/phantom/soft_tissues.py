"""Ligaments, muscles, fat and skin of the template knee, as fields at points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom import tissues
from msksam_cli.phantom.bones import BoneFields, Bones
from msksam_cli.phantom.fields import Field, Loft, Points, Vector, band, ellipsoid, loft, ramp, smooth_union

SKIN_MM = 1.8
_OVER_BONE_MM = 5.5
_FAR_OUTSIDE_MM = 25.0

_SKIN = loft(
    [
        (-150, -2, -28, 51, 47),
        (-105, -1, -26, 54, 48),
        (-60, 0, -22, 54, 47),
        (-36, 0, -17, 53, 44.5),
        (-12, 0, -9.5, 53, 49.5),
        (10, 0, -3.5, 54, 55.5),
        (35, 0, -1, 56, 59.5),
        (60, 1, -3, 59, 59.5),
        (100, 3, -3, 65, 63),
        (170, 6, -2, 74, 72),
    ]
)

_QUADRICEPS = (
    loft(
        [
            (12, -30, 15, 8, 6),
            (30, -33, 13, 12, 14),
            (48, -33, 11, 17, 22),
            (66, -30, 12, 22, 28),
            (100, -28, 14, 29, 36),
            (170, -28, 16, 33, 42),
        ],
        floor_mm=14,
    ),
    loft(
        [(38, 33, 14, 8, 10), (54, 34, 13, 15, 22), (70, 35, 14, 20, 30), (100, 36, 15, 27, 38), (170, 40, 16, 31, 42)],
        38,
    ),
    loft([(62, 4, 34, 12, 5), (76, 4, 35, 22, 9), (100, 4, 38, 32, 16), (170, 5, 42, 36, 20)], 62),
)
_HAMSTRINGS = (
    loft(
        [
            (-35, -33, -14, 5, 4),
            (-15, -38, -24, 6, 7),
            (10, -37, -32, 10, 13),
            (40, -30, -37, 20, 18),
            (80, -24, -38, 26, 23),
            (170, -21, -38, 31, 26),
        ],
        floor_mm=-32,
    ),
    loft(
        [
            (-12, 39, -30, 3.5, 4),
            (5, 39, -31, 7, 8),
            (30, 35, -34, 14, 15),
            (60, 30, -38, 19, 20),
            (100, 27, -40, 25, 23),
            (170, 23, -39, 29, 26),
        ],
        floor_mm=-10,
    ),
)
_GASTROCNEMIUS = (
    loft(
        [
            (-150, -21, -47, 31, 26),
            (-90, -21, -47, 31, 25),
            (-50, -20, -46, 27, 20),
            (-15, -18, -43, 20, 14),
            (12, -19, -39, 14, 10.5),
            (34, -21, -34, 6, 5),
        ],
        ceiling_mm=34,
    ),
    loft(
        [
            (-150, 21, -47, 30, 25),
            (-90, 21, -47, 29, 24),
            (-50, 20, -46, 26, 19),
            (-15, 18, -43, 19, 13.5),
            (12, 19, -39, 13, 10),
            (34, 21, -34, 6, 5),
        ],
        ceiling_mm=34,
    ),
)
_LEG_MUSCLES = (
    loft([(-150, 26, 2, 24, 24), (-80, 26, 1, 23, 22), (-45, 28, 1, 18, 17), (-26, 31, 3, 8, 8)], ceiling_mm=-24),
    loft(
        [(-150, 44, -18, 14, 19), (-80, 44, -18, 13, 18), (-45, 44, -18, 9, 12), (-30, 44, -18, 5, 7)], ceiling_mm=-28
    ),
    loft(
        [
            (-150, 6, -32, 44, 18),
            (-80, 5, -31, 39, 16),
            (-40, 2, -30, 30, 11),
            (-15, 4, -30, 20, 6.5),
            (-6, 12, -30, 11, 4),
        ],
        ceiling_mm=-4,
    ),
)
_MUSCLES: tuple[tuple[int, tuple[Loft, ...]], ...] = (
    (tissues.LEG_MUSCLES, _LEG_MUSCLES),
    (tissues.GASTROCNEMIUS, _GASTROCNEMIUS),
    (tissues.HAMSTRINGS, _HAMSTRINGS),
    (tissues.QUADRICEPS, _QUADRICEPS),
)


@dataclass(frozen=True)
class SoftTissues:
    """Soft tissues round the bones.

    Attributes:
        bones: whose surfaces the tissues follow.
        fat_thickness: of subcutaneous fat, template mm.
        muscle_bulk: factor on the girth of muscles.
    """

    bones: Bones
    fat_thickness: float = 8.0
    muscle_bulk: float = 1.0

    def skin(self, points: Points, bone: BoneFields) -> Field:
        """Field of the leg's outside; it always covers patella, fibula and tibia."""
        grown = np.float32(0.75 * (self.fat_thickness - 8.0))
        covered = np.minimum(np.minimum(bone.patella, bone.fibula), bone.tibia + np.float32(1.5))
        over_bone = np.asarray(covered - np.float32(_OVER_BONE_MM))
        return smooth_union(np.asarray(_SKIN(points) - grown), over_bone, 16.0)

    def reaches(self, points: Points) -> bool:
        """Whether any of the points can lie in the leg."""
        return bool((_SKIN(points) < _FAR_OUTSIDE_MM).any())

    def fascia(self, points: Points, skin: Field) -> Field:
        """Field of the muscular leg inside the subcutaneous fat, which is thin in front and thick behind."""
        front = ramp(np.asarray(points.y - np.float32(0.25) * np.abs(points.u)), 30.0, 0.0)
        thigh = 1.0 + 0.4 * ramp(points.z, 30.0, 100.0)
        fat = 3.0 + np.float32(self.fat_thickness - 3.0) * front * thigh
        return np.asarray(skin + np.float32(SKIN_MM) + fat, dtype=np.float32)

    def muscles(self, points: Points, fascia: Field) -> list[tuple[int, Field]]:
        """(tissue, field) of each muscle group, later ones on top."""
        found = []
        inside = np.asarray(fascia + np.float32(0.8))
        for tissue, lofts in _MUSCLES:
            field = np.full(points.u.shape, np.inf, dtype=np.float32)
            for muscle in lofts:
                field = np.minimum(field, muscle(points, 6.0))
            found.append((tissue, np.maximum(field - np.float32(14 * (self.muscle_bulk - 1)), inside)))
        return found

    def pouch(self, points: Points) -> Field:
        """The suprapatellar recess with a thin film of fluid."""
        return ellipsoid(points, (2, 31, 60), (16, 1.5, 12), tilt_deg=6)

    def vessels(self, points: Points) -> Field:
        """Popliteal artery and vein, behind the joint between the heads of gastrocnemius."""
        artery: list[Vector] = [(-6, -30, 200), (0, -34, 60), (2, -40, 10), (1, -41, -25), (2, -40, -160)]
        vein: list[Vector] = [(0, -38, 200), (6, -41, 60), (6, -47, 10), (4, -49, -25), (8, -46, -160)]
        return np.minimum(band(points, artery, (1, 0, 0), 3.0, 3.0), band(points, vein, (1, 0, 0), 4.4, 3.4))

    def ligaments(self, points: Points) -> list[tuple[int, Field]]:
        """(tissue, field) of ligaments and tendons."""
        ridge_u, ridge_y, middle = self.bones.patella_centre
        _, half_height, thickness = self.bones.patella_half
        wide, deep = self.bones.tibial_scale
        front = ridge_y + 0.62 * thickness
        tip: Vector = (ridge_u, front - 0.5, middle - 0.72 * half_height)
        tubercle: Vector = (5 * wide, 21.5 * deep, -36)
        top: Vector = (ridge_u, front - 1, middle + 0.9 * half_height)
        notch = self.bones.notch_half_width
        head: Vector = (39 * wide, -31 * deep, -14)
        acl: list[Vector] = [(-1, 1, 0), (notch * 0.72, -17, 24)]
        pcl: list[Vector] = [(-notch * 0.7, 4, 12), (-3, -14, 14.5), (-1, -25, 6), (0, -31 * deep, -8)]
        mcl: list[Vector] = [
            (-39.5, -3, 30),
            (-41.5, -4, 10),
            (-40.5 * wide, -4, -4),
            (-38.5 * wide, -3, -18),
            (-29 * wide, -1, -42),
        ]
        lcl: list[Vector] = [(40, -5, 27), (42, -16, 8), head]
        return [
            (tissues.MEDIAL_COLLATERAL, band(points, mcl, (0, 1, 0), 7.0, 1.3)),
            (tissues.LATERAL_COLLATERAL, band(points, lcl, (0, 1, 0), 2.4, 2.0)),
            (tissues.POSTERIOR_CRUCIATE, band(points, pcl, (1, 0, 0), 5.2, 4.4)),
            (tissues.ANTERIOR_CRUCIATE, band(points, acl, (1, 0, 0.3), 4.2, 4.6)),
            (tissues.PATELLAR_LIGAMENT, band(points, [tip, tubercle], (1, 0, 0), 13.0, 2.6)),
            (
                tissues.QUADRICEPS_TENDON,
                band(points, [top, (3, front - 2, middle + half_height + 22), (4, front, 200)], (1, 0, 0), 15.0, 3.3),
            ),
        ]
