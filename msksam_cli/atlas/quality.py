"""How good an atlas is: each case placed by the atlas of the others, and compared with its own labels.

The case is left out of the averages; only the shape of the common space has seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from msksam_cli.atlas.build import Alignment, Naming, Report, Sums, atlas_from_sums
from msksam_cli.atlas.coarse_fit import COARSE_SIMILARITY, coarse_fit
from msksam_cli.atlas.placement import place_atlas
from msksam_cli.atlas.priors import prompts_from_priors, strongest_tissue
from msksam_cli.core.atlases import Atlas, PlacedAtlas
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.slicing import plane_axes, take_slice
from msksam_cli.core.volume import LabelMap

_TRANSFER_LEAST = 0.4


@dataclass(frozen=True)
class TissueQuality:
    """One tissue over the cases left out.

    Attributes:
        dice_mean: Dice of the labels the atlas transfers, mean over cases.
        dice_least: the worst case.
        box_recall: share of slices with the tissue on which the prompts' boxes together hold its box, 0…1.
        cases: number of cases with the tissue.
    """

    dice_mean: float
    dice_least: float
    box_recall: float
    cases: int


@dataclass(frozen=True)
class QualityCard:
    """Leave-one-out quality of an atlas.

    Attributes:
        tissues: label value → quality.
        similarity_mean: mean similarity of the placements.
        similarity_least: the least of them.
        coarse_similarity_mean: mean similarity of coarse fits, each case left out once; choosing among atlases
            compares with it.
        left_out: number of cases left out, one by one.
        doubtful: number of placements the fit itself called doubtful.
    """

    tissues: Mapping[int, TissueQuality] = field(default_factory=dict)
    similarity_mean: float = 0.0
    similarity_least: float = 0.0
    coarse_similarity_mean: float = 0.0
    left_out: int = 0
    doubtful: int = 0


def leave_one_out(
    alignment: Alignment, sums: Sequence[Sums], everything: Sums, naming: Naming, *, most: int, report: Report = str
) -> QualityCard:
    """The quality card over at most `most` cases spread evenly, coarse fits over all; empty for under three cases."""
    count = len(alignment.cases)
    chosen = sorted({round(n) for n in np.linspace(0, count - 1, min(most, count))}) if count > 2 else []
    scores: dict[int, list[tuple[float, float]]] = {}
    fits = []

    def without(number: int) -> Atlas:
        return atlas_from_sums(alignment, everything.plus(sums[number], -1.0), naming)

    for position, number in enumerate(chosen, start=1):
        report(f"leave one out, case {position} of {len(chosen)}")
        atlas = without(number)
        case = alignment.cases[number]
        placed = place_atlas(atlas, case.volume)
        fits.append(placed.fit)
        for index, score in _scores(placed, case.labels).items():
            scores.setdefault(index, []).append(score)
    if not fits:
        return QualityCard()
    report("coarse fits")
    coarse = [coarse_fit(without(number), case.volume).similarity for number, case in enumerate(alignment.cases)]
    return QualityCard(
        tissues={index: _summary(pairs) for index, pairs in sorted(scores.items())},
        similarity_mean=float(np.mean([fit.similarity for fit in fits])),
        similarity_least=float(min(fit.similarity for fit in fits)),
        coarse_similarity_mean=float(np.mean(coarse)),
        left_out=len(fits),
        doubtful=sum(not fit.reliable for fit in fits),
    )


def card_values(card: QualityCard) -> dict[str, object]:
    """The card as plain values for atlas.toml."""
    return {
        "left_out": card.left_out,
        "doubtful": card.doubtful,
        "similarity_mean": round(card.similarity_mean, 4),
        "similarity_least": round(card.similarity_least, 4),
        COARSE_SIMILARITY: round(card.coarse_similarity_mean, 4),
        "tissues": {
            str(index): {
                "dice_mean": round(quality.dice_mean, 4),
                "dice_least": round(quality.dice_least, 4),
                "box_recall": round(quality.box_recall, 4),
                "cases": quality.cases,
            }
            for index, quality in card.tissues.items()
        },
    }


def box_recall(prompts: Sequence[Prompt], truth: NDArray[np.bool_], slice_axis: int) -> float:
    """Share of slices showing the truth on which the hull of the prompts' boxes holds the truth's box.

    Raises:
        ValueError: the truth is empty.
    """
    boxes: dict[int, list[Box]] = {}
    for prompt in prompts:
        if prompt.box:
            boxes.setdefault(prompt.slice_index, []).append(prompt.box)
    shown = np.flatnonzero(truth.any(axis=plane_axes(slice_axis)))
    if shown.size == 0:
        raise ValueError("an empty truth has no box recall")
    return float(np.mean([_holds(boxes.get(int(n), []), take_slice(truth, slice_axis, int(n))) for n in shown]))


def _scores(placed: PlacedAtlas, labels: LabelMap) -> dict[int, tuple[float, float]]:
    """Label value → (Dice, box recall) for tissues the case has."""
    winner = strongest_tissue(placed.probabilities, placed.grid.shape, _TRANSFER_LEAST)
    axis = labels.grid.slice_axis
    prompts = prompts_from_priors(placed, placed.tissues, axis, "box")
    found = {}
    for index in placed.tissues.indices:
        truth = labels.mask(index)
        if not truth.any():
            continue
        mask = winner == index
        dice = 2.0 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
        found[index] = dice, box_recall([p for p in prompts if p.tissue_index == index], truth, axis)
    return found


def _holds(boxes: Sequence[Box], truth: NDArray[np.bool_]) -> bool:
    if not boxes:
        return False
    wanted = Box.of_mask(truth).xyxy
    corners = np.array([box.xyxy for box in boxes])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    return bool(np.all(low <= wanted[:2]) and np.all(high >= wanted[2:]))


def _summary(pairs: Sequence[tuple[float, float]]) -> TissueQuality:
    dice, recall = np.array(pairs).T
    return TissueQuality(float(dice.mean()), float(dice.min()), float(recall.mean()), len(pairs))
