"""A placement fitted anew to bones that have been found.

Bones are segmented first, because they are large and sure. The atlas's bones are then laid exactly on the found ones,
and everything attached to them follows: cartilage and menisci become bands along the found surfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.deform import looked_up_voxels
from msksam_cli.atlas.evidence import on_spacing, tissue_classes
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.placement import DEFORM_MM, Level, bend_image
from msksam_cli.atlas.resampling import inverse, resample, world_aligned_grid
from msksam_cli.core.atlases import Atlas, PlacedAtlas
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.volume import Volume

_LEVELS = (Level(2.5, 2, 30, 3.0, 2.0), Level(1.5, 2, 25, 2.0, 1.0))
_REACH_MM = 10.0
_AFFINE_MM = 3.0
_LEAST_DICE = 0.3

Probabilities = Mapping[int, NDArray[np.float32]]


def refine_placement(
    placed: PlacedAtlas, atlas: Atlas, volume: Volume, found: Mapping[int, NDArray[np.bool_]], *, threads: int = 1
) -> PlacedAtlas:
    """The placement after its bones were moved onto the found ones; the rest follows them.

    Args:
        placed: the placement so far.
        atlas: what was placed; only its name must agree.
        volume: the volume it was placed on.
        found: label value → (I, J, K) mask of a bone on the volume's grid. A mask that hardly overlaps the placed
            bone is left out, as it is more likely wrong than the placement.
        threads: threads SimpleITK may use.

    Raises:
        ValueError: atlas, volume or a mask does not belong to the placement.
    """
    if atlas.name != placed.atlas_name or not placed.grid.matches(volume.grid):
        raise ValueError(f"placement of {placed.atlas_name!r} does not belong to this atlas and volume")
    if any(mask.shape != placed.grid.shape for mask in found.values()):
        raise ValueError(f"found masks must have shape {placed.grid.shape}")
    work, old = _on_work(placed)
    bones = {
        index: resample(mask.astype(np.float32), placed.grid, work) > 0.5
        for index, mask in found.items()
        if index in old and mask.any()
    }
    bones = {index: mask for index, mask in bones.items() if _dice(mask, old[index] > 0.5) >= _LEAST_DICE}
    if not bones:
        return placed
    matrix = _affine_onto(old, bones, work)
    moved = {index: resample(p, work, work, inverse(matrix)) for index, p in old.items() if index in bones}
    target = distance_image(bones, work)
    source = distance_image({index: moved[index] > 0.5 for index in bones}, work)
    field = bend_image(target, source, work, threads, _LEVELS)
    to_old = np.linalg.inv(matrix @ work.affine) @ work.affine
    voxels = np.tensordot(to_old[:3, :3], looked_up_voxels(work, field), axes=1) + to_old[:3, 3, None, None, None]
    new = {
        index: np.asarray(ndimage.map_coordinates(p, voxels, order=1, mode="nearest"), dtype=np.float32)
        for index, p in old.items()
    }
    return replace(placed, probabilities=WorkingProbabilities(work, placed.grid, new))


def distance_image(masks: Mapping[int, NDArray[np.bool_]], grid: Grid) -> NDArray[np.float32]:
    """Sum over masks of signed distances, positive inside, clipped to ± 10 mm and scaled to ± 1."""
    image = np.zeros(grid.shape, dtype=np.float32)
    for mask in masks.values():
        inner = ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm)
        outer = ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm)
        image += np.clip((inner - outer) / _REACH_MM, -1.0, 1.0).astype(np.float32)
    return image


def _on_work(placed: PlacedAtlas) -> tuple[Grid, Probabilities]:
    """The working grid and all probabilities on it."""
    kept = placed.probabilities
    if isinstance(kept, WorkingProbabilities):
        return kept.work, {index: kept.on_work(index) for index in kept}
    work = placed.grid.resampled(DEFORM_MM)
    return work, {index: resample(kept[index], placed.grid, work) for index in kept}


def _affine_onto(old: Probabilities, bones: Mapping[int, NDArray[np.bool_]], work: Grid) -> FloatArray:
    """The (4, 4) map of world space that takes the placed bones to the found ones."""
    support = ndimage.binary_dilation(sum(old[index] > 0.1 for index in bones), iterations=4)
    classes = on_spacing(tissue_classes([old[index] for index in bones], support, work), _AFFINE_MM)
    painted = np.zeros(work.shape, dtype=np.float32)
    for number, mask in enumerate(bones.values()):
        painted[mask] = 0.5 + 0.5 * (number + 1) / len(bones)
    grid = world_aligned_grid(work.corners_mm(), _AFFINE_MM)
    matrix, _ = refine_affine(classes, resample(painted, work, grid), grid, np.eye(4), steps=20)
    return matrix


def _dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / max(float(first.sum() + second.sum()), 1.0)
