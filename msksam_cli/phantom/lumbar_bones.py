"""Vertebral bodies, discs, posterior elements and sacrum as fields in the frames of the column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
from msksam_cli.phantom.lumbar_column import BodySize, DiscSize, Frame

_WAIST_WIDTH, _WAIST_FRONT, _WAIST_BACK = 0.11, 0.09, 0.035
_NOTCH, _NOTCH_WIDTH = 0.07, 0.5
_RIM = 0.88
_RIM_EDGE_MM = 2.2
_DISC_OVERLAP_MM = 0.8
_PROTRUSION_WIDTH_MM = 8.0
_NODE_RADIUS_MM = 5.0
_SMALLEST_RADIUS = 0.05
_MEAN_HEIGHT_MM = 28.5
_SPINOUS_HALF_WIDTH_MM = 3.6
_SCREW_MM, _ROD_MM = 3.1, 2.8

# of T10 to L5, mm at mean size (Panjabi 1992; Berry 1987; Zindrick 1987)
_PEDICLE_HALF_WIDTH = (3.4, 3.6, 3.6, 3.8, 4.0, 4.7, 5.8, 8.0)
_PEDICLE_HALF_HEIGHT = (7.0, 7.6, 7.8, 7.6, 7.4, 7.2, 7.2, 7.4)
_CANAL_HALF_WIDTH = (0.82, 0.86, 0.90, 0.95, 0.97, 1.0, 1.04, 1.12)
_TRANSVERSE_REACH = (27.0, 25.0, 26.0, 36.0, 40.0, 45.0, 43.0, 46.0)
_SPINOUS_LENGTH = (27.0, 26.0, 25.0, 28.0, 30.0, 30.0, 27.0, 21.0)
_SPINOUS_DROP = (20.0, 15.0, 9.0, 6.0, 5.0, 5.0, 4.0, 5.0)
_SPINOUS_HALF_HEIGHT = (6.0, 7.0, 9.0, 11.5, 12.5, 12.5, 11.5, 8.5)


@dataclass(frozen=True)
class Wear:
    """What age adds to a body or disc, in mm.

    Attributes:
        lip: osteophytes at the rims.
        phase: where round the rim they are longest, rad.
        node: depth of a Schmorl node in the lower end plate.
        bulge: of the disc beyond the rims.
        protrusion: of the disc into the canal.
        protrusion_u: where, from the midline to the right.
    """

    lip: float = 0.0
    phase: float = 0.0
    node: float = 0.0
    bulge: float = 0.7
    protrusion: float = 0.0
    protrusion_u: float = 0.0


def body(local: Points, size: BodySize, wear: Wear) -> Field:
    """Field of a vertebral body: a kidney-shaped drum with a waist, hollow end plates and perhaps lips."""
    along = np.clip(local.z * np.float32(2 / size.height), -1, 1)
    narrow = 1 - along**2
    width = _between(size.half_width, along) * (1 - np.float32(_WAIST_WIDTH) * narrow)
    waist = np.where(local.y > 0, np.float32(_WAIST_FRONT), np.float32(_WAIST_BACK))
    depth = _between(size.half_depth, along) * (1 - waist * narrow)
    radius, side = _outline(local, width, depth)
    if wear.lip:
        side = side - _lip(local, along, wear)
    slope = np.float32((size.front - size.back) / 2 / sum(size.half_depth))
    half = np.float32(size.height / 2) + slope * local.y
    inner = np.clip(1 - (radius / np.float32(_RIM)) ** 2, 0, 1)
    above = local.z - half + np.float32(size.concavity[0]) * inner
    lower = np.float32(size.concavity[1]) * inner
    if wear.node:
        lower = lower + _node(local, wear)
    below = -local.z - half + lower
    return smooth_intersection(side, np.maximum(above, below), _RIM_EDGE_MM)


def disc(local: Points, size: DiscSize, wear: Wear) -> Field:
    """Field of a disc; it reaches a little into the bodies, which are to be painted over it."""
    radius, side = _outline(local, np.float32(size.half_width), np.float32(size.half_depth))
    slope = np.float32(np.tan(np.radians(size.wedge_deg / 2)))
    rim = np.float32(size.height / 2) + slope * local.y
    inner = np.clip(1 - (radius / np.float32(_RIM)) ** 2, 0, 1)
    hollow = np.where(local.z > 0, np.float32(size.concavity[0]), np.float32(size.concavity[1])) * inner
    if wear.node:
        hollow = hollow + _node(local, wear) * (local.z > 0)
    across = np.clip(local.z / np.maximum(rim, np.float32(1.0)), -1, 1)
    out = np.float32(wear.bulge) * (1 - across**2)
    field = smooth_intersection(side - out, np.abs(local.z) - rim - hollow - np.float32(_DISC_OVERLAP_MM), 1.0)
    if wear.protrusion:
        centre = (wear.protrusion_u, -size.half_depth, 0.0)
        radii = (_PROTRUSION_WIDTH_MM, wear.protrusion + wear.bulge, size.height / 2 + 1.0)
        field = smooth_union(field, ellipsoid(local, centre, radii), 1.5)
    return field


def _between(ends: tuple[float, float], along: Field) -> Field:
    """From the lower plate (along = -1) to the upper one (1)."""
    upper, lower = ends
    return np.asarray(np.float32((upper + lower) / 2) + np.float32((upper - lower) / 2) * along)


def _outline(local: Points, width: Field | np.float32, depth: Field | np.float32) -> tuple[Field, Field]:
    """Relative radius and distance from the outline: an ellipse in front, squarer and notched behind."""
    x, y = np.abs(local.u) / width, local.y / depth
    notch = 1 + np.float32(_NOTCH) * np.exp(-((x / np.float32(_NOTCH_WIDTH)) ** 2))
    back = -y * notch
    behind = np.cbrt(x**3 + np.maximum(back, 0) ** 3)
    radius = np.maximum(np.where(y > 0, np.hypot(x, y), behind), np.float32(_SMALLEST_RADIUS))
    return np.asarray(radius), np.asarray(np.hypot(local.u, local.y) * (1 - 1 / radius))


def _lip(local: Points, along: Field, wear: Wear) -> Field:
    angle = np.arctan2(local.y, local.u)
    uneven = 0.7 + 0.3 * np.sin(2 * angle + np.float32(wear.phase)) + 0.2 * np.sin(5 * angle - np.float32(wear.phase))
    return np.asarray(np.float32(wear.lip) * uneven * along**6 * ramp(local.y, -14.0, 2.0), dtype=np.float32)


def _node(local: Points, wear: Wear) -> Field:
    square = (local.u - np.float32(4.0)) ** 2 + (local.y + np.float32(3.0)) ** 2
    return np.asarray(np.float32(wear.node) * np.exp(-square / np.float32(_NODE_RADIUS_MM**2)))


def posterior_elements(local: Points, size: BodySize, level: int, canal_mm: tuple[float, float]) -> Field:
    """Field of pedicles, laminae, facets, transverse and spinous processes of one vertebra, in its body's frame.

    Args:
        local: where; both sides are made from one half.
        size: of the body.
        level: index of the vertebra.
        canal_mm: width and depth of the bony canal of L3.
    """
    half = Points(np.abs(local.u), local.y, local.z)
    scale = size.height / _MEAN_HEIGHT_MM
    wall = -sum(size.half_depth) / 2
    canal = canal_mm[0] / 2 * _CANAL_HALF_WIDTH[level]
    roof = wall - canal_mm[1]
    thick = _PEDICLE_HALF_WIDTH[level] * scale
    x = canal + thick
    up = 5.0 * scale
    pars = (x - 0.5, wall - 12.0, 1.0)
    bridge = ((x, wall + 3.0, up), (x, wall - 8.0, up))
    field = band(half, bridge, (1, 0, 0), thick, _PEDICLE_HALF_HEIGHT[level] * scale)
    upper, lower = (x + 1.5, wall - 11.0, 13.0 * scale), (x - 3.5, roof - 2.0, -13.0 * scale)
    column = (upper, pars, lower, (x - 3.5, roof - 3.0, -21.0 * scale))
    field = smooth_union(field, band(half, column, (1, 0, 0), 5.2 * scale, 4.6 * scale), 3.0)
    lamina = ((x - 2.0, roof - 1.5, -4.0 * scale), (0.0, roof - 5.0, -7.0 * scale))
    field = smooth_union(field, band(half, lamina, (0, 0.15, 1), 8.5 * scale, 3.0), 2.5)
    tip = (_TRANSVERSE_REACH[level] * scale, wall - 13.0, up + 1.0)
    field = smooth_union(field, band(half, ((x, wall - 8.0, up), tip), (0, 0, 1), 4.6 * scale, 2.8), 3.0)
    return smooth_union(field, _spinous(half, level, roof, scale), 2.5)


def _spinous(half: Points, level: int, roof: float, scale: float) -> Field:
    path = ((0.0, roof - 6.0, -7.0 * scale), (0.0, *_spinous_end(level, roof, scale)))
    return band(half, path, (0, 0.1, 1), _SPINOUS_HALF_HEIGHT[level] * scale, _SPINOUS_HALF_WIDTH_MM)


def _spinous_end(level: int, roof: float, scale: float) -> tuple[float, float]:
    return roof - 4.0 - _SPINOUS_LENGTH[level] * scale, -(8.0 + _SPINOUS_DROP[level]) * scale


def spinous_tip(size: BodySize, level: int, canal_depth_mm: float) -> tuple[float, float]:
    """(y, z) of the hindmost place of a vertebra in its body's frame."""
    y, z = _spinous_end(level, -sum(size.half_depth) / 2 - canal_depth_mm, size.height / _MEAN_HEIGHT_MM)
    return y - _SPINOUS_HALF_WIDTH_MM, z


_SACRAL_HALF_WIDTH = (0.52, 0.44, 0.37, 0.31, 0.25)
_SACRAL_HALF_DEPTH = (0.46, 0.36, 0.29, 0.24, 0.20)
_ALA_HALF_WIDTH = (1.15, 1.06, 0.92, 0.75, 0.55)
_ALA_HALF_DEPTH = (0.40, 0.36, 0.27, 0.20, 0.16)
_ROOF_MM = (6.0, 6.0, 5.0, 4.0, 3.0)

Pieces = tuple[tuple[Frame, float], ...]
"""Frames and heights of S1 to S5."""


def sacrum(points: Points, pieces: Pieces, size: tuple[float, float], canal_mm: float) -> Field:
    """Field of the sacrum, its canal still filled.

    Args:
        points: where, in mm.
        pieces: frames and heights of S1 to S5.
        size: width and depth of the upper end plate of L3.
        canal_mm: depth of the bony canal of L3.
    """
    field = np.full(points.u.shape, np.inf, dtype=np.float32)
    for piece, (frame, height) in enumerate(pieces):
        local = frame.local(points)
        width, depth = size[0] * _SACRAL_HALF_WIDTH[piece], size[1] * _SACRAL_HALF_DEPTH[piece]
        along = np.clip(local.z * np.float32(2 / height), -1, 1)
        _, side = _outline(local, np.float32(width) * (1 + 0.06 * along), np.float32(depth) * (1 + 0.10 * along))
        ends = np.asarray(np.abs(local.z) - np.float32(height / 2 + 0.4))
        solid = smooth_intersection(side, ends, 2.0)
        back = -depth - canal_mm * (0.8 - 0.12 * piece) - _ROOF_MM[piece]
        ala = ellipsoid(
            local,
            (0.0, -depth * 0.75, -1.0),
            (size[0] * _ALA_HALF_WIDTH[piece], size[1] * _ALA_HALF_DEPTH[piece], height * 0.62),
        )
        arch = (17.0 - 2 * piece, (-depth - back) / 2 + 3, height * 0.6)
        roof = ellipsoid(local, (0.0, (back - depth) / 2, -2.0), arch)
        crest = band(local, ((0.0, back + 4, -2.0), (0.0, back - 5, -4.0)), (0, 0, 1), height * 0.3, 3.0)
        whole = smooth_union(smooth_union(solid, ala, 3.0), smooth_union(roof, crest, 3.0), 3.0)
        field = whole if piece == 0 else smooth_union(field, whole, 2.5)
    return _without_foramina(points, pieces, size, field)


def _without_foramina(points: Points, pieces: Pieces, size: tuple[float, float], field: Field) -> Field:
    half = Points(np.abs(points.u), points.y, points.z)
    for piece in range(3):
        frame, height = pieces[piece]
        local = frame.moved(-height / 2).local(half)
        x = size[0] * _SACRAL_HALF_WIDTH[piece] * 0.95
        hole = band(local, ((x, 16.0, 0.0), (x * 0.85, -26.0, 0.0)), (1, 0, 0), 4.5, 4.0)
        field = smooth_difference(field, hole, 1.5)
    return field


def screw(local: Points, size: BodySize, level: int, canal_mm: tuple[float, float]) -> Field:
    """Field of both pedicle screws of one vertebra with their heads, in its body's frame."""
    half = Points(np.abs(local.u), local.y, local.z)
    head, tip = screw_ends(size, level, canal_mm)
    shaft = band(half, (head, tip), (1, 0, 0), _SCREW_MM, _SCREW_MM)
    return smooth_union(shaft, ellipsoid(half, head, (6.5, 6.5, 7.0)), 1.0)


def rods(points: Points, ends: tuple[Vector, Vector]) -> Field:
    """Field of a rod on either side, between two places given for the right one."""
    return band(Points(np.abs(points.u), points.y, points.z), ends, (1, 0, 0), _ROD_MM, _ROD_MM)


def screw_ends(size: BodySize, level: int, canal_mm: tuple[float, float]) -> tuple[Vector, Vector]:
    """Head and tip of the right screw in the body's frame."""
    scale = size.height / _MEAN_HEIGHT_MM
    wall = -sum(size.half_depth) / 2
    x = canal_mm[0] / 2 * _CANAL_HALF_WIDTH[level] + _PEDICLE_HALF_WIDTH[level] * scale
    return (x + 5.0, wall - 27.0, 6.0 * scale), (x * 0.55, -wall * 0.55, 3.0 * scale)
