"""What a checkpoint makes of true boxes, beside an ellipse that fills them and GrabCut started from them.

    python benchmarks/true_prompts.py lumbar knee tumours [--model NAME|FILE]… [--every N] [--no-grabcut]

Per slice each connected part of a tissue is asked for by its box, every side moved by up to 5 % of the box (seeded);
cartilage and menisci in tiles of at most 25 mm, as the tool itself asks. Answers become label volumes on the tool's
own path: choice among candidates, one label per pixel, small pieces and holes removed. Dice, ASSD and HD95 are those
of these volumes, mean ± sd over cases × tissues; "mask Dice" is the mean over single answers within their boxes.
`--every N` takes every N-th slice as a volume of its own. Tables go to benchmarks/results/ with `--keep`.

    python benchmarks/true_prompts.py quick [--model FILE]

asks about 150 fixed masks of all sets in under a minute, for choosing among checkpoints while they are trained.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from answers import RULES, Answerer, ellipses, grabcuts, mask_dice, model_answers
from probe import quick
from truth_sets import DATA, SETS, Case, thinned

from msksam_cli.atlas.priors import PromptRules, prompts_from_labels
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.slicing import slice_uint8, take_slice
from msksam_cli.fusion import clean_labels, fuse_slice, join_answers
from msksam_cli.io.tables import aligned_text
from msksam_cli.measure.comparison import compare_labels

COLUMNS = ("set", "tissues", "answers by", "n", "Dice", "ASSD mm", "HD95 mm", "missing", "mask Dice", "masks")


@dataclass(frozen=True)
class Score:
    """One tissue of one case; distances are None where nothing was found."""

    dice: float
    assd_mm: float | None
    hd95_mm: float | None


@dataclass(frozen=True)
class Scores:
    """What one answerer reached on one tissue group of a set: volumes, and Dice of single masks."""

    volumes: tuple[Score, ...]
    masks: tuple[float, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=(*SETS, "all", "quick"))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", action="append", help="default: msksam-small; may be given several times")
    parser.add_argument("--every", type=int, default=1, help="take every N-th slice")
    parser.add_argument("--grabcut-every", type=int, default=4, help="the same for GrabCut, which is slow")
    parser.add_argument("--cases", type=int, default=None, help="only the first N cases")
    parser.add_argument("--no-grabcut", action="store_true")
    parser.add_argument("--whole", action="store_true", help="ask thin tissues per part, without tiles")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    parser.add_argument(
        "--probe", type=Path, default=Path("msksam-out/probe.pickle"), help="where quick keeps questions"
    )
    options = parser.parse_args()
    models = options.model or ["msksam-small"]
    if "quick" in options.sets:
        print(quick(options.data, options.probe, {Path(name).stem: model_answers(name) for name in models}))
        return
    answerers = {Path(name).stem: (model_answers(name), options.every) for name in models}
    answerers["ellipse"] = (ellipses, options.every)
    if not options.no_grabcut:
        answerers["GrabCut"] = (grabcuts, max(options.every, options.grabcut_every))
    rows: list[tuple[str, ...]] = []
    for name in SETS if "all" in options.sets else options.sets:
        started = time.monotonic()
        cases = list_head(SETS[name](options.data), options.cases)
        rules = PromptRules("box", tile_mm=1e6) if options.whole else PromptRules("box")
        found = measure(cases, answerers, rules)
        rows += [(name, group, by, *cells(scores)) for (group, by), scores in found.items()]
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    text = aligned_text(COLUMNS, rows)
    print(text)
    if options.keep:
        write(options.sets, models, answerers, text)


def list_head(cases: Iterator[Case], most: int | None) -> Iterator[Case]:
    """The first `most` cases."""
    for number, case in enumerate(cases):
        if most is not None and number >= most:
            return
        yield case


def measure(
    cases: Iterable[Case], answerers: Mapping[str, tuple[Answerer, int]], prompt_rules: PromptRules
) -> dict[tuple[str, str], Scores]:
    """(Tissue group, answerer) → scores over all cases."""
    volumes: dict[tuple[str, str], list[Score]] = defaultdict(list)
    masks: dict[tuple[str, str], list[float]] = defaultdict(list)
    for whole in cases:
        for by, (answerer, every) in answerers.items():
            case = thinned(whole, every)
            values, answered = answer_case(case, answerer, prompt_rules)
            tissues = case.labels.tissues
            for group, found in answered.items():
                masks[group, by] += found
            names = {tissue.index: tissue.name for tissue in tissues}
            for one in compare_labels(case.name, values, case.labels.values, case.volume.grid, names):
                if one.dice is not None:
                    volumes[tissues.by_index(one.label).group, by].append(Score(one.dice, one.assd_mm, one.hd95_mm))
    return {key: Scores(tuple(volumes[key]), tuple(masks[key])) for key in volumes}


def answer_case(case: Case, answerer: Answerer, prompt_rules: PromptRules) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Labels (I, J, K) of a case and tissue group → Dice of every single answer."""
    axis, tissues = case.volume.grid.slice_axis, case.labels.tissues
    by_slice: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts_from_labels(case.labels, tissues, axis, "box", rules=prompt_rules):
        by_slice[prompt.slice_index].append(prompt)
    values = np.zeros(case.volume.grid.shape, np.uint16)
    masks: dict[str, list[float]] = defaultdict(list)
    for index, prompts in by_slice.items():
        plane = slice_uint8(take_slice(case.volume.intensities, axis, index), case.window)
        truth = take_slice(case.labels.values, axis, index)
        shape = plane.shape[0], plane.shape[1]
        answers = defaultdict(list)
        for prompt, logits in zip(prompts, answerer(plane, prompts), strict=True):
            answers[prompt.tissue_index].append((prompt, logits))
            group = tissues.by_index(prompt.tissue_index).group
            masks[group].append(mask_dice(prompt, logits, truth == prompt.tissue_index))
        joined = {tissue: join_answers(found, shape, RULES) for tissue, found in answers.items()}
        take_slice(values, axis, index)[...] = fuse_slice(joined, None, shape, RULES)
    return clean_labels(values, case.volume.grid, RULES), masks


def cells(scores: Scores) -> tuple[str, ...]:
    """Cells of a row behind its names."""
    found = [score for score in scores.volumes if score.assd_mm is not None]
    return (
        str(len(scores.volumes)),
        spread([score.dice for score in scores.volumes], 3),
        spread([score.assd_mm or 0.0 for score in found], 2),
        spread([score.hd95_mm or 0.0 for score in found], 2),
        str(len(scores.volumes) - len(found)),
        spread(scores.masks, 3),
        str(len(scores.masks)),
    )


def spread(values: Sequence[float], digits: int) -> str:
    """Mean ± standard deviation."""
    if not values:
        return "-"
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {sd:.{digits}f}"


def write(sets: Sequence[str], models: Sequence[str], answerers: Mapping[str, tuple[Answerer, int]], text: str) -> None:
    """Keep the table under benchmarks/results/."""
    thin = ", ".join(f"{by} on every {every}. slice" for by, (_, every) in answerers.items() if every > 1)
    note = f"True prompts ({', '.join(sets)}), checkpoints {', '.join(models)}{'; ' + thin if thin else ''}."
    path = Path(__file__).parent / "results" / f"true-prompts-{'-'.join(sets)}.md"
    path.write_text(f"{note}\n\n```\n{text}\n```\n")


if __name__ == "__main__":
    main()
