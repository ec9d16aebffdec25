"""The procedural shoulder: a label for every point of space, from dimensions in mm.

The shoulder's own frame is that of a right shoulder (u lateral, y anterior, z superior, origin at the centre of the
humeral head); a left shoulder is its mirror image. World points are bent smoothly and scaled into the template, and
the tissues are painted there from the outside in, so that the label depends on the point alone and never on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.fatty import fat_streaks
from msksam_cli.phantom.fields import Field, Mask, Points, Vector, band
from msksam_cli.phantom.shoulder_bones import BoneFields, Bones, Frames, flattened, radius, turned
from msksam_cli.phantom.shoulder_joint import Joint
from msksam_cli.phantom.shoulder_muscles import Muscles
from msksam_cli.phantom.shoulder_shape import ShoulderShape, sample_shoulder_shape
from msksam_cli.phantom.space import Labels, Waves, bend, bending_waves, label_map, points_from_array

__all__ = [
    "SHOULDER_TISSUES",
    "ShoulderShape",
    "sample_shoulder_shape",
    "shoulder_label_map",
    "shoulder_labels_at",
]

SHOULDER_TISSUES = tissues_of("shoulder", findings=True)
"""The tissues of the procedural shoulder, and an implant."""

_TEMPLATE_WIDTH_MM = 100.0
_SEPTUM_MM = 0.7
_JOINT_REACH_MM = 16.0
_STREAK_SPACING_MM = 5.0
_BONE_TISSUES = (tissues.HUMERUS, tissues.SCAPULA, tissues.CLAVICLE)
_CUFF = (tissues.SUPRASPINATUS, tissues.INFRASPINATUS, tissues.SUBSCAPULARIS, tissues.TERES_MINOR)


def shoulder_label_map(shape: ShoulderShape, grid: Grid) -> LabelMap:
    """Label every voxel by the tissue at its centre, on any grid; the head's centre is the world's origin."""
    return label_map(_Shoulder.of(shape).labels, grid, SHOULDER_TISSUES)


def shoulder_labels_at(shape: ShoulderShape, points_mm: NDArray[np.floating]) -> Labels:
    """Labels (…) uint8 at world points (…, 3) in RAS+ mm."""
    return _Shoulder.of(shape).labels(points_from_array(points_mm))


@dataclass(frozen=True, eq=False)
class _Shoulder:
    """A shape's parts in template mm and the way from world points to them."""

    shape: ShoulderShape
    size: float
    bones: Bones
    joint: Joint
    muscles: Muscles
    waves: Waves

    @classmethod
    def of(cls, shape: ShoulderShape) -> _Shoulder:
        size = shape.scapula_width_mm / _TEMPLATE_WIDTH_MM
        head = shape.head_diameter_mm / 2 / size
        bones = Bones(
            head_radius=head,
            neck_shaft_deg=shape.neck_shaft_deg,
            tuberosity_top=head - shape.tuberosity_drop_mm / size,
            glenoid_half=(shape.glenoid_width_mm / 2 / size, shape.glenoid_height_mm / 2 / size),
            glenoid_gap=(shape.humeral_cartilage_mm + shape.glenoid_cartilage_mm) / size + 0.5,
            glenoid_tilt_deg=(shape.glenoid_inclination_deg, shape.glenoid_version_deg),
            acromion_gap=shape.acromiohumeral_mm / size,
            osteophyte=shape.osteophyte_mm / size,
        )
        joint = Joint(
            bones,
            shape.humeral_cartilage_mm / size,
            shape.labrum_height_mm / size,
            shape.cartilage_loss,
            shape.effusion_mm / size,
            shape.tendon_tear_mm / size,
        )
        muscles = Muscles(
            shape.fat_thickness_mm / size, shape.muscle_bulk, bones.acromion_height, shape.tendon_tear_mm / size
        )
        return cls(shape, size, bones, joint, muscles, bending_waves(shape.bending_seed, shape.bending_mm))

    def labels(self, world: Points) -> Labels:
        """Labels at world points."""
        frames = self._frames(world)
        if not self.muscles.reaches(frames):
            return np.zeros(world.u.shape, dtype=np.uint8)
        bone = self.bones.fields(frames)
        labels = self._outside(frames, bone)
        distance = radius(frames.scapula)
        near = distance < self.joint.surface + self.joint.effusion + _JOINT_REACH_MM
        if near.any():
            self._paint_joint(frames, distance, near, labels)
        for tissue, field in zip(_BONE_TISSUES, bone, strict=True):
            labels[field < 0] = tissue
        if self.shape.implant_mm:
            labels[(self._void(frames.humerus) < 0) & (labels > 0)] = tissues.IMPLANT
        return labels

    def _frames(self, world: Points) -> Frames:
        u = world.u if self.shape.side == "right" else -world.u
        bent = bend(Points(u, world.y, world.z), self.waves)
        body = Points(*(c * np.float32(1 / self.size) for c in bent))
        s, t = turned(body.u, body.y, self.shape.scapular_plane_deg)
        outwards, along = turned(body.u, body.z, self.shape.abduction_deg)
        arm = Points(outwards, body.y, along)
        p, q = turned(arm.u, arm.y, self.shape.retroversion_deg - self.shape.external_rotation_deg)
        return Frames(body, Points(s, t, body.z), arm, Points(p, q, arm.z))

    def _outside(self, frames: Frames, bone: BoneFields) -> Labels:
        """Skin, fat, the outer muscles, chest wall and lung; 0 outside the body."""
        labels = np.zeros(frames.body.u.shape, dtype=np.uint8)
        fascia = self.muscles.fascia(frames)
        covered = np.minimum(bone.scapula, bone.clavicle) - 4
        thickness = self.muscles.skin(frames.body)
        skin = np.minimum(fascia - self.muscles.fat(frames.body), covered) - thickness
        labels[skin < 0] = tissues.SKIN
        labels[skin < -thickness] = tissues.FAT
        _paint_muscles(self.muscles.outer_layers(frames, fascia), labels)
        ribs = self.muscles.ribs(frames.body)
        if ribs.min() < _JOINT_REACH_MM:
            _paint_muscles([(tissues.CHEST_WALL, self.muscles.chest_wall(frames.body, ribs))], labels)
            labels[self.muscles.rib_marrow(frames.body, ribs) < 0] = tissues.FAT
            labels[self.muscles.lung(frames.body, ribs) < 0] = tissues.LUNG
        flat = flattened(frames.scapula)
        _paint_muscles(self.muscles.deep_muscles(frames, flat, fascia, ribs), labels)
        if self.shape.fatty_infiltration:
            fibres = Points(flat.y, flat.z, flat.u)
            fat = fat_streaks(fibres, self.shape.fatty_infiltration, _STREAK_SPACING_MM, self.shape.bending_seed)
            labels[np.isin(labels, _CUFF) & fat] = tissues.FAT
        labels[(self.muscles.vessels(frames.body) < 0) & (labels > 0)] = tissues.AXILLARY_VESSELS
        return labels

    def _void(self, humerus: Points) -> Field:
        """Field of the signal void round an anchor that was driven into the greater tuberosity."""
        size, radius_mm = self.bones.head_radius / 23.0, self.shape.implant_mm / self.size
        anchor: list[Vector] = [(22 * size, -1, 9 * size), (9 * size, -1, 3 * size)]
        return band(humerus, anchor, (0, 1, 0), radius_mm, radius_mm)

    def _paint_joint(self, frames: Frames, distance: Field, near: Mask, labels: Labels) -> None:
        """Fluid, labrum, tendons and cartilage, over everything but the bones."""
        scapula, humerus, away = frames.scapula.select(near), frames.humerus.select(near), distance[near]
        socket = self.bones.socket(scapula)
        rim = self.joint.rim(socket)
        painted = labels[near]
        painted[self.joint.fluid(humerus, away)] = tissues.JOINT_FLUID
        if self.joint.effusion:
            painted[self.joint.biceps_sheath(humerus) < 0] = tissues.JOINT_FLUID
        tendon, torn = self.joint.tendon(scapula, away)
        painted[tendon] = tissues.SUPRASPINATUS_TENDON
        painted[torn] = tissues.JOINT_FLUID
        painted[self.joint.labrum_ring(socket, rim, away)] = tissues.GLENOID_LABRUM
        painted[self.joint.glenoid_cartilage(socket, rim, away)] = tissues.GLENOID_CARTILAGE
        painted[away < self.bones.head_radius + self.joint.humeral_thickness(humerus)] = tissues.HUMERAL_CARTILAGE
        painted[self.joint.biceps(humerus) < 0] = tissues.BICEPS_TENDON
        labels[near] = painted


def _paint_muscles(muscles: list[tuple[int, Field]], labels: Labels) -> None:
    """Muscles with a thin layer of fat round each, inside the skin."""
    for tissue, field in muscles:
        labels[(field < _SEPTUM_MM) & (labels != tissues.SKIN) & (labels > 0)] = tissues.FAT
        labels[(field < 0) & (labels > 0)] = tissue
