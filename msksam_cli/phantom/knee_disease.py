"""What age, disease and surgery add to the template knee: osteophytes, fluid, fatty muscle and metal.

All lengths are template mm; the frame is that of `bones`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom.bones import BoneFields, Bones
from msksam_cli.phantom.bundles import streaks
from msksam_cli.phantom.fatty import fat_streaks
from msksam_cli.phantom.fields import Field, Mask, Points, Vector, band, ellipsoid, smooth_union

_SPUR_GAP_MM = 2.0
_STREAK_SPACING_MM = 6.0


@dataclass(frozen=True)
class Disease:
    """Findings of one knee.

    Attributes:
        bones: on which they are found.
        osteophyte: height of the bony ridges along the joint's edges.
        effusion: half the depth that fluid adds to the recess above the patella.
        fatty: part of the muscles that is fat, 0 to 1.
        implant: one of `knee_shape.IMPLANTS`.
        seed: which pattern of ridges and streaks.
    """

    bones: Bones
    osteophyte: float = 0.0
    effusion: float = 0.0
    fatty: float = 0.0
    implant: str = "none"
    seed: int = 0

    def spurred(self, points: Points, bone: BoneFields) -> BoneFields:
        """The bones with ridges along the edges of their joint surfaces, which leave the joint open."""
        if not self.osteophyte:
            return bone
        lumps = np.float32(0.5 * self.osteophyte) * (1 + streaks(points, 14.0, self.seed, along=1.0))
        across = np.minimum(bone.tibia, bone.patella)
        femur = self._ridge(points, self._condylar_edges(), lumps, across)
        tibia = self._ridge(points, [self._plateau_edge()], lumps, bone.femur)
        patella = self._ridge(points, self._patellar_poles(), lumps, bone.femur)
        return BoneFields(
            smooth_union(bone.femur, femur, 1.5),
            smooth_union(bone.tibia, tibia, 1.5),
            smooth_union(bone.patella, patella, 1.5),
            bone.fibula,
        )

    def _ridge(self, points: Points, paths: list[list[Vector]], lumps: Field, opposite: Field) -> Field:
        """Field of cords whose radius follows `lumps`, cut where another bone is near."""
        cords = np.full(points.u.shape, np.inf, dtype=np.float32)
        for path in paths:
            cords = np.minimum(cords, band(points, path, (0, 0, 1), 1.0, 1.0))
        return np.asarray(np.maximum(cords + 1 - lumps, np.float32(_SPUR_GAP_MM) - opposite), dtype=np.float32)

    def _condylar_edges(self) -> list[list[Vector]]:
        """Along the outer edge of each condyle, from the trochlea round the bottom to the back."""
        angles = np.radians(np.arange(-70, 116, 15.0))
        return [
            [
                (side * 33.5, -1.0 - (24.0 if a > 0 else 20.0) * float(np.sin(a)), 26.0 - 17.5 * float(np.cos(a)))
                for a in angles
            ]
            for side in (-1.0, 1.0)
        ]

    def _plateau_edge(self) -> list[Vector]:
        """Round the front and both sides of the plateau, just below its rim."""
        wide, deep = self.bones.tibial_scale
        angles = np.radians(np.arange(-50, 231, 20.0))
        rim = [(36.5 * wide * float(np.cos(a)), (-9 + 23.5 * float(np.sin(a))) * deep) for a in angles]
        height = self.bones.plateau(*(np.array(c, dtype=np.float32) for c in zip(*rim, strict=True)))
        return [(u, y, float(z) - 3.0) for (u, y), z in zip(rim, height, strict=True)]

    def _patellar_poles(self) -> list[list[Vector]]:
        u, y, middle = self.bones.patella_centre
        half = self.bones.patella_half[1]
        return [[(u - 9, y + 8, middle + z * half), (u + 9, y + 8, middle + z * half)] for z in (-0.8, 0.8)]

    def fluid(self, points: Points, bone: BoneFields) -> Mask:
        """What an effusion adds: a deep recess above the patella and full gutters beside the condyles."""
        depth = self.effusion
        pouch = ellipsoid(points, (1, 31 + 0.5 * depth, 58), (16 + 2.5 * depth, 1.5 + depth, 14 + 3.5 * depth), 6)
        gutter = (bone.femur < 0.7 * depth) & (np.abs(points.u) > 30) & (points.z > 16) & (points.z < 46)
        behind = ellipsoid(points, (-2, -33, 16), (13, 0.5 + 0.7 * depth, 6 + depth))
        return np.asarray((pouch < 0) | (gutter & (points.y > -8)) | (behind < 0))

    def fat(self, points: Points) -> Mask:
        """Where fat lies between the fibres of muscles."""
        return fat_streaks(points, self.fatty, _STREAK_SPACING_MM, self.seed)

    def metal(self, points: Points, bone: BoneFields) -> Mask:
        """Where metal leaves no signal: screws of a ligament's repair, or a total knee prosthesis."""
        if self.implant == "screws":
            return self._screws(points)
        return self._prosthesis(points, bone) if self.implant == "prosthesis" else np.zeros(points.u.shape, dtype=bool)

    def _screws(self, points: Points) -> Mask:
        wide, deep = self.bones.tibial_scale
        tibial: list[Vector] = [(-12 * wide, 12 * deep, -40), (-5 * wide, 4 * deep, -18)]
        femoral: list[Vector] = [(14, -14, 27), (27, -6, 42)]
        return np.asarray(np.minimum(_rod(points, tibial, 5.5), _rod(points, femoral, 5.0)) < 0)

    def _prosthesis(self, points: Points, bone: BoneFields) -> Mask:
        """A shell over the condyles, a tray on the tibia with its stem, and the insert between them."""
        wide = self.bones.tibial_scale[0]
        above = points.z - self.bones.plateau(points.u, points.y)
        shell = (np.abs(bone.femur + 2.5) < 5.0) & (points.z < 40 + 0.4 * points.y)
        tray = (bone.tibia < 2.0) & (above > -9)
        inlay = (above > -1) & (above < 12) & (bone.tibia < 11) & (bone.femur < 8) & (np.abs(points.u) < 35 * wide)
        stem = _rod(points, [(0, -7, -8), (-1, -6, -46)], 7.0) < 0
        pegs = np.minimum(*(_rod(points, [(s * 22, -2, 6), (s * 20, -2, 26)], 3.5) for s in (-1, 1))) < 0
        return np.asarray(shell | tray | inlay | stem | pegs)


def _rod(points: Points, path: list[Vector], radius: float) -> Field:
    return band(points, path, (1, 0, 0), radius, radius)
