"""Disagreement under prompt jitter: how much a slice's masks change when the boxes that were asked about move.

The trial behind `qc_worth.py jitter`. Nothing is encoded again: the boxes' sides move by fixed shares of their size,
all prompts are decoded once more for each such move, and the Dice of the answers with the first answer is the signal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.fusion import fuse_slice
from msksam_cli.io.tables import aligned_text
from msksam_cli.measure.overlap import dice
from msksam_cli.measure.slice_signals import SIGNALS, Signals
from msksam_cli.pipeline.judged import JUDGED_COLUMNS, Judged, crossed, expected, fitted, judged_slices, worth
from msksam_cli.pipeline.segment_case import (
    Evidence,
    Segmentation,
    Setup,
    Tally,
    gather_evidence,
    placed_questions,
    segment_with_atlas,
)

MOVES: Mapping[str, tuple[tuple[float, float, float, float], ...]] = {
    "shape": ((-0.05, 0.05, 0.05, -0.05), (0.05, -0.05, -0.05, 0.05)),
    "shift": ((-0.05, -0.05, -0.05, -0.05), (0.05, 0.05, 0.05, 0.05)),
}
"""Name of a pair → by how much of the box's width and height its sides x0, y0, x1, y1 move: wider and lower, then
narrower and higher; or all to one corner, then all to the other."""

_NOTE = """\
Disagreement under prompt jitter, by `benchmarks/qc_worth.py jitter`. Every box is moved twice by 5 % of its size: to be
wider and lower, then narrower and higher (`shape`), or to one corner, then to the other (`shift`). The signal is the
mean Dice of both answers with the first one, as the decoder gave them (`decoder`) or fused with the prior and the other
tissues (`fused`). Every second slice is asked about again; each half of the cases is foretold by a model fitted on the
other half. Drawn people: {phantoms}. Real spines at the right level: {lumbar}.

A pair of moves adds {more} % to the time of decoding. It is left out: AUROC and mean error have to gain clearly on both
sets to be worth that.

```
{table}
```"""

EVERY = 2
"""One slice of so many is asked about again."""


@dataclass(frozen=True)
class JitteredSignals(Signals):
    """What is known of a slice anyhow, and the mean Dice of its answers to a pair of moved boxes with the first answer.

    `decoder_…` compares the decoder's masks, `fused_…` what is left of them beside the prior and the other tissues.
    """

    decoder_shape: float | None = None
    fused_shape: float | None = None
    decoder_shift: float | None = None
    fused_shift: float | None = None


JITTERED = tuple(
    name for name in (field.name for field in fields(JitteredSignals)) if name.startswith(("decoder", "fused"))
)

JITTER_COLUMNS = (*JUDGED_COLUMNS, *JITTERED, "decode_s", "jitter_s")

Masks = dict[tuple[int, int], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class JitteredCase:
    """Judged slices with `JitteredSignals`, and the seconds that decoding took once and for all pairs of moves."""

    judged: list[Judged]
    decode_s: float
    jitter_s: float

    def rows(self) -> list[dict[str, object]]:
        """Cells by column of `JITTER_COLUMNS`."""
        return [{**one.row(), "decode_s": self.decode_s, "jitter_s": self.jitter_s} for one in self.judged]


def jittered_case(case: str, volume: Volume, atlas: Atlas, setup: Setup, truth: LabelMap) -> JitteredCase:
    """Segment as ever, judge every `EVERY`-th slice, and ask again on these with moved boxes."""
    done = segment_with_atlas(volume, atlas, setup)
    signals = [one for one in done.signals if one.slice_index % EVERY == 0]
    judged = judged_slices(case, done.labels, signals, truth)
    prompts = [prompt for prompt in done.prompts if prompt.slice_index % EVERY == 0]
    first, first_tally = _masks(volume, done, prompts, setup)
    found: dict[tuple[int, int], dict[str, float | None]] = {place: {} for place in first["decoder"]}
    shape = next(iter(first["decoder"].values())).shape
    spent = 0.0
    for name, pair in MOVES.items():
        again = []
        for shares in pair:
            masks, tally = _masks(volume, done, [moved(prompt, shares, shape) for prompt in prompts], setup)
            again.append(masks)
            spent += tally.seconds["decode"]
        for kind in ("decoder", "fused"):
            for place, mask in first[kind].items():
                pairs = [dice(mask, masks[kind][place]) for masks in again]
                known = [value for value in pairs if value is not None]
                found[place][f"{kind}_{name}"] = float(np.mean(known)) if known else None
    index_of = {tissue.name: tissue.index for tissue in done.labels.tissues}
    rows = [
        replace(one, signals=JitteredSignals(**vars(one.signals), **found[one.slice_index, index_of[one.tissue]]))
        for one in judged
    ]
    return JitteredCase(rows, first_tally.seconds["decode"], spent)


def jittered_from_row(row: Mapping[str, str]) -> Judged:
    """A judged slice with `JitteredSignals` from cells as text."""
    one = Judged.from_row(row)
    told = {name: float(row[name]) if row[name] else None for name in JITTERED}
    return replace(one, signals=JitteredSignals(**vars(one.signals), **told))


def jitter_text(rows: Mapping[str, list[Mapping[str, str]]]) -> str:
    """The note and the table over the rows of each set."""
    cases = {name: dict.fromkeys(row["case"] for row in of_set) for name, of_set in rows.items()}
    times = {
        row["case"]: (float(row["decode_s"]), float(row["jitter_s"])) for of_set in rows.values() for row in of_set
    }
    once, more = np.sum(list(times.values()), axis=0)
    return _NOTE.format(
        table=jitter_table({name: [jittered_from_row(row) for row in of_set] for name, of_set in rows.items()}),
        more=f"{100 * more / once / len(MOVES):.0f}",
        **{name: ", ".join(of_set) for name, of_set in cases.items()},
    )


def jitter_table(sets: Mapping[str, list[Judged]]) -> str:
    """What expectations are worth without and with each signal, and by it alone.

    "cases better" counts those whose mean error is smaller than without it.
    """
    columns = ("set", "signals", "slices", "Dice < 0.7", "AUROC", "mean error", "errors in worst 10 %", "cases better")
    asked = {"as shipped": SIGNALS, **{f"and {name}": (*SIGNALS, name) for name in JITTERED}}
    asked |= {"and all four": (*SIGNALS, *JITTERED), **{f"only {name}": (name,) for name in JITTERED}}
    rows = []
    for name, judged in sets.items():
        plain = crossed(judged)
        rows += [_row(name, what, judged, crossed(judged, signals), plain) for what, signals in asked.items()]
        if name != "phantoms":
            plain = expected(fitted(sets["phantoms"]), judged)
            for what, signals in asked.items():
                found = expected(fitted(sets["phantoms"], signals), judged)
                rows.append(_row(f"{name}, by phantoms", what, judged, found, plain))
    return aligned_text(columns, rows)


def _row(
    name: str, what: str, judged: list[Judged], found: NDArray[np.float64], plain: NDArray[np.float64]
) -> tuple[str, ...]:
    one = worth(found, judged)
    of_case: dict[str, list[float]] = {}
    for known, before, after in zip(judged, plain, found, strict=True):
        of_case.setdefault(known.case, []).append(abs(before - known.dice) - abs(after - known.dice))
    better = f"{sum(sum(gains) > 0 for gains in of_case.values())} of {len(of_case)}"
    roc = f"{one.area_under_roc:.3f}" if one.area_under_roc is not None else ""
    share = f"{one.found:.1%}" if one.found is not None else ""
    return name, what, str(one.slices), str(one.bad), roc, f"{one.mean_error:.4f}", share, better


def moved(prompt: Prompt, shares: Sequence[float], shape: tuple[int, int]) -> Prompt:
    """The prompt with the sides x0, y0, x1, y1 of its box moved by shares of its width and height; points stay.

    The box stays on a slice of (rows, columns).
    """
    if prompt.box is None:
        return prompt
    x0, y0, x1, y1 = prompt.box.xyxy
    width, height = x1 - x0, y1 - y0
    left, top, right, bottom = shares
    box = Box((x0 + left * width, y0 + top * height, x1 + right * width, y1 + bottom * height))
    return replace(prompt, box=box.padded(0.0, 0.0, shape))


def _masks(
    volume: Volume, done: Segmentation, prompts: Sequence[Prompt], setup: Setup
) -> tuple[dict[str, Masks], Tally]:
    """(Slice, label value) → mask (rows, columns), of the decoder alone and fused, and the time it took."""
    tally = Tally()
    _, priors = placed_questions(volume, done.placed, setup)
    decoder: Masks = {}
    fused: Masks = {}
    for evidence in gather_evidence(volume, prompts, setup, priors, tally):
        labels = _fused(evidence, setup)
        for index, logits in evidence.logits.items():
            decoder[evidence.slice_index, index] = logits > 0
            fused[evidence.slice_index, index] = labels == index
    return {"decoder": decoder, "fused": fused}, tally


def _fused(evidence: Evidence, setup: Setup) -> NDArray[np.uint16]:
    return fuse_slice(evidence.logits, evidence.priors, evidence.shape, setup.rules, setup.rules.weights(setup.tissues))
