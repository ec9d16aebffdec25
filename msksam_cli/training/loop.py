"""The training loop: flat, resumable, one straight path from a batch to a step."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from msksam_cli.io.atomic import atomic_path, write_text
from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.training.dataset import Batch
from msksam_cli.training.losses import sam_loss

_LOG_EVERY = 50

Row = tuple[int, int, float, float, float]


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one input side.

    Attributes:
        side_px: side of the square input.
        images: images in a batch.
        questions: prompts an image is asked.
        steps: optimiser steps.
    """

    side_px: int
    images: int
    questions: int
    steps: int


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on besides its data.

    The learning rate warms up, stays, and falls linearly to zero over the last `decay_steps` (Hägele et al. 2024), so
    that a run can be prolonged without starting again.
    """

    stages: tuple[Stage, ...]
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    warmup_steps: int = 300
    decay_steps: int = 1500
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    seed: int = 20261124
    save_every: int = 200

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step counted from 0.

        >>> recipe = Recipe((Stage(128, 8, 4, 1000),), learning_rate=1.0, warmup_steps=10, decay_steps=100)
        >>> recipe.learning_rate_at(4), recipe.learning_rate_at(500), recipe.learning_rate_at(999)
        (0.5, 1.0, 0.01)
        """
        rise = min(1.0, (step + 1) / self.warmup_steps)
        fall = min(1.0, (self.steps - step) / self.decay_steps)
        return self.learning_rate * min(rise, fall)


def train(
    sam: Sam,
    recipe: Recipe,
    dataset_of: Callable[[Stage], Dataset[Batch]],
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
) -> Sam:
    """Train a network and return it with the averaged weights; resume from `folder` when it holds a run.

    Args:
        sam: network to train, any input side; changed in place.
        recipe: schedule and optimiser.
        dataset_of: stage → batches, `recipe.steps` long, indexed by the global step.
        folder: `state.pt` (to resume) and `log.csv` (step, side, loss, learning rate, seconds) are kept here.
        device: torch device.
        workers: processes that draw batches; 0 draws them in this one.

    Returns:
        The same network holding the exponential moving average of its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sam.to(device).train()
    optimizer = torch.optim.AdamW(sam.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    average = {name: tensor.detach().clone() for name, tensor in sam.state_dict().items()}
    step, rows = _resume(folder, sam, optimizer, average)
    started, end = time.monotonic() - (rows[-1][-1] if rows else 0.0), 0
    for stage in recipe.stages:
        end += stage.steps
        if step >= end:
            continue
        _set_side(sam, stage.side_px)
        loader = DataLoader(
            dataset_of(stage),
            batch_size=None,
            sampler=range(step, end),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
        losses: list[float] = []
        for batch in tqdm(loader, desc=f"{stage.side_px} px", mininterval=10):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step)
            loss = batch_loss(sam, batch, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(sam.parameters(), recipe.clip_norm)
            optimizer.step()
            _update_average(average, sam, min(recipe.ema_decay, (1 + step) / (10 + step)))
            losses.append(float(loss.detach()))
            step += 1
            if step % _LOG_EVERY == 0 or step == end:
                seconds = time.monotonic() - started
                rows.append(
                    (step, stage.side_px, sum(losses) / len(losses), recipe.learning_rate_at(step - 1), seconds)
                )
                losses.clear()
            if step % recipe.save_every == 0 or step == end:
                state = {"sam": sam.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
                _save(folder, state, rows)
    sam.load_state_dict(average)
    return sam.eval()


def batch_loss(sam: Sam, batch: Batch, device: str) -> Tensor:
    """Mean loss of all questions of a batch; arithmetic in bfloat16 where it is safe."""
    side_px = batch.images.shape[-1]
    images = batch.images.to(device, torch.float32)[:, None].expand(-1, 3, -1, -1)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        embeddings = sam.image_encoder((images - sam.pixel_mean) / sam.pixel_std)
    logits, scores = [], []
    positions = sam.prompt_encoder.get_dense_pe()
    for image in range(len(images)):
        points = (batch.points_xy[image].to(device), batch.point_labels[image].to(device))
        boxes = batch.boxes_xyxy[image].to(device)
        sparse, dense = sam.prompt_encoder(
            points=points if batch.use_points or not batch.use_box else None,
            boxes=boxes if batch.use_box else None,
            masks=box_mask_prompt(boxes, side_px, side_px) if batch.use_box else None,
        )
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            masks, iou = sam.mask_decoder.predict_masks(
                image_embeddings=embeddings[image : image + 1],
                image_pe=positions,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        logits.append(masks.float())
        scores.append(iou.float())
    truth = batch.masks.to(device).flatten(0, 1).float()
    return sam_loss(torch.cat(logits), torch.cat(scores), truth)


def _set_side(sam: Sam, side_px: int) -> None:
    sam.image_encoder.img_size = side_px
    sam.prompt_encoder.input_image_size = (side_px, side_px)
    sam.prompt_encoder.image_embedding_size = (side_px // 4, side_px // 4)


def _update_average(average: dict[str, Tensor], sam: Sam, decay: float) -> None:
    with torch.no_grad():
        for name, tensor in sam.state_dict().items():
            average[name].lerp_(tensor, 1 - decay)


def _save(folder: Path, state: dict[str, object], rows: list[Row]) -> None:
    with atomic_path(folder / "state.pt") as temporary:
        torch.save({**state, "rows": rows}, temporary)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("step", "side_px", "loss", "learning_rate", "seconds"))
    writer.writerows((s, side, f"{loss:.4f}", f"{rate:.2e}", f"{seconds:.0f}") for s, side, loss, rate, seconds in rows)
    write_text(folder / "log.csv", text.getvalue())


def _resume(
    folder: Path, sam: Sam, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, list[Row]]:
    path = folder / "state.pt"
    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    sam.load_state_dict(state["sam"])
    optimizer.load_state_dict(state["optimizer"])
    average.update(state["average"])
    return int(state["step"]), list(state["rows"])
