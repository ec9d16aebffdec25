"""Bones of the template shoulder: fields of humerus, scapula and clavicle.

The template is a right shoulder with the centre of the humeral head at the origin and the medial border of the scapula
100 mm from the socket. Four frames share that origin (see `Frames`), all in template mm:

- body: u lateral, y anterior, z superior;
- scapula: u along the blade towards the socket, y out of its costal side (forwards and inwards), z superior;
- arm: the body's, tilted until z runs along the shaft;
- humerus: the arm's, turned until u runs from the head across the neck and y towards the lesser tuberosity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from msksam_cli.phantom.fields import (
    Field,
    Points,
    Vector,
    band,
    ellipsoid,
    loft,
    ramp,
    smooth_difference,
    smooth_intersection,
    smooth_union,
)

ACROMION_HALF_MM = 4.0
_GLENOID_HOLLOW_MM = 34.0
_BLADE_HALF_MM = 1.5
_SPUR_GAP_MM = 2.0

_HUMERAL_SHAFT = loft(
    [
        (-200, 7, 2, 11, 11),
        (-90, 7, 2, 11.5, 11.5),
        (-60, 7, 2, 12.5, 12.5),
        (-40, 7, 2, 14.5, 14.5),
        (-25, 6.5, 2, 19, 18.5),
        (-12, 6, 1.5, 22.5, 21),
        (0, 5.5, 1.5, 23, 21.5),
        (12, 6, 1, 20, 19),
    ],
    ceiling_mm=13,
)
_GLENOID_NECK = loft(
    [
        (-70, -8.5, -1, 1.5, 9),
        (-58, -6.5, -1, 2.5, 12),
        (-48, -4, -1, 5, 15),
        (-39, -1.5, -0.5, 9, 16.5),
        (-31, 0, 0, 13, 18),
        (-15, 0, 0, 13.25, 18),
    ],
    floor_mm=-66,
    ceiling_mm=-14,
)


class BoneFields(NamedTuple):
    """Fields of the bones at the same points."""

    humerus: Field
    scapula: Field
    clavicle: Field


class Frames(NamedTuple):
    """The same points in the four frames."""

    body: Points
    scapula: Points
    arm: Points
    humerus: Points


@dataclass(frozen=True)
class Bones:
    """The three bones, given their proportions in template mm.

    Attributes:
        head_radius: of the humeral head.
        neck_shaft_deg: angle between the head's axis and the shaft.
        tuberosity_top: height of the greater tuberosity above the head's centre.
        glenoid_half: half width and half height of the socket.
        glenoid_gap: from the head's bone to the middle of the socket's bone.
        glenoid_tilt_deg: upward and forward turn of the socket's face.
        acromion_gap: between head and acromion.
        osteophyte: height of the ridges below head and socket.
    """

    head_radius: float = 23.0
    neck_shaft_deg: float = 135.0
    tuberosity_top: float = 15.0
    glenoid_half: tuple[float, float] = (13.25, 18.0)
    glenoid_gap: float = 3.4
    glenoid_tilt_deg: tuple[float, float] = (4.0, -1.0)
    acromion_gap: float = 10.0
    osteophyte: float = 0.0

    @property
    def acromion_height(self) -> float:
        """Height of the acromion's middle above the head's centre."""
        return self.head_radius + self.acromion_gap + ACROMION_HALF_MM

    def fields(self, frames: Frames) -> BoneFields:
        """Fields of all three; an osteophyte of the head ends short of the socket."""
        humerus, scapula = self.humerus(frames.humerus), self.scapula(frames.scapula)
        if self.osteophyte:
            humerus = np.maximum(humerus, np.float32(_SPUR_GAP_MM) - scapula)
        return BoneFields(humerus, scapula, self.clavicle(frames.body))

    def head_axis(self) -> Vector:
        """Unit vector of the head's axis in the humerus' frame."""
        angle = np.radians(self.neck_shaft_deg)
        return (-float(np.sin(angle)), 0.0, -float(np.cos(angle)))

    def off_axis_deg(self, points: Points) -> Field:
        """Angle between the head's axis and points of the humerus' frame, seen from the head's centre."""
        axis = self.head_axis()
        along = points.u * np.float32(axis[0]) + points.z * np.float32(axis[2])
        return np.asarray(np.degrees(np.arccos(np.clip(along / np.maximum(radius(points), 1e-3), -1, 1))))

    def humerus(self, points: Points) -> Field:
        """Head, tuberosities with the bicipital groove between them, and shaft."""
        size = self.head_radius / 23.0
        scaled = Points(*(c * np.float32(1 / size) for c in points))
        top = self.tuberosity_top / size
        field = smooth_intersection(_HUMERAL_SHAFT(scaled, 8.0), np.asarray(scaled.z - np.float32(top - 3)), 5.0)
        field = smooth_union(field, ellipsoid(scaled, (15.5, -2, top - 13.5), (12, 17, 13.5)), 5.0)
        field = smooth_union(field, ellipsoid(scaled, (7, 18, -4), (7.5, 7, 11.5)), 4.0)
        groove: list[Vector] = [(16, 21, 30), (17, 21.5, 4), (16.5, 20, -18), (14, 16.5, -45), (13, 15, -60)]
        field = smooth_difference(field, band(scaled, groove, (1, -0.8, 0), 4.2, 3.6), 2.5)
        field = np.asarray(field * np.float32(size))
        head = np.asarray(radius(points) - np.float32(self.head_radius))
        return smooth_union(field, head, 2.5) if not self.osteophyte else self._with_osteophyte(points, field, head)

    def _with_osteophyte(self, points: Points, field: Field, head: Field) -> Field:
        """A ridge along the lower edge of the articular surface, highest underneath."""
        away = np.abs(self.off_axis_deg(points) - np.float32(84)) / np.float32(16)
        underneath = ramp(points.z, 4.0, -12.0)
        ridge = np.float32(self.osteophyte) * np.maximum(1 - away**2, 0) * underneath
        return np.asarray(np.minimum(smooth_union(field, head, 2.5), head - ridge))

    def socket(self, points: Points) -> Points:
        """Points of the scapula's frame in that of the socket: forwards, upwards, along its axis towards the head."""
        up_deg, forward_deg = self.glenoid_tilt_deg
        along, across = turned(points.u, points.y, forward_deg)
        along, height = turned(along, points.z, up_deg)
        return Points(across, height, along)

    def glenoid(self, points: Points) -> Field:
        """The socket and its neck, hollowed, in the scapula's frame."""
        local = self.socket(points)
        reach = self.head_radius + self.glenoid_gap
        wide, high = self.glenoid_half[0] / 13.25, self.glenoid_half[1] / 18.0
        pear = 1 - np.float32(0.12) * ramp(local.y, -4.0, 16.0)
        slim = Points(
            local.u / (np.float32(wide) * pear), local.y / np.float32(high), local.z + np.float32(reach - 26.4)
        )
        neck = np.asarray(_GLENOID_NECK(slim, 1.0) * np.float32(min(wide, high)))
        hollow_centre = local.shifted(z=reach - _GLENOID_HOLLOW_MM)
        body = smooth_intersection(neck, np.asarray(np.float32(_GLENOID_HOLLOW_MM) - radius(hollow_centre)), 1.5)
        if not self.osteophyte:
            return body
        rim: Vector = (0, -self.glenoid_half[1] - 0.1 * self.osteophyte, -reach + 3.5)
        spur = ellipsoid(local, rim, (7.0, 1.0 + 0.7 * self.osteophyte, 3.0))
        return smooth_union(body, np.maximum(spur, np.float32(reach) - radius(local)), 2.0)

    def scapula(self, points: Points) -> Field:
        """Socket, blade, spine, acromion and coracoid."""
        field = self.glenoid(points)
        if points.u.size and points.u.min() > 30:
            return field
        flat = flattened(points)
        field = smooth_union(field, _blade(flat), 3.0)
        field = smooth_union(field, self._spine(flat), 3.0)
        field = smooth_union(field, self._acromion(points), 5.0)
        coracoid: list[Vector] = [(-38, 2, 17), (-33, 12, 28), (-20, 26, 27), (-5, 36, 18)]
        return smooth_union(field, band(points, coracoid, (1, -0.6, 0), 6.5, 5.5), 4.0)

    def _spine(self, flat: Points) -> Field:
        """The ridge on the back of the blade that rises towards the acromion."""
        high = self.acromion_height
        s, tau = flat.u, flat.y
        sheet = np.float32(8) + (s + np.float32(126)) * np.float32(0.08) - np.float32(0.36) * tau
        crest = np.float32(-0.37) * np.clip(s + np.float32(126), 0, None)
        inside = np.maximum(np.maximum(crest - tau, tau), np.maximum(s + np.float32(44), np.float32(-126) - s))
        plate = np.maximum(np.abs(flat.z - sheet) * np.float32(0.94) - np.float32(1.6), inside)
        ridge: list[Vector] = [
            (-126, 0, 8),
            (-90, -13, 15.5),
            (-55, -26.5, 23),
            (-30, -33, high - 8),
            (-6, -33, high - 1),
        ]
        return smooth_union(np.asarray(plate, dtype=np.float32), band(flat, ridge, (0, -0.4, 1), 5.0, 3.6), 2.5)

    def _acromion(self, points: Points) -> Field:
        high = self.acromion_height
        path: list[Vector] = [(-10, -33, high - 1.5), (5, -24, high), (9, -8, high), (5, 9, high - 0.5)]
        return band(points, path, (1, 0.25, -0.15), 11.5, ACROMION_HALF_MM)

    def clavicle(self, points: Points) -> Field:
        """The lateral half of the clavicle and more, from the acromion inwards."""
        high = self.acromion_height
        flat = band(points, [(-19, 9, high + 3), (-40, 1, high + 7)], (0, 1, 0), 8.5, 5.0)
        shaft: list[Vector] = [(-38, 1, high + 7), (-68, 2, high + 9), (-105, 18, high + 6), (-160, 42, high - 4)]
        return smooth_union(flat, band(points, shaft, (0, 1, 0), 6.6, 5.8), 6.0)


def radius(points: Points) -> Field:
    """Distance from the origin."""
    return np.asarray(np.sqrt(points.u**2 + points.y**2 + points.z**2))


def turned(first: Field, second: Field, angle_deg: float) -> tuple[Field, Field]:
    """Coordinates on two axes turned by an angle from the first towards the second."""
    cosine, sine = np.float32(np.cos(np.radians(angle_deg))), np.float32(np.sin(np.radians(angle_deg)))
    return np.asarray(cosine * first + sine * second), np.asarray(cosine * second - sine * first)


def flattened(points: Points) -> Points:
    """Points of the scapula's frame with the blade's hollow and tilt taken out: the blade lies at y = 0."""
    part = np.clip((np.float32(-32) - points.u) * np.float32(1 / 94), 0, 1)
    hollow = np.float32(-36) * part * (1 - part)
    tilt = np.float32(0.13) * np.clip(points.z, -140, 45) * ramp(points.u, -14.0, -44.0)
    return Points(points.u, np.asarray(points.y - hollow - tilt), points.z)


def _blade(flat: Points) -> Field:
    """The thin triangular plate with its stout lateral border, in flattened points."""
    s, z = flat.u, flat.z
    lateral = (s + np.float32(34)) * np.float32(0.866) - (z + np.float32(19)) * np.float32(0.5)
    medial = -(s + np.float32(126)) * np.float32(0.98) - (z - np.float32(8)) * np.float32(0.199)
    upper_medial = -(s + np.float32(126)) * np.float32(0.76) + (z - np.float32(8)) * np.float32(0.65)
    upper = (z - np.float32(18)) - (np.float32(-40) - s) * np.float32(0.28)
    outline = np.maximum(np.maximum(lateral, medial), np.maximum(upper_medial, upper))
    outline = np.maximum(outline, s + np.float32(36))
    plate = np.maximum(outline, np.abs(flat.y) - np.float32(_BLADE_HALF_MM))
    border: list[Vector] = [(-36, 0, -17), (-62, 0, -66), (-97, 0, -128)]
    inner: list[Vector] = [(-99, 0, -130), (-125, 0, 6), (-104, 0, 33)]
    field = smooth_union(np.asarray(plate, dtype=np.float32), band(flat, border, (0, 1, 0), 4.2, 4.6), 2.0)
    return smooth_union(field, band(flat, inner, (0, 1, 0), 2.2, 2.8), 1.5)
