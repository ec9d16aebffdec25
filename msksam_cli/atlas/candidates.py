"""Affine placements worth considering, best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.affine import ClassFit, refine_affine
from msksam_cli.atlas.evidence import Classes, atlas_classes, focused, on_spacing, total_probability, trimmed
from msksam_cli.atlas.local_contrast import explained_of_shifts, joint_fit, local_contrast
from msksam_cli.atlas.resampling import coverage, resample, world_aligned_grid
from msksam_cli.atlas.search import Pose, ShiftScores, Start, best_shifts, flexed_poses, poses
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import FloatArray, Grid

APART_MM = 15.0
AFFINE_MM = 2.5
NEARLY_AS_WELL = 0.92
"""A placement whose score is a larger share of another's than this cannot be told from it."""

_SEARCH_MM, _RANK_MM = 5.0, 4.0
_TURNS_DEG, _SCALES = 15.0, (0.9, 1.1)
_SHIFTS_PER_POSE, _STARTS_HERE, _STARTS_ELSEWHERE = 3, 4, 3
_ZONE_MM, _FLEXIONS_DEG, _SIZES, _CONTRAST_STARTS = 12.0, (-12.0, 0.0, 12.0), (0.9, 1.0, 1.1, 1.2), 5
_FOCUS_MM, _SKELETON_SCALES, _SKELETON_STARTS, _SKELETON_KEPT = 8.0, (0.9,), 6, 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """A placement under consideration.

    Attributes:
        atlas_to_volume_mm: (4, 4) affine map, atlas world to volume world.
        mirrored: whether left and right were swapped.
        score: nats per voxel of the affine placement of the whole atlas.
        classes: what was compared with the volume.
    """

    atlas_to_volume_mm: FloatArray
    mirrored: bool
    score: float
    classes: Classes


def find_candidates(atlas: Atlas, image: NDArray[np.float32], work: Grid, mirrors: tuple[bool, ...]) -> list[Candidate]:
    """Affine placements, best first: on each side some near the best start and some clearly elsewhere."""
    grid = world_aligned_grid(work.corners_mm(), _SEARCH_MM)
    coarse = resample(image, work, grid)
    inside = coverage(work, grid).astype(np.float32)
    centre = tissue_centre_mm(atlas)

    def searched(classes: Classes, turns_deg: float, scales: tuple[float, ...]) -> list[Start]:
        return _starts(classes, poses(centre, mirrors, turns_deg, scales), coarse, inside, grid)

    sets = atlas_classes(atlas)
    classes = max(sets, key=lambda c: max(start.score for start in searched(c, 0.0, ())))
    starts = searched(classes, _TURNS_DEG, _SCALES)
    rank_grid = world_aligned_grid(work.corners_mm(), _RANK_MM)
    rank_image, rank_classes = resample(image, work, rank_grid), on_spacing(classes, _RANK_MM)
    found = []
    for mirrored in mirrors:
        listed = _shortlist([s for s in starts if s.mirrored == mirrored], centre)
        for matrix, score in _refined(rank_classes, rank_image, rank_grid, [s.atlas_to_volume_mm for s in listed]):
            found.append(Candidate(matrix, mirrored, score, classes))
    return sorted(found, key=lambda c: -c.score)


def skeleton_classes(classes: Classes, atlas: Atlas, spacing_mm: float) -> Classes:
    """The classes near the atlas's skeleton alone, at a spacing."""
    return on_spacing(trimmed(focused(classes, atlas, _FOCUS_MM)), spacing_mm)


def find_near_skeleton(
    atlas: Atlas, image: NDArray[np.float32], work: Grid, best: Mapping[bool, Candidate]
) -> list[Candidate]:
    """More affine placements of each side, found by the skeleton and what lies next to it.

    A limb much thicker or thinner than the atlas's draws the whole atlas off its bones; the bones alone fit anyway.

    Args:
        atlas: what to place.
        image: (I, J, K) intensities 0…1 on `work`.
        work: the volume's working grid.
        best: mirrored → the best placement of the whole atlas, whose score the new ones inherit: it tells how well
            the body part fits.
    """
    grid = world_aligned_grid(work.corners_mm(), _SEARCH_MM)
    coarse, inside = resample(image, work, grid), coverage(work, grid).astype(np.float32)
    fine_grid = world_aligned_grid(work.corners_mm(), AFFINE_MM)
    fine, centre = resample(image, work, fine_grid), tissue_centre_mm(atlas)
    found: list[Candidate] = []
    for mirrored, whole in best.items():
        classes = trimmed(focused(whole.classes, atlas, _FOCUS_MM))
        starts = _starts(classes, poses(centre, (mirrored,), _TURNS_DEG, _SKELETON_SCALES), coarse, inside, grid)
        starts = sorted(starts, key=lambda start: -start.score)[:_SKELETON_STARTS]
        near = on_spacing(classes, AFFINE_MM)
        refined = _refined(near, fine, fine_grid, [start.atlas_to_volume_mm for start in starts])
        for matrix, _ in sorted(refined, key=lambda pair: -pair[1])[:_SKELETON_KEPT]:
            found.append(Candidate(matrix, mirrored, whole.score, whole.classes))
    return found


def find_by_contrast(atlas: Atlas, image: NDArray[np.float32], work: Grid, present: Candidate) -> Candidate | None:
    """A placement elsewhere that explains clearly more of the volume's local contrast than the present one, or None.

    Fall-off of a coil, or a field of view that holds a small part of the atlas, misleads the other searches, which
    compare intensities as they are.

    Args:
        atlas: what to place.
        image: (I, J, K) intensities 0…1 on `work`.
        work: the volume's working grid.
        present: what the others found; its side is kept, and its score: it tells how well the body part fits.
    """
    contrast = local_contrast(image, work.spacing_mm)
    grid = world_aligned_grid(work.corners_mm(), _SEARCH_MM)
    coarse, inside = resample(contrast, work, grid), coverage(work, grid).astype(np.float32)
    classes, centre = trimmed(focused(present.classes, atlas, _ZONE_MM)), tissue_centre_mm(atlas)
    tried = flexed_poses(centre, present.mirrored, _FLEXIONS_DEG, _SIZES)
    starts = _starts(classes, tried, coarse, inside, grid, scores=explained_of_shifts)
    starts = sorted(starts, key=lambda start: -start.score)[:_CONTRAST_STARTS]
    fine_grid = world_aligned_grid(work.corners_mm(), _RANK_MM)
    fine, near = resample(contrast, work, fine_grid), on_spacing(classes, _RANK_MM)
    fit = joint_fit(near, fine_grid, fine)
    begun = [present.atlas_to_volume_mm, *(start.atlas_to_volume_mm for start in starts)]
    refined = _refined(near, fine, fine_grid, begun, fit=fit)
    matrix, share = max(refined, key=lambda pair: pair[1])
    if NEARLY_AS_WELL * share <= refined[0][1] or moved_mm(matrix, present.atlas_to_volume_mm, centre) <= APART_MM:
        return None
    return Candidate(matrix, present.mirrored, present.score, present.classes)


def _starts(
    classes: Classes,
    tried: Iterable[Pose],
    volume: NDArray[np.float32],
    inside: NDArray[np.float32],
    grid: Grid,
    *,
    scores: ShiftScores | None = None,
) -> list[Start]:
    """The best shifts of every pose, in the order of the poses; see `best_shifts`."""

    def shifted(pose: Pose) -> list[Start]:
        return best_shifts(
            classes, pose, volume, inside, grid, how_many=_SHIFTS_PER_POSE, apart_mm=APART_MM, scores=scores
        )

    return list(chain.from_iterable(spread_over_cores(shifted, list(tried), few_cores())))


def _refined(
    classes: Classes, image: NDArray[np.float32], grid: Grid, begun: list[FloatArray], *, fit: ClassFit | None = None
) -> list[tuple[FloatArray, float]]:
    """Each of several placements refined, in their order; see `refine_affine`."""
    return spread_over_cores(lambda matrix: refine_affine(classes, image, grid, matrix, fit=fit), begun, few_cores())


def _shortlist(starts: list[Start], centre: FloatArray) -> list[Start]:
    """The best starts of one side, and the best that lie clearly elsewhere."""
    ordered = sorted(starts, key=lambda start: -start.score)
    here = ordered[:_STARTS_HERE]
    elsewhere: list[Start] = []
    for start in ordered:
        kept = [here[0], *elsewhere]
        if all(moved_mm(start.atlas_to_volume_mm, other.atlas_to_volume_mm, centre) > APART_MM for other in kept):
            elsewhere.append(start)
    return here + elsewhere[:_STARTS_ELSEWHERE]


def moved_mm(first: FloatArray, second: FloatArray, point_mm: FloatArray) -> float:
    """How far apart two maps take a point of the atlas."""
    difference = (first - second)[:3]
    return float(np.linalg.norm(difference[:, :3] @ point_mm + difference[:, 3]))


def tissue_centre_mm(atlas: Atlas) -> FloatArray:
    """World position (3,) of the middle of all the atlas's tissues."""
    weights = total_probability(atlas) + 1e-9
    return atlas.grid.to_world_mm(np.array(ndimage.center_of_mass(weights)))
