"""The bundled model on procedural knees it has not seen, against an ellipse that fills the same box.

    python benchmarks/bundled_model.py [--model msksam-small] [--knees 3]

Every mask of every third slice is asked for with its true box, each side moved by up to 5 % (seeded), thin tissues in
tiles of 25 mm as an atlas would ask. Mean Dice per tissue group and sequence; the table goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.slicing import intensity_window, slice_uint8, take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.fusion import FusionRules, join_answers
from msksam_cli.io.tables import aligned_text
from msksam_cli.phantom.acquisition import Protocol, acquire
from msksam_cli.phantom.knee import sample_knee_shape
from msksam_cli.phantom.sequences import SEQUENCES
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.choose import choose_mask
from msksam_cli.sam.runtime import Model

SEED = 990_000
GROUPS = ("bone", "cartilage", "meniscus", "ligament", "muscle")
SCANS = (
    ("pd-fs-tse", Protocol("sagittal", 0.5, 3.0, 3.0, 32, (150.0, 150.0))),
    ("t1-tse", Protocol("coronal", 0.5, 3.0, 3.0, 28, (150.0, 150.0))),
    ("dess", Protocol("sagittal", 0.6, 1.2, 1.2, 84, (144.0, 144.0))),
    ("gre-t1", Protocol("axial", 0.6, 2.0, 2.0, 48, (150.0, 150.0))),
)
Scores = Mapping[tuple[str, str], list[tuple[float, float]]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="msksam-small")
    parser.add_argument("--knees", type=int, default=3)
    parser.add_argument("--step", type=int, default=3, help="every how many slices")
    arguments = parser.parse_args()
    model, scores = load_model(arguments.model), defaultdict[tuple[str, str], list[tuple[float, float]]](list)
    for number in range(arguments.knees):
        shape = sample_knee_shape(np.random.default_rng((SEED, number)))
        for name, protocol in SCANS:
            volume, labels = acquire(shape, SEQUENCES[name], protocol, SEED + number)
            pairs = measure(model, volume, labels, arguments.step)
            for group, found in pairs.items():
                scores[group, name] += found
    text = table(scores)
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "bundled-model.md").write_text(
        f"Mean Dice of {arguments.model} / an ellipse in the same box, {arguments.knees} unseen procedural knees, "
        f"true boxes moved by up to 5 %, (n masks).\n\n```\n{text}\n```\n"
    )


def measure(model: Model, volume: Volume, labels: LabelMap, step: int) -> dict[str, list[tuple[float, float]]]:
    """Group → Dice of model and ellipse for every prompt on every `step`-th slice."""
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    axis, window = volume.grid.slice_axis, intensity_window(volume.intensities)
    wanted = TissueTable(tuple(tissue for tissue in labels.tissues if tissue.group in GROUPS))
    by_slice: dict[int, list[Prompt]] = defaultdict(list)
    for prompt in prompts_from_labels(labels, wanted, axis, "box"):
        if prompt.slice_index % step == 0:
            by_slice[prompt.slice_index].append(prompt)
    for index, prompts in by_slice.items():
        embedding = model.encode([slice_uint8(take_slice(volume.intensities, axis, index), window)])[0]
        truth = take_slice(labels.values, axis, index)
        for prediction in model.decode(embedding, prompts):
            prompt, shape = prediction.prompt, (truth.shape[0], truth.shape[1])
            found = join_answers([(prompt, choose_mask(prediction))], shape, FusionRules()) > 0
            window_of_box = join_answers([(prompt, np.ones(shape, np.float32))], shape, FusionRules()) > 0
            target = (truth == prompt.tissue_index) & window_of_box
            group = labels.tissues.by_index(prompt.tissue_index).group
            scores[group].append((dice(found, target), dice(ellipse(prompt.box, shape), target)))
    return scores


def ellipse(box: Box | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The ellipse that fills a box."""
    assert box is not None
    x0, y0, x1, y1 = box.xyxy
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (x - (x0 + x1) / 2) / ((x1 - x0 + 1) / 2)
    return np.asarray(across**2 + ((y - (y0 + y1) / 2) / ((y1 - y0 + 1) / 2)) ** 2 <= 1)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice of two masks of which one is not empty."""
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def table(scores: Scores) -> str:
    """Groups down, sequences across, "model / ellipse (n)"."""
    names = [name for name, _ in SCANS]
    rows = [(group, *(_cell(scores[group, name]) for name in names)) for group in GROUPS]
    rows.append(("all", *(_cell([s for group in GROUPS for s in scores[group, name]]) for name in names)))
    return aligned_text(("group", *names), rows)


def _cell(pairs: list[tuple[float, float]]) -> str:
    model, ellipse_dice = np.mean(pairs, axis=0)
    return f"{model:.3f} / {ellipse_dice:.3f} ({len(pairs)})"


if __name__ == "__main__":
    main()
