"""What lies between the bones of the template knee: cartilage and menisci, as masks at points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom.bones import LATERAL_PLATE, MEDIAL_PLATE, PLATE_RADII, Bones
from msksam_cli.phantom.fields import Field, Mask, Points, Vector, ramp

_CONDYLAR_AXIS = (-2.0, 25.0)
_TROCHLEA_TOP_MM = 24.0


@dataclass(frozen=True)
class Joint:
    """Thicknesses of soft layers in template mm.

    `worn` is the part of the cartilage that is worn off in the medial, the lateral and the patellofemoral compartment,
    0 to 1; wear is deepest in the middle of the faces that bear weight.
    """

    bones: Bones
    femoral: float = 2.5
    medial_tibial: float = 2.6
    lateral_tibial: float = 3.2
    patellar: float = 3.6
    medial_meniscus_width: float = 9.5
    lateral_meniscus_width: float = 10.5
    meniscus_height: float = 6.2
    worn: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def femoral_thickness(self, points: Points, femur: Field) -> Field:
        """Thickness in mm of femoral cartilage at points near the bone's surface; 0 off the articulating faces."""
        step = np.float32(0.7)
        lean = np.abs(self.bones.femur(points.shifted(u=0.7)) - femur) / step
        y, z = points.y - np.float32(_CONDYLAR_AXIS[0]), points.z - np.float32(_CONDYLAR_AXIS[1])
        aside = np.abs(points.u - np.float32(1.5))
        behind = ramp(np.degrees(np.arctan2(z, np.maximum(-y, 0.1))), 48.0, 20.0)
        top = np.float32(_TROCHLEA_TOP_MM) - (_TROCHLEA_TOP_MM + 17.0) * ramp(aside, 19.0, 29.0)
        front = np.where(y > 0, ramp(z - top, 2.0, -6.0), behind)
        intercondylar = ramp(np.abs(points.u), 11.5, 8.0) * ramp(points.y, 3.0, -2.0)
        steep = ramp(points.y, 6.0, 16.0) * np.float32(0.2)
        faces = (
            ramp(np.asarray(lean - steep), 0.72, 0.45)
            * (1 - intercondylar)
            * front
            * ramp(self.bones.notch(points), 0.8, 3.5)
        )
        groove = 1.0 + 0.15 * ramp(np.abs(points.u), 18.0, 4.0) * ramp(y, 5.0, 18.0)
        thickness = np.asarray(np.float32(self.femoral) * groove * np.sqrt(faces), dtype=np.float32)
        return thickness * self._femoral_rest(points) if any(self.worn) else thickness

    def _femoral_rest(self, points: Points) -> Field:
        """Part of the femoral cartilage that is left: each condyle wears underneath, the trochlea in front."""
        forwards = np.degrees(
            np.arctan2(points.y - np.float32(_CONDYLAR_AXIS[0]), np.float32(_CONDYLAR_AXIS[1]) - points.z)
        )
        beside = np.exp(-(((np.abs(points.u) - 21) / 12) ** 2))
        underneath = np.exp(-(((forwards - 5) / 40) ** 2)) * beside
        in_front = np.exp(-(((forwards - 95) / 35) ** 2))
        medial, lateral, patellar = self.worn
        condyle = np.where(points.u < 0, medial, lateral) * ramp(forwards, 75.0, 45.0)
        return _rest(condyle, underneath) * _rest(patellar * ramp(forwards, 45.0, 75.0), in_front)

    def tibial_thickness(self, points: Points, lateral: bool) -> Field:
        """Thickness in mm of one plate's cartilage over (u, y); 0 outside the plate."""
        greatest = self.lateral_tibial if lateral else self.medial_tibial
        q = self.plate_radius(points, lateral)
        thickness = np.asarray(np.float32(greatest) * np.sqrt(np.maximum(1 - q**4, 0)), dtype=np.float32)
        worn = self.worn[1 if lateral else 0]
        return thickness * _rest(worn, np.exp(-((q / 0.65) ** 2))) if worn else thickness

    def plate_radius(self, points: Points, lateral: bool) -> Field:
        """Elliptical distance from a plate's middle: 1 on its rim."""
        wide, deep = self.bones.tibial_scale
        plate: Vector = LATERAL_PLATE if lateral else MEDIAL_PLATE
        half_depth = PLATE_RADII[1] - (2.5 if lateral else 0.0)
        u = (points.u / np.float32(wide) - np.float32(plate[0])) / np.float32(PLATE_RADII[0])
        y = (points.y / np.float32(deep) - np.float32(plate[1])) / np.float32(half_depth)
        return np.asarray(np.sqrt(u**2 + y**2))

    def patellar_thickness(self, points: Points) -> Field:
        """Thickness in mm of retropatellar cartilage; 0 on the tip, the rims and in front."""
        half_width, half_height, thickness = self.bones.patella_half
        ridge_u, ridge_y, middle = self.bones.patella_centre
        u, z = points.u - np.float32(ridge_u), points.z - np.float32(middle + 0.16 * half_height)
        q2 = (u / np.float32(half_width * 0.86)) ** 2 + (z / np.float32(half_height * 0.74)) ** 2
        behind = points.y < np.float32(ridge_y + 0.62 * thickness)
        layer = np.asarray(np.float32(self.patellar) * np.sqrt(np.maximum(1 - q2**2, 0)) * behind, dtype=np.float32)
        return layer * _rest(self.worn[2], np.exp(-q2 / 0.4)) if self.worn[2] else layer

    def meniscus(self, points: Points, lateral: bool, above_tibia: Field) -> Mask:
        """A C-shaped wedge on one plate, open towards the notch; femur and cartilage are painted over it."""
        wide = self.bones.tibial_scale[0]
        plate: Vector = LATERAL_PLATE if lateral else MEDIAL_PLATE
        width = self.lateral_meniscus_width if lateral else self.medial_meniscus_width
        q = self.plate_radius(points, lateral)
        rim = np.float32(1.10)
        inner = rim - np.float32(width / (PLATE_RADII[0] + 2.0))
        outward = (q - inner) / (rim - inner)
        top = np.float32(self.meniscus_height) * np.clip(outward, 0, 1) ** 0.8 + 0.4
        bottom = self.tibial_thickness(points, lateral)
        towards_notch = (np.float32(plate[0]) - points.u / np.float32(wide)) * (1.0 if lateral else -1.0)
        along = points.y - np.float32(plate[1])
        opening = np.degrees(np.arctan2(np.abs(along) * np.float32(0.75), towards_notch))
        is_open = opening < (32.0 if lateral else 48.0)
        rounded = top - 1.6 * ramp(outward, 0.82, 1.0)
        return np.asarray(
            (outward > 0) & (outward < 1) & (above_tibia > bottom - 0.6) & (above_tibia < rounded + bottom) & ~is_open
        )


def _rest(worn: Field | float, focus: Field) -> Field:
    """Part of a layer that wear leaves: a third of the loss is even, the rest gathers where `focus` is 1."""
    return np.asarray(np.maximum(1 - 1.15 * worn * (0.33 + 0.67 * focus), 0), dtype=np.float32)
