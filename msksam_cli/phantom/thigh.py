"""The procedural thigh: a label for every point of space, from dimensions in mm.

The template is a right thigh (u lateral, y anterior, z superior) whose origin lies on the femur's axis half way
between head and knee; a left thigh is its mirror image. Muscles share the room inside the fascia lata (`bundles`),
fat fills what they leave, and bone, vessels and nerve are painted on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import thigh_muscles as template
from msksam_cli.phantom import tissues
from msksam_cli.phantom.bundles import Box, Bundle, Packed, fills, inside_muscle, pack, rippled, streaks
from msksam_cli.phantom.fields import Field, Mask, Points, ramp
from msksam_cli.phantom.mass import Mass
from msksam_cli.phantom.space import Labels, Waves, bend, bending_waves, label_map, points_from_array
from msksam_cli.phantom.thigh_shape import ThighShape, sample_thigh_shape

__all__ = ["ThighShape", "sample_thigh_shape", "thigh_label_map", "thigh_labels_at"]

THIGH_TISSUES = tissues_of("thigh", findings=True)
"""The tissues of the procedural thigh and what may be found in it."""

SKIN_MM = 1.8
_TEMPLATE_MUSCLE_CM2 = 110.5
_TEMPLATE_SHAFT_MM = 28.0
_MEDIAL_EDGE_MM = 80.0
_STREAK_SPACING_MM = 8.0
_WASTED_STREAKS = 0.5
_SHEATH_MM = 1.6
_RIPPLE_MM = 0.7
_FINEST_STREAK = 0.03


def thigh_label_map(shape: ThighShape, grid: Grid) -> LabelMap:
    """Label every voxel by the tissue at its centre, on any grid; the middle of the femur is the world's origin."""
    return label_map(_Thigh.of(shape).labels, grid, THIGH_TISSUES)


def thigh_labels_at(shape: ThighShape, points_mm: NDArray[np.floating]) -> Labels:
    """Labels (…) uint8 at world points (…, 3) in RAS+ mm."""
    return _Thigh.of(shape).labels(points_from_array(points_mm))


@dataclass(frozen=True, eq=False)
class _Thigh:
    """A shape's tubes in template mm and the way from world points to them.

    Attributes:
        shape: what is drawn.
        girth: template mm to real mm across the thigh.
        length: template mm to real mm along it.
        muscles: the tubes of muscles and of the hollows between them.
        bones: the bones' tubes.
        fat_shares: (256,) part of each muscle that streaks of fat take.
        waves: the smooth deformation.
        mass: a tumour, in template mm.
    """

    shape: ThighShape
    girth: float
    length: float
    muscles: tuple[Bundle, ...]
    bones: tuple[Bundle, ...]
    fat_shares: Field
    waves: Waves
    mass: Mass | None

    @classmethod
    def of(cls, shape: ThighShape) -> _Thigh:
        girth = float(np.sqrt(shape.muscle_area_cm2 / _TEMPLATE_MUSCLE_CM2))
        girths = shape.girths
        bone = shape.shaft_width_mm / _TEMPLATE_SHAFT_MM / girth
        shares = np.full(256, shape.infiltration, dtype=np.float32)
        if shape.wasted:
            shares[shape.wasted] += np.float32(_WASTED_STREAKS * shape.wasting)
        return cls(
            shape,
            girth,
            shape.femur_length_mm / template.LENGTH_MM,
            tuple(tube.scaled(girths.get(tube.tissue, 1.0)) for tube in (*template.MUSCLES, *template.FAT_SPACES)),
            tuple(part.scaled(bone) for part in template.BONES),
            shares,
            bending_waves(shape.seed, shape.bending_mm),
            _mass(shape, girth),
        )

    def labels(self, world: Points) -> Labels:
        """Labels at world points."""
        points, own = self._template_points(world)
        labels = np.zeros(points.u.shape, dtype=np.uint8)
        reach = (3.0 * self.shape.subcutaneous_mm + self.shape.tumour_mm) / self.girth + 10.0
        if not template.OUTLINE.reaches(Box.of(points), reach):
            return labels
        soft = points if self.mass is None else self.mass.parted(points, own)
        fascia = template.OUTLINE(soft) * np.float32(self.girth)
        skin = np.asarray(fascia - self._fat_mm(soft) - np.float32(SKIN_MM))
        labels[skin < 0] = tissues.SKIN
        labels[skin < -SKIN_MM] = tissues.FAT
        inside = fascia < 0
        if inside.any():
            labels[inside] = self._contents(soft.select(inside), fascia[inside])
        if self.mass is not None:
            labels[own & (self.mass.field(points) < 0) & (skin < -SKIN_MM)] = tissues.TUMOUR
        self._paint_bones(points, labels)
        return labels

    def _template_points(self, world: Points) -> tuple[Points, Mask]:
        """Points in the template, and which of them lie in the thigh round the origin."""
        u = world.u if self.shape.side == "right" else -world.u
        moved = bend(Points(u, world.y, world.z), self.waves)
        u, own = self._folded(moved.u)
        turn = np.radians(self.shape.rotation_deg)
        cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u, y = cosine * u + sine * moved.y, cosine * moved.y - sine * u
        wide = np.float32(1 / (self.girth * (1 + self.shape.flatten)))
        deep = np.float32(1 / (self.girth * (1 - self.shape.flatten)))
        return Points(u * wide, y * deep, moved.z * np.float32(1 / self.length)), own

    def _folded(self, u: Field) -> tuple[Field, Mask]:
        """The other thigh's points brought onto this one by a mirror between the two, and where nothing moved."""
        if not self.shape.both:
            return u, np.ones(u.shape, dtype=np.bool_)
        fat = 1.3 * self.shape.subcutaneous_mm + SKIN_MM
        from_middle = u + np.float32(_MEDIAL_EDGE_MM * self.girth + fat + self.shape.gap_mm / 2)
        return np.asarray(u - from_middle + np.abs(from_middle)), from_middle > 0

    def _fat_mm(self, points: Points) -> Field:
        """Thickness of the subcutaneous fat: more on the medial and posterior side and towards the hip."""
        radius = np.maximum(np.hypot(points.u, points.y), np.float32(1))
        medial, back = -points.u / radius, -points.y / radius
        height = ramp(points.z, -200.0, 200.0)
        share = 0.8 + 0.25 * medial * height + 0.12 * back + 0.4 * height
        return np.asarray(np.float32(self.shape.subcutaneous_mm) * share, dtype=np.float32)

    def _contents(self, points: Points, fascia: Field) -> Labels:
        """Labels of points inside the fascia, but for the bones."""
        packed = pack(self.muscles, rippled(points, _RIPPLE_MM / self.girth, self.shape.seed))
        muscle = self._muscle(packed, fascia) & (packed.tissue != tissues.INTERMUSCULAR_FAT)
        labels = np.where(muscle, packed.tissue, np.uint8(tissues.INTERMUSCULAR_FAT)).astype(np.uint8)
        labels[~muscle & (packed.field * self.girth > self.shape.fill_mm + 2.0) & (fascia > -5)] = tissues.FAT
        labels[muscle & self._streaked(points, packed.tissue)] = tissues.INTERMUSCULAR_FAT
        box = Box.of(points)
        for tube in (*template.VESSELS, template.NERVE, template.QUADRICEPS_TENDON):
            if tube.reaches(box, 3.0):
                field = tube(points)
                if tube.tissue in (tissues.FEMORAL_VESSELS, tissues.SCIATIC_NERVE):
                    sheath = (field < _SHEATH_MM) & (labels != tissues.FEMORAL_VESSELS)
                    labels[sheath] = tissues.INTERMUSCULAR_FAT
                labels[field < 0] = tube.tissue
        return labels

    def _paint_bones(self, points: Points, labels: Labels) -> None:
        """Femur and ischium over everything, and the nail in the shaft."""
        box = Box.of(points)
        for bone in self.bones:
            if bone.reaches(box, 1.0):
                labels[bone(points) < 0] = bone.tissue
        if self.shape.nail:
            labels[template.NAIL.scaled(1 / self.girth)(points) < 0] = tissues.IMPLANT

    def _muscle(self, packed: Packed, fascia: Field) -> Mask:
        fill, septum = self.shape.fill_mm / self.girth, self.shape.septum_mm / self.girth
        return np.asarray(inside_muscle(packed, fills(fill), septum) & (fascia < -0.6))

    def _streaked(self, points: Points, tissue: NDArray[np.uint8]) -> Mask:
        """Where streaks of fat run through the muscles, in patches."""
        if not (self.fat_shares[1:] > 0.005).any():
            return np.zeros(points.u.shape, dtype=np.bool_)
        real = Points(points.u * np.float32(self.girth), points.y * np.float32(self.girth), points.z)
        pattern = streaks(real, _STREAK_SPACING_MM, self.shape.seed + 1)
        patches = streaks(real, 45.0, self.shape.seed + 2, along=0.4)
        width = self.fat_shares[tissue] * (1 + 1.3 * patches) - np.float32(_FINEST_STREAK)
        return np.asarray(np.abs(pattern) < width)


def _mass(shape: ThighShape, girth: float) -> Mass | None:
    if not shape.tumour_mm:
        return None
    direction, depth, height = shape.tumour_place
    from_bone = 15.0 + depth * 45.0
    angle = np.radians(direction)
    centre = (float(from_bone * np.cos(angle)) - 8.0, float(from_bone * np.sin(angle)) - 4.0, height)
    return Mass.drawn(centre, shape.tumour_mm / girth, shape.seed)
