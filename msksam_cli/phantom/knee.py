"""The procedural knee: a label for every point of space, from dimensions in mm.

The knee's own frame is that of a right knee (u lateral, y anterior, z superior, origin at the joint's centre); a left
knee is its mirror image. World points are bent smoothly, turned and scaled into the template, and the tissues are
painted there from the outside in, so that the label depends on the point alone and never on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.bones import BoneFields, Bones
from msksam_cli.phantom.fields import Mask, Points, ramp
from msksam_cli.phantom.joint import Joint
from msksam_cli.phantom.knee_disease import Disease
from msksam_cli.phantom.knee_shape import KneeShape, sample_knee_shape, with_disease
from msksam_cli.phantom.soft_tissues import SKIN_MM, SoftTissues
from msksam_cli.phantom.space import Labels, Waves, bend, bending_waves, label_map, points_from_array
from msksam_cli.phantom.tissues import KNEE_TISSUES

__all__ = ["KneeShape", "knee_label_map", "knee_labels_at", "sample_knee_shape", "with_disease"]

_TEMPLATE_WIDTH_MM = 82.2
_TEMPLATE_DEPTH_MM = 63.1
_TEMPLATE_TIBIA_MM = (75.6, 48.7)
_SEPTUM_MM = 0.6
_WET_GAP_MM = 8.6
_BONE_TISSUES = (tissues.FEMUR, tissues.TIBIA, tissues.PATELLA, tissues.FIBULA)
_MUSCLES = (tissues.QUADRICEPS, tissues.HAMSTRINGS, tissues.GASTROCNEMIUS, tissues.LEG_MUSCLES)
_NARROWING = 0.6
_FLEXION_AXIS_YZ = (-6.0, 24.0)


def knee_label_map(shape: KneeShape, grid: Grid) -> LabelMap:
    """Label every voxel by the tissue at its centre, on any grid; the joint's centre is the world's origin."""
    table = KNEE_TISSUES if shape.implant == "none" else tissues_of("knee", findings=True)
    return label_map(_Knee.of(shape).labels, grid, table)


def knee_labels_at(shape: KneeShape, points_mm: NDArray[np.floating]) -> Labels:
    """Labels (…) uint8 at world points (…, 3) in RAS+ mm."""
    return _Knee.of(shape).labels(points_from_array(points_mm))


@dataclass(frozen=True, eq=False)
class _Knee:
    """A shape's parts in template mm and the way from world points to them."""

    shape: KneeShape
    scale: tuple[float, float, float]
    bones: Bones
    joint: Joint
    soft: SoftTissues
    disease: Disease
    waves: Waves

    @classmethod
    def of(cls, shape: KneeShape) -> _Knee:
        wide = shape.epicondylar_width_mm / _TEMPLATE_WIDTH_MM
        deep = shape.femoral_depth_mm / _TEMPLATE_DEPTH_MM
        size = (wide + deep) / 2
        tibial_scale = (
            shape.tibial_width_mm / wide / _TEMPLATE_TIBIA_MM[0],
            shape.tibial_depth_mm / deep / _TEMPLATE_TIBIA_MM[1],
        )
        femoral = shape.femoral_cartilage_mm
        bones = Bones(
            notch_half_width=shape.notch_width_mm / 2 / wide,
            groove_depth=shape.groove_depth_mm / deep,
            tibial_scale=tibial_scale,
            patella_half=(
                shape.patella_width_mm / 2 / wide,
                shape.patella_height_mm / 2 / size,
                shape.patella_thickness_mm / deep,
            ),
            medial_gap=0.95 * _gap_mm(femoral, shape.medial_tibial_cartilage_mm, shape.medial_loss) / size,
            lateral_gap=0.95 * _gap_mm(femoral, shape.lateral_tibial_cartilage_mm, shape.lateral_loss) / size,
            patellar_gap=0.9 * _gap_mm(femoral, shape.patellar_cartilage_mm, shape.patellar_loss) / size,
        )
        joint = Joint(
            bones,
            femoral / size,
            shape.medial_tibial_cartilage_mm / size,
            shape.lateral_tibial_cartilage_mm / size,
            shape.patellar_cartilage_mm / size,
            shape.medial_meniscus_width_mm / size,
            shape.lateral_meniscus_width_mm / size,
            shape.meniscus_height_mm / size,
            (shape.medial_loss, shape.lateral_loss, shape.patellar_loss),
        )
        disease = Disease(
            bones,
            shape.osteophyte_mm / size,
            shape.effusion_mm / size,
            shape.fatty_infiltration,
            shape.implant,
            shape.bending_seed,
        )
        soft = SoftTissues(bones, shape.fat_thickness_mm / size, shape.muscle_bulk)
        waves = bending_waves(shape.bending_seed, shape.bending_mm)
        return cls(shape, (wide, deep, size), bones, joint, soft, disease, waves)

    def labels(self, world: Points) -> Labels:
        """Labels at world points."""
        points = self._template_points(world)
        if not self.soft.reaches(points):
            return np.zeros(points.u.shape, dtype=np.uint8)
        bone = self.disease.spurred(points, self.bones.fields(points))
        labels = self._envelope(points, bone)
        if self.disease.fatty:
            labels[np.isin(labels, _MUSCLES) & self.disease.fat(points)] = tissues.FAT
        if self.disease.effusion:
            labels[self.disease.fluid(points, bone) & (labels > 0) & (labels != tissues.SKIN)] = tissues.JOINT_FLUID
        self._paint_ligaments(points, labels)
        self._paint_joint(points, bone, labels)
        for tissue, field in zip(_BONE_TISSUES, bone, strict=True):
            labels[field < 0] = tissue
        if self.disease.implant != "none":
            labels[self.disease.metal(points, bone) & (labels > 0) & (labels != tissues.SKIN)] = tissues.IMPLANT
        return labels

    def _template_points(self, world: Points) -> Points:
        u = world.u if self.shape.side == "right" else -world.u
        turn = np.radians(self.shape.rotation_deg)
        cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u, y, z = cosine * u + sine * world.y, cosine * world.y - sine * u, world.z
        bent = bend(Points(u, y, z), self.waves)
        scaled = Points(*(c * np.float32(1 / s) for c, s in zip(bent, self.scale, strict=True)))
        return _extend(scaled, self.shape.flexion_deg)

    def _envelope(self, points: Points, bone: BoneFields) -> Labels:
        """Skin, fat, muscles and vessels; 0 outside the leg."""
        labels = np.zeros(points.u.shape, dtype=np.uint8)
        skin = self.soft.skin(points, bone)
        labels[skin < 0] = tissues.SKIN
        labels[skin < -SKIN_MM] = tissues.FAT
        fascia = self.soft.fascia(points, skin)
        for tissue, field in self.soft.muscles(points, fascia):
            labels[(field < _SEPTUM_MM) & (labels != tissues.SKIN) & (labels > 0)] = tissues.FAT
            labels[field < 0] = tissue
        labels[self.soft.vessels(points) < 0] = tissues.POPLITEAL_VESSELS
        return labels

    def _paint_ligaments(self, points: Points, labels: Labels) -> None:
        labels[self.soft.pouch(points) < 0] = tissues.JOINT_FLUID
        for tissue, field in self.soft.ligaments(points):
            labels[(field < 0) & (labels != tissues.SKIN) & (labels > 0)] = tissue

    def _paint_joint(self, points: Points, bone: BoneFields, labels: Labels) -> None:
        """Menisci, fluid and cartilage, over everything but the bones."""
        near = (bone.femur < 14) & (bone.tibia < 9)
        if near.any():
            _paint_tibiofemoral(self.joint, points, near, bone, labels)
        near = ((bone.femur < 7) | (bone.patella < 7)) & (bone.femur > -1)
        if near.any():
            _paint_femoral_cartilage(self.joint, points, near, bone, labels)


def _paint_tibiofemoral(joint: Joint, points: Points, near: Mask, bone: BoneFields, labels: Labels) -> None:
    """Menisci and tibial cartilage, and fluid where condyle and plateau leave a gap; cruciates stay."""
    local, femur, tibia = points.select(near), bone.femur[near], bone.tibia[near]
    above = local.z - joint.bones.plateau(local.u, local.y)
    painted = labels[near]
    cruciate = (painted >= tissues.ANTERIOR_CRUCIATE) & (painted <= tissues.LATERAL_COLLATERAL)
    gap = (femur < 3.2) & (above > 0) & (above < 8) & (np.abs(local.u) < 33)
    painted[gap & ~cruciate] = tissues.JOINT_FLUID
    for lateral in (False, True):
        meniscus = joint.meniscus(local, lateral, above)
        painted[meniscus] = tissues.LATERAL_MENISCUS if lateral else tissues.MEDIAL_MENISCUS
        thickness = joint.tibial_thickness(local, lateral)
        cartilage = (thickness > 0.2) & (above < thickness) & (above > -1.5) & (tibia < thickness)
        painted[cartilage] = tissues.LATERAL_TIBIAL_CARTILAGE if lateral else tissues.MEDIAL_TIBIAL_CARTILAGE
    labels[near] = painted


def _paint_femoral_cartilage(joint: Joint, points: Points, near: Mask, bone: BoneFields, labels: Labels) -> None:
    """Femoral and patellar cartilage; where two layers meet, each keeps the part nearer to its own bone."""
    local, femur, patella = points.select(near), bone.femur[near], bone.patella[near]
    painted = labels[near]
    painted[(patella < 5) & (femur < 5) & (patella + femur < _WET_GAP_MM) & (painted == tissues.FAT)] = (
        tissues.JOINT_FLUID
    )
    tibial = (painted == tissues.MEDIAL_TIBIAL_CARTILAGE) | (painted == tissues.LATERAL_TIBIAL_CARTILAGE)
    above = local.z - joint.bones.plateau(local.u, local.y)
    retropatellar = patella < joint.patellar_thickness(local)
    painted[retropatellar] = tissues.PATELLAR_CARTILAGE
    taken = (tibial & (above < femur)) | (retropatellar & (patella < femur))
    painted[(femur < joint.femoral_thickness(local, femur)) & ~taken] = tissues.FEMORAL_CARTILAGE
    labels[near] = painted


def _gap_mm(first_mm: float, second_mm: float, loss: float) -> float:
    """Room between two bones for their cartilage, less where it is worn."""
    return (first_mm + second_mm) * (1 - _NARROWING * loss)


def _extend(points: Points, flexion_deg: float) -> Points:
    """Undo flexion: what lies above the joint turns about the condyles' axis, what lies below stays."""
    if flexion_deg == 0:
        return points
    y, z = points.y - np.float32(_FLEXION_AXIS_YZ[0]), points.z - np.float32(_FLEXION_AXIS_YZ[1])
    angle = np.float32(np.radians(flexion_deg)) * ramp(points.z, -12.0, 38.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned_y, turned_z = cosine * y - sine * z, cosine * z + sine * y
    return Points(points.u, turned_y + np.float32(_FLEXION_AXIS_YZ[0]), turned_z + np.float32(_FLEXION_AXIS_YZ[1]))
