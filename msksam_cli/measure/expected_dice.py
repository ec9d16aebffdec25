"""The Dice to expect of a slice nobody has labelled, learnt from slices that somebody has.

A ridge regression (Hoerl and Kennedy, Technometrics 1970) of logit(Dice) on the signals of a slice, with a constant for
each group of tissues, followed by isotonic regression (Barlow et al. 1972), so that what it says is on the scale of
Dice: of slices expected at 0.8 the mean Dice is 0.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from msksam_cli.measure.slice_signals import SIGNALS, Signals

BAD_DICE = 0.7
"""A slice below this is one that should be looked at."""

LEAST_SLICES = 50
_DICE_LIMIT = 0.02
_PENALTY = 3.0
_KNOTS = 25


@dataclass(frozen=True)
class QualityModel:
    """From signals to expected Dice.

    Attributes:
        signals: names of the signals it looks at, of `SIGNALS`.
        means: of each over the slices it was fitted on; stands for a signal that is not known.
        deviations: standard deviation of each.
        weights: of each, in logits of Dice per standard deviation.
        groups: tissue group → its constant, in logits.
        constant: of groups that were not there.
        knots: (M,) scores, ascending, and (M,) the Dice each stands for; between them linear.
        weights_sha256: hash of the checkpoint whose answers were judged.
        fit: how it was found and what it is worth, plain values.
    """

    signals: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    groups: Mapping[str, float]
    constant: float
    knots: tuple[tuple[float, ...], tuple[float, ...]]
    weights_sha256: str = ""
    fit: Mapping[str, object] | None = None

    def expected(self, rows: Sequence[tuple[str, Signals]]) -> NDArray[np.float64]:
        """Expected Dice (N,) of slices, each given by the group of its tissue and its signals."""
        return np.asarray(np.interp(self.scores(rows), *self.knots), dtype=np.float64)

    def scores(self, rows: Sequence[tuple[str, Signals]]) -> NDArray[np.float64]:
        """What is held against the knots, (N,) in logits."""
        values = _table([signals for _, signals in rows], self.signals)
        known = np.where(np.isnan(values), self.means, values)
        scaled = (known - np.array(self.means)) / np.array(self.deviations)
        of_group = np.array([self.groups.get(group, self.constant) for group, _ in rows])
        return np.asarray(scaled @ np.array(self.weights) + of_group, dtype=np.float64)


def fit_quality(
    rows: Sequence[tuple[str, Signals]], dice: NDArray[np.float64], signals: Sequence[str] = SIGNALS
) -> QualityModel:
    """The model that foretells the Dice of labelled slices best.

    Args:
        rows: group of the tissue and signals of each of N slices.
        dice: (N,) what they really had.
        signals: which signals to look at; those that no slice has, or all alike, are left out.

    Raises:
        ValueError: fewer than `LEAST_SLICES` slices.
    """
    if len(rows) < LEAST_SLICES:
        raise ValueError(f"{len(rows)} slices are too few, {LEAST_SLICES} are needed")
    found = [of_slice for _, of_slice in rows]
    told = telling(found, signals)
    table = _table(found, told)
    means, deviations = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    scaled = (np.where(np.isnan(table), means, table) - means) / deviations
    names = sorted({group for group, _ in rows})
    member = np.array([[float(group == name) for name in names] for group, _ in rows])
    clipped = np.clip(dice, _DICE_LIMIT, 1 - _DICE_LIMIT)
    wanted = np.log(clipped / (1 - clipped))
    constant = float(wanted.mean())
    design = np.hstack([scaled, member])
    solved = np.linalg.solve(design.T @ design + _PENALTY * np.eye(design.shape[1]), design.T @ (wanted - constant))
    weights, offsets = solved[: len(told)], constant + solved[len(told) :]
    raw = QualityModel(
        tuple(told),
        tuple(means.tolist()),
        tuple(deviations.tolist()),
        tuple(weights.tolist()),
        dict(zip(names, offsets.tolist(), strict=True)),
        constant,
        ((-1e9, 1e9), (0.0, 1.0)),
    )
    return _calibrated(raw, raw.scores(rows), dice)


def telling(rows: Sequence[Signals], names: Sequence[str] = SIGNALS) -> list[str]:
    """The signals that are known of some slices and not alike for all of them."""
    return [name for name in names if len({getattr(signals, name) for signals in rows} - {None}) > 1]


def _calibrated(model: QualityModel, scores: NDArray[np.float64], dice: NDArray[np.float64]) -> QualityModel:
    """The model with knots at the means of equally large parts, in order of score, made to rise."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, min(_KNOTS, len(order) // 10)) if part.size]
    means = np.array([scores[part].mean().round(9) for part in parts])
    at, of_knot = np.unique(means, return_inverse=True)
    slices = np.bincount(of_knot, [part.size for part in parts])
    sums = np.bincount(of_knot, [dice[part].sum() for part in parts])
    rising = isotonic_regression(sums / slices, weights=slices).x
    knots = tuple(at.tolist()), tuple(np.clip(rising, 0.0, 1.0).tolist())
    return replace(model, knots=knots)


def area_under_roc(expected: NDArray[np.float64], is_bad: NDArray[np.bool_]) -> float | None:
    """Probability that a bad slice is expected to be worse than a good one (Hanley and McNeil 1982); None without both.

    >>> area_under_roc(np.array([0.2, 0.9, 0.8]), np.array([True, False, False]))
    1.0
    """
    bad, good = int(is_bad.sum()), int((~is_bad).sum())
    if not bad or not good:
        return None
    _, places, counts = np.unique(-expected, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # equals share the mean of their ranks
    return float((ranks[is_bad].sum() - bad * (bad + 1) / 2) / (bad * good))


def share_found(suspected: NDArray[np.float64], errors: NDArray[np.float64], reviewed: float = 0.1) -> float | None:
    """Share of all errors that lie on the slices suspected most; None when there are no errors.

    Args:
        suspected: (N,) how much is suspected to be wrong on each slice, such as (1 − expected Dice) · area.
        errors: (N,) how much is wrong on each slice, 0 or more.
        reviewed: share of the slices that is looked at.

    >>> share_found(np.array([0.9, 0.1, 0.2, 0.0]), np.array([3.0, 0.0, 1.0, 0.0]), reviewed=0.25)
    0.75
    """
    total = float(errors.sum())
    if total <= 0:
        return None
    first = np.argsort(-suspected, kind="stable")[: max(1, round(reviewed * len(suspected)))]
    return float(errors[first].sum()) / total


def calibration(
    expected: NDArray[np.float64], dice: NDArray[np.float64], parts: int = 10
) -> tuple[tuple[float, float, int], ...]:
    """Mean expected Dice, mean Dice and number of slices of equally large parts in order of what was expected."""
    order = np.argsort(expected, kind="stable")
    return tuple(
        (float(expected[part].mean()), float(dice[part].mean()), int(part.size))
        for part in np.array_split(order, parts)
        if part.size
    )


def _table(rows: Sequence[Signals], names: Sequence[str]) -> NDArray[np.float64]:
    """(N, S) values, NaN where a signal is not known."""
    cells = [[getattr(signals, name) for name in names] for signals in rows]
    return np.array(cells, dtype=np.float64).reshape(len(rows), len(names))
