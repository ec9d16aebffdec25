"""The logit above which the bundled model's answers are best: fitted on scanned slices of the lumbar spine.

    python benchmarks/mask_threshold.py [--model NAME|FILE] [--keep]

The 52 T2 slices of ../shared/data/lumbar_t2_slices (SPIDER, CC BY 4.0) are of many scanners; none was shown to the
network in training, and none is among the sets that accuracies are quoted for. Every part of vertebrae, discs and canal
is asked for by its box, each side moved by up to 5 % (seeded). Mean Dice of single answers for each threshold; the
best one belongs into `MASK_THRESHOLD` of `msksam_cli/training/bundled.py` and into the checkpoint's metadata.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from answers import mask_dice
from truth_sets import DATA

from msksam_cli.atlas.priors import PromptRules, prompts_from_labels
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.tables import aligned_text
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.choose import choose_mask
from msksam_cli.sam.runtime import Model
from msksam_cli.training.scanned import ScannedSlice, read_coloured_slices

THRESHOLDS = (-3.0, -2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="msksam-small")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    model = load_model(options.model)
    found = scores(model, read_coloured_slices(options.data / "lumbar_t2_slices"))
    rows = [(f"{threshold:g}", f"{np.mean(dice):.4f}") for threshold, dice in found.items()]
    text = aligned_text(("mask threshold", "mean Dice"), rows)
    count = len(next(iter(found.values())))
    print(text)
    if options.keep:
        note = f"{model.name}: {count} masks on scanned slices, true boxes moved by up to 5 %."
        path = Path(__file__).parent / "results" / "mask-threshold.md"
        path.write_text(f"{note}\n\n```\n{text}\n```\n")


def scores(model: Model, slices: Sequence[ScannedSlice]) -> dict[float, list[float]]:
    """Threshold → Dice of every answer; thresholds are logits before the model's own is taken off."""
    found: dict[float, list[float]] = defaultdict(list)
    own = model.sam.mask_threshold
    for one in slices:
        labels = one.labels.T[..., None]  # (columns, rows, 1), as a volume of one sagittal slice would be
        tissues = default_table(sorted(one.weights))
        truth = LabelMap(labels, Grid(labels.shape, np.diag([1.0, 1.0, 4.0, 1.0])), tissues)
        prompts = prompts_from_labels(truth, tissues, 2, "box", rules=PromptRules("box"))
        (embedding,) = model.encode([np.ascontiguousarray(one.pixels.T)])
        for prompt, prediction in zip(prompts, model.decode(embedding, prompts), strict=True):
            logits, wanted = choose_mask(prediction) + own, labels[..., 0] == prompt.tissue_index
            for threshold in THRESHOLDS:
                found[threshold].append(mask_dice(prompt, (logits - threshold).astype(np.float32), wanted))
    return found


if __name__ == "__main__":
    main()
