"""Cartilage, labrum and fluid of the template hip, painted between its bones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Points, Vector, ramp
from msksam_cli.phantom.hip_bones import SOCKET_RIM_MM, HipBones, dot, norm
from msksam_cli.phantom.space import Labels

REACH_MM = 62.0
_FOVEA: Vector = (-0.88, -0.12, -0.46)
_FILM_BEYOND_RIM_MM = 6.0
_LABRUM_BASE_MM = 4.2
_NECK_FROM_MM, _NECK_TO_MM = 12.0, 37.0


@dataclass(frozen=True)
class HipJoint:
    """What lies between head and socket, in template mm.

    Attributes:
        bones: the bones that meet.
        femoral_cartilage: greatest thickness on the head.
        acetabular_cartilage: greatest thickness in the socket.
        labrum: height beyond the bony rim.
        recess: depth of the fluid in front of the neck.
    """

    bones: HipBones
    femoral_cartilage: float
    acetabular_cartilage: float
    labrum: float
    recess: float

    def paint(self, points: Points, femur: Field, pelvis: Field, labels: Labels) -> None:
        """Paint fluid, labrum and cartilage outside both bones; `labels` (n,) changes in place."""
        radius, height = norm(points), dot(points, self.bones.opening)
        free = (femur > 0) & (pelvis > 0)
        head, socket = np.float32(self.bones.head_radius), np.float32(self.bones.socket_radius)
        rim = np.float32(SOCKET_RIM_MM + 0.7 * self.bones.lips)
        labels[free & self._recess(points, femur, height)] = tissues.JOINT_FLUID
        fossa = self.bones.fossa(points)
        inside = free & (height < rim + np.float32(_FILM_BEYOND_RIM_MM)) & (radius < socket + 4)
        labels[inside & (radius < socket)] = tissues.JOINT_FLUID
        labels[inside & (radius > head + 1.2 * self.femoral_cartilage) & (fossa > 0.5)] = tissues.FAT
        labels[free & self._labrum(radius, height - rim)] = tissues.ACETABULAR_LABRUM
        lunate = free & (height < rim) & (radius < socket + 1) & (fossa < 0.5)
        labels[lunate & (radius > socket - self._socket_layer(points, radius, fossa))] = tissues.ACETABULAR_CARTILAGE
        labels[free & (radius < head + self._head_layer(points, radius))] = tissues.FEMORAL_HEAD_CARTILAGE

    def _head_layer(self, points: Points, radius: Field) -> Field:
        """Thickness on the head, thickest on top, none on the fovea and towards the neck."""
        unit = np.maximum(radius, np.float32(1))
        towards_neck = np.asarray(dot(points, self.bones.neck) / unit, dtype=np.float32)
        fovea = ramp(np.asarray(dot(points, _FOVEA) / unit, dtype=np.float32), 0.965, 0.985)
        top = 0.8 + 0.2 * points.z / unit
        thickness = np.float32(self.femoral_cartilage) * top * ramp(towards_neck, 0.48, 0.12) * (1 - fovea)
        return np.asarray(thickness, dtype=np.float32)

    def _socket_layer(self, points: Points, radius: Field, fossa: Field) -> Field:
        """Thickness in the socket, thickest towards the rim on top."""
        top = 0.85 + 0.15 * points.z / np.maximum(radius, np.float32(1))
        return np.asarray(np.float32(self.acetabular_cartilage) * top * (1 - fossa))

    def _labrum(self, radius: Field, above: Field) -> Labels:
        """A ring of triangular section on the rim."""
        share = np.clip(above / np.float32(max(self.labrum, 0.1)), -1, 1)
        inner = np.float32(self.bones.head_radius + self.femoral_cartilage * 0.8 + 0.5)
        outer = np.float32(self.bones.socket_radius + _LABRUM_BASE_MM) * (1 - share) + (inner + 1.2) * share
        return np.asarray((above > -1.0) & (share < 1) & (radius > inner) & (radius < outer))

    def _recess(self, points: Points, femur: Field, height: Field) -> Labels:
        """Fluid round the neck inside the capsule, deepest in front."""
        along = dot(points, self.bones.neck)
        front = ramp(np.asarray(points.y - along * np.float32(self.bones.neck[1])), -14.0, 14.0)
        ends = ramp(along, _NECK_FROM_MM, _NECK_FROM_MM + 8) * ramp(along, _NECK_TO_MM, _NECK_TO_MM - 12)
        below = ramp(points.z, 12.0, 2.0)
        depth = np.float32(self.recess) * (0.35 + 0.65 * front) * ends * below
        return np.asarray((femur < depth) & (height > 0))
