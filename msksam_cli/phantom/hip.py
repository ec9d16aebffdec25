"""The procedural hip: a label for every point of space, from dimensions in mm.

The template is a right hip (u lateral, y anterior, z superior) whose origin is the centre of the femoral head; a left
hip is its mirror image. The other half of the pelvis is folded onto the template by a mirror in the midline. Muscles
share the room inside the fascia (`bundles`); organs, bones, vessels and the joint are painted on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import hip_muscles as template
from msksam_cli.phantom import tissues
from msksam_cli.phantom.bundles import Box, Bundle, fills, inside_muscle, pack, rippled, streaks
from msksam_cli.phantom.fields import Field, Mask, Points, Vector, band, ramp, smooth_union
from msksam_cli.phantom.hip_bones import SOCKET_RIM_MM, HipBones, dot, norm
from msksam_cli.phantom.hip_joint import REACH_MM, HipJoint
from msksam_cli.phantom.hip_organs import organs
from msksam_cli.phantom.hip_shape import HipShape, sample_hip_shape
from msksam_cli.phantom.mass import Mass
from msksam_cli.phantom.space import Labels, Waves, bend, bending_waves, label_map, points_from_array

__all__ = ["HIP_TISSUES", "HipShape", "hip_label_map", "hip_labels_at", "sample_hip_shape"]

HIP_TISSUES = tissues_of("hip", findings=True)
"""The tissues of the procedural hip and what may be found in it."""

SKIN_MM = 1.8
_TEMPLATE_DISTANCE_MM = 176.0
_GROIN_BLEND_MM = 18.0
_STREAK_SPACING_MM = 8.0
_FINEST_STREAK = 0.03
_SHEATH_MM = 1.6
_RIPPLE_MM = 0.7
_PERIOSTEUM_MM = 0.6
_GLUTEALS = (tissues.GLUTEUS_MAXIMUS, tissues.GLUTEUS_MEDIUS, tissues.GLUTEUS_MINIMUS, tissues.TENSOR_FASCIAE_LATAE)
_CUP_MM, _BALL_MM = 3.0, 17.0


def hip_label_map(shape: HipShape, grid: Grid) -> LabelMap:
    """Label every voxel by the tissue at its centre, on any grid; the femoral head's centre is the world's origin."""
    return label_map(_Hip.of(shape).labels, grid, HIP_TISSUES)


def hip_labels_at(shape: HipShape, points_mm: NDArray[np.floating]) -> Labels:
    """Labels (…) uint8 at world points (…, 3) in RAS+ mm."""
    return _Hip.of(shape).labels(points_from_array(points_mm))


@dataclass(frozen=True, eq=False)
class _Hip:
    """A shape's parts in template mm and the way from world points to them.

    Attributes:
        shape: what is drawn.
        size: template mm to real mm.
        joint: bones and what lies between them.
        muscles: the tubes of muscles and of the hollows between them.
        fat_shares: (256,) part of each muscle that streaks of fat take.
        waves: the smooth deformation.
        mass: a tumour, in template mm.
    """

    shape: HipShape
    size: float
    joint: HipJoint
    muscles: tuple[Bundle, ...]
    fat_shares: Field
    waves: Waves
    mass: Mass | None

    @classmethod
    def of(cls, shape: HipShape) -> _Hip:
        size = shape.head_distance_mm / _TEMPLATE_DISTANCE_MM
        bones = HipBones(
            head_radius=shape.head_diameter_mm / 2 / size,
            neck_shaft_deg=shape.neck_shaft_deg,
            anteversion_deg=shape.anteversion_deg,
            offset=shape.head_offset_mm / size,
            cup_inclination_deg=shape.cup_inclination_deg,
            cup_anteversion_deg=shape.cup_anteversion_deg,
            cartilages=(shape.femoral_cartilage_mm + shape.acetabular_cartilage_mm) / size,
            lips=shape.osteophyte_mm / size,
            seed=shape.seed,
        )
        joint = HipJoint(
            bones,
            shape.femoral_cartilage_mm / size,
            shape.acetabular_cartilage_mm / size,
            shape.labrum_mm / size,
            shape.recess_mm / size,
        )
        shares = np.full(256, shape.infiltration, dtype=np.float32)
        shares[list(_GLUTEALS)] *= np.float32(1.5)
        muscles = tuple(tube.scaled(shape.muscle_bulk) for tube in template.MUSCLES) + template.FAT_SPACES
        waves = bending_waves(shape.seed, shape.bending_mm)
        mass = Mass.drawn(shape.tumour_centre, shape.tumour_mm / size, shape.seed) if shape.tumour_mm else None
        return cls(shape, size, joint, muscles, shares, waves, mass)

    def labels(self, world: Points) -> Labels:
        """Labels at world points."""
        points, own = self._template_points(world)
        soft = points if self.mass is None else self.mass.parted(points, own)
        fascia = self._fascia(soft) * np.float32(self.size)
        skin = np.asarray(fascia - self._fat_mm(soft) - np.float32(SKIN_MM))
        labels = np.zeros(points.u.shape, dtype=np.uint8)
        labels[skin < 0] = tissues.SKIN
        labels[skin < -SKIN_MM] = tissues.FAT
        inside = fascia < 0
        if inside.any():
            labels[inside] = self._soft(soft.select(inside), fascia[inside])
        if self.mass is not None:
            labels[own & (self.mass.field(points) < 0) & (skin < -SKIN_MM)] = tissues.TUMOUR
        if inside.any():
            hard = labels[inside]
            self._paint_bones(points.select(inside), own[inside], hard)
            labels[inside] = hard
        return labels

    def _template_points(self, world: Points) -> tuple[Points, Mask]:
        """Points in the template, and which of them lie on the side of the origin."""
        u = world.u if self.shape.side == "right" else -world.u
        moved = bend(Points(u, world.y, world.z), self.waves)
        turn = np.radians(self.shape.rotation_deg)
        cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        across, y = cosine * moved.u + sine * moved.y, cosine * moved.y - sine * moved.u
        small, middle = np.float32(1 / self.size), np.float32(template.MIDLINE_MM)
        from_midline = across * small + middle
        return Points(np.abs(from_midline) - middle, y * small, moved.z * small), from_midline > 0

    def _fascia(self, points: Points) -> Field:
        """Field of trunk and thigh inside the subcutaneous fat."""
        return smooth_union(template.PELVIS_OUTLINE(points), template.THIGH_OUTLINE(points), _GROIN_BLEND_MM)

    def _fat_mm(self, points: Points) -> Field:
        """Thickness of the subcutaneous fat: most on the buttock and beside the trochanter, least in the groin."""
        radius = np.maximum(np.hypot(points.u + 40, points.y), np.float32(1))
        back, side = -points.y / radius, (points.u + 40) / radius
        belly = ramp(points.z, 10.0, 90.0) * ramp(points.y, -40.0, 70.0)
        share = 0.75 + 0.3 * np.maximum(back, 0) + 0.25 * np.maximum(side, 0) + 0.4 * belly
        cleft = 1 - 0.6 * ramp(points.u, -70.0, -88.0) * ramp(points.y, -60.0, -90.0)
        return np.asarray(np.float32(self.shape.subcutaneous_mm) * share * cleft, dtype=np.float32)

    def _soft(self, points: Points, fascia: Field) -> Labels:
        """Muscles, organs, vessels and the fat round them, for points inside the fascia."""
        box = Box.of(points)
        packed = pack(self.muscles, rippled(points, _RIPPLE_MM / self.size, self.shape.seed))
        muscle = inside_muscle(packed, fills(self.shape.fill_mm / self.size), self.shape.septum_mm / self.size)
        hollow = packed.tissue == tissues.FAT
        muscle &= (packed.tissue != tissues.INTERMUSCULAR_FAT) & ~hollow & (fascia < -0.6)
        labels = np.where(muscle, packed.tissue, np.uint8(tissues.INTERMUSCULAR_FAT)).astype(np.uint8)
        labels[~muscle & (hollow | (packed.field * self.size > self.shape.fill_mm + 2.0))] = tissues.FAT
        labels[muscle & self._streaked(points, packed.tissue)] = tissues.INTERMUSCULAR_FAT
        if template.CAVITY.reaches(box):
            cavity = (template.CAVITY(points) < 0) & (packed.field > 0)
            labels[cavity] = organs(points.select(cavity), self.shape.bladder_mm / self.size, self.shape.seed)
        for wall in template.TRUNK_WALL:
            if wall.reaches(box):
                labels[(wall(points) < 0) & (packed.field > 1)] = tissues.PELVIC_ORGANS
        _paint_tubes((*template.VESSELS, template.NERVE), points, box, labels)
        self._paint_rotators(points, box, labels)
        return labels

    def _paint_bones(self, points: Points, own: Mask, labels: Labels) -> None:
        """Bones, what lies between them in the joint, and the implant, over everything else."""
        box = Box.of(points)
        femur, pelvis = self.joint.bones.femur(points, box), self.joint.bones.pelvis(points, box)
        for tube in template.SACRUM:
            if tube.reaches(box):
                field = tube(points)
                labels[field < _PERIOSTEUM_MM] = tissues.INTERMUSCULAR_FAT
                labels[field < 0] = tissues.SACRUM
        labels[(femur < _PERIOSTEUM_MM) | (pelvis < _PERIOSTEUM_MM)] = tissues.INTERMUSCULAR_FAT
        near = (np.abs(points.u) < REACH_MM) & (np.abs(points.y) < REACH_MM) & (np.abs(points.z) < REACH_MM)
        if near.any():
            painted = labels[near]
            self.joint.paint(points.select(near), femur[near], pelvis[near], painted)
            labels[near] = painted
        labels[femur < 0] = tissues.FEMUR
        labels[pelvis < 0] = tissues.HIP_BONE
        if self.shape.implant and own.any():
            self._replace(points, own, labels)

    def _paint_rotators(self, points: Points, box: Box, labels: Labels) -> None:
        """Short muscles and tendons that run sideways from the pelvis to the trochanter."""
        u, y, z = self.joint.bones.base
        cords: tuple[tuple[int, list[Vector], float, float], ...] = (
            (tissues.PIRIFORMIS, [(-68, -74, 46), (-46, -62, 42), (-14, -44, 27)], 13.0, 6.5),
            (tissues.PIRIFORMIS, [(-14, -44, 27), (u - 2, y - 8, 6)], 6.5, 4.5),
            (tissues.OBTURATOR_INTERNUS, [(-45, -34, -12), (-28, -47, -10), (u - 4, y - 10, 0)], 7.0, 4.0),
            (tissues.OBTURATOR_EXTERNUS, [(-20, -4, -30), (4, -24, -26), (u - 6, y - 12, z + 18)], 6.0, 4.5),
        )
        for tissue, path, wide, deep in cords:
            if box.near(path, wide + 2):
                field = band(points, path, (0, 0.2, 1), wide, deep)
                labels[(field < 1.0) & (labels != tissue)] = tissues.INTERMUSCULAR_FAT
                labels[field < 0] = tissue

    def _streaked(self, points: Points, tissue: NDArray[np.uint8]) -> Mask:
        """Where streaks of fat run through the muscles, in patches."""
        if self.shape.infiltration < 0.005:
            return np.zeros(points.u.shape, dtype=np.bool_)
        pattern = streaks(points, _STREAK_SPACING_MM, self.shape.seed + 1)
        patches = streaks(points, 45.0, self.shape.seed + 2, along=0.4)
        return np.asarray(np.abs(pattern) < self.fat_shares[tissue] * (1 + 1.3 * patches) - np.float32(_FINEST_STREAK))

    def _replace(self, points: Points, own: Mask, labels: Labels) -> None:
        """A replaced hip: cup, ball and stem of metal; fluid where the bone was cut away."""
        bones = self.joint.bones
        radius, socket = norm(points), np.float32(bones.socket_radius)
        labels[own & (radius < socket + 1)] = tissues.JOINT_FLUID
        cup = (radius < socket + _CUP_MM) & (dot(points, bones.opening) < SOCKET_RIM_MM + 2)
        u, y, z = bones.base
        neck = band(points, [(0, 0, 0), (u - 6, y, z + 4)], (0, 1, 0), 6.5, 6.5)
        stem = band(points, [(u - 10, y, z + 8), (u - 2, y + 1, z - 30), (u - 4, y + 5, z - 110)], (0, 1, 0), 7.0, 7.0)
        labels[own & (cup | (radius < _BALL_MM) | (neck < 0) | (stem < 0))] = tissues.IMPLANT


def _paint_tubes(tubes: tuple[Bundle, ...], points: Points, box: Box, labels: Labels) -> None:
    """Vessels and nerves in a sheath of fat."""
    for tube in tubes:
        if tube.reaches(box, 3.0):
            field = tube(points)
            labels[(field < _SHEATH_MM) & (labels != tissues.FEMORAL_VESSELS)] = tissues.INTERMUSCULAR_FAT
            labels[field < 0] = tube.tissue
