"""The procedural lumbar spine: a label for every point of the trunk from T11 to the sacrum, from dimensions in mm.

The world's origin is the middle of L3's body; x runs to the patient's right, y forwards, z upwards. Points are bent
smoothly and a lateral curve is taken out of them; then tissues are painted from the outside in, so that the label
depends on the point alone and never on the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import lumbar_bones as bones
from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Points, Vector
from msksam_cli.phantom.lumbar_column import Column, Frame
from msksam_cli.phantom.lumbar_pelvis import Pelvis
from msksam_cli.phantom.lumbar_shape import LEVELS, LumbarShape, sample_lumbar_shape
from msksam_cli.phantom.lumbar_soft import SKIN_MM, TorsoTissues
from msksam_cli.phantom.lumbar_tubes import Tubes
from msksam_cli.phantom.space import Labels, Waves, bend, bending_waves, label_map, points_from_array

__all__ = ["LUMBAR_TISSUES", "LumbarShape", "lumbar_label_map", "lumbar_labels_at", "sample_lumbar_shape"]

LUMBAR_TISSUES = tissues_of("lumbar", findings=True)
"""The tissues of the procedural lumbar spine."""

_BODIES = (tissues.T11, tissues.T11, tissues.T12, tissues.L1, tissues.L2, tissues.L3, tissues.L4, tissues.L5)
_DISCS = (
    tissues.DISC_T11_T12,
    tissues.DISC_T11_T12,
    tissues.DISC_T12_L1,
    tissues.DISC_L1_L2,
    tissues.DISC_L2_L3,
    tissues.DISC_L3_L4,
    tissues.DISC_L4_L5,
    tissues.DISC_L5_S1,
)
_SEPTUM_MM = 0.7
_CURVE_MM = 190.0
_BULGE_MM = (0.6, 3.0)
_NODE_MM = 4.5
_WING_MARGIN_MM = 18.0


def lumbar_label_map(shape: LumbarShape, grid: Grid) -> LabelMap:
    """Label every voxel by the tissue at its centre, on any grid; the middle of L3 is the world's origin."""
    return label_map(_Spine.of(shape).labels, grid, LUMBAR_TISSUES)


def lumbar_labels_at(shape: LumbarShape, points_mm: NDArray[np.floating]) -> Labels:
    """Labels (…) uint8 at world points (…, 3) in RAS+ mm."""
    return _Spine.of(shape).labels(points_from_array(points_mm))


@dataclass(frozen=True, eq=False)
class _Part:
    """A tissue that lies within a box of space.

    Attributes:
        tissue: its label.
        box: lowest and highest u, y and z in mm.
        frame: of the points that `field` takes; the world's own when None.
        field: negative inside.
    """

    tissue: int
    box: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    frame: Frame | None
    field: Callable[[Points], Field]

    def paint(self, points: Points, labels: Labels) -> None:
        """Label the points inside."""
        for coordinate, (low, high) in zip(points, self.box, strict=True):
            if coordinate.min() > high or coordinate.max() < low:
                return
        near = np.ones(points.u.shape, dtype=bool)
        for coordinate, (low, high) in zip(points, self.box, strict=True):
            near &= (coordinate > low) & (coordinate < high)
        if near.any():
            local = points.select(near)
            inside = self.field(self.frame.local(local) if self.frame else local) < 0
            labels[near] = np.where(inside, np.uint8(self.tissue), labels[near])


@dataclass(frozen=True, eq=False)
class _Spine:
    """A shape's parts and the way from world points to them."""

    shape: LumbarShape
    soft: TorsoTissues
    pelvis: Pelvis
    under_the_canal: tuple[_Part, ...]
    parts: tuple[_Part, ...]
    waves: Waves

    @classmethod
    def of(cls, shape: LumbarShape) -> _Spine:
        column = Column.of(shape)
        pelvis = _pelvis(shape, column)
        return cls(
            shape,
            TorsoTissues(shape, Tubes(shape, column)),
            pelvis,
            (_wing_part(pelvis), _sacrum_part(shape, column)),
            (*_bony_parts(shape, column), *_implant_parts(shape, column)),
            bending_waves(shape.bending_seed, shape.bending_mm),
        )

    def labels(self, world: Points) -> Labels:
        """Labels at world points."""
        points = self._straightened(bend(world, self.waves))
        labels = self._trunk(points)
        if labels.any():
            for part in self.under_the_canal:
                part.paint(points, labels)
            for tissue, field in self.soft.canal(points):
                labels[field < 0] = tissue
            for part in self.parts:
                part.paint(points, labels)
        return labels

    def _straightened(self, points: Points) -> Points:
        """Take out the lateral curve: half a wave whose ends meet at the Cobb angle."""
        if self.shape.scoliosis_deg == 0:
            return points
        rate = np.pi / _CURVE_MM
        height = np.tan(np.radians(self.shape.scoliosis_deg / 2)) / rate
        phase = np.clip((points.z + np.float32(_CURVE_MM / 2 + 5)) * np.float32(rate), -np.pi / 2, 1.5 * np.pi)
        return Points(points.u - np.float32(height) * np.sin(phase), points.y, points.z)

    def _trunk(self, points: Points) -> Labels:
        """Skin, fat, organs, vessels and muscles; 0 outside the body."""
        labels = np.zeros(points.u.shape, dtype=np.uint8)
        skin = self.soft.skin(points)
        if skin.size == 0 or skin.min() > 0:
            return labels
        labels[skin < 0] = tissues.SKIN
        labels[skin < -SKIN_MM] = tissues.FAT
        fascia = skin + self.soft.fat_mm(points)
        labels[self.soft.wall(points, fascia)] = tissues.ABDOMINAL_ORGANS
        labels[self.soft.organs(points, fascia) < 0] = tissues.ABDOMINAL_ORGANS
        for tissue, field in self.soft.vessels(points):
            labels[field < 0] = tissue
        labels[(labels == tissues.ABDOMINAL_ORGANS) & self.pelvis.outside(points)] = tissues.FAT
        for tissue, field in self.pelvis.muscles(points):
            labels[(field < 0) & (fascia < 0)] = tissue
        for left, right, field in self.soft.muscles(points, fascia):
            labels[(field < _SEPTUM_MM) & (labels > 0) & (labels != tissues.SKIN)] = tissues.FAT
            inside = field < 0
            labels[inside] = np.where(points.u[inside] > 0, np.uint8(right), np.uint8(left))
        back = (labels >= tissues.LEFT_MULTIFIDUS) & (labels <= tissues.RIGHT_ERECTOR_SPINAE)
        if back.any():
            labels[back] = np.where(self.soft.fat_streaks(points.select(back)), np.uint8(tissues.FAT), labels[back])
        return labels


def _pelvis(shape: LumbarShape, column: Column) -> Pelvis:
    frame, _ = column.sacrum[0]
    return Pelvis(frame.y, frame.z, shape.body_width_mm / 47.0, shape.torso_width_mm / 2 - _WING_MARGIN_MM)


def _wing_part(pelvis: Pelvis) -> _Part:
    box = ((-160.0, 160.0), (pelvis.y - 70, pelvis.y + 110), (pelvis.z - 400, pelvis.highest_mm))
    return _Part(tissues.HIP_BONE, box, None, pelvis.bone)


def _sacrum_part(shape: LumbarShape, column: Column) -> _Part:
    y = [frame.y for frame, _ in column.sacrum]
    z = [frame.z for frame, _ in column.sacrum]
    box = ((-75.0, 75.0), (min(y) - 70, max(y) + 45), (min(z) - 35, max(z) + 40))
    size = (shape.body_width_mm, shape.body_depth_mm)
    field = partial(bones.sacrum, pieces=column.sacrum, size=size, canal_mm=shape.canal_depth_mm)
    return _Part(tissues.SACRUM, box, None, field)


def _bony_parts(shape: LumbarShape, column: Column) -> Iterator[_Part]:
    """All posterior elements, then all discs, then all bodies, so that each has its own outline."""
    canal = (shape.canal_width_mm, shape.canal_depth_mm)
    wear = [_wear(shape, level) for level in range(len(LEVELS))]
    for level, (frame, size) in enumerate(column.bodies):
        box = ((-60.0, 60.0), (frame.y - 95, frame.y), (frame.z - 65, frame.z + 40))
        field = partial(bones.posterior_elements, size=size, level=level, canal_mm=canal)
        yield _Part(tissues.POSTERIOR_ELEMENTS, box, frame, field)
    for level, (frame, disc) in enumerate(column.discs):
        yield _Part(_DISCS[level], _box_round(frame), frame, partial(bones.disc, size=disc, wear=wear[level]))
    for level, (frame, size) in enumerate(column.bodies):
        yield _Part(_BODIES[level], _box_round(frame), frame, partial(bones.body, size=size, wear=wear[level]))


def _implant_parts(shape: LumbarShape, column: Column) -> Iterator[_Part]:
    """Pedicle screws, and the rods from each to the next."""
    canal = (shape.canal_width_mm, shape.canal_depth_mm)
    heads: list[Vector] = []
    for level in shape.screw_levels:
        frame, size = column.bodies[level]
        box = ((-50.0, 50.0), (frame.y - 80, frame.y + 40), (frame.z - 45, frame.z + 45))
        yield _Part(tissues.IMPLANT, box, frame, partial(bones.screw, size=size, level=level, canal_mm=canal))
        head, _ = bones.screw_ends(size, level, canal)
        heads.append((head[0], *frame.world(head[1], head[2])))
    for upper, lower in pairwise(heads):
        box = ((-60.0, 60.0), (min(upper[1], lower[1]) - 10, max(upper[1], lower[1]) + 10), (lower[2], upper[2]))
        yield _Part(tissues.IMPLANT, box, None, partial(bones.rods, ends=(upper, lower)))


def _wear(shape: LumbarShape, level: int) -> bones.Wear:
    rng = np.random.default_rng([shape.bending_seed, level])
    return bones.Wear(
        lip=shape.osteophyte_mm * float(rng.uniform(0.3, 1.0)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        node=_NODE_MM if level == shape.node_level else 0.0,
        bulge=_BULGE_MM[0] + (_BULGE_MM[1] - _BULGE_MM[0]) * shape.degeneration[level],
        protrusion=shape.protrusion_mm if level == shape.protrusion_level else 0.0,
        protrusion_u=float(rng.normal(0, 5)),
    )


def _box_round(frame: Frame) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    return ((-42.0, 42.0), (frame.y - 42, frame.y + 42), (frame.z - 36, frame.z + 36))
