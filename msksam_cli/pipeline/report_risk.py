"""Which case to look at first: an order by what is known to be wrong, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msksam_cli.measure.morphometry import Status
from msksam_cli.measure.qc import WHOLE_CASE

Row = Mapping[str, str]

EXPECTED_DICE = "expected_dice"
"""Column of metrics.csv: the Dice that slices like a tissue's had. Of a tissue in the wrong place it tells nothing, so
that doubts about the whole case go before it."""

MILD = ("cut_by_field_of_view", "touches_border", "expected_dice_low")
"""Flags that tell what the scan shows, or what expected Dice tells already; they do not move a case."""

_MISSING = (Status.EMPTY.value, Status.FAILED.value)


@dataclass(frozen=True)
class Risk:
    """What speaks against the labels of a case.

    Attributes:
        missing: tissues that are empty or failed.
        case_doubts: flags on the whole case.
        tissue_doubts: flags on single tissues.
        lowest_iou: least mean IoU prediction of a tissue, None when unknown.
        lowest_tissue: the tissue that has it, "" when unknown.
        expected_dice: least expected Dice of a tissue, None when unknown.
    """

    missing: int
    case_doubts: int
    tissue_doubts: int
    lowest_iou: float | None
    lowest_tissue: str
    expected_dice: float | None

    @property
    def key(self) -> tuple[float, ...]:
        """The smaller, the sooner a case should be looked at; what is not known counts as bad."""
        expected = -1.0 if self.expected_dice is None else self.expected_dice
        iou = -1.0 if self.lowest_iou is None else self.lowest_iou
        return -self.missing, -self.case_doubts, expected, -self.tissue_doubts, iou

    @property
    def words(self) -> str:
        """The same for people."""
        parts = [f"{self.missing} {_plural(self.missing, 'tissue')} empty or failed"] if self.missing else []
        doubts = [
            f"{count} {where}"
            for count, where in ((self.case_doubts, "about the whole case"), (self.tissue_doubts, "about tissues"))
            if count
        ]
        parts += [f"{_plural(self.case_doubts + self.tissue_doubts, 'doubt')}: {', '.join(doubts)}"] if doubts else []
        parts += [] if self.expected_dice is None else [f"lowest expected Dice {self.expected_dice:.2f}"]
        parts += [f"lowest IoU prediction {self.lowest_iou:.2f} ({self.lowest_tissue})"] if self.lowest_tissue else []
        text = "; ".join(parts) or "nothing is known against it"
        return f"{text[0].upper()}{text[1:]}."


def case_risk(metrics: Sequence[Row], flags: Sequence[Row]) -> Risk:
    """The risk of one case from its rows of metrics.csv and qc.csv."""
    serious = [flag for flag in flags if flag["flag"] not in MILD]
    on_case = sum(flag["tissue"] == WHOLE_CASE for flag in serious)
    told = [(known_number(row.get("iou_prediction_mean", "")), row["tissue"]) for row in metrics]
    lowest = min(((iou, tissue) for iou, tissue in told if iou is not None), default=(None, ""))
    expected = [dice for row in metrics if (dice := known_number(row.get(EXPECTED_DICE, ""))) is not None]
    return Risk(
        missing=sum(row["status"] in _MISSING for row in metrics),
        case_doubts=on_case,
        tissue_doubts=len(serious) - on_case,
        lowest_iou=lowest[0],
        lowest_tissue=lowest[1],
        expected_dice=min(expected, default=None),
    )


def known_number(text: str) -> float | None:
    """The number in a cell; None when it is empty, or when somebody wrote something else there."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def order_words(risks: Sequence[Risk]) -> str:
    """How cases with these risks are sorted."""
    known = any(risk.expected_dice is not None for risk in risks)
    foretold = "lowest expected Dice of a tissue, " if known else ""
    return (
        f"Sorted by tissues empty or failed, doubts about the whole case, {foretold}doubts about tissues, lowest IoU "
        "prediction. What only concerns the field of view does not move a case."
    )


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
