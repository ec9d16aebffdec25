"""Bladder and the other organs inside the template pelvis."""

from __future__ import annotations

import numpy as np

from msksam_cli.phantom import tissues
from msksam_cli.phantom.fields import Field, Points, ellipsoid
from msksam_cli.phantom.hip_muscles import MIDLINE_MM
from msksam_cli.phantom.space import Labels

_BLADDER_HALF_WIDTH_MM = 37.0
_BLADDER_WALL_MM = 2.5
_BOWEL_LOOPS = 5
_BOWEL_PLACES_MM = ((-88.0, -45.0, 34.0), (-56.0, 34.0, 72.0))


def organs(points: Points, bladder_radius: float, seed: int) -> Labels:
    """Labels of points inside the pelvis: bladder, uterus or prostate, rectum and bowel in fat.

    Args:
        points: in template mm, arrays of one shape; that of the result.
        bladder_radius: mean radius of the bladder, template mm.
        seed: of the bowel.
    """
    labels = np.full(points.u.shape, tissues.FAT, dtype=np.uint8)
    if not labels.size:
        return labels
    solid = (
        ellipsoid(points, (-MIDLINE_MM, -66, 10), (15, 14, 62)),
        ellipsoid(points, (-MIDLINE_MM, -22, 6), (24, 17, 24)),
        ellipsoid(points, (-MIDLINE_MM, 10, 104 + 0.4 * bladder_radius), (62, 44, 52)),
        *_bowel(points, seed),
    )
    for organ in solid:
        labels[organ < 0] = tissues.PELVIC_ORGANS
    bladder = _bladder(points, bladder_radius)
    labels[bladder < _BLADDER_WALL_MM] = tissues.PELVIC_ORGANS
    labels[bladder < 0] = tissues.BLADDER
    return labels


def _bladder(points: Points, radius: float) -> Field:
    """Field of the bladder, which rises as it fills and is kept narrow by the pelvis."""
    wide = min(1.15 * radius, _BLADDER_HALF_WIDTH_MM)
    return ellipsoid(points, (-MIDLINE_MM, 18, 0.75 * radius - 6), (wide, 0.8 * radius, 0.9 * radius))


def _bowel(points: Points, seed: int) -> list[Field]:
    """Fields of loops of bowel above the bladder."""
    rng = np.random.default_rng([seed, _BOWEL_LOOPS])
    loops = []
    for _ in range(_BOWEL_LOOPS):
        u, y, z = rng.uniform(*_BOWEL_PLACES_MM)
        radii = rng.uniform(8, 17, 3)
        loops.append(ellipsoid(points, (u, y, z), (radii[0], radii[1], radii[2])))
    return loops
