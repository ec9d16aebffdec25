"""Placing an atlas on a volume: find it, fit it, bend it.

1. *Search*: at 5 mm, all shifts of several turns, sizes and both sides, by the evidence of `atlas.evidence`.
2. *Affine*: the best starts of each side are refined at 4 mm, the winner at 2.5 mm; beside it stand starts that were
   found by the skeleton alone.
3. *Contest*: each is bent coarsely; the one that best explains the grey levels near any of their skeletons wins.
4. *Second look*: where that is doubtful, the skeleton is searched for by local contrast, which a coil's fall-off does
   not mislead; what is found is taken if it explains clearly more, and stays doubtful.
5. *Deformable*: the atlas, painted with the intensities its classes have in this volume, is bent onto the volume by
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
from msksam_cli.atlas.appearance import SharpeningRules, explained_nats, grey_levels
from msksam_cli.atlas.candidates import (
    AFFINE_MM,
    APART_MM,
    NEARLY_AS_WELL,
    Candidate,
    find_by_contrast,
    find_candidates,
    find_near_skeleton,
    moved_mm,
    skeleton_classes,
    tissue_centre_mm,
)
from msksam_cli.atlas.deform import Field, composed, looked_up, looked_up_voxels, no_displacement, on_grid
from msksam_cli.atlas.evidence import Classes, extended, information, local_paint, normalised, on_spacing
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.resampling import coverage, inverse, resample, world_aligned_grid
from msksam_cli.core.atlases import Atlas, Fit, PlacedAtlas
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError

DEFORM_MM = 1.5
_EXTENSION_MM = 12.0
_CONTEST_MM, _CONTEST = 2.0, SharpeningRules(bins=32, rounds=4)
_COARSE_LEVELS = 2
_LEAST_CONTRAST = 1e-3
_LEAST_SIMILARITY, _LEAST_INSIDE = 0.13, 0.2


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


LEVELS = (Level(4.0, 2, 15, 6.0, 4.0), Level(2.5, 1, 15, 4.0, 2.5), Level(1.5, 1, 10, 2.0, 1.5))


@dataclass(frozen=True, eq=False)
class _Bent:
    """A placement refined and bent at the coarse levels.

    Attributes:
        candidate: its affine part, refined.
        field: displacement on the working grid.
        score: nats per voxel after bending.
    """

    candidate: Candidate
    field: Field
    score: float


def place_atlas(atlas: Atlas, volume: Volume, *, deformable: bool = True, threads: int = 1) -> PlacedAtlas:
    """The atlas on the volume's grid, with a fit that says whether to trust it.

    Args:
        atlas: what to place.
        volume: where; its `side` decides between left and right when it is known, the better fit when not.
        deformable: bend the atlas after the affine fit.
        threads: threads SimpleITK may use.

    Raises:
        AtlasError: the volume is constant.
    """
    work = volume.grid.resampled(max(DEFORM_MM, min(volume.grid.spacing_mm)))
    image = resample(normalised(volume.intensities, volume.window), volume.grid, work)
    if float(image.std()) < _LEAST_CONTRAST:
        raise AtlasError("the volume has no contrast an atlas could be placed by", "Look at the image")
    mirrors = (False, True) if atlas.side else (False,)
    candidates = find_candidates(atlas, image, work, mirrors)
    first = {m: next(c for c in candidates if c.mirrored == m) for m in mirrors}
    contenders = spread_over_cores(lambda one: _refined(one, atlas, image, work), list(first.values()), few_cores())
    contenders += find_near_skeleton(atlas, image, work, first)
    bent = spread_over_cores(lambda one: _bent(one, image, work), contenders, few_cores())
    nats = _contest(bent, atlas, image, work)
    mirrored = _chosen_side(bent, nats, atlas.side, volume.side)
    own = [n for n, one in enumerate(bent) if one.candidate.mirrored == mirrored]
    others = [nats[n] for n, one in enumerate(bent) if one.candidate.mirrored != mirrored]
    winner = max(own, key=lambda n: nats[n])
    chosen = replace(bent[winner], score=max(bent[n].score for n in own))
    rival, rival_distance_mm = _rival([c for c in candidates if c.mirrored == mirrored], atlas)
    visible = visible_fractions(atlas, work, chosen.candidate.atlas_to_volume_mm)
    fit = _judged(
        atlas,
        visible,
        chosen,
        mirror_margin=nats[winner] - max(others) if others else None,
        rival=_bent(_refined(rival, atlas, image, work), image, work) if rival else None,
        rival_distance_mm=rival_distance_mm,
    )
    found = None if fit.reliable else find_by_contrast(atlas, image, work, chosen.candidate)
    if found:
        away_mm = moved_mm(found.atlas_to_volume_mm, chosen.candidate.atlas_to_volume_mm, tissue_centre_mm(atlas))
        reason = f"{fit.reason}; local contrast places it {away_mm:.0f} mm away, which was taken"
        chosen = _bent(found, image, work)
        visible = visible_fractions(atlas, work, found.atlas_to_volume_mm)
        inside = _inside_fraction(atlas, visible)
        fit = replace(fit, similarity=chosen.score, inside_fraction=inside, shift_margin=None, reason=reason)
    field = None
    if deformable:
        field = bend(
            chosen.candidate.classes,
            image,
            work,
            chosen.candidate.atlas_to_volume_mm,
            threads=threads,
            levels=LEVELS[_COARSE_LEVELS:],
            start=chosen.field,
        )
    matrix = chosen.candidate.atlas_to_volume_mm
    return PlacedAtlas(
        grid=volume.grid,
        probabilities=WorkingProbabilities(work, volume.grid, warp(atlas, work, matrix, field)),
        visible_fraction=visible,
        tissues=atlas.tissues,
        fit=fit,
        side={"left": "right", "right": "left"}.get(atlas.side, "") if mirrored else atlas.side,
        atlas_name=atlas.name,
        atlas_sha256=atlas.sha256,
        populations=atlas.populations,
    )


def _refined(candidate: Candidate, atlas: Atlas, image: NDArray[np.float32], work: Grid) -> Candidate:
    """The candidate refined, first as a whole and then near the skeleton."""
    grid = world_aligned_grid(work.corners_mm(), AFFINE_MM)
    coarse, classes = resample(image, work, grid), on_spacing(candidate.classes, AFFINE_MM)
    matrix, score = refine_affine(classes, coarse, grid, candidate.atlas_to_volume_mm)
    matrix, _ = refine_affine(skeleton_classes(candidate.classes, atlas, AFFINE_MM), coarse, grid, matrix)
    return Candidate(matrix, candidate.mirrored, score, candidate.classes)


def _bent(candidate: Candidate, image: NDArray[np.float32], work: Grid) -> _Bent:
    """The candidate bent at the coarse levels and scored."""
    matrix, classes = candidate.atlas_to_volume_mm, candidate.classes
    field = bend(classes, image, work, matrix, levels=LEVELS[:_COARSE_LEVELS])
    return _Bent(candidate, field, _bent_score(on_spacing(classes, AFFINE_MM), image, work, matrix, field))


def _contest(bent: Sequence[_Bent], atlas: Atlas, image: NDArray[np.float32], work: Grid) -> list[float]:
    """How well each placement explains the grey levels near any one's skeleton, in nats; see `explained_nats`.

    Scores over different voxels would favour a placement on whatever part of the volume has most contrast.
    """
    grid = work.resampled(_CONTEST_MM)
    levels = grey_levels(np.clip(resample(image, work, grid), 0.0, 1.0), _CONTEST.bins)
    looked = [
        _atlas_voxels(atlas.grid, grid, one.candidate.atlas_to_volume_mm, on_grid(one.field, grid)) for one in bent
    ]
    near = skeleton_classes(bent[0].candidate.classes, atlas, _CONTEST_MM)
    reach = resample(near.support, near.grid, atlas.grid)
    zone = np.any([ndimage.map_coordinates(reach, voxels, order=1) > 0.5 for voxels in looked], axis=0)
    wide = [_CONTEST.blur_mm / step for step in atlas.grid.spacing_mm]
    rows = [ndimage.gaussian_filter(weight, wide) for weight in bent[0].candidate.classes.weights]
    placed = [np.stack([ndimage.map_coordinates(row, voxels[:, zone], order=1) for row in rows]) for voxels in looked]
    return [explained_nats(priors, levels[zone], _CONTEST) for priors in placed]


def _bent_score(classes: Classes, image: NDArray[np.float32], work: Grid, matrix: FloatArray, field: Field) -> float:
    """Nats per voxel of the atlas's support that bent classes tell of an image."""
    grid = work.resampled(AFFINE_MM)
    values = resample(image, work, grid)
    voxels = _atlas_voxels(classes.grid, grid, matrix, on_grid(field, grid))
    weights = [ndimage.map_coordinates(w, voxels, order=1).astype(np.float64) for w in classes.weights]
    size = float(classes.support.sum()) * classes.grid.voxel_volume_mm3 * abs(np.linalg.det(matrix[:3, :3]))
    counts = np.array([w.sum() for w in weights])
    sums = np.array([(w * values).sum() for w in weights])
    squares = np.asarray((np.sum(weights, axis=0) * values**2).sum())
    return float(information(counts, sums, squares, size / grid.voxel_volume_mm3))


def _chosen_side(bent: Sequence[_Bent], nats: Sequence[float], atlas_side: str, volume_side: str) -> bool:
    """Whether to mirror: as the sides' names say when both are known, else as explains the volume better."""
    if atlas_side and volume_side:
        return volume_side != atlas_side
    return bent[int(np.argmax(nats))].candidate.mirrored


def _rival(candidates: Sequence[Candidate], atlas: Atlas) -> tuple[Candidate | None, float]:
    """The best candidate clearly elsewhere than the first one, and how far away it is in mm."""
    centre = tissue_centre_mm(atlas)
    for candidate in candidates[1:]:
        distance = moved_mm(candidate.atlas_to_volume_mm, candidates[0].atlas_to_volume_mm, centre)
        if distance > APART_MM:
            return candidate, distance
    return None, 0.0


def _judged(
    atlas: Atlas,
    visible: Mapping[int, float],
    chosen: _Bent,
    *,
    mirror_margin: float | None,
    rival: _Bent | None,
    rival_distance_mm: float,
) -> Fit:
    """The fit of the chosen placement, compared with the alternatives."""
    inside = _inside_fraction(atlas, visible)
    affine_score = chosen.candidate.score
    reason = ""
    if affine_score < _LEAST_SIMILARITY:
        reason = f"affine similarity {affine_score:.3f} is below {_LEAST_SIMILARITY:g}: another body part or sequence"
    elif inside < _LEAST_INSIDE:
        reason = f"only {inside:.0%} of the atlas lies inside the field of view"
    elif rival and rival.score > NEARLY_AS_WELL * chosen.score:
        reason = (
            f"a placement {rival_distance_mm:.0f} mm away fits nearly as well: "
            f"{rival.score:.3f} against {chosen.score:.3f}"
        )
    return Fit(
        similarity=chosen.score,
        inside_fraction=inside,
        mirrored=chosen.candidate.mirrored,
        mirror_margin=mirror_margin,
        reliable=not reason,
        reason=reason,
        shift_margin=chosen.score - rival.score if rival else None,
        template=chosen.candidate.classes.name,
    )


def _inside_fraction(atlas: Atlas, visible: Mapping[int, float]) -> float:
    """Share of all the atlas's tissue that lies inside the field of view."""
    size = {index: float(p.sum()) for index, p in atlas.probabilities.items()}
    return sum(visible[index] * size[index] for index in size) / max(sum(size.values()), 1e-6)


def warp(atlas: Atlas, work: Grid, matrix: FloatArray, field: Field | None) -> dict[int, NDArray[np.float32]]:
    """Every tissue's probability on the working grid.

    Args:
        atlas: what to warp.
        work: where to.
        matrix: (4, 4) atlas world to volume world.
        field: displacement on `work`, or None.
    """
    if field is None:
        back = inverse(matrix)
        return {index: resample(p, atlas.grid, work, back) for index, p in atlas.probabilities.items()}
    voxels = _atlas_voxels(atlas.grid, work, matrix, field)
    return {
        index: np.asarray(ndimage.map_coordinates(p, voxels, order=1, cval=0.0), dtype=np.float32)
        for index, p in atlas.probabilities.items()
    }


def bend(
    classes: Classes,
    image: NDArray[np.float32],
    work: Grid,
    matrix: FloatArray,
    *,
    threads: int = 1,
    levels: Sequence[Level] = LEVELS,
    start: Field | None = None,
) -> Field:
    """The displacement on `work` that bends affinely placed classes onto an image, coarse to fine.

    Beyond the atlas's support its outermost classes are continued and the image is taken to agree with them, so that
    nothing pulls there. No level is finer than `work`.
    """
    field = no_displacement(work) if start is None else start
    known = resample(classes.support, classes.grid, work, inverse(matrix))
    for level in levels:
        grid = work.resampled(max(level.spacing_mm, min(work.spacing_mm)))
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
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    grid: Grid,
    threads: int = 1,
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
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    level: Level,
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


def visible_fractions(atlas: Atlas, work: Grid, matrix: FloatArray) -> dict[int, float]:
    """Label value → share of the tissue's probability that lies inside the volume."""
    inside = coverage(work, atlas.grid, matrix)
    return {index: float(p[inside].sum() / max(float(p.sum()), 1e-6)) for index, p in atlas.probabilities.items()}
