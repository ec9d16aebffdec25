"""From mask logits and priors to one label per voxel.

Per pixel and tissue the decoder's logits and the prior's are added, `logits + λ · logit(P)`, as two independent
witnesses of the same fact would be; the tissue with the largest sum above zero wins. Far from where the prior believes
a tissue at all nothing is labelled, whatever the decoder says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.boxed import label_boxes
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.tissues import TissueTable

Plane = NDArray[np.float32]
Labels = NDArray[np.uint8] | NDArray[np.uint16]

NOTHING = np.float32(-30.0)
"""Logit of a pixel that nothing was asked about."""


@dataclass(frozen=True)
class FusionRules:
    """How decoder and prior are weighed.

    Attributes:
        prior_weight: λ, weight of logit(P) beside the decoder's logits; 0 leaves P to `reach` alone.
        group_weights: λ of groups that want another. It belongs to a checkpoint, see `pipeline.fusion_weights`.
        weights_from: where both come from: "default", "registry", "checkpoint" or "fitted".
        logit_limit: the decoder's logits are clipped to ± this, so that its certainty stays comparable.
        probability_limit: P is clipped to this … 1 − this before its logit is taken.
        reach: P below this rules a tissue out where a prior is given.
        box_margin_px: pixels beyond its box that an answer may fill.
        least_piece_share: pieces smaller than this share of a tissue's largest piece are dropped.
        largest_hole_mm3: holes inside a tissue up to this size are filled.
    """

    prior_weight: float = 1.0
    group_weights: Mapping[str, float] = field(default_factory=dict)
    weights_from: str = "default"
    logit_limit: float = 6.0
    probability_limit: float = 0.02
    reach: float = 0.01
    box_margin_px: float = 1.0
    least_piece_share: float = 0.05
    largest_hole_mm3: float = 50.0

    def weights(self, tissues: TissueTable) -> dict[int, float]:
        """Label value → λ."""
        return {tissue.index: self.group_weights.get(tissue.group, self.prior_weight) for tissue in tissues}


def join_answers(answers: Sequence[tuple[Prompt, Plane]], shape: tuple[int, int], rules: FusionRules) -> Plane:
    """Logits (rows, columns) of one tissue on one slice from the answers to all its prompts.

    An answer counts inside its own box and a margin; where several do, the most certain "inside" wins. Pixels no
    prompt asked about hold `NOTHING`.
    """
    joined = np.full(shape, NOTHING, dtype=np.float32)
    for prompt, logits in answers:
        window = _window(prompt.box, shape, rules.box_margin_px)
        limited = np.clip(logits[window], -rules.logit_limit, rules.logit_limit)
        joined[window] = np.maximum(joined[window], limited)
    return joined


def fuse_slice(
    logits: Mapping[int, Plane],
    priors: Mapping[int, Plane] | None,
    shape: tuple[int, int],
    rules: FusionRules,
    weights: Mapping[int, float] | None = None,
) -> NDArray[np.uint16]:
    """Label values (rows, columns) of one slice, 0 where no tissue's evidence is positive.

    Args:
        logits: label value → joined logits (rows, columns).
        priors: label value → P (rows, columns) in 0…1; None to leave the prior out.
        shape: (rows, columns).
        rules: limits.
        weights: label value → λ; `rules.prior_weight` where missing.
    """
    winner = np.zeros(shape, dtype=np.uint16)
    best = np.zeros(shape, dtype=np.float32)
    for index, plane in logits.items():
        weight = (weights or {}).get(index, rules.prior_weight)
        evidence = plane if priors is None else _with_prior(plane, priors[index], weight, rules)
        better = evidence > best
        winner[better] = index
        best[better] = evidence[better]
    return winner


def _with_prior(logits: Plane, probability: Plane, weight: float, rules: FusionRules) -> Plane:
    limit = rules.probability_limit
    clipped = np.clip(probability, limit, 1 - limit)
    evidence = logits + np.float32(weight) * np.log(clipped / (1 - clipped))
    evidence[(probability < rules.reach) | (logits <= NOTHING)] = NOTHING
    return np.asarray(evidence, dtype=np.float32)


def _window(box: Box | None, shape: tuple[int, int], margin_px: float) -> tuple[slice, slice]:
    if box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    x0, y0, x1, y1 = box.padded(margin_px, margin_px, shape).xyxy
    return slice(int(np.floor(y0)), int(np.ceil(y1)) + 1), slice(int(np.floor(x0)), int(np.ceil(x1)) + 1)


def clean_labels(values: Labels, grid: Grid, rules: FusionRules) -> Labels:
    """Labels (I, J, K) without small pieces and small holes; every tissue keeps its largest piece.

    A hole is filled only with background, so that a tissue never grows into another.
    """
    boxes, most_voxels = label_boxes(values), rules.largest_hole_mm3 / grid.voxel_volume_mm3

    def changes(index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        mask = values[boxes[index]] == index
        kept = _without_small_pieces(mask, rules.least_piece_share)
        return mask & ~kept, _small_holes(kept, most_voxels)

    cleaned = values.copy()
    for index, (dropped, holes) in zip(boxes, spread_over_cores(changes, list(boxes), few_cores()), strict=True):
        part = cleaned[boxes[index]]
        part[dropped] = 0
        part[holes & (part == 0)] = index
    return cleaned


def _without_small_pieces(mask: NDArray[np.bool_], least_share: float) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= least_share * sizes.max())[pieces] & mask)


def _small_holes(mask: NDArray[np.bool_], most_voxels: float) -> NDArray[np.bool_]:
    """Background pieces wholly enclosed by the mask, up to a size."""
    padded = np.pad(mask, 1)
    pieces, count = ndimage.label(~padded)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    small = sizes <= most_voxels
    small[[0, int(pieces[0, 0, 0])]] = False
    return np.asarray(small[pieces][1:-1, 1:-1, 1:-1])
