"""How much the prior should weigh beside a model's logits: λ per tissue group, found on labelled cases.

A case is decoded once; its logits and priors are then fused with every λ of a small grid. A group's λ is the one with
the largest mean Dice over cases. The Dice that is reported for it comes from leaving each case out of the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import UsageError
from msksam_cli.fusion import NOTHING, FusionRules
from msksam_cli.io.fusion_file import FusionWeights, write_fusion_file
from msksam_cli.measure.overlap import overlaps
from msksam_cli.pipeline.fusion_weights import fitted_path
from msksam_cli.pipeline.segment_case import (
    Evidence,
    Setup,
    Tally,
    gather_evidence,
    labels_from_evidence,
    placed_questions,
)

GRID = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""The weights that are tried, besides the one in use."""

LEAST_CASES = 3
FIT_COLUMNS = ("model", "group", "weight", "n", "dice", "chosen", "in_use")
"""Columns of fusion_fit.csv."""


@dataclass(frozen=True)
class Tried:
    """Dice of one tissue of one case, fused with one weight by one model."""

    model: str
    case: str
    group: str
    label: int
    weight: float
    dice: float


@dataclass(frozen=True)
class GroupFit:
    """The weight found for one tissue group.

    Attributes:
        group: tissue group.
        weight: the best λ.
        dice: weight → mean Dice over cases.
        in_use: λ before.
        left_out_dice: mean Dice when each case's λ is chosen from the other cases.
        cases: how many cases.
    """

    group: str
    weight: float
    dice: Mapping[float, float]
    in_use: float
    left_out_dice: float
    cases: int


@dataclass(frozen=True)
class FusionFit:
    """The weights found for one model."""

    model: str
    groups: tuple[GroupFit, ...]

    def rows(self) -> Iterator[dict[str, object]]:
        """One row per group and weight, cells by column of `FIT_COLUMNS`."""
        for g in self.groups:
            for weight, dice in sorted(g.dice.items()):
                values = (self.model, g.group, weight, g.cases, dice, weight == g.weight, weight == g.in_use)
                yield dict(zip(FIT_COLUMNS, values, strict=True))


def try_weights(name: str, volume: Volume, truth: LabelMap, placed: PlacedAtlas, setup: Setup) -> list[Tried]:
    """Dice of every tissue of a case for every weight; the network is asked once."""
    prompts, priors = placed_questions(volume, placed, setup)
    evidence = [_Kept.of(one) for one in gather_evidence(volume, prompts, setup, priors, Tally())]
    weights = setup.rules.weights(truth.tissues)
    tried = []
    for weight in sorted({*GRID, *weights.values()}):
        rules = replace(setup.rules, prior_weight=weight, group_weights={})
        labels = labels_from_evidence((one.whole() for one in evidence), volume.grid, truth.tissues, rules)
        for label, counts in overlaps(labels.values.astype(np.uint16), truth.values.astype(np.uint16)).items():
            group = truth.tissues.by_index(label).group
            if counts.voxels_b:
                tried.append(Tried(setup.model.name, name, group, label, weight, counts.dice or 0.0))
    return tried


def fit_weights(model: str, tried: Sequence[Tried], rules: FusionRules) -> FusionFit:
    """The best weight of every group a model was tried on.

    Raises:
        UsageError: fewer than `LEAST_CASES` cases.
    """
    mine = [one for one in tried if one.model == model]
    cases = sorted({one.case for one in mine})
    if len(cases) < LEAST_CASES:
        raise UsageError(f"{len(cases)} cases are too few to fit fusion weights", f"Label at least {LEAST_CASES}")
    groups = dict.fromkeys(one.group for one in mine)
    return FusionFit(model, tuple(_fit_group([one for one in mine if one.group == g], g, rules) for g in groups))


def write_fit(fit: FusionFit, setup: Setup, name_or_file: str, atlas: str) -> Path:
    """Store the weights with the model, where `segment` reads them; groups that were not tried keep theirs."""
    rules = setup.rules
    weights = FusionWeights(
        rules.prior_weight,
        {**rules.group_weights, **{g.group: g.weight for g in fit.groups}},
        setup.model.weights_sha256,
        {
            "cases": max(g.cases for g in fit.groups),
            "atlas": atlas,
            "dice_left_out": {g.group: round(g.left_out_dice, 4) for g in fit.groups},
            "dice_before": {g.group: round(g.dice[g.in_use], 4) for g in fit.groups},
        },
    )
    path = fitted_path(name_or_file)
    write_fusion_file(path, weights)
    return path


def _fit_group(tried: Sequence[Tried], group: str, rules: FusionRules) -> GroupFit:
    cases, weights = sorted({one.case for one in tried}), sorted({one.weight for one in tried})
    dice = np.array(
        [[np.mean([o.dice for o in tried if o.case == case and o.weight == w]) for w in weights] for case in cases]
    )
    best = _best(dice.mean(axis=0), weights)
    others = (
        [_best(np.delete(dice, row, axis=0).mean(axis=0), weights) for row in range(len(cases))]
        if len(cases) > 1
        else [best]
    )
    return GroupFit(
        group,
        weights[best],
        dict(zip(weights, dice.mean(axis=0).tolist(), strict=True)),
        rules.group_weights.get(group, rules.prior_weight),
        float(np.mean([dice[row, column] for row, column in enumerate(others)])),
        len(cases),
    )


def _best(means: NDArray[np.float64], weights: Sequence[float]) -> int:
    """Position of the largest mean; of equals the weight nearest 1."""
    return max(range(len(weights)), key=lambda n: (round(float(means[n]), 6), -abs(weights[n] - 1.0)))


@dataclass(frozen=True, eq=False)
class _Kept:
    """Evidence of a slice with logits and priors cut to where something was asked, in half the bits."""

    evidence: Evidence
    parts: Mapping[int, tuple[tuple[slice, slice], NDArray[np.float16], NDArray[np.float32] | None]]

    @classmethod
    def of(cls, evidence: Evidence) -> _Kept:
        parts = {}
        for index, plane in evidence.logits.items():
            asked = plane > NOTHING
            rows, columns = np.flatnonzero(asked.any(axis=1)), np.flatnonzero(asked.any(axis=0))
            window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
            prior = evidence.priors[index][window].copy() if evidence.priors else None
            parts[index] = window, plane[window].astype(np.float16), prior
        return cls(replace(evidence, logits={}, priors=None), parts)

    def whole(self) -> Evidence:
        shape = self.evidence.shape
        logits, priors = {}, {}
        for index, (window, cut, prior) in self.parts.items():
            logits[index] = np.full(shape, NOTHING, dtype=np.float32)
            logits[index][window] = cut
            if prior is not None:
                priors[index] = np.zeros(shape, dtype=np.float32)
                priors[index][window] = prior
        return replace(self.evidence, logits=logits, priors=priors or None)
