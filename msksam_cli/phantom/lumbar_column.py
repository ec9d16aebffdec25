"""The row of vertebral bodies and discs: where each stands, how it is tilted, and its dimensions in mm.

The column is a chain in the sagittal plane. It starts at the middle of L3 and goes on, upwards and downwards, by the
height and wedge of every body and disc; lordosis is the sum of those wedges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom.fields import Points
from msksam_cli.phantom.lumbar_shape import LEVELS, LumbarShape

SACRAL_PIECES = 5
_L1, _L3 = LEVELS.index("L1"), LEVELS.index("L3")

# of T10 to L5; widths and depths relative to the upper end plate of L3, heights to L3's (Panjabi 1992; Berry 1987)
_UPPER_WIDTH = (0.75, 0.80, 0.86, 0.92, 0.96, 1.0, 1.045, 1.085)
_LOWER_WIDTH = (0.80, 0.86, 0.925, 0.97, 1.015, 1.06, 1.09, 1.075)
_UPPER_DEPTH = (0.87, 0.90, 0.93, 0.96, 0.985, 1.0, 1.01, 1.01)
_LOWER_DEPTH = (0.90, 0.93, 0.96, 0.985, 1.0, 1.0, 1.0, 0.98)
_FRONT_HEIGHT = (0.79, 0.82, 0.87, 0.935, 0.98, 1.0, 1.0, 1.02)
_BACK_HEIGHT = (0.84, 0.87, 0.925, 0.98, 1.0, 1.0, 0.965, 0.87)
# of T10-T11 to L5-S1; heights relative to L3-L4 (Shao 2002), shares of the lordosis that discs make (Jackson 1994)
_DISC_HEIGHT = (0.47, 0.52, 0.62, 0.78, 0.92, 1.0, 1.08, 1.02)
_DISC_SHARE = (0.0, 0.0, 0.02, 0.08, 0.14, 0.19, 0.26, 0.33)
_WORN_HEIGHT = 0.55
_THINNEST_BACK_MM = 2.0
_SACRAL_HEIGHT = (1.05, 0.90, 0.74, 0.62, 0.55)
_SACRAL_BEND = (0.0, 0.18, 0.30, 0.30, 0.22)
_BICONCAVE = 1.6


@dataclass(frozen=True)
class Frame:
    """A place in the sagittal plane: (y, z) of its origin in mm and the tilt that lifts its front."""

    y: float
    z: float
    tilt_deg: float

    def local(self, points: Points) -> Points:
        """Points in this frame: u unchanged, y forwards, z upwards along the column."""
        cosine, sine = (np.float32(f(np.radians(self.tilt_deg))) for f in (np.cos, np.sin))
        y, z = points.y - np.float32(self.y), points.z - np.float32(self.z)
        return Points(points.u, cosine * y + sine * z, cosine * z - sine * y)

    def world(self, y: float, z: float) -> tuple[float, float]:
        """(y, z) in the sagittal plane of a place given in this frame."""
        cosine, sine = np.cos(np.radians(self.tilt_deg)), np.sin(np.radians(self.tilt_deg))
        return float(self.y + cosine * y - sine * z), float(self.z + cosine * z + sine * y)

    def moved(self, up_mm: float, turn_deg: float = 0.0) -> Frame:
        """The frame after a step along the column and a turn."""
        return Frame(*self.world(0.0, up_mm), self.tilt_deg + turn_deg)


@dataclass(frozen=True)
class BodySize:
    """Half widths and half depths of the upper and lower end plate, height at front and back, all in mm."""

    half_width: tuple[float, float]
    half_depth: tuple[float, float]
    front: float
    back: float
    concavity: tuple[float, float]

    @property
    def height(self) -> float:
        """Height in the middle between the planes of the rims."""
        return (self.front + self.back) / 2

    @property
    def wedge_deg(self) -> float:
        """Angle between the planes of the rims; positive where the front is higher."""
        return float(np.degrees(2 * np.arctan((self.front - self.back) / 2 / sum(self.half_depth))))


@dataclass(frozen=True)
class DiscSize:
    """Outline and height of a disc between the planes of the rims, mm and degrees."""

    half_width: float
    half_depth: float
    height: float
    wedge_deg: float
    concavity: tuple[float, float]


@dataclass(frozen=True)
class Column:
    """Bodies and discs of `LEVELS` from above, then the pieces of the sacrum, each with its frame."""

    bodies: tuple[tuple[Frame, BodySize], ...]
    discs: tuple[tuple[Frame, DiscSize], ...]
    sacrum: tuple[tuple[Frame, float], ...]

    @classmethod
    def of(cls, shape: LumbarShape) -> Column:
        """Stack the column of a shape round the middle of L3."""
        sizes = [body_size(shape, level) for level in range(len(LEVELS))]
        discs = _disc_sizes(shape, sizes)
        frames = {_L3: Frame(0.0, 0.0, shape.pitch_deg)}
        between: dict[int, Frame] = {}
        for level in range(_L3, len(LEVELS)):
            plate = frames[level].moved(-sizes[level].height / 2, -sizes[level].wedge_deg / 2)
            between[level], below = _across(plate, discs[level], down=True)
            if level + 1 < len(LEVELS):
                half = sizes[level + 1].wedge_deg / 2
                frames[level + 1] = Frame(below.y, below.z, below.tilt_deg - half).moved(-sizes[level + 1].height / 2)
        for level in range(_L3, 0, -1):
            plate = frames[level].moved(sizes[level].height / 2, sizes[level].wedge_deg / 2)
            between[level - 1], above = _across(plate, discs[level - 1], down=False)
            half = sizes[level - 1].wedge_deg / 2
            frames[level - 1] = Frame(above.y, above.z, above.tilt_deg + half).moved(sizes[level - 1].height / 2)
        return cls(
            tuple((frames[level], sizes[level]) for level in range(len(LEVELS))),
            tuple((between[level], discs[level]) for level in range(len(LEVELS))),
            _sacrum(shape, below),
        )

    def midline(self) -> list[tuple[float, float, float, float]]:
        """(level, y, z, tilt) of bodies and sacral pieces from above; T10 is level -1, L1 level 2, S1 level 7."""
        frames = [frame for frame, _ in (*self.bodies, *self.sacrum)]
        return [(float(level - 1), frame.y, frame.z, frame.tilt_deg) for level, frame in enumerate(frames)]


def body_size(shape: LumbarShape, level: int) -> BodySize:
    """Dimensions of one body; a fracture lowers its front most and its back least."""
    loss = shape.fracture_loss if level == shape.fracture_level else 0.0
    concavity = shape.concavity_mm * (1 + _BICONCAVE * loss)
    return BodySize(
        (shape.body_width_mm * _UPPER_WIDTH[level] / 2, shape.body_width_mm * _LOWER_WIDTH[level] / 2),
        (shape.body_depth_mm * _UPPER_DEPTH[level] / 2, shape.body_depth_mm * _LOWER_DEPTH[level] / 2),
        shape.body_height_mm * _FRONT_HEIGHT[level] * (1 - loss),
        shape.body_height_mm * _BACK_HEIGHT[level] * (1 - 0.25 * loss),
        (concavity / 2 * (1 + loss), concavity),
    )


def _disc_sizes(shape: LumbarShape, bodies: list[BodySize]) -> list[DiscSize]:
    sizes = []
    healthy = LumbarShape(
        body_width_mm=shape.body_width_mm, body_depth_mm=shape.body_depth_mm, body_height_mm=shape.body_height_mm
    )
    bony = sum(body_size(healthy, level).wedge_deg for level in range(_L1, len(LEVELS)))
    shares = np.array(_DISC_SHARE) / sum(_DISC_SHARE[_L1:])
    for level, body in enumerate(bodies):
        below = bodies[level + 1] if level + 1 < len(bodies) else body
        height = shape.disc_height_mm * _DISC_HEIGHT[level] * (1 - _WORN_HEIGHT * shape.degeneration[level])
        depth = (body.half_depth[1] + below.half_depth[0]) / 2
        steepest = np.degrees(2 * np.arctan(max(height / 2 - _THINNEST_BACK_MM / 2, 0.0) / depth))
        wedge = float(np.clip((shape.lordosis_deg - bony) * shares[level], -steepest, steepest))
        width = (body.half_width[1] + below.half_width[0]) / 2
        sizes.append(DiscSize(width, depth, height, wedge, (body.concavity[1], below.concavity[0])))
    return sizes


def _across(plate: Frame, disc: DiscSize, down: bool) -> tuple[Frame, Frame]:
    """The disc's own frame and the plane of the next end plate, starting from an end plate's plane."""
    sign = -1 if down else 1
    turned = Frame(plate.y, plate.z, plate.tilt_deg + sign * disc.wedge_deg / 2)
    middle = turned.moved(sign * disc.height / 2)
    return middle, middle.moved(sign * disc.height / 2, sign * disc.wedge_deg / 2)


def _sacrum(shape: LumbarShape, plate: Frame) -> tuple[tuple[Frame, float], ...]:
    """Frames of S1 to S5 with their heights; each is turned forwards against the one above."""
    pieces = []
    for height, bend in zip(_SACRAL_HEIGHT, _SACRAL_BEND, strict=True):
        plate = Frame(plate.y, plate.z, plate.tilt_deg + shape.sacral_kyphosis_deg * bend)
        height_mm = shape.body_height_mm * height
        pieces.append((plate.moved(-height_mm / 2), height_mm))
        plate = plate.moved(-height_mm)
    return tuple(pieces)
