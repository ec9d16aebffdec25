"""Thin tissues laid along the bones they are attached to, once those have been found.

A placement is off by as much as a cartilage is thick, but a bone is large and is found within a voxel. What the atlas
knows of a cartilage is where it lies along a bone and how deep it is, so both are read off the bone as found: a voxel
takes the prior from the point that lies as far from the placed bone, see `bone_shift`. Between two bones, as a meniscus
lies, each moves the prior the more the nearer it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.bone_shift import (
    LEAST_PROBABILITY,
    Anchor,
    AttachmentRules,
    box_round,
    column,
    fitted_anchor,
    shift_between,
    voxels_of,
)
from msksam_cli.atlas.distance import signed_distance_mm
from msksam_cli.atlas.placed import WorkingProbabilities, spread
from msksam_cli.atlas.priors import THIN_GROUPS
from msksam_cli.atlas.resampling import blurred
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.boxed import NOWHERE, Box3D, Boxed
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable

ANCHOR_GROUPS = ("bone",)
_SURFACE = 0.5
_LEAST_ROOM, _LEAST_LEVEL = 0.05, 0.15

Array = NDArray[np.float32]
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class _Places:
    """Where in the placed atlas what is at a voxel is looked up.

    Attributes:
        box: beyond it nothing is moved.
        moving: (I, J, K) voxels of the box that are looked up elsewhere; all others stay.
        at: (3, N) voxel coordinates where these are.
    """

    box: Box3D
    moving: NDArray[np.bool_]
    at: Array

    @classmethod
    def of(
        cls, anchors: Sequence[Anchor], box: Box3D, spacing_mm: tuple[float, float, float], rules: AttachmentRules
    ) -> _Places:
        """Along the shifts of bones, in a box."""
        shift_mm = shift_between([anchor.within(box) for anchor in anchors], rules)
        moving = np.any(shift_mm, axis=0, keepdims=True)[0]
        start = column([part.start for part in box])
        return cls(box, moving, voxels_of(moving) + start + shift_mm[:, moving] / column(spacing_mm))

    def looked_up(self, placed: Array) -> Array:
        """What the placed atlas (I, J, K) has at these places."""
        there = placed.copy()
        there[self.box][self.moving] = ndimage.map_coordinates(placed, self.at, order=1, mode="nearest")
        return there


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
    placed: PlacedAtlas, found: Mapping[int, Boxed], rules: AttachmentRules | None = None
) -> PlacedAtlas:
    """The placement with its thin tissues at their distances from the found bones, and these in place of its own.

    Args:
        placed: as it was placed, not sharpened.
        found: label value → mask of a bone (I, J, K) on the volume's grid.
        rules: how far and how smoothly.

    Returns:
        A placement on a working grid of `rules.spacing_mm`; `placed` itself when none of its bones was found, or the
        volume is thinner than two of that grid's voxels.

    Raises:
        ValueError: a mask does not belong to the placement.
    """
    rules = rules or AttachmentRules()
    kept = placed.probabilities
    if not isinstance(kept, WorkingProbabilities) or any(mask.shape != placed.grid.shape for mask in found.values()):
        raise ValueError(f"found bones do not belong to the placement of {placed.atlas_name!r}")
    fine = _fine_grid(placed.grid, rules)
    if min(fine.shape) < 2:
        return placed
    values = _each(kept, lambda index: spread(kept.on_work(index), fine.shape))
    thin = [tissue.index for tissue in placed.tissues if tissue.group in THIN_GROUPS]
    box = box_round([values[index] for index in thin], fine.spacing_mm, rules.margin_mm)
    shown = [index for index, mask in found.items() if index in values and mask.part.any()]
    bones = _each(shown, lambda index: _on_grid(found[index], placed.grid, fine))
    bones = {i: bone for i, bone in bones.items() if _dice(bone, values[i] > _SURFACE) >= rules.least_dice}
    if box is None or not bones:
        return placed
    fits = _each(
        bones, lambda index: fitted_anchor(values[index][box] > _SURFACE, bones[index][box], fine.spacing_mm, rules)
    )
    bones_beside = [anchor for anchor in fits.values() if anchor]
    if not bones_beside:
        return placed
    smooth = [rules.edge_mm / step for step in fine.spacing_mm]
    edges = _each(bones, lambda index: blurred(bones[index].astype(np.float32), smooth))
    outside = _Outside(
        _left_by([values[index][box] for index in bones]), _left_by([edges[index][box] for index in bones])
    )
    soft = {index: value[box] for index, value in values.items() if index not in bones}
    i, j, k = (slice(0, size) for size in outside.found.shape)

    def along_its_bones(index: int) -> _Places:
        near = box_round([soft[index]], fine.spacing_mm, rules.most_shift_mm)
        return _Places.of(_beside(soft[index], bones_beside, rules), near or NOWHERE, fine.spacing_mm, rules)

    common = _Places.of(bones_beside, (i, j, k), fine.spacing_mm, rules)
    places = dict.fromkeys(soft, common) | _each(thin, along_its_bones)
    for index, part in _moved(soft, places, thin, outside).items():
        values[index][box] = part
    return replace(placed, probabilities=WorkingProbabilities(fine, placed.grid, {**values, **edges}))


def _moved(
    soft: Mapping[int, Array], places: Mapping[int, _Places], thin: Sequence[int], outside: _Outside
) -> dict[int, Array]:
    """What is no bone, looked up at its places in the placed atlas and given that it is in no bone; thin tissues first.

    P(tissue | no bone) = P(tissue) / P(no bone) as placed, times P(no bone) as found.
    """
    shared = {id(one): one for one in places.values()}
    rooms = _each(shared, lambda one: shared[one].looked_up(outside.placed))

    def found_at(index: int) -> Array:
        there, left = places[index].looked_up(soft[index]), rooms[id(places[index])]
        given = np.minimum(there / np.maximum(left, np.maximum(there, _LEAST_ROOM)), 1.0)
        moved = np.asarray(given * outside.found, dtype=np.float32)
        return filling_its_volume(moved) if index in thin else moved

    moved = _each(soft, found_at)
    room = outside.found
    for members in (thin, [index for index in moved if index not in thin]):
        claimed = _total([moved[index] for index in members], room.shape)
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
    left = 1.0 - _total(probabilities, probabilities[0].shape)
    return np.clip(left, 0.0, 1.0, out=left)


def _total(values: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """The sum of arrays of a shape, of none as well; without the copy of all that numpy's sum makes."""
    total = np.zeros(shape, dtype=np.float32)
    for value in values:
        total += value
    return total


def filling_its_volume(probability: Array) -> Array:
    """A probability whose odds are multiplied so that P > 0.5 fills the volume the tissue is expected to have, ΣP.

    Averaging over people lowers the probability of what is thinner than they differ: nowhere is it above 0.5 although
    the tissue must be somewhere.

    >>> filling_its_volume(np.array([0.0, 0.2, 0.4, 0.4], dtype=np.float32)).astype(float).round(2).tolist()
    [0.0, 0.27, 0.5, 0.5]
    """
    likely = np.sort(probability[probability > LEAST_PROBABILITY])[::-1]
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


def _on_grid(mask: Boxed, grid: Grid, fine: Grid) -> NDArray[np.bool_]:
    """A mask on a nearly isotropic grid; between slices thicker than that its surface runs where distances are 0.

    Raya and Udupa, Shape-based interpolation, IEEE TMI 1990.
    """
    if all(before >= after for before, after in zip(grid.shape, fine.shape, strict=True)):
        return np.asarray(spread(mask, fine.shape) > _SURFACE)
    shape = tuple(min(n, 2 * wanted) for n, wanted in zip(grid.shape, fine.shape, strict=True))
    step = [mm * n / m for mm, n, m in zip(grid.spacing_mm, grid.shape, shape, strict=True)]
    thinned = spread(mask, (shape[0], shape[1], shape[2])) > _SURFACE
    box = box_round([thinned], (step[0], step[1], step[2]), margin_mm=2 * max(step))
    if box is None:
        return np.zeros(fine.shape, dtype=bool)
    distance = np.zeros(thinned.shape, dtype=np.float32)  # what is far from the mask is outside, however far
    distance[box] = signed_distance_mm(thinned[box], (step[0], step[1], step[2]))
    return np.asarray(spread(distance, fine.shape) < 0)


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / max(float(first.sum() + second.sum()), 1.0)


def _beside(inside: Array, anchors: Sequence[Anchor], rules: AttachmentRules) -> list[Anchor]:
    """The bones a tissue is attached to: the one nearest to its probability and those not much further."""
    total = max(float(inside.sum()), 1e-6)
    means_mm = [float((inside * np.abs(anchor.placed_mm)).sum()) / total for anchor in anchors]
    return [a for a, mean in zip(anchors, means_mm, strict=True) if mean <= rules.beside_share * min(means_mm)]
