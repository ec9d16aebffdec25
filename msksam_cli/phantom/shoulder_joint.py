"""Cartilage, labrum, fluid and tendons of the template shoulder's joint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom.fields import Field, Mask, Points, Vector, band, ramp
from msksam_cli.phantom.shoulder_bones import Bones

FILM_MM = 0.5
TENDON_MM = 5.2
_ARTICULAR_DEG = 74.0
_FOOTPRINT_DEG = 52.0
_TENDON_ORIGIN_DEG = -42.0
_TENDON_EDGES = (-15.0, 12.0)


@dataclass(frozen=True)
class Joint:
    """Thicknesses of soft layers in template mm.

    Attributes:
        bones: whose surfaces the layers follow.
        humeral: greatest thickness of the head's cartilage.
        labrum: height of the labrum.
        loss: part of the cartilage that is worn off, 0 to 1.
        effusion: how far fluid lifts the capsule.
        tear: how far the supraspinatus tendon is retracted.
    """

    bones: Bones
    humeral: float = 1.4
    labrum: float = 4.0
    loss: float = 0.0
    effusion: float = 0.0
    tear: float = 0.0

    @property
    def surface(self) -> float:
        """Radius of the head with unworn cartilage."""
        return self.bones.head_radius + self.humeral

    def humeral_thickness(self, points: Points) -> Field:
        """Thickness in mm of the head's cartilage in the humerus' frame; 0 off the articular cap."""
        angle = self.bones.off_axis_deg(points)
        cap = np.sqrt(ramp(angle, _ARTICULAR_DEG + 3, _ARTICULAR_DEG - 9)) * (1 - 0.25 * ramp(angle, 25.0, 70.0))
        return np.asarray(np.float32(self.humeral) * cap * self._kept(angle), dtype=np.float32)

    def _kept(self, angle: Field) -> Field:
        """Part of the thickness that is left: wear begins in the middle of the cap and spreads."""
        worn = ramp(angle, 15.0 + 80 * self.loss, -15.0 + 60 * self.loss)
        return np.asarray(1 - np.float32(min(1.0, 1.15 * self.loss)) * (0.35 + 0.65 * worn))

    def rim(self, socket: Points) -> Field:
        """Elliptical distance from the socket's axis: 1 on its rim."""
        wide, high = self.bones.glenoid_half
        pear = 1 - np.float32(0.12) * ramp(socket.y, -4.0, 16.0)
        return np.asarray(np.hypot(socket.u / (np.float32(wide) * pear), socket.y / np.float32(high)))

    def glenoid_cartilage(self, socket: Points, rim: Field, distance: Field) -> Mask:
        """Where the socket is lined: outside its bone, which is painted over it, and behind the joint space."""
        worn = np.float32(0.9 * self.loss * (self.bones.glenoid_gap - self.humeral - FILM_MM))
        lined = (rim < 0.99) & (distance > np.float32(self.surface + FILM_MM) + worn) & (socket.z < 0)
        return np.asarray(lined & (distance < np.float32(self.bones.head_radius + self.bones.glenoid_gap + 5)))

    def labrum_ring(self, socket: Points, rim: Field, distance: Field) -> Mask:
        """A wedge round the rim, as high as it is wide."""
        outside = (rim - 0.98) * np.float32(sum(self.bones.glenoid_half) / 2)
        above = distance - np.float32(self.surface + FILM_MM)
        wedge = (outside > 0) & (outside < 0.85 * self.labrum) & (above < self.labrum - 0.35 * outside)
        return np.asarray(wedge & (above > 0) & (socket.z < 0))

    def fluid(self, points: Points, distance: Field) -> Mask:
        """The film round the articular cap, its pouch underneath, and what an effusion adds."""
        angle = self.bones.off_axis_deg(points)
        pouch = ramp(points.z, -10.0, -20.0) * ramp(points.u, 4.0, -8.0) * np.float32(0.6 + 1.3 * self.effusion)
        lifted = np.float32(FILM_MM) + np.float32(self.effusion) * ramp(angle, 125.0, 85.0) + pouch
        surface = np.float32(self.bones.head_radius) + np.float32(self.humeral) * ramp(angle, 94.0, 78.0)
        return np.asarray((distance < surface + lifted) & (angle < 118))

    def tendon(self, points: Points, distance: Field) -> tuple[Mask, Mask]:
        """(supraspinatus tendon, what a tear leaves filled with fluid), in the scapula's frame.

        The tendon runs over the head from the socket's edge to the greater tuberosity.
        """
        angle = np.degrees(np.arctan2(points.u, points.z))
        front, back = _TENDON_EDGES[1], _TENDON_EDGES[0]
        height = distance - np.float32(self.surface + FILM_MM)
        thick = np.float32(TENDON_MM) * ramp(angle, _FOOTPRINT_DEG + 3, _FOOTPRINT_DEG - 22)
        thick = thick * np.sqrt(ramp(points.y, front + 1.5, front - 3) * ramp(points.y, back - 1.5, back + 3))
        whole = (height < thick) & (thick > 0.5) & (angle > _TENDON_ORIGIN_DEG) & (points.z > 0)
        end = _FOOTPRINT_DEG - np.degrees(self.tear / self.surface)
        torn = whole & (angle > end)
        return np.asarray(whole & ~torn), np.asarray(torn)

    def biceps(self, points: Points) -> Field:
        """The long head's tendon: over the head, then down the groove; in the humerus' frame."""
        return band(points, self._biceps_path(), (1, 1, 0), 2.5, 1.9)

    def biceps_sheath(self, points: Points) -> Field:
        """Fluid that an effusion presses down round the biceps tendon."""
        wide = 1.6 + 0.5 * self.effusion
        below = np.float32(-30 - 3 * self.effusion) - points.z
        return np.asarray(np.maximum(band(points, self._biceps_path(), (1, 1, 0), wide, wide), below))

    def _biceps_path(self) -> list[Vector]:
        over = self.surface + 2.6
        size = self.bones.head_radius / 23.0
        arch: list[Vector] = [(-20, 3, 21), (-4, 7, 25), (9, 14, 20)]
        groove: list[Vector] = [(15, 18.8, 8), (15, 18.8, -18), (13.5, 16.5, -45), (13, 16, -80)]
        return [_scaled(p, over / float(np.linalg.norm(p))) for p in arch] + [_scaled(p, size) for p in groove]


def _scaled(point: Vector, factor: float) -> Vector:
    return (point[0] * factor, point[1] * factor, point[2] * factor)
