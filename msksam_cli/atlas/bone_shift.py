"""How far a bone as placed is from the same bone as found, at every voxel near it.

With s_a the signed distance to the placed surface and s_f that to the found one, a voxel x is shifted to the point y
with s_a(y) = s_f(x), reached from x along ∇s_a after a rigid motion of the whole bone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msksam_cli.atlas.distance import signed_distance_mm
from msksam_cli.atlas.interpolated import value_and_slope
from msksam_cli.core.boxed import Box3D, bounding_box, grown

LEAST_PROBABILITY = 0.02

_MOST_SURFACE_POINTS = 20_000

Array = NDArray[np.float32]


@dataclass(frozen=True)
class AttachmentRules:
    """How priors follow the bones.

    Attributes:
        spacing_mm: of the grid distances are measured on.
        most_voxels: that grid is made coarser until it has no more.
        most_shift_mm: longest way a prior is taken from; what lies further off is no error of placement.
        rigid_steps: of the fit of each placed bone, as a rigid body, to the found one.
        steps: of the iteration that solves s_a(y) = s_f(x).
        beside_share: a bone counts as a tissue's neighbour when the tissue's mean distance to it is at most this many
            times the distance to its nearest bone.
        touch_mm: added to distances before neighbours are weighed by their inverse square.
        smooth_mm: standard deviation that evens out the shifts, as surfaces of voxels are rough.
        depth_mm: shifts are computed down to this depth below a found bone's surface, where nothing else can be.
        edge_mm: standard deviation of the found bones' edges, as far as the network can tell.
        margin_mm: distances are measured this far round the thin tissues.
        least_dice: a found bone that overlaps the placed one less is more likely wrong than the placement.
    """

    spacing_mm: float = 1.0
    most_voxels: int = 4_000_000
    most_shift_mm: float = 10.0
    rigid_steps: int = 15
    steps: int = 3
    beside_share: float = 2.0
    touch_mm: float = 1.0
    smooth_mm: float = 1.0
    depth_mm: float = 5.0
    edge_mm: float = 0.7
    margin_mm: float = 14.0
    least_dice: float = 0.3


@dataclass(frozen=True, eq=False)
class Anchor:
    """A bone inside the box, as placed and as found.

    Attributes:
        placed_mm: (I, J, K) signed distance to the placed surface, positive outside; far from the bone only a bound.
        found_mm: the same to the found surface.
        shift_mm: (3, I, J, K) from each voxel to where the placed atlas has the same distance, along the grid's axes;
            0 far from the bone.
    """

    placed_mm: Array
    found_mm: Array
    shift_mm: Array

    @classmethod
    def far_away(cls, shape: tuple[int, ...], distance_mm: float) -> Anchor:
        """A bone that is at least so far from every voxel."""
        placed_mm, found_mm = (np.full(shape, distance_mm, dtype=np.float32) for _ in range(2))
        return cls(placed_mm, found_mm, np.zeros((3, *shape), dtype=np.float32))

    def within(self, box: Box3D) -> Anchor:
        """The part of it in a box."""
        return Anchor(self.placed_mm[box], self.found_mm[box], self.shift_mm[:, *box])


def fitted_anchor(
    placed: NDArray[np.bool_],
    found: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    rules: AttachmentRules,
) -> Anchor | None:
    """The way from each voxel to where the placed bone is as far as the found one is here; None without a surface."""
    if any(mask.all() or not mask.any() for mask in (placed, found)):
        return None
    box = box_round([placed, found], spacing_mm, rules.margin_mm)
    smooth = [rules.smooth_mm / step for step in spacing_mm]
    here, there = (ndimage.gaussian_filter(signed_distance_mm(m[box], spacing_mm), smooth) for m in (placed, found))
    near = (there > -rules.depth_mm) & (there < rules.margin_mm)
    voxels, steps = voxels_of(near), column(spacing_mm)
    shift_mm = _rigid_shift(here, there, voxels, spacing_mm, rules)
    for _ in range(rules.steps):
        distance_mm, slope = value_and_slope(here, voxels + shift_mm / steps)
        slope /= steps
        slope /= np.maximum(np.linalg.norm(slope, axis=0), 1e-3)
        shift_mm += (there[near] - distance_mm) * slope
        length_mm = np.linalg.norm(shift_mm, axis=0)
        shift_mm *= np.minimum(1.0, rules.most_shift_mm / np.maximum(length_mm, 1e-6))
    anchor = Anchor.far_away(found.shape, rules.margin_mm)
    anchor.placed_mm[box], anchor.found_mm[box] = here, there
    for whole, part in zip(anchor.shift_mm, shift_mm, strict=True):
        rough = np.zeros(near.shape, dtype=np.float32)
        rough[near] = part
        whole[box] = ndimage.gaussian_filter(rough, smooth)
    return anchor


def _rigid_shift(
    here: Array, there: Array, wanted: Array, spacing_mm: tuple[float, float, float], rules: AttachmentRules
) -> Array:
    """(3, N) in mm: where the placed bone, as a rigid body, would have to be looked up to lie on the found one.

    Gauss-Newton on the placed bone's distance at points of the found surface, as point-to-plane ICP (Chen and Medioni,
    Image and Vision Computing 1992); it tells the shift along the surface, which distances alone leave open. Normals
    are smooth, as those of a ball would turn it by nothing but their noise.
    """
    steps = np.array(spacing_mm)
    surface = np.argwhere(np.abs(there) < max(spacing_mm)) * steps
    middle = surface.mean(axis=0) if len(surface) else np.zeros(3)
    surface = surface[:: max(1, len(surface) // _MOST_SURFACE_POINTS)] - middle
    slopes = np.array(np.gradient(here, *spacing_mm))
    slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-3)
    rotation, move = np.eye(3), np.zeros(3)
    for _ in range(rules.rigid_steps):
        points = surface @ rotation.T + move
        voxels = ((points + middle) / steps).T
        off, *normal = (ndimage.map_coordinates(f, voxels, order=1, mode="nearest") for f in (here, *slopes))
        normals = np.array(normal).T
        weight = 1.0 / (1.0 + (off / 2.0) ** 2)
        rows = np.concatenate([np.cross(points, normals), normals], axis=1)
        square = (rows * weight[:, None]).T @ rows
        square += 1e-3 * np.diag(np.diag(square)) + 1e-6 * np.eye(6)
        turn = np.linalg.solve(square, -(rows * (weight * off)[:, None]).sum(axis=0))
        step = Rotation.from_rotvec(turn[:3]).as_matrix()
        rotation, move = step @ rotation, step @ move + turn[3:]
    x = wanted * column(spacing_mm) - column(middle)
    return (rotation - np.eye(3)).astype(np.float32) @ x + column(move)


def shift_between(anchors: Sequence[Anchor], rules: AttachmentRules) -> Array:
    """(3, I, J, K) in mm: the shifts of bones, each the more the nearer it is, none far from all of them."""
    shift_mm, shape = np.zeros_like(anchors[0].shift_mm), anchors[0].found_mm.shape
    total, nearest_mm = np.full(shape, 1e-6, dtype=np.float32), np.full(shape, np.inf, dtype=np.float32)
    for anchor in anchors:
        distance_mm = np.abs(anchor.found_mm)
        weight = _faded(distance_mm, rules) / (distance_mm + rules.touch_mm) ** 2
        shift_mm += weight * anchor.shift_mm
        total += weight
        np.minimum(nearest_mm, distance_mm, out=nearest_mm)
    shift_mm *= _faded(nearest_mm, rules) / total
    return shift_mm


def _faded(distance_mm: Array, rules: AttachmentRules) -> Array:
    """What counts of a bone at a distance: all up to half the margin, nothing beyond the margin."""
    return np.asarray(np.clip(2.0 - 2.0 * distance_mm / rules.margin_mm, 0.0, 1.0), dtype=np.float32)


def box_round(
    values: Sequence[Array | NDArray[np.bool_]], spacing_mm: tuple[float, float, float], margin_mm: float
) -> Box3D | None:
    """The box of all voxels where any of several tissues may be, and a margin; None when there are none."""
    somewhere = np.any([value > LEAST_PROBABILITY for value in values], axis=0) if values else np.zeros((0, 0, 0))
    box = bounding_box(somewhere)
    return grown(box, [round(margin_mm / step) for step in spacing_mm], somewhere.shape) if box else None


def voxels_of(chosen: NDArray[np.bool_]) -> Array:
    """(3, N) coordinates of the chosen voxels."""
    return np.asarray(np.stack(np.nonzero(chosen)), dtype=np.float32)


def column(three: ArrayLike) -> Array:
    """Three numbers as a column beside (3, N)."""
    return np.asarray(three, dtype=np.float32)[:, None]
