"""Quality foretold: known relations are found, numbers agree with counting, and nothing is promised without ground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msksam_cli.measure.expected_dice import area_under_roc, calibration, fit_quality, share_found
from msksam_cli.measure.slice_signals import Signals


def _slices(count: int = 600, seed: int = 1) -> tuple[list[tuple[str, Signals]], np.ndarray]:
    """Slices whose Dice follows their stability, worse in one group, and whose size says nothing."""
    rng = np.random.default_rng(seed)
    stable, size = rng.uniform(0.3, 1.0, count), rng.normal(5, 1, count)
    groups = np.where(rng.random(count) < 0.5, "bone", "cartilage")
    logits = 6 * (stable - 0.6) + np.where(groups == "bone", 1.0, -0.5) + rng.normal(0, 0.4, count)
    dice = 1 / (1 + np.exp(-logits))
    rows = [(g, Signals(stability=s, size_log_mm2=z)) for g, s, z in zip(groups, stable, size, strict=True)]
    return rows, dice


def test_what_dice_follows_is_found_and_what_it_does_not_weighs_little() -> None:
    model = fit_quality(*_slices())
    weights = dict(zip(model.signals, model.weights, strict=True))
    assert set(weights) == {"stability", "size_log_mm2"}, "signals that nobody knows are left out"
    assert weights["stability"] > 10 * abs(weights["size_log_mm2"])
    assert model.groups["bone"] - model.groups["cartilage"] == pytest.approx(1.5, abs=0.2)


def test_expected_dice_is_on_the_scale_of_dice_for_slices_not_seen() -> None:
    model = fit_quality(*_slices())
    rows, dice = _slices(seed=2)
    expected = model.expected(rows)
    assert expected.min() >= 0
    assert expected.max() <= 1
    assert np.abs(expected - dice).mean() < 0.07
    for said, real, count in calibration(expected, dice):
        assert said == pytest.approx(real, abs=0.05)
        assert count == 60
    assert (area_under_roc(expected, dice < 0.7) or 0) > 0.93


def test_unknown_signals_and_groups_are_taken_as_average() -> None:
    rows, dice = _slices()
    model = fit_quality(rows, dice)
    (nothing,) = model.expected([("muscle", Signals())])
    assert nothing == pytest.approx(dice.mean(), abs=0.1)


def test_too_few_slices_are_refused() -> None:
    rows, dice = _slices(49)
    with pytest.raises(ValueError, match="49 slices are too few, 50"):
        fit_quality(rows, dice)


def test_slices_all_alike_still_give_their_mean() -> None:
    rows = [("bone", Signals(stability=0.5))] * 80
    dice = np.linspace(0.6, 0.8, 80)
    model = fit_quality(rows, dice)
    assert model.signals == ()
    assert model.expected(rows[:2]) == pytest.approx([0.7, 0.7], abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    expected = np.array([float(score) for score, _ in pairs])
    bad = np.array([is_bad for _, is_bad in pairs])
    wins = [float(b < g) + 0.5 * float(b == g) for b in expected[bad] for g in expected[~bad]]
    assert area_under_roc(expected, bad) == (pytest.approx(np.mean(wins)) if wins else None)


def test_reviewing_slices_finds_the_errors_that_lie_on_them() -> None:
    suspected = 1 - np.arange(20) / 20
    errors = np.zeros(20)
    errors[[0, 1, 15]] = 3.0, 1.0, 4.0
    assert share_found(suspected, errors, reviewed=0.1) == 0.5
    assert share_found(suspected, errors, reviewed=1.0) == 1.0
    assert share_found(suspected, np.zeros(20)) is None
