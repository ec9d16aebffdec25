"""How well an atlas would fit a volume, found in a second or two, as a number that atlases can be compared by.

What an atlas tells of a volume (`evidence.information`) depends on the atlas: one of the thigh, with its rings of skin,
fat and muscle, tells more of a strange limb than one of the spine tells of a spine. So two things are multiplied: the
information as a share of what the atlas usually tells of its own body part, which its quality card knows, and the
information near its skeleton alone, which no other body part imitates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.candidates import tissue_centre_mm
from msksam_cli.atlas.evidence import Classes, atlas_classes, focused, information, normalised, on_spacing
from msksam_cli.atlas.resampling import coverage, inverse, resample, world_aligned_grid
from msksam_cli.atlas.search import Start, best_shifts, poses
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError

Image = NDArray[np.float32]

COARSE_SIMILARITY = "coarse_similarity_mean"
"""Key of an atlas's quality card: mean similarity of the coarse fits of its own cases."""

_WORK_MM, _SEARCH_MM, _SKELETON_MM, _REACH_MM = 2.5, 8.0, 5.0, 8.0
_SCALES = (0.88, 1.12)
_APART_MM = 20.0
_REFINED = 2
_USUAL_SIMILARITY = 0.4


@dataclass(frozen=True)
class CoarseFit:
    """How well an atlas fits a volume, roughly.

    Attributes:
        similarity: nats per voxel that the whole atlas tells of the volume.
        skeleton: the same near its skeleton, or near all its tissues where it has none.
        usual: similarity that the atlas has to volumes of its own body part.
    """

    similarity: float
    skeleton: float
    usual: float = _USUAL_SIMILARITY

    @property
    def score(self) -> float:
        """Comparable between atlases; the higher, the better."""
        return self.similarity / self.usual * self.skeleton


def coarse_fit(atlas: Atlas, volume: Volume) -> CoarseFit:
    """The fit after a search over shifts, three sizes and both sides at 8 mm and an affine refinement of its best.

    Raises:
        AtlasError: the volume is constant.
    """
    work = volume.grid.resampled(_WORK_MM)
    image = resample(normalised(volume.intensities, volume.window), volume.grid, work)
    if not np.ptp(image):
        raise AtlasError("the volume has no contrast an atlas could be chosen by", "Look at the image")
    grid, seen, inside = _seen(image, work, _SEARCH_MM)

    def searched(classes: Classes, scales: tuple[float, ...]) -> list[Start]:
        return [
            start
            for pose in poses(tissue_centre_mm(atlas), _mirrors(atlas, volume), 0.0, scales)
            for start in best_shifts(classes, pose, seen, inside, grid, how_many=1, apart_mm=_APART_MM)
        ]

    sets = [(fine, on_spacing(fine, _SEARCH_MM)) for fine in atlas_classes(atlas)]
    fine, classes = max(sets, key=lambda pair: max(start.score for start in searched(pair[1], ())))
    starts = sorted(searched(classes, _SCALES), key=lambda start: -start.score)[:_REFINED]
    refined = [refine_affine(classes, seen, grid, start.atlas_to_volume_mm) for start in starts]
    matrix, similarity = max(refined, key=lambda pair: pair[1])
    skeleton = on_spacing(focused(fine, atlas, _REACH_MM), _SKELETON_MM)
    near = _placed_information(skeleton, matrix, *_seen(image, work, _SKELETON_MM))
    return CoarseFit(similarity, near, _usual_similarity(atlas))


def _seen(image: Image, work: Grid, spacing_mm: float) -> tuple[Grid, Image, Image]:
    """A coarser RAS+ grid, the image on it, and 1 inside the field of view."""
    grid = world_aligned_grid(work.corners_mm(), spacing_mm)
    return grid, resample(image, work, grid), coverage(work, grid).astype(np.float32)


def _mirrors(atlas: Atlas, volume: Volume) -> tuple[bool, ...]:
    if not atlas.side:
        return (False,)
    return (volume.side != atlas.side,) if volume.side else (False, True)


def _placed_information(classes: Classes, matrix: FloatArray, grid: Grid, image: Image, inside: Image) -> float:
    """Nats per voxel of their support that placed classes tell of an image."""
    back = inverse(matrix)
    weights = [resample(weight, classes.grid, grid, back).astype(np.float64) * inside for weight in classes.weights]
    counts = np.array([weight.sum() for weight in weights])
    sums = np.array([(weight * image).sum() for weight in weights])
    squares = np.asarray((np.sum(weights, axis=0) * image**2).sum())
    size = float(classes.support.sum()) * classes.grid.voxel_volume_mm3 * abs(np.linalg.det(matrix[:3, :3]))
    return float(information(counts, sums, squares, size / grid.voxel_volume_mm3))


def _usual_similarity(atlas: Atlas) -> float:
    """What its quality card says, else what most atlases have."""
    quality = atlas.provenance.get("quality")
    known = quality.get(COARSE_SIMILARITY) if isinstance(quality, Mapping) else None
    return float(known) if known else _USUAL_SIMILARITY
