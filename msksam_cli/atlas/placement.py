"""Placing an atlas on a volume: find it, fit it, bend it.

1. *Search*: at 5 mm, all shifts of several turns, sizes and both sides, by the evidence of `atlas.evidence`.
2. *Affine*: the best starts of each side are refined at 4 mm, the winner at 2.5 mm.
3. *Deformable*: the atlas, painted with the intensities its classes have in this volume, is bent onto the volume by
   diffeomorphic demons (Vercauteren et al., NeuroImage 2009) as SimpleITK implements them.

The atlas's contrast never enters, only which of its voxels belong together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.deform import Field, composed, looked_up, looked_up_voxels, no_displacement, on_grid
from msksam_cli.atlas.evidence import Classes, atlas_classes, extended, local_paint, normalised
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.resampling import coverage, resample, world_aligned_grid
from msksam_cli.atlas.search import Start, best_shifts, poses
from msksam_cli.core.atlases import Atlas, Fit, PlacedAtlas
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError

_SEARCH_MM, _RANK_MM, _AFFINE_MM, _DEFORM_MM = 5.0, 4.0, 2.5, 1.5
_TURNS_DEG, _SCALES = 15.0, (0.9, 1.1)
_APART_MM = 15.0
_EXTENSION_MM = 12.0
_STARTS_PER_SIDE = 5


@dataclass(frozen=True)
class Level:
    """One resolution of the deformable step.

    Attributes:
        spacing_mm: of the grid.
        repaints: how often the atlas is given the image's intensities anew.
        iterations: of demons after each repaint.
        smooth_mm: standard deviation that smooths the displacement (elasticity).
        smooth_update_mm: standard deviation that smooths each update (viscosity).
    """

    spacing_mm: float
    repaints: int
    iterations: int
    smooth_mm: float
    smooth_update_mm: float


LEVELS = (Level(4.0, 2, 30, 6.0, 4.0), Level(2.5, 2, 20, 4.0, 2.5), Level(1.5, 1, 15, 3.0, 1.5))


@dataclass(frozen=True, eq=False)
class Candidate:
    """One refined affine placement."""

    atlas_to_volume_mm: FloatArray
    mirrored: bool
    score: float
    classes_name: str


def place_atlas(atlas: Atlas, volume: Volume, *, deformable: bool = True, threads: int = 1) -> PlacedAtlas:
    """The atlas on the volume's grid, with a fit that says whether to trust it.

    Args:
        atlas: what to place.
        volume: where; its `side` decides left or right when it is known.
        deformable: bend the atlas after the affine fit.
        threads: threads SimpleITK may use.

    Raises:
        AtlasError: no placement keeps two fifths of the atlas inside the field of view.
    """
    work = volume.grid.resampled(_DEFORM_MM)
    image = resample(normalised(volume.intensities, intensity_window(volume.intensities)), volume.grid, work)
    candidates = find_candidates(atlas, image, work, mirrors=(False, True) if atlas.side else (False,))
    chosen = _choose(candidates, atlas.side, volume.side)
    sets = {classes.name: classes for classes in atlas_classes(atlas)}
    classes = sets[chosen.classes_name]
    matrix, score = _refined(classes, image, work, chosen.atlas_to_volume_mm, _AFFINE_MM)
    field = None
    if deformable:
        field = bend(classes, image, work, matrix, threads=threads)
    probabilities = warp(atlas, work, matrix, field)
    return _placed(atlas, volume, work, probabilities, replace(chosen, atlas_to_volume_mm=matrix), candidates)


def find_candidates(
    atlas: Atlas, image: NDArray[np.float32], work: Grid, mirrors: tuple[bool, ...]
) -> list[Candidate]:
    """Refined placements, best first.

    Raises:
        AtlasError: nothing overlaps enough.
    """
    coarse_grid = world_aligned_grid(work.corners_mm(), _SEARCH_MM)
    coarse = resample(image, work, coarse_grid)
    inside = coverage(work, coarse_grid).astype(np.float32)
    centre = _tissue_centre(atlas)
    sets = atlas_classes(atlas)
    upright = list(poses(centre, mirrors, 0.0, ()))
    first = [(c, s) for c in sets for pose in upright for s in best_shifts(c, pose, coarse, inside, coarse_grid, 2, _APART_MM)]
    if not first:
        raise AtlasError(f"atlas {atlas.name} does not fit into the field of view", "Choose an atlas of this body part")
    classes = max(first, key=lambda pair: pair[1].score)[0]
    starts = [
        start
        for pose in poses(centre, mirrors, _TURNS_DEG, _SCALES)
        for start in best_shifts(classes, pose, coarse, inside, coarse_grid, 2, _APART_MM)
    ]
    rank_grid = world_aligned_grid(work.corners_mm(), _RANK_MM)
    rank_image = resample(image, work, rank_grid)
    rank_classes = on_spacing(classes, _RANK_MM)
    found = []
    for mirrored in mirrors:
        side = sorted((s for s in starts if s.mirrored == mirrored), key=lambda s: -s.score)
        for start in side[:_STARTS_PER_SIDE]:
            matrix, score = refine_affine(rank_classes, rank_image, rank_grid, start.atlas_to_volume_mm)
            found.append(Candidate(matrix, mirrored, score, classes.name))
    return sorted(found, key=lambda c: -c.score)


def on_spacing(classes: Classes, spacing_mm: float) -> Classes:
    """The classes on a coarser RAS+ grid."""
    grid = world_aligned_grid(classes.grid.corners_mm(), spacing_mm)
    return Classes(classes.name, np.stack([resample(w, classes.grid, grid) for w in classes.weights]), grid)


def warp(atlas: Atlas, work: Grid, matrix: FloatArray, field: Field | None) -> dict[int, NDArray[np.float32]]:
    """Every tissue's probability on the working grid.

    Args:
        atlas: what to warp.
        work: where to.
        matrix: (4, 4) atlas world to volume world.
        field: displacement on `work`, or None.
    """
    if field is None:
        back = np.linalg.inv(matrix)
        return {index: resample(p, atlas.grid, work, back) for index, p in atlas.probabilities.items()}
    voxels = _atlas_voxels(atlas.grid, work, matrix, field)
    return {
        index: np.asarray(ndimage.map_coordinates(p, voxels, order=1, cval=0.0), dtype=np.float32)
        for index, p in atlas.probabilities.items()
    }


def bend(
    classes: Classes, image: NDArray[np.float32], work: Grid, matrix: FloatArray, *, threads: int = 1,
    levels: Sequence[Level] = LEVELS,
) -> Field:
    """The displacement on `work` that bends affinely placed classes onto an image, coarse to fine.

    Beyond the atlas's support its outermost classes are continued and the image is taken to agree with them, so that
    nothing pulls there.
    """
    field = no_displacement(work.resampled(levels[0].spacing_mm))
    known = resample(classes.support, classes.grid, work, np.linalg.inv(matrix))
    for level in levels:
        grid = work.resampled(level.spacing_mm)
        field = on_grid(field, grid)
        fixed, inside = resample(image, work, grid), resample(known, work, grid) > 0.5
        wide = extended(on_spacing(classes, level.spacing_mm), _EXTENSION_MM)
        for _ in range(level.repaints):
            voxels = _atlas_voxels(wide.grid, grid, matrix, field)
            now = np.stack([ndimage.map_coordinates(w, voxels, order=1, mode="nearest") for w in wide.weights])
            moving = local_paint(now, fixed, inside.astype(np.float32), grid.spacing_mm)
            step = demons(np.where(inside, fixed, moving), moving, grid.spacing_mm, level, threads)
            field = composed(field, step, grid)
    return on_grid(field, work)


def _atlas_voxels(atlas_grid: Grid, work: Grid, matrix: FloatArray, field: Field) -> NDArray[np.float32]:
    """(3, I, J, K) voxel coordinates in the atlas of each voxel of `work`, bent and then placed."""
    to_atlas = (np.linalg.inv(matrix @ atlas_grid.affine) @ work.affine).astype(np.float32)
    voxels = np.tensordot(to_atlas[:3, :3], looked_up_voxels(work, field), axes=1)
    return np.asarray(voxels + to_atlas[:3, 3, None, None, None])


def bend_image(
    fixed: NDArray[np.float32], moving: NDArray[np.float32], grid: Grid, threads: int = 1,
    levels: Sequence[Level] = LEVELS,
) -> Field:
    """The displacement on `grid` that bends one image of the same contrast onto another, coarse to fine."""
    field = no_displacement(grid.resampled(levels[0].spacing_mm))
    for level in levels:
        coarse = grid.resampled(level.spacing_mm)
        field = on_grid(field, coarse)
        target, source = resample(fixed, grid, coarse), resample(moving, grid, coarse)
        for _ in range(level.repaints):
            seen = looked_up(source, coarse, field, extend=True)
            field = composed(field, demons(target, seen, coarse.spacing_mm, level, threads), coarse)
    return on_grid(field, grid)


def demons(
    fixed: NDArray[np.float32], moving: NDArray[np.float32], spacing_mm: tuple[float, float, float], level: Level,
    threads: int,
) -> Field:
    """The displacement after which `moving` looks like `fixed`."""
    registration = sitk.DiffeomorphicDemonsRegistrationFilter()
    registration.SetNumberOfIterations(level.iterations)
    registration.SetSmoothDisplacementField(True)
    registration.SetStandardDeviations([level.smooth_mm / step for step in spacing_mm])
    registration.SetSmoothUpdateField(True)
    registration.SetUpdateFieldStandardDeviations([level.smooth_update_mm / step for step in spacing_mm])
    registration.SetNumberOfThreads(threads)
    field = registration.Execute(_image(fixed, spacing_mm), _image(moving, spacing_mm))
    return np.ascontiguousarray(sitk.GetArrayFromImage(field).transpose(3, 2, 1, 0), dtype=np.float32)


def _image(values: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing(spacing_mm)
    return image


def _refined(
    classes: Classes, image: NDArray[np.float32], work: Grid, matrix: FloatArray, spacing_mm: float
) -> tuple[FloatArray, float]:
    grid = world_aligned_grid(work.corners_mm(), spacing_mm)
    return refine_affine(on_spacing(classes, spacing_mm), resample(image, work, grid), grid, matrix)


def _choose(candidates: list[Candidate], atlas_side: str, volume_side: str) -> Candidate:
    """The best candidate, on the tagged side when both sides are known."""
    if atlas_side and volume_side:
        wanted = atlas_side != volume_side
        return next((c for c in candidates if c.mirrored == wanted), candidates[0])
    return candidates[0]


def _tissue_centre(atlas: Atlas) -> FloatArray:
    total = np.zeros(atlas.grid.shape, dtype=np.float32)
    for probability in atlas.probabilities.values():
        total += probability
    centre = np.array(ndimage.center_of_mass(total)) if total.any() else (np.array(atlas.grid.shape) - 1) / 2
    return atlas.grid.to_world_mm(centre)


def _placed(
    atlas: Atlas, volume: Volume, work: Grid, probabilities: Mapping[int, NDArray[np.float32]], chosen: Candidate,
    candidates: list[Candidate],
) -> PlacedAtlas:
    visible = visible_fractions(atlas, work, chosen.atlas_to_volume_mm)
    fit = judge(atlas, visible, chosen, candidates)
    side = {"left": "right", "right": "left"}.get(atlas.side, "") if chosen.mirrored else atlas.side
    return PlacedAtlas(
        grid=volume.grid,
        probabilities=WorkingProbabilities(work, volume.grid, probabilities),
        visible_fraction=visible,
        tissues=atlas.tissues,
        fit=fit,
        side=side,
        atlas_name=atlas.name,
        atlas_sha256=atlas.sha256,
        populations=atlas.populations,
    )


def visible_fractions(atlas: Atlas, work: Grid, matrix: FloatArray) -> dict[int, float]:
    """Label value → share of the tissue's probability that lies inside the volume."""
    inside = coverage(work, atlas.grid, matrix)
    return {
        index: float(p[inside].sum() / max(float(p.sum()), 1e-6)) for index, p in atlas.probabilities.items()
    }


def judge(atlas: Atlas, visible: Mapping[int, float], chosen: Candidate, candidates: list[Candidate]) -> Fit:
    """The fit of the chosen placement, compared with the alternatives."""
    centre = _tissue_centre(atlas)

    def landing(candidate: Candidate) -> FloatArray:
        return candidate.atlas_to_volume_mm[:3, :3] @ centre + candidate.atlas_to_volume_mm[:3, 3]

    other_side = [c.score for c in candidates if c.mirrored != chosen.mirrored]
    elsewhere = [
        c.score
        for c in candidates
        if c.mirrored == chosen.mirrored and np.linalg.norm(landing(c) - landing(chosen)) > _APART_MM
    ]
    size = sum(float(p.sum()) for p in atlas.probabilities.values())
    inside = sum(visible[i] * float(p.sum()) for i, p in atlas.probabilities.items()) / max(size, 1e-6)
    return Fit(
        similarity=chosen.score,
        inside_fraction=inside,
        mirrored=chosen.mirrored,
        mirror_margin=chosen.score - max(other_side) if other_side else None,
        reliable=True,
        reason="",
        shift_margin=chosen.score - max(elsewhere) if elsewhere else None,
        template=chosen.classes_name,
    )
