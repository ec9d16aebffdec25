"""Short paired runs that chose the bundled model's architecture and data: same seed, same number of images, one change.

    python benchmarks/recipe_trials.py --bank FOLDER [--scanned FOLDER] [--steps 500] [--only NAME …]

Every run starts from random weights and sees `--steps` batches of 8 images with 4 questions each at 64 px. It is then
asked the fixed questions of `true_prompts.py quick` at the same input side. Mean Dice of single answers per set; runs
that are kept already in the results are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from probe import questions_of, quick_scores
from torch import Tensor, nn
from torch.nn import functional as F

from msksam_cli.core.volume import LabelMap
from msksam_cli.io.tables import aligned_text
from msksam_cli.sam.choose import choose_mask
from msksam_cli.sam.model import ARCHITECTURES, Architecture, build_sam, modeling
from msksam_cli.sam.runtime import make_model
from msksam_cli.sam.small_encoder import SmallEncoder
from msksam_cli.training.bundled import region_bank, sequence_levels
from msksam_cli.training.dataset import Batch, PhantomBatches
from msksam_cli.training.lesson import Lesson
from msksam_cli.training.scanned import ScannedSlice, read_coloured_slices

SEED, SIDE_PX, IMAGES, QUESTIONS = 77, 64, 8, 4
RESULTS = Path(__file__).parent / "results" / "recipe-trials.csv"
SETS = ("lumbar", "knee", "tumours", "dess")


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        name: what differs from the recipe.
        architecture: the network.
        shapes_share: share of images that show random shapes.
        scanned_share: share of images that show scanned slices.
        lesion_share: share of anatomical planes with masses drawn in.
        regions: whose anatomy is shown; empty for all.
    """

    name: str
    architecture: Architecture = ARCHITECTURES["msksam_small"]
    shapes_share: float = 0.35
    scanned_share: float = 0.0
    lesion_share: float = 0.25
    regions: tuple[str, ...] = ()


def plain_vit(side_px: int, *, patch_px: int, width: int, depth: int) -> nn.Module:
    """segment-anything's vision transformer, small, without windows."""
    encoder: nn.Module = modeling.ImageEncoderViT(
        img_size=side_px,
        patch_size=patch_px,
        embed_dim=width,
        depth=depth,
        num_heads=width // 64,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=tuple(range(depth)),
        out_chans=256,
    )
    return encoder


class Coarser(nn.Module):
    """The pyramid with its embedding averaged to an eighth of the input, so that masks have half the side."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.fine = SmallEncoder(side_px)
        self.img_size = side_px

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, 256, S/8, S/8)."""
        return F.avg_pool2d(self.fine(images), 2)


def variant(name: str, make: Callable[[int], nn.Module], stride_px: int = 4, box_as_mask: bool = True) -> Architecture:
    """An architecture for a trial."""
    return Architecture(name, SIDE_PX, stride_px, box_as_mask, make)


TRIALS = (
    Trial("recipe"),
    Trial("box not as mask", variant("no-box-mask", SmallEncoder, box_as_mask=False)),
    Trial("plain ViT, patch 4", variant("vit-4", partial(plain_vit, patch_px=4, width=256, depth=6))),
    Trial("plain ViT, patch 8", variant("vit-8", partial(plain_vit, patch_px=8, width=256, depth=6), stride_px=8)),
    Trial("masks of half the side", variant("coarser", Coarser, stride_px=8)),
    Trial("random shapes alone", shapes_share=1.0),
    Trial("anatomy alone", shapes_share=0.0),
    Trial("without lesions", lesion_share=0.0),
    Trial("knees alone", regions=("knee",)),
    Trial("with the CC BY set", scanned_share=0.2),
)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="where label volumes are kept once drawn")
    parser.add_argument("--each", type=int, default=4, help="volumes of each region")
    parser.add_argument("--scanned", type=Path, help="folder with images/ and masks/ of the CC BY set")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--only", nargs="*", default=[trial.name for trial in TRIALS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    scanned = read_coloured_slices(options.scanned) if options.scanned else []
    for trial in TRIALS:
        if trial.name in options.only and trial.name not in {row["trial"] for row in kept()}:
            volumes = region_bank(options.bank, options.each, SEED, trial.regions)
            keep(run(trial, volumes, scanned, options.steps, options.data))
    rows = kept()
    print(aligned_text(tuple(rows[0]), [tuple(row.values()) for row in rows]))


def run(
    trial: Trial, volumes: Sequence[LabelMap], scanned: Sequence[ScannedSlice], steps: int, data: Path
) -> dict[str, str]:
    """Train one trial and measure it."""
    torch.manual_seed(SEED)
    sam = build_sam(trial.architecture, SIDE_PX).train()
    lesson = Lesson(sam, box_as_mask=trial.architecture.box_as_mask)
    batches = PhantomBatches(
        volumes,
        sequence_levels,
        side_px=SIDE_PX,
        images=IMAGES,
        questions=QUESTIONS,
        length=steps,
        seed=SEED,
        shapes_share=trial.shapes_share,
        scanned=scanned,
        scanned_share=trial.scanned_share,
        lesion_share=trial.lesion_share,
    )
    optimizer = torch.optim.AdamW(sam.parameters(), lr=5e-4, weight_decay=0.02)
    seconds, losses = 0.0, []
    for step in range(steps):
        batch = at_mask_side(batches[step], SIDE_PX * 4 // trial.architecture.stride_px)
        started = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * min(1.0, (step + 1) / 100, 2 * (steps - step) / steps)
        loss = lesson(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        seconds += time.monotonic() - started
        losses.append(float(loss.detach()))
    model = make_model(sam.eval(), trial.architecture, name=trial.name)
    probe = Path(__file__).parents[1] / "msksam-out" / "probe.pickle"
    found, _ = quick_scores(
        questions_of(data, probe),
        lambda plane, prompts: [choose_mask(p) for p in model.decode(model.encode([plane])[0], prompts)],
    )
    scores = {name: [dice for key, many in found.items() if key[0] == name for dice in many] for name in SETS}
    return {
        "trial": trial.name,
        "parameters": f"{sum(p.numel() for p in sam.parameters()) / 1e6:.1f} M",
        "images": str(steps * IMAGES),
        "seconds": f"{seconds:.0f}",
        "loss": f"{np.mean(losses[-50:]):.2f}",
        **{name: f"{np.mean(scores[name]):.3f}" for name in SETS if scores[name]},
    }


def at_mask_side(batch: Batch, side: int) -> Batch:
    """The batch with masks (B, P, side, side)."""
    if batch.masks.shape[-1] == side:
        return batch
    share = F.adaptive_avg_pool2d(batch.masks.float(), side)
    return replace(batch, masks=share >= 0.5)


def kept() -> list[dict[str, str]]:
    """Rows of the results."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(newline="") as stream:
        return list(csv.DictReader(stream))


def keep(row: dict[str, str]) -> None:
    """Add a row to the results."""
    rows = [*kept(), row]
    with RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, tuple(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
