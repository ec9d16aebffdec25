"""What fine-tuning the decoder on 2, 5 and 10 subjects gains on 6 others: real lumbar spines, true boxes.

    python benchmarks/finetuning.py [--model msksam-small] [--every 3] [--rounds 1] [--keep]

The subjects of ../shared/data/lumbar_vertebrae_mr in order of name: the first 2, 5 or 10 are given to `msksam
finetune`, which keeps a fifth of them, at least one, for validation; the last 6 are only tested on. Each vertebral body
is asked for with its true box, every side off by up to 5 % (fixed seed), on every `--every`-th slice, which together
count as one volume. Mean ± sd over subjects of the mean over vertebrae; the gain is paired by subject, with a bootstrap
95 % interval. Time is that of one core. Checkpoints stay in the output folder and are not for shipping. With `--keep`
table and figure go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msksam_cli.embeddings import EmbeddingStore
from msksam_cli.io.cases import CaseFiles, find_cases
from msksam_cli.io.curves import Chart, Curve, write_charts
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.tables import aligned_text
from msksam_cli.measure.comparison import compare_labels
from msksam_cli.measure.summary import summarize
from msksam_cli.pipeline.finetune import finetune
from msksam_cli.pipeline.finetune_cases import read_case
from msksam_cli.pipeline.finetune_options import FinetuneOptions
from msksam_cli.pipeline.finetune_scores import Labelled, segmented, wanted_truth
from msksam_cli.pipeline.models import load_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "lumbar_vertebrae_mr"
RESULTS = Path(__file__).parent / "results"
SIZES, TESTED = (2, 5, 10), 6
COLUMNS = ("subjects", "Dice", "ASSD mm", "HD95 mm", "gain in Dice", "95 % interval", "steps", "CPU min")


@dataclass(frozen=True)
class Result:
    """Means over vertebrae of each tested subject, and what the training took."""

    subjects: int
    dice: tuple[float, ...]
    assd_mm: tuple[float, ...]
    hd95_mm: tuple[float, ...]
    steps: int = 0
    minutes: float = 0.0


def main() -> None:
    """Train, test and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="msksam-small")
    parser.add_argument("--every", type=int, default=3, help="test on every how many slices")
    parser.add_argument("--out", type=Path, default=Path("msksam-out/finetuning"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--rounds", type=int, default=FinetuneOptions.rounds)
    parser.add_argument("--steps", type=int, default=FinetuneOptions.steps)
    chosen = parser.parse_args()
    cases = find_cases(DATA).cases
    store = DiskStore(chosen.out / "cache")
    results = [test(chosen.model, cases[-TESTED:], store, chosen.every)]
    for size in chosen.sizes:
        options = FinetuneOptions(
            subset(cases[:size], chosen.out / f"cases-{size}"),
            chosen.out / f"lumbar-{size}.safetensors",
            chosen.model,
            rounds=chosen.rounds,
            steps=chosen.steps,
            cache=chosen.out / "cache",
            overwrite=True,
            device="cpu",
        )
        started = time.process_time()
        done = finetune(options)
        minutes = (time.process_time() - started) / 60
        if done is None:
            return
        tested = test(str(options.output), cases[-TESTED:], store, chosen.every)
        results.append(replace(tested, subjects=size, steps=done.facts.steps_done, minutes=minutes))
        results.sort(key=lambda result: result.subjects)
        print(table(results), flush=True)
        if chosen.keep:
            keep(results, chosen)


def subset(cases: Sequence[CaseFiles], folder: Path) -> Path:
    """A folder of links to some cases."""
    for case in cases:
        for kind, file in (("images", case.image), ("labels", case.labels)):
            link = folder / kind / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(file)
    return folder


def test(model_name: str, cases: Sequence[CaseFiles], store: EmbeddingStore, every: int) -> Result:
    """Dice and distances of a model on the tested subjects."""
    model = load_model(model_name, device="cpu")
    rows = []
    for files in cases:
        volume, labels = read_case(files, None)
        case = Labelled(volume, labels)
        if every > 1:
            case = thinned(case, every)
        found = segmented(model, store, case, labels.tissues)
        compared = compare_labels(files.name, found.values, wanted_truth(case, labels.tissues), case.volume.grid, {})
        rows.append(
            [
                np.mean([getattr(one, name) for one in compared if getattr(one, name) is not None])
                for name in ("dice", "assd_mm", "hd95_mm")
            ]
        )
    dice, assd_mm, hd95_mm = (tuple(float(value) for value in column) for column in zip(*rows, strict=True))
    return Result(0, dice, assd_mm, hd95_mm)


def thinned(case: Labelled, every: int) -> Labelled:
    """Every `every`-th slice as a volume of its own."""
    axis = case.volume.grid.slice_axis
    chosen = [slice(None)] * 3
    chosen[axis] = slice(None, None, every)
    affine = case.volume.grid.affine.copy()
    affine[:3, axis] *= every
    intensities = case.volume.intensities[tuple(chosen)]
    grid = replace(case.volume.grid, shape=intensities.shape, affine=affine)
    values = case.labels.values[tuple(chosen)]
    return Labelled(
        replace(case.volume, intensities=intensities, grid=grid), replace(case.labels, values=values, grid=grid)
    )


def table(results: Sequence[Result]) -> str:
    """One row per number of subjects, the first without any."""
    rows = []
    for result in results:
        row = [str(result.subjects or "none")]
        row += [_spread(values) for values in (result.dice, result.assd_mm, result.hd95_mm)]
        if result.subjects:
            gain = summarize(np.subtract(result.dice, results[0].dice))
            row += [f"{gain.mean:+.3f}", f"{gain.ci95_low:+.3f} … {gain.ci95_high:+.3f}"]
            row += [str(result.steps), f"{result.minutes:.1f}"]
        rows.append(row + [""] * (len(COLUMNS) - len(row)))
    return aligned_text(COLUMNS, rows)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def learning_curve(results: Sequence[Result]) -> Chart:
    """Dice over subjects, with the bootstrap interval of the mean."""
    summaries = [summarize(result.dice) for result in results]
    points = tuple((float(result.subjects), float(np.mean(result.dice))) for result in results)
    intervals = tuple((one.ci95_low or 0.0, one.ci95_high or 0.0) for one in summaries)
    curve = Curve("mean of 6 subjects, bootstrap 95 %", "#c4601d", points, intervals, dots=True)
    return Chart("Lumbar vertebral bodies, true boxes", "subjects fine-tuned on", "Dice", (curve,))


def keep(results: Sequence[Result], chosen: argparse.Namespace) -> None:
    """Write table and figure to benchmarks/results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "finetuning.md").write_text(
        f"`{chosen.model}`, decoder fine-tuned on lumbar spines, tested on {TESTED} other subjects with true boxes off "
        f"by up to 5 %, every {chosen.every}. slice; at most {chosen.steps} steps, {chosen.rounds} rounds a prompt; "
        f"mean ± sd over subjects of the mean over L1 to L5; CPU minutes of one core, with validation but without "
        f"slices a smaller set had encoded.\n\n"
        f"```\n{table(results)}\n```\n\n![Learning curve](finetuning.png)\n",
        encoding="utf-8",
    )
    write_charts(RESULTS / "finetuning.png", [learning_curve(results)])


if __name__ == "__main__":
    main()
