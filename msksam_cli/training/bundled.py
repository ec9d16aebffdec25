"""The bundled checkpoint's recipe.

`python -m msksam_cli.training.bundled FOLDER --checkpoint FILE` trains it, and resumes where it was killed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.atomic import atomic_path, write_atomic
from msksam_cli.phantom.knee import knee_label_map, sample_knee_shape
from msksam_cli.phantom.sequences import RELAXATION, SEQUENCES, tissue_signal
from msksam_cli.phantom.tissues import KNEE_TISSUES
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.model import build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.loop import Recipe, Stage, train

RECIPE = Recipe(stages=(Stage(64, 16, 4, 1000), Stage(128, 8, 4, 700), Stage(256, 2, 4, 250)), decay_steps=550)
KNEES = 20
SHAPES_SHARE = 0.3
RANDOM_CONTRAST_SHARE = 0.5

_SPACING_MM = 0.8
_SHAPE = (190, 190, 220)


def knee_bank(folder: Path, count: int, seed: int) -> list[LabelMap]:
    """`count` procedural knees at 0.8 mm, made once and kept as .npy files in `folder`."""
    affine = np.diag([_SPACING_MM, _SPACING_MM, _SPACING_MM, 1.0])
    affine[:3, 3] = [-_SPACING_MM * (n - 1) / 2 for n in _SHAPE]
    grid = Grid(_SHAPE, affine)
    return [
        LabelMap(_knee(folder / f"knee-{seed}-{number}.npy", grid, (seed, number)), grid, KNEE_TISSUES)
        for number in range(count)
    ]


def _knee(path: Path, grid: Grid, seed: tuple[int, int]) -> NDArray[np.uint8]:
    if not path.exists():
        shape = sample_knee_shape(np.random.default_rng(seed))
        with atomic_path(path) as temporary:
            np.save(temporary, knee_label_map(shape, grid).values.astype(np.uint8))
    return np.asarray(np.load(path, mmap_mode="r"))


def sequence_levels(rng: np.random.Generator) -> Mapping[int, float] | None:
    """Signal per tissue of a random sequence, brightest tissue 1; None for random contrast."""
    if rng.random() < RANDOM_CONTRAST_SHARE:
        return None
    sequence = SEQUENCES[str(rng.choice(sorted(SEQUENCES)))]
    echo_time_ms = float(rng.choice(sequence.echo_times_ms)) * float(rng.uniform(0.8, 1.25))
    signals = {index: tissue_signal(relaxation, sequence, echo_time_ms) for index, relaxation in RELAXATION.items()}
    brightest = max(signals.values())
    return {index: signal / brightest for index, signal in signals.items()}


def main() -> None:
    """Train, or go on training, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the run keeps its state")
    parser.add_argument("--checkpoint", type=Path, help="file to write when done")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(RECIPE.seed)
    torch.set_num_threads(options.threads)
    knees = knee_bank(options.folder / "knees", KNEES, RECIPE.seed)

    def dataset_of(stage: Stage) -> PhantomBatches:
        return PhantomBatches(
            knees,
            sequence_levels,
            side_px=stage.side_px,
            images=stage.images,
            questions=stage.questions,
            length=RECIPE.steps,
            seed=RECIPE.seed,
            shapes_share=SHAPES_SHARE,
        )

    sam = train(build_sam("msksam_small"), RECIPE, dataset_of, options.folder, device=options.device)
    if options.checkpoint:
        content = dump_checkpoint(sam, "msksam_small", name="msksam-small", preprocessing=PREPROCESSING_VERSION)
        write_atomic(options.checkpoint, lambda stream: stream.write(content))


if __name__ == "__main__":
    main()
