"""Labelled cases, segmented as ever and held against their truth slice by slice: what quality is learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.slicing import plane_axes
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.expected_dice import (
    BAD_DICE,
    QualityModel,
    area_under_roc,
    calibration,
    fit_quality,
    share_found,
)
from msksam_cli.measure.slice_signals import SIGNALS, Signals, SliceSignals

JUDGED_COLUMNS = ("case", "tissue", "group", "slice", "area_mm2", *SIGNALS, "dice", "wrong_mm2")


@dataclass(frozen=True)
class Judged:
    """One tissue on one slice, and what the truth says of it.

    Attributes:
        case: name of the case.
        tissue: name of the tissue.
        group: the tissue's group.
        slice_index: along the slice axis.
        area_mm2: of the mask.
        signals: what was known without the truth.
        dice: what it really has.
        wrong_mm2: area labelled wrongly, missing or too much.
    """

    case: str
    tissue: str
    group: str
    slice_index: int
    area_mm2: float
    signals: Signals
    dice: float
    wrong_mm2: float

    def row(self) -> dict[str, object]:
        """Cells by column of `JUDGED_COLUMNS`."""
        own = {"case": self.case, "tissue": self.tissue, "group": self.group, "slice": self.slice_index}
        return {**own, "area_mm2": self.area_mm2, **vars(self.signals), "dice": self.dice, "wrong_mm2": self.wrong_mm2}

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Judged:
        """The same from cells as text."""
        signals = Signals(**{name: float(row[name]) if row[name] else None for name in SIGNALS})
        names = row["case"], row["tissue"], row["group"], int(row["slice"]), float(row["area_mm2"])
        return cls(*names, signals, float(row["dice"]), float(row["wrong_mm2"]))


@dataclass(frozen=True)
class Worth:
    """How well quality is foretold.

    Attributes:
        slices: how many were judged.
        bad: how many of them have a Dice below `BAD_DICE`.
        area_under_roc: for telling these; None without any.
        mean_error: mean distance of expected and real Dice.
        found: share of the wrongly labelled area on the tenth of the slices where most of it is expected.
        found_at_best: the same for the tenth on which most of it really lies.
        calibration: mean expected Dice, mean Dice and slices of ten equally large parts.
    """

    slices: int
    bad: int
    area_under_roc: float | None
    mean_error: float
    found: float | None
    found_at_best: float | None
    calibration: tuple[tuple[float, float, int], ...]


def judged_slices(case: str, labels: LabelMap, signals: Sequence[SliceSignals], truth: LabelMap) -> list[Judged]:
    """Every slice with signals held against the truth on the same grid, whose values are the labels'."""
    axis = labels.grid.slice_axis
    rows, columns = plane_axes(axis)
    pixel_mm2 = labels.grid.spacing_mm[rows] * labels.grid.spacing_mm[columns]
    counts: dict[int, tuple[NDArray[np.intp], ...]] = {}
    judged = []
    for one in signals:
        index = one.tissue.index
        if index not in counts:
            mask, true = labels.mask(index), truth.mask(index)
            counts[index] = tuple(np.count_nonzero(m, axis=(rows, columns)) for m in (mask, true, mask & true))
        here, there, both = (int(of_slice[one.slice_index]) for of_slice in counts[index])
        wrong_mm2 = (here + there - 2 * both) * pixel_mm2
        place = case, one.tissue.name, one.tissue.group, one.slice_index, one.area_mm2
        judged.append(Judged(*place, one.signals, 2 * both / (here + there), wrong_mm2))
    return judged


def fitted(judged: Sequence[Judged], signals: Sequence[str] = SIGNALS) -> QualityModel:
    """The model that foretells the Dice of these slices, see `fit_quality`."""
    return fit_quality([(one.group, one.signals) for one in judged], np.array([one.dice for one in judged]), signals)


def expected(model: QualityModel, judged: Sequence[Judged]) -> NDArray[np.float64]:
    """What a model expects of slices, (N,)."""
    return model.expected([(one.group, one.signals) for one in judged])


def crossed(judged: Sequence[Judged], signals: Sequence[str] = SIGNALS) -> NDArray[np.float64]:
    """Expected Dice (N,), each half of the cases foretold by the model that was fitted on the other half.

    Raises:
        ValueError: a half has too few slices.
    """
    cases = sorted({one.case for one in judged})
    first = set(cases[::2])
    found = np.zeros(len(judged))
    for half in (True, False):
        known = [one for one in judged if (one.case in first) == half]
        asked = [n for n, one in enumerate(judged) if (one.case in first) != half]
        found[asked] = expected(fitted(known, signals), [judged[n] for n in asked])
    return found


def worth(expected_dice: NDArray[np.float64], judged: Sequence[Judged]) -> Worth:
    """How good expectations were."""
    dice = np.array([one.dice for one in judged])
    wrong = np.array([one.wrong_mm2 for one in judged])
    return Worth(
        len(judged),
        int((dice < BAD_DICE).sum()),
        area_under_roc(expected_dice, dice < BAD_DICE),
        float(np.abs(expected_dice - dice).mean()),
        share_found((1 - expected_dice) * np.array([one.area_mm2 for one in judged]), wrong),
        share_found(wrong, wrong),
        calibration(expected_dice, dice),
    )
