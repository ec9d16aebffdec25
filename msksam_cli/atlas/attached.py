"""Thin tissues laid along the bones they are attached to, once those have been found.

A placement is off by as much as a cartilage is thick, but a bone is large and is found within a voxel. What the atlas
knows of a cartilage is where it lies along a bone and how deep it is, so both are read off the bone as found: with
s_a the signed distance to the placed bone and s_f that to the found one, a voxel x takes the prior from the point y of
the placed atlas with s_a(y) = s_f(x), reached from x along ∇s_a. Between two bones, as a meniscus lies, each moves
the prior the more the nearer it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msksam_cli.atlas.distance import signed_distance_mm
from msksam_cli.atlas.placed import WorkingProbabilities, spread
from msksam_cli.atlas.priors import THIN_GROUPS
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.boxed import Box3D
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable

ANCHOR_GROUPS = ("bone",)
_SURFACE = 0.5
_LEAST_PROBABILITY, _LEAST_ROOM, _LEAST_LEVEL = 0.02, 0.05, 0.15

Array = NDArray[np.float32]
_Value = TypeVar("_Value")


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
    edge_mm: float = 0.7
    margin_mm: float = 14.0
    least_dice: float = 0.3


@dataclass(frozen=True, eq=False)
class _Anchor:
    """A bone inside the box, as placed and as found.

    Attributes:
        placed_mm: (I, J, K) signed distance to the placed surface, positive outside.
        found_mm: the same to the found surface.
        shift_mm: (3, I, J, K) from each voxel to where the placed atlas has the same distance, along the grid's axes.
    """

    placed_mm: Array
    found_mm: Array
    shift_mm: Array


@dataclass(frozen=True, eq=False)
class _Outside:
    """Probability (I, J, K) of being in no bone, as placed and as found."""

    placed: Array
    found: Array


def bones_to_find(known: TissueTable, wanted: TissueTable) -> tuple[Tissue, ...]:
    """The atlas's bones where a thin tissue is wanted, which is laid along them; none otherwise."""
    return anchors(known) if any(tissue.group in THIN_GROUPS for tissue in wanted) else ()


def anchors(known: TissueTable) -> tuple[Tissue, ...]:
    """The tissues of an atlas that thin tissues are attached to."""
    return tuple(tissue for tissue in known if tissue.group in ANCHOR_GROUPS)


def attach_to_bones(
    placed: PlacedAtlas, found: Mapping[int, NDArray[np.bool_]], rules: AttachmentRules | None = None
) -> PlacedAtlas:
    """The placement with its thin tissues at their distances from the found bones, and these in place of its own.

    Args:
        placed: as it was placed, not sharpened.
        found: label value → (I, J, K) mask of a bone on the volume's grid.
        rules: how far and how smoothly.

    Returns:
        A placement on a working grid of `rules.spacing_mm`; `placed` itself when none of its bones was found.

    Raises:
        ValueError: a mask does not belong to the placement.
    """
    rules = rules or AttachmentRules()
    kept = placed.probabilities
    if not isinstance(kept, WorkingProbabilities) or any(mask.shape != placed.grid.shape for mask in found.values()):
        raise ValueError(f"found bones do not belong to the placement of {placed.atlas_name!r}")
    fine = _fine_grid(placed.grid, rules)
    values = _each(kept, lambda index: spread(kept.on_work(index), fine.shape))
    thin = [tissue.index for tissue in placed.tissues if tissue.group in THIN_GROUPS]
    box = _box_round([values[index] for index in thin], fine.spacing_mm, rules.margin_mm)
    shown = [index for index, mask in found.items() if index in values and mask.any()]
    bones = _each(shown, lambda index: _between_slices(found[index], placed.grid, fine))
    bones = {i: bone for i, bone in bones.items() if _dice(bone, values[i] > _SURFACE) >= rules.least_dice}
    if box is None or not bones:
        return placed
    pairs = [(values[index][box] > _SURFACE, bone[box]) for index, bone in bones.items()]
    fits = spread_over_cores(lambda pair: _anchor(*pair, fine.spacing_mm, rules), pairs, few_cores())
    bones_beside = [anchor for anchor in fits if anchor]
    if not bones_beside:
        return placed
    smooth = [rules.edge_mm / step for step in fine.spacing_mm]
    edges = {index: ndimage.gaussian_filter(bone.astype(np.float32), smooth) for index, bone in bones.items()}
    outside = _Outside(
        _left_by([values[index][box] for index in bones]), _left_by([edges[index][box] for index in bones])
    )
    soft = {index: value[box] for index, value in values.items() if index not in bones}
    common = _voxels_at(_shift_between(bones_beside, rules), fine.spacing_mm)
    places = {index: common for index in soft}
    for index in thin:
        beside = _beside(soft[index], bones_beside, rules)
        places[index] = _voxels_at(_shift_between(beside, rules), fine.spacing_mm)
    moved = _moved(soft, places, thin, outside)
    for index, part in moved.items():
        values[index] = values[index].copy()
        values[index][box] = part
    return replace(placed, probabilities=WorkingProbabilities(fine, placed.grid, {**values, **edges}))


def _moved(
    soft: Mapping[int, Array], places: Mapping[int, Array], thin: Sequence[int], outside: _Outside
) -> dict[int, Array]:
    """What is no bone, looked up at its places in the placed atlas and given that it is in no bone; thin tissues first.

    P(tissue | no bone) = P(tissue) / P(no bone) as placed, times P(no bone) as found.
    """

    shared = {id(at): at for at in places.values()}
    rooms = _each(shared, lambda one: ndimage.map_coordinates(outside.placed, shared[one], order=1, mode="nearest"))

    def found_at(index: int) -> Array:
        at = places[index]
        there, left = ndimage.map_coordinates(soft[index], at, order=1, mode="nearest"), rooms[id(at)]
        given = np.minimum(there / np.maximum(left, np.maximum(there, _LEAST_ROOM)), 1.0)
        moved = np.asarray(given * outside.found, dtype=np.float32)
        return filling_its_volume(moved) if index in thin else moved

    moved = _each(soft, found_at)
    room = outside.found
    for members in (thin, [index for index in moved if index not in thin]):
        claimed = np.sum([moved[index] for index in members], axis=0)
        share = np.minimum(1.0, room / np.maximum(claimed, 1e-6))
        moved |= {index: moved[index] * share for index in members}
        room = np.maximum(room - claimed * share, 0.0)
    return moved


def _each(indices: Iterable[int], value_of: Callable[[int], _Value]) -> dict[int, _Value]:
    """A value for each label, computed side by side."""
    listed = list(indices)
    return dict(zip(listed, spread_over_cores(value_of, listed, few_cores()), strict=True))


def _left_by(probabilities: Sequence[Array]) -> Array:
    """What several probabilities leave for others, 0…1."""
    return np.asarray(np.clip(1.0 - np.sum(probabilities, axis=0), 0.0, 1.0), dtype=np.float32)


def filling_its_volume(probability: Array) -> Array:
    """A probability whose odds are multiplied so that P > 0.5 fills the volume the tissue is expected to have, ΣP.

    Averaging over people lowers the probability of what is thinner than they differ: nowhere is it above 0.5 although
    the tissue must be somewhere.

    >>> filling_its_volume(np.array([0.0, 0.2, 0.4, 0.4], dtype=np.float32)).astype(float).round(2).tolist()
    [0.0, 0.27, 0.5, 0.5]
    """
    likely = np.sort(probability[probability > _LEAST_PROBABILITY])[::-1]
    if likely.size == 0:
        return probability
    level = float(np.clip(likely[min(int(likely.sum()), likely.size - 1)], _LEAST_LEVEL, 0.5))
    odds = (1.0 - level) / level
    return np.asarray(probability * odds / (1.0 - probability + probability * odds), dtype=np.float32)


def _fine_grid(grid: Grid, rules: AttachmentRules) -> Grid:
    """The grid distances are measured on: `rules.spacing_mm`, more where that would be too many voxels."""
    spacing_mm = rules.spacing_mm
    while np.prod((fine := grid.resampled(spacing_mm)).shape) > rules.most_voxels:
        spacing_mm *= 1.1
    return fine


def _between_slices(mask: NDArray[np.bool_], grid: Grid, fine: Grid) -> NDArray[np.bool_]:
    """A mask on a nearly isotropic grid; between thick slices its surface runs where interpolated distances are 0.

    Raya and Udupa, Shape-based interpolation, IEEE TMI 1990.
    """
    shape = tuple(min(n, 2 * wanted) for n, wanted in zip(grid.shape, fine.shape, strict=True))
    step = [mm * n / m for mm, n, m in zip(grid.spacing_mm, grid.shape, shape, strict=True)]
    thinned = spread(mask.astype(np.float32), (shape[0], shape[1], shape[2])) > _SURFACE
    box = _box_round([thinned], (step[0], step[1], step[2]), margin_mm=2 * max(step))
    if box is None:
        return np.zeros(fine.shape, dtype=bool)
    distance = np.zeros(thinned.shape, dtype=np.float32)  # what is far from the mask is outside, however far
    distance[box] = signed_distance_mm(thinned[box], (step[0], step[1], step[2]))
    return np.asarray(spread(distance, fine.shape) < 0)


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / max(float(first.sum() + second.sum()), 1.0)


def _box_round(
    values: Sequence[Array | NDArray[np.bool_]], spacing_mm: tuple[float, float, float], margin_mm: float
) -> Box3D | None:
    """The box of all voxels where any of several tissues may be, and a margin; None when there are none."""
    somewhere = np.any([value > _LEAST_PROBABILITY for value in values], axis=0) if values else np.zeros((0, 0, 0))
    if not somewhere.any():
        return None
    (box,) = ndimage.find_objects(somewhere.astype(np.uint8))
    first = [max(0, part.start - round(margin_mm / step)) for part, step in zip(box, spacing_mm, strict=True)]
    last = [part.stop + round(margin_mm / step) for part, step in zip(box, spacing_mm, strict=True)]
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def _anchor(
    placed: NDArray[np.bool_],
    found: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    rules: AttachmentRules,
) -> _Anchor | None:
    """The way from each voxel to where the placed bone is as far as the found one is here; None without a surface."""
    if any(mask.all() or not mask.any() for mask in (placed, found)):
        return None
    smooth = [rules.smooth_mm / step for step in spacing_mm]
    here, there = (signed_distance_mm(mask, spacing_mm) for mask in (placed, found))
    here, there = (ndimage.gaussian_filter(distance, smooth) for distance in (here, there))
    slopes = np.stack(np.gradient(here, *spacing_mm))
    slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 1e-3)
    shift_mm = _rigid_shift(here, there, slopes, spacing_mm, rules)
    for _ in range(rules.steps):
        voxels = _voxels_at(shift_mm, spacing_mm)
        missing = there - ndimage.map_coordinates(here, voxels, order=1, mode="nearest")
        along = np.stack([ndimage.map_coordinates(s, voxels, order=1, mode="nearest") for s in slopes])
        shift_mm += missing * along
        length = np.linalg.norm(shift_mm, axis=0)
        shift_mm *= np.minimum(1.0, rules.most_shift_mm / np.maximum(length, 1e-6))
    shift_mm = np.stack([ndimage.gaussian_filter(part, smooth) for part in shift_mm])
    return _Anchor(here, there, np.asarray(shift_mm, dtype=np.float32))


def _rigid_shift(
    here: Array, there: Array, slopes: Array, spacing_mm: tuple[float, float, float], rules: AttachmentRules
) -> Array:
    """(3, I, J, K) in mm: where the placed bone, as a rigid body, would have to be looked up to lie on the found one.

    Gauss-Newton on the placed bone's distance at points of the found surface, as point-to-plane ICP (Chen and Medioni,
    Image and Vision Computing 1992); it tells the shift along the surface, which distances alone leave open.
    """
    steps = np.array(spacing_mm)
    surface = np.argwhere(np.abs(there) < max(spacing_mm)) * steps
    middle = surface.mean(axis=0) if len(surface) else np.zeros(3)
    surface = surface[:: max(1, len(surface) // 20_000)] - middle
    rotation, move = np.eye(3), np.zeros(3)
    for _ in range(rules.rigid_steps):
        points = surface @ rotation.T + move
        voxels = ((points + middle) / steps).T
        off = ndimage.map_coordinates(here, voxels, order=1, mode="nearest")
        normal = np.stack([ndimage.map_coordinates(slope, voxels, order=1, mode="nearest") for slope in slopes], axis=1)
        weight = 1.0 / (1.0 + (off / 2.0) ** 2)
        rows = np.concatenate([np.cross(points, normal), normal], axis=1)
        square = (rows * weight[:, None]).T @ rows
        square += 1e-3 * np.diag(np.diag(square)) + 1e-6 * np.eye(6)
        turn = np.linalg.solve(square, -(rows * (weight * off)[:, None]).sum(axis=0))
        step = Rotation.from_rotvec(turn[:3]).as_matrix()
        rotation, move = step @ rotation, step @ move + turn[3:]
    x = np.indices(here.shape, dtype=np.float32) * steps[:, None, None, None] - middle[:, None, None, None]
    return np.asarray(np.tensordot(rotation, x, axes=1) + move[:, None, None, None] - x, dtype=np.float32)


def _beside(inside: Array, anchors: Sequence[_Anchor], rules: AttachmentRules) -> list[_Anchor]:
    """The bones a tissue is attached to: the one nearest to its probability and those not much further."""
    total = max(float(inside.sum()), 1e-6)
    means_mm = [float((inside * np.abs(anchor.placed_mm)).sum()) / total for anchor in anchors]
    return [a for a, mean in zip(anchors, means_mm, strict=True) if mean <= rules.beside_share * min(means_mm)]


def _shift_between(anchors: Sequence[_Anchor], rules: AttachmentRules) -> Array:
    """(3, I, J, K) in mm: the shifts of bones, each the more the nearer it is, none far from all of them."""
    weights = [1.0 / (np.abs(anchor.found_mm) + rules.touch_mm) ** 2 for anchor in anchors]
    nearest_mm = np.min([np.abs(anchor.found_mm) for anchor in anchors], axis=0)
    fade = np.clip(2.0 - 2.0 * nearest_mm / rules.margin_mm, 0.0, 1.0)
    shift_mm = np.sum([w * a.shift_mm for w, a in zip(weights, anchors, strict=True)], axis=0)
    return np.asarray(fade * shift_mm / np.sum(weights, axis=0), dtype=np.float32)


def _voxels_at(shift_mm: Array, spacing_mm: tuple[float, float, float]) -> Array:
    """(3, I, J, K) voxel coordinates of where each voxel's shift leads."""
    steps = np.array(spacing_mm, dtype=np.float32)[:, None, None, None]
    return np.asarray(np.indices(shift_mm.shape[1:], dtype=np.float32) + shift_mm / steps)
