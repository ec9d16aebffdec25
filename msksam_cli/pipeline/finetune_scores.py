"""What a network is worth on labelled volumes: boxes from the truth, slices decoded, Dice of the assembled volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import plane_axes
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.embeddings import EmbeddingStore
from msksam_cli.fusion import FusionRules
from msksam_cli.measure.overlap import LabelArray, overlaps
from msksam_cli.pipeline.segment_case import Setup, segment_with_prompts
from msksam_cli.sam.runtime import Model

WATCHED_SLICES, SCORED_SLICES = 16, 48

VolumeDice = Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A volume with its truth on the same grid."""

    volume: Volume
    labels: LabelMap


def watched(case: Labelled, tissues: TissueTable, most: int) -> Labelled:
    """Every n-th slice of a volume, so that at most about `most` labelled slices are left, on a grid of its own."""
    axis = case.volume.grid.slice_axis
    wanted = np.isin(case.labels.values, tissues.indices).any(axis=plane_axes(axis))
    step = max(1, -(-int(wanted.sum()) // most))
    first = int(np.flatnonzero(wanted)[0]) % step
    chosen = [slice(None)] * 3
    chosen[axis] = slice(first, None, step)
    grid = case.volume.grid
    affine, start = grid.affine.copy(), np.zeros(3)
    start[axis] = first
    affine[:3, 3] = grid.to_world_mm(start)
    affine[:3, axis] *= step
    intensities = case.volume.intensities[tuple(chosen)]
    shape = (intensities.shape[0], intensities.shape[1], intensities.shape[2])
    thin = Grid(shape, affine)
    return Labelled(Volume(intensities, thin), LabelMap(case.labels.values[tuple(chosen)], thin, case.labels.tissues))


def segmented(model: Model, store: EmbeddingStore, case: Labelled, tissues: TissueTable) -> LabelMap:
    """What a network makes of a volume asked for the wanted tissues by true boxes, each side off by up to 5 %."""
    setup = Setup(tissues, model, store, FusionRules(), prompt_kind="box", fusion=False)
    prompts = prompts_from_labels(case.labels, tissues, case.volume.grid.slice_axis, "box")
    return segment_with_prompts(case.volume, prompts, setup).labels


def wanted_truth(case: Labelled, tissues: TissueTable) -> LabelArray:
    """The truth (I, J, K) with 0 for tissues that are not wanted."""
    truth = case.labels.values.copy()
    truth[~np.isin(truth, tissues.indices)] = 0
    return truth


def volume_dice(model: Model, store: EmbeddingStore, case: Labelled, tissues: TissueTable) -> VolumeDice:
    """Label value → Dice of each wanted tissue that the truth shows, see `segmented`."""
    pairs = overlaps(segmented(model, store, case, tissues).values, wanted_truth(case, tissues))
    return {index: pair.dice or 0.0 for index, pair in pairs.items() if pair.voxels_b}


def mean_dice(scores: Sequence[VolumeDice]) -> float:
    """Mean over volumes of the mean over tissues."""
    return float(np.mean([np.mean(list(of_volume.values())) for of_volume in scores]))


def by_tissue(scores: Sequence[VolumeDice]) -> dict[int, list[float]]:
    """Label value → Dice of the volumes that show it."""
    indices = sorted({index for of_volume in scores for index in of_volume})
    return {index: [of_volume[index] for of_volume in scores if index in of_volume] for index in indices}
