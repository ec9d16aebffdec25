"""Femur and hip bone of the template hip, as fields at points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msksam_cli.phantom import tissues
from msksam_cli.phantom.bundles import Box, bundle
from msksam_cli.phantom.fields import (
    Field,
    Points,
    Vector,
    band,
    ellipsoid,
    ramp,
    smooth_difference,
    smooth_intersection,
    smooth_union,
)

SOCKET_RIM_MM = -3.0
_WALL_MM = 6.0
_FOSSA_DEPTH_MM = 3.5
_FOSSA: Vector = (-0.66, -0.08, -0.74)
_JOINT_GAP_MM = 0.4
_LIP_COSINE, _LIP_WIDTH = 0.52, 0.16
_SYMPHYSIS_MM = 86.0
_FAR_MM = 100.0

_SHAFT = bundle(
    tissues.FEMUR,
    [
        (-260, -10, 12, 14, 14, 0),
        (-160, -6, 8, 14.5, 14, 0),
        (-110, -3, 4, 15.5, 15, 0),
        (-80, -1, 1, 17.5, 16, 0),
        (-55, 1, -1, 22, 18, 0),
        (-30, 5, -2, 20, 19, 0),
        (-12, 8, -4, 15, 18, 0),
        (4, 7, -8, 9, 11, 0),
        (12, 6, -10, 3, 4, 0),
    ],
)
_WING = bundle(
    tissues.HIP_BONE,
    [
        (10, -8, -2, 22, 16, 60),
        (30, -6, 0, 30, 17, 62),
        (45, -5, 2, 38, 11, 58),
        (60, -6, -6, 50, 8, 55),
        (75, -3, -12, 60, 6.5, 53),
        (100, 4, -16, 62, 5.5, 50),
        (125, 12, -12, 54, 6.5, 48),
        (145, 18, -8, 34, 6, 48),
        (155, 20, -6, 14, 4, 48),
    ],
)
_SACROILIAC = bundle(
    tissues.HIP_BONE,
    [(42, -34, -48, 5, 6, 0), (60, -42, -66, 9, 18, -15), (90, -44, -72, 9, 24, -18), (120, -36, -66, 7, 22, -20)],
)
_ISCHIUM = bundle(
    tissues.HIP_BONE,
    [
        (-97, -26, -40, 4, 5, 0),
        (-85, -27, -41, 11, 11, 20),
        (-60, -26, -38, 12, 14, 20),
        (-30, -24, -31, 12, 13, 10),
        (0, -22, -26, 14, 11, 0),
        (25, -16, -20, 14, 12, 0),
    ],
)
_SPINE: Vector = (-38.0, -42.0, -6.0)
_RAMUS: list[Vector] = [(-24, 18, -2), (-50, 33, -6), (-80, 38, -16)]
_LOWER_RAMUS: list[Vector] = [(-33, -34, -86), (-52, -6, -72), (-76, 28, -42)]


@dataclass(frozen=True)
class HipBones:
    """Bones that meet in the hip, in template mm.

    Attributes:
        head_radius: of the bony femoral head.
        neck_shaft_deg: angle of neck and shaft.
        anteversion_deg: turn of the neck towards the front.
        offset: from the head's centre to the shaft's axis.
        cup_inclination_deg: of the socket's opening to the transverse plane.
        cup_anteversion_deg: turn of its opening towards the front.
        cartilages: greatest thickness of both layers together.
        lips: height of osteophytes.
        seed: of the osteophytes' lumps.
    """

    head_radius: float
    neck_shaft_deg: float
    anteversion_deg: float
    offset: float
    cup_inclination_deg: float
    cup_anteversion_deg: float
    cartilages: float
    lips: float
    seed: int

    @property
    def socket_radius(self) -> float:
        """Of the bony socket: head, two layers of cartilage and a film of fluid."""
        return self.head_radius + self.cartilages + _JOINT_GAP_MM

    @cached_property
    def base(self) -> Vector:
        """Where the axes of neck and shaft meet."""
        fall = self.offset * np.tan(np.radians(self.neck_shaft_deg - 90))
        return self.offset, -self.offset * float(np.tan(np.radians(self.anteversion_deg))), -float(fall)

    @cached_property
    def neck(self) -> Vector:
        """Unit vector from the head's centre along the neck."""
        length = float(np.linalg.norm(self.base))
        return self.base[0] / length, self.base[1] / length, self.base[2] / length

    @cached_property
    def opening(self) -> Vector:
        """Unit vector out of the socket, normal to the plane of its rim."""
        tilt, turn = np.radians(self.cup_inclination_deg), np.radians(self.cup_anteversion_deg)
        return float(np.sin(tilt) * np.cos(turn)), float(np.sin(turn)), float(-np.cos(tilt) * np.cos(turn))

    def shaft_points(self, points: Points) -> Points:
        """Points relative to the shaft's axis; heights stay the head's."""
        return points.shifted(u=-self.base[0], y=-self.base[1])

    def femur(self, points: Points, box: Box) -> Field:
        """Field of the proximal femur, right within about 20 mm; `box` bounds the points."""
        u, y, z = self.base
        if not box.near([(0, 0, 0), self.base, (u, y, -260)], 50.0):
            return np.full(points.u.shape, _FAR_MM, dtype=np.float32)
        shaft = _SHAFT(self.shaft_points(points))
        shaft = smooth_union(shaft, ellipsoid(points, (u - 17, y - 13, z - 36), (10, 9, 13)), 6.0)
        shaft = smooth_union(shaft, ellipsoid(points, (u + 9, y - 8, -10), (12, 19, 21)), 8.0)
        if not box.near([(0, 0, 0), self.base], 50.0):
            return shaft
        along = np.array(self.neck)
        upright = np.array([0.0, 0.0, 1.0]) - along[2] * along
        size = self.head_radius / 23.5
        neck = band(points, [(0.0, 0.0, 0.0), self.base], tuple(upright), 15.5 * size, 12.5 * size)
        return smooth_union(smooth_union(shaft, neck, 7.0), self._head(points), 3.5)

    def _head(self, points: Points) -> Field:
        radius = norm(points)
        grown = np.float32(self.head_radius)
        if self.lips:
            cosine = dot(points, self.neck) / np.maximum(radius, np.float32(1))
            lip = np.exp(-(((cosine - np.float32(_LIP_COSINE)) / np.float32(_LIP_WIDTH)) ** 2))
            return np.asarray(radius - grown - np.float32(self.lips) * lip * self._lumps(points))
        return np.asarray(radius - grown)

    def _lumps(self, points: Points) -> Field:
        """Between 0.3 and 1.1 round the head's edge."""
        rng = np.random.default_rng(self.seed)
        rates, phases = rng.uniform(0.08, 0.16, (3, 1)), rng.uniform(0, 2 * np.pi, 3)
        waves = [np.sin(np.float32(r[0]) * c + np.float32(p)) for r, p, c in zip(rates, phases, points, strict=True)]
        return np.asarray(np.float32(0.7) + np.float32(0.13) * (waves[0] + waves[1] + waves[2]))

    def pelvis(self, points: Points, box: Box) -> Field:
        """Field of the hip bone with its socket, right within about 10 mm; `box` bounds the points."""
        bone = np.full(points.u.shape, _FAR_MM, dtype=np.float32)
        for tube in (_WING, _SACROILIAC, _ISCHIUM):
            if tube.reaches(box, 20.0):
                bone = smooth_union(bone, tube(points), 8.0)
        if box.near([_SPINE], 30.0):
            bone = smooth_union(bone, ellipsoid(points, _SPINE, (7, 9, 9)), 6.0)
        if box.near([*_RAMUS, *_LOWER_RAMUS], 30.0):
            bone = smooth_union(bone, self._pubis(points), 6.0)
        if not box.near([(0, 0, 0)], self.socket_radius + _WALL_MM + 15.0):
            return bone
        radius = norm(points)
        rim = np.asarray(dot(points, self.opening) - np.float32(SOCKET_RIM_MM + 0.7 * self.lips))
        wall = np.asarray(radius - np.float32(self.socket_radius + _WALL_MM))
        bone = smooth_union(bone, smooth_intersection(wall, rim, 2.0), 8.0)
        depth = np.float32(_FOSSA_DEPTH_MM) * self.fossa(points)
        return smooth_difference(bone, np.asarray(radius - np.float32(self.socket_radius) - depth), 1.0)

    def _pubis(self, points: Points) -> Field:
        ramus = band(points, _RAMUS, (0, 0.5, 1), 8.5, 6.5)
        body = ellipsoid(points, (-80, 37, -24), (14, 9, 19))
        lower = band(points, _LOWER_RAMUS, (0.2, 0.4, 1), 8.0, 4.5)
        bone = smooth_union(smooth_union(ramus, body, 8.0), lower, 6.0)
        return np.asarray(np.maximum(bone, np.float32(-_SYMPHYSIS_MM) - points.u))

    def fossa(self, points: Points) -> Field:
        """1 in the floor of the socket, which bears no cartilage, 0 on the lunate surface."""
        radius = np.maximum(norm(points), np.float32(1))
        return ramp(np.asarray(dot(points, _FOSSA) / radius), 0.74, 0.84)


def norm(points: Points) -> Field:
    """Distance from the head's centre."""
    return np.asarray(np.sqrt(points.u**2 + points.y**2 + points.z**2))


def dot(points: Points, axis: Vector) -> Field:
    """Projection of points on an axis."""
    return np.asarray(points.u * np.float32(axis[0]) + points.y * np.float32(axis[1]) + points.z * np.float32(axis[2]))
