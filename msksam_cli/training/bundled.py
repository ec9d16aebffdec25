"""The bundled checkpoint's recipe.

`python -m msksam_cli.training.bundled FOLDER --checkpoint FILE` trains it, and resumes where it was killed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.atomic import atomic_path, write_atomic
from msksam_cli.phantom.regions import REGIONS, region_named
from msksam_cli.phantom.sequences import RELAXATION, SEQUENCES, tissue_signal
from msksam_cli.sam.checkpoint import dump_checkpoint, parse_checkpoint
from msksam_cli.sam.model import ARCHITECTURES, build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.loop import Recipe, Stage, train

# Each run begins with the averaged weights of the one before.
RECIPES = (
    Recipe(
        stages=(Stage(128, 96, 4, 1500), Stage(192, 64, 4, 700), Stage(256, 48, 4, 2180)),
        learning_rate=6e-4,
        warmup_steps=400,
        decay_steps=2100,
        ema_decay=0.999,
        save_every=400,
        log_every=20,
    ),
    Recipe(
        stages=(Stage(256, 48, 4, 225), Stage(384, 24, 4, 451)) * 4,
        learning_rate=4e-4,
        warmup_steps=150,
        decay_steps=1622,
        ema_decay=0.999,
        seed=20261126,
        save_every=300,
        log_every=20,
    ),
    Recipe(
        stages=(Stage(256, 48, 4, 135), Stage(384, 24, 4, 270)) * 2,
        learning_rate=3e-4,
        warmup_steps=50,
        decay_steps=688,
        ema_decay=0.997,
        seed=20261127,
        save_every=300,
        log_every=20,
    ),
)
PEOPLE, PEOPLE_SEED = 20, 20261124
SHAPES_SHARE = 0.3
LESION_SHARE = 0.2
RANDOM_CONTRAST_SHARE = 0.5
MASK_THRESHOLD = -0.5
"""Fitted by benchmarks/mask_threshold.py on scanned slices that neither trained nor test the network."""

# The knee's cartilage is what is thinnest, in mm.
SPACING_MM = {"knee": 0.75, "shoulder": 1.0, "hip": 1.0, "lumbar": 1.0, "thigh": 1.0}


def region_bank(folder: Path, each: int, seed: int, regions: Sequence[str] = ()) -> list[LabelMap]:
    """Procedural label volumes, made once and kept as .npy files in a folder.

    Args:
        folder: where they are kept.
        each: volumes of each region.
        seed: of all of them.
        regions: names of regions; all when empty.
    """
    return [
        _kept(folder / f"{name}-{SPACING_MM[name]}mm-{seed}-{number}.npy", name, (seed, number))
        for name in regions or REGIONS
        for number in range(each)
    ]


def _kept(path: Path, name: str, seed: tuple[int, int]) -> LabelMap:
    region = region_named(name)
    grid = region.grid(SPACING_MM[name])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = region.label_map(region.sample(np.random.default_rng(seed)), grid)
        with atomic_path(path) as temporary:
            np.save(temporary, drawn.values.astype(np.uint8))
    return LabelMap(np.asarray(np.load(path, mmap_mode="r")), grid, tissues_of(name, findings=True))


def sequence_levels(
    rng: np.random.Generator, random_share: float = RANDOM_CONTRAST_SHARE
) -> Mapping[int, float] | None:
    """Signal per tissue of a random sequence, brightest tissue 1; None, in a share of cases, for random contrast."""
    if rng.random() < random_share:
        return None
    sequence = SEQUENCES[str(rng.choice(sorted(SEQUENCES)))]
    timing_ms = np.array(sequence.timings_ms[int(rng.integers(len(sequence.timings_ms)))]) * rng.uniform(0.8, 1.25)
    echo_ms, lock_ms = float(timing_ms[0]), float(timing_ms[1])
    signals = {index: tissue_signal(relaxation, sequence, echo_ms, lock_ms) for index, relaxation in RELAXATION.items()}
    brightest = max(signals.values())
    return {index: signal / brightest for index, signal in signals.items()}


def _batches(volumes: Sequence[LabelMap], recipe: Recipe, stage: Stage) -> PhantomBatches:
    return PhantomBatches(
        volumes,
        sequence_levels,
        side_px=stage.side_px,
        images=stage.images,
        questions=stage.questions,
        length=recipe.batches(),
        seed=recipe.seed,
        shapes_share=SHAPES_SHARE,
        lesion_share=LESION_SHARE,
    )


def main() -> None:
    """Train, or go on training, and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the run keeps its state")
    parser.add_argument("--checkpoint", type=Path, help="file to write when done")
    parser.add_argument("--start", type=Path, help="checkpoint to begin with instead of random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw batches")
    options = parser.parse_args()
    torch.manual_seed(RECIPES[0].seed)
    torch.set_num_threads(options.threads)
    volumes = region_bank(options.folder / "volumes", PEOPLE, PEOPLE_SEED)
    architecture = ARCHITECTURES["msksam_small"]
    sam = build_sam(architecture)
    if options.start:
        sam.load_state_dict(parse_checkpoint(options.start.read_bytes(), options.start.name).tensors)
    for number, recipe in enumerate(RECIPES, start=1):
        sam = train(
            sam,
            recipe,
            partial(_batches, volumes, recipe),
            options.folder / f"run-{number}",
            asking=architecture.asking,
            device=options.device,
            workers=options.workers,
        )
        sam.mask_threshold = MASK_THRESHOLD
    if options.checkpoint:
        content = dump_checkpoint(sam, "msksam_small", name="msksam-small", preprocessing=PREPROCESSING_VERSION)
        write_atomic(options.checkpoint, lambda stream: stream.write(content))


if __name__ == "__main__":
    main()
