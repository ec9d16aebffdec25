"""The bundled checkpoint's recipe: `python -m msksam_cli.training.bundled FOLDER` trains it, and resumes when killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from msksam_cli.sam.model import build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.loop import Recipe, Stage, train

RECIPE = Recipe(
    stages=(Stage(128, 8, 4, 12000), Stage(256, 4, 4, 1500)),
)


def main(folder: Path) -> None:
    torch.manual_seed(RECIPE.seed)
    torch.set_num_threads(1)
    sam = build_sam("msksam_small")

    def dataset_of(stage: Stage) -> PhantomBatches:
        return PhantomBatches(
            (), lambda rng: None, side_px=stage.side_px, images=stage.images, questions=stage.questions,
            length=RECIPE.steps, seed=RECIPE.seed, shapes_share=0.3,
        )

    train(sam, RECIPE, dataset_of, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
