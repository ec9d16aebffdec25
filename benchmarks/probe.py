"""About 150 fixed questions about slices of every set, answered in under a minute: for choosing training recipes."""

from __future__ import annotations

import pickle
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from answers import Answerer, ellipses, mask_dice
from numpy.typing import NDArray
from truth_sets import SETS, thinned

from msksam_cli.atlas.priors import PromptRules, prompts_from_labels
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.slicing import slice_uint8, take_slice
from msksam_cli.io.tables import aligned_text

PROBE = Path(__file__).parents[1] / "msksam-out" / "probe.pickle"

# Set → how many cases and every how many slices.
SHARES: Mapping[str, tuple[int, int]] = {"lumbar": (8, 40), "knee": (1, 11), "tumours": (12, 10), "dess": (3, 40)}


@dataclass(frozen=True, eq=False)
class Question:
    """One slice of one set, what is asked about it and the truth (rows, columns)."""

    set: str
    plane: NDArray[np.uint8]
    prompts: tuple[tuple[str, Prompt], ...]
    truth: NDArray[np.integer]


def quick(data: Path, kept: Path, answerers: Mapping[str, Answerer]) -> str:
    """Mean Dice of single answers per set and tissue group; the questions are kept in a file once made."""
    questions = questions_of(data, kept)
    columns = {name: quick_scores(questions, answer) for name, answer in {"ellipse": ellipses, **answerers}.items()}
    ellipse, _ = columns["ellipse"]
    rows = [
        (*key, str(len(ellipse[key])), *(f"{np.mean(scores[key]):.3f}" for scores, _ in columns.values()))
        for key in ellipse
    ]
    means = [np.mean([np.mean(found) for found in scores.values()]) for scores, _ in columns.values()]
    total = sum(len(found) for found in ellipse.values())
    rows.append(("mean of rows", "", str(total), *(f"{mean:.3f}" for mean in means)))
    rows.append(("seconds", "", "", *(f"{seconds:.0f}" for _, seconds in columns.values())))
    return aligned_text(("set", "tissues", "masks", *columns), rows)


def quick_scores(questions: Sequence[Question], answer: Answerer) -> tuple[dict[tuple[str, str], list[float]], float]:
    """(Set, tissue group) → Dice of single answers, and the seconds that the answers took."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    seconds = 0.0
    for question in questions:
        started = time.monotonic()
        answers = answer(question.plane, [prompt for _, prompt in question.prompts])
        seconds += time.monotonic() - started
        for (group, prompt), logits in zip(question.prompts, answers, strict=True):
            found = mask_dice(prompt, logits, question.truth == prompt.tissue_index)
            scores[question.set, group].append(found)
    return scores, seconds


def questions_of(data: Path, kept: Path) -> list[Question]:
    """The fixed questions, from a file once they are made."""
    if kept.is_file():
        questions: list[Question] = pickle.loads(kept.read_bytes())
        return questions
    questions = []
    for name, (cases, every) in SHARES.items():
        if name not in SETS:
            continue
        for whole in islice(SETS[name](data), cases):
            case = thinned(whole, every)
            axis, tissues = case.volume.grid.slice_axis, case.labels.tissues
            by_slice: dict[int, list[tuple[str, Prompt]]] = defaultdict(list)
            for prompt in prompts_from_labels(case.labels, tissues, axis, "box", rules=PromptRules("box")):
                group = tissues.by_index(prompt.tissue_index).group
                by_slice[prompt.slice_index].append((group, prompt))
            for index, prompts in by_slice.items():
                plane = slice_uint8(take_slice(case.volume.intensities, axis, index), case.window)
                truth = take_slice(case.labels.values, axis, index).copy()
                questions.append(Question(name, plane, tuple(prompts), truth))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(questions))
    return questions
