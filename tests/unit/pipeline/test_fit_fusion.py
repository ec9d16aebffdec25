from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.errors import UsageError
from msksam_cli.fusion import NOTHING, FusionRules, fuse_slice
from msksam_cli.pipeline.fit_fusion import Tried, _Kept, fit_weights
from msksam_cli.pipeline.segment_case import Evidence

DICE = {  # weight → Dice of cases one, two and three
    0.0: (0.70, 0.60, 0.90),
    1.0: (0.80, 0.80, 0.50),
    2.0: (0.81, 0.75, 0.52),
}
RULES = FusionRules(1.0, {"disc": 2.0})


def tried(group="bone", model="m", table=DICE):
    cases = ("one", "two", "three")
    return [Tried(model, c, group, 1, w, d) for w, values in table.items() for c, d in zip(cases, values, strict=False)]


def test_the_weight_with_the_largest_mean_wins_and_the_left_out_dice_is_of_weights_chosen_without_the_case():
    (fit,) = fit_weights("m", tried(), RULES).groups
    assert (fit.weight, fit.in_use, fit.cases) == (0.0, 1.0, 3)
    assert fit.dice == {w: pytest.approx(np.mean(values)) for w, values in DICE.items()}
    # Without one: 0 (0.75), without two: 0 (0.80), without three: 1 (0.80) → 0.70, 0.60, 0.50.
    assert fit.left_out_dice == pytest.approx(0.6)


def test_of_equal_weights_the_one_nearest_one_is_taken():
    flat = dict.fromkeys((0.0, 0.5, 1.5, 3.0), (0.7, 0.7, 0.7))
    assert fit_weights("m", tried(table=flat), RULES).groups[0].weight in (0.5, 1.5)


def test_groups_and_models_are_fitted_apart():
    low = {0.0: (0.9, 0.9, 0.9), 1.0: (0.1, 0.1, 0.1)}
    high = {0.0: (0.1, 0.1, 0.1), 1.0: (0.9, 0.9, 0.9)}
    everything = [*tried("bone", "m", low), *tried("disc", "m", high), *tried("bone", "other", high)]
    fit = fit_weights("m", everything, RULES)
    assert {g.group: (g.weight, g.in_use) for g in fit.groups} == {"bone": (0.0, 1.0), "disc": (1.0, 2.0)}
    chosen = [(row["group"], row["weight"]) for row in fit.rows() if row["chosen"]]
    assert chosen == [("bone", 0.0), ("disc", 1.0)]


def test_two_cases_are_too_few():
    with pytest.raises(UsageError, match="2 cases are too few"):
        fit_weights("m", [one for one in tried() if one.case != "three"], RULES)


def test_evidence_that_was_kept_small_is_fused_as_before():
    rng = np.random.default_rng(4)
    shape = (30, 21)
    logits = {index: np.full(shape, NOTHING, np.float32) for index in (1, 3)}
    logits[1][4:17, 3:12] = rng.normal(0, 2, (13, 9))
    logits[3][10:25, 8:20] = rng.normal(0, 2, (15, 12))
    priors = {index: rng.uniform(0, 1, shape).astype(np.float32) for index in (1, 3)}
    evidence = Evidence(2, shape, logits, priors, (Prompt(1, 2, Box((3, 4, 11, 16))),), (0.5,))
    whole = _Kept.of(evidence).whole()
    for weight in (0.0, 1.7):
        rules = FusionRules(prior_weight=weight)
        before = fuse_slice(logits, priors, shape, rules)
        assert before.any()
        assert (fuse_slice(whole.logits, whole.priors, shape, rules) != before).mean() < 0.005
    assert (whole.slice_index, whole.prompts) == (2, evidence.prompts)
