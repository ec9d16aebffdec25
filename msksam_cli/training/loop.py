"""The training loop: flat, resumable, one straight path from a batch to a step.

The bundled model and every fine-tune go through it. Started by torchrun it runs in several processes, each on batches
of its own; their gradients are averaged, so that all hold the same weights.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from msksam_cli.errors import ModelError
from msksam_cli.io.atomic import atomic_path, write_text
from msksam_cli.io.weights import read_weights
from msksam_cli.sam.asking import Asking
from msksam_cli.sam.checkpoint import load_torch
from msksam_cli.sam.model import Sam
from msksam_cli.training.dataset import Batch
from msksam_cli.training.distributed import Peers
from msksam_cli.training.lesson import Lesson

STATE_FILE, LOG_FILE = "state.pt", "log.csv"
LOG_COLUMNS = ("step", "side_px", "loss", "learning_rate", "seconds", "validation")

Row = tuple[int, int, float, float, float]
Score = tuple[int, float]


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

    The learning rate warms up, stays, and falls to zero over the last `decay_steps`: linearly, so that a run can be
    prolonged without starting again (Hägele et al. 2024), or along half a cosine (Loshchilov and Hutter 2017).
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
    log_every: int = 50
    cosine: bool = False
    accumulate: int = 1
    rounds: int = 1
    bf16: bool = True

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def batches(self, peers: int = 1) -> int:
        """Batches that all steps of `peers` processes take together."""
        return self.steps * self.accumulate * peers

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step counted from 0.

        >>> recipe = Recipe((Stage(128, 8, 4, 1000),), learning_rate=1.0, warmup_steps=10, decay_steps=100)
        >>> recipe.learning_rate_at(4), recipe.learning_rate_at(500), recipe.learning_rate_at(999)
        (0.5, 1.0, 0.01)
        """
        rise = min(1.0, (step + 1) / self.warmup_steps)
        fall = min(1.0, (self.steps - step) / self.decay_steps)
        if self.cosine:
            fall = 0.5 - 0.5 * math.cos(math.pi * fall)
        return self.learning_rate * min(rise, fall)


@dataclass(frozen=True)
class Validation:
    """How a run is watched while it goes on.

    Attributes:
        score: what a network is worth, larger is better; given the averaged weights.
        every: steps between two looks; the first is taken before any step.
        patience: looks without a new best after which the run ends.
    """

    score: Callable[[Sam], float]
    every: int
    patience: int


@dataclass
class _Progress:
    """What a run has reached; `average` and `best` hold the learning parameters by name."""

    average: dict[str, Tensor]
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def is_over(self, validation: Validation | None) -> bool:
        """Whether the last `patience` looks brought nothing better than the looks before them."""
        if validation is None or len(self.scores) <= validation.patience:
            return False
        values = [score for _, score in self.scores]
        return max(values[-validation.patience :]) <= max(values[: -validation.patience])


def train(
    sam: Sam,
    recipe: Recipe,
    dataset_of: Callable[[Stage], Dataset[Batch]],
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    asking: Asking,
    validation: Validation | None = None,
    peers: Peers = Peers(),  # noqa: B008  # frozen
) -> Sam:
    """Train a network and return it with the averaged weights; resume from `folder` when it holds a run.

    Args:
        sam: network to train, any input side; changed in place. Parameters without `requires_grad` stay as they are.
        recipe: schedule and optimiser.
        dataset_of: stage → batches, `recipe.batches(peers.count)` long, indexed by the global number of the batch.
        folder: `state.pt` (to resume) and `log.csv` (`LOG_COLUMNS`) are kept here.
        device: torch device.
        workers: processes that draw batches; 0 draws them in this one.
        asking: how prompts are put to the decoder.
        validation: how the run is watched; None runs all steps.
        peers: the processes of this run, which must have joined.

    Returns:
        The same network holding the exponential moving average of its weights: the best one seen by the validation,
        else the last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sam.to(device).train()
    learning = {name: parameter for name, parameter in sam.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    progress = _Progress({name: parameter.detach().clone() for name, parameter in learning.items()})
    _resume(folder, sam, optimizer, progress)
    lesson = Lesson(sam, asking=asking, rounds=recipe.rounds, bf16=recipe.bf16)
    shared = DistributedDataParallel(lesson, find_unused_parameters=True) if peers.count > 1 else None
    network = lesson if shared is None else shared
    started, end = time.monotonic() - (progress.rows[-1][-1] if progress.rows else 0.0), 0
    if validation and not progress.scores:
        _validate(sam, progress, validation, peers)
    for stage in recipe.stages:
        end += stage.steps
        if progress.step >= end or progress.is_over(validation):
            continue
        _set_side(sam, stage.side_px)
        batches = _batches(dataset_of(stage), range(progress.step, end), recipe.accumulate, workers, peers)
        losses: list[Tensor] = []
        bar = tqdm(range(progress.step, end), f"{stage.side_px} px", mininterval=10, disable=not peers.writes or None)
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step)
            optimizer.zero_grad(set_to_none=True)
            for turn in range(recipe.accumulate):
                with shared.no_sync() if shared is not None and turn + 1 < recipe.accumulate else nullcontext():
                    loss = network(next(batches)) / recipe.accumulate
                    loss.backward()
                losses.append(loss.detach() * recipe.accumulate)
            torch.nn.utils.clip_grad_norm_(learning.values(), recipe.clip_norm)
            optimizer.step()
            _update_average(progress.average, learning, min(recipe.ema_decay, (1 + step) / (10 + step)))
            progress.step = step + 1
            looks = validation is not None and (progress.step % validation.every == 0 or progress.step == recipe.steps)
            if progress.step % recipe.log_every == 0 or progress.step == end or looks:
                seconds = time.monotonic() - started
                rate = recipe.learning_rate_at(step)
                progress.rows.append((progress.step, stage.side_px, float(torch.stack(losses).mean()), rate, seconds))
                losses.clear()
            if validation and looks:
                _validate(sam, progress, validation, peers)
            over = progress.is_over(validation)
            if peers.writes and (progress.step % recipe.save_every == 0 or progress.step == end or looks):
                _save(folder, sam, optimizer, progress)
            if over:
                break
    sam.load_state_dict(progress.best or progress.average, strict=False)
    return sam.eval()


def _batches(dataset: Dataset[Batch], steps: range, accumulate: int, workers: int, peers: Peers) -> Iterator[Batch]:
    """This process's batches for some steps: of every `peers.count` batches one."""
    each = accumulate * peers.count
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(steps.start * each + peers.rank, steps.stop * each, peers.count),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def _set_side(sam: Sam, side_px: int) -> None:
    """Let a network take another input side, which a convolutional encoder can."""
    stride_px = sam.image_encoder.img_size // sam.prompt_encoder.image_embedding_size[0]
    embedding_side = side_px // stride_px
    sam.image_encoder.img_size = side_px
    sam.prompt_encoder.input_image_size = (side_px, side_px)
    sam.prompt_encoder.image_embedding_size = (embedding_side, embedding_side)
    sam.prompt_encoder.mask_input_size = (4 * embedding_side, 4 * embedding_side)


def _update_average(average: dict[str, Tensor], learning: dict[str, torch.nn.Parameter], decay: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_([average[name] for name in learning], list(learning.values()), 1 - decay)


def _validate(sam: Sam, progress: _Progress, validation: Validation, peers: Peers) -> None:
    """Score the averaged weights and remember them if none were better; training goes on with its own."""
    own = {name: tensor.clone() for name, tensor in sam.state_dict().items() if name in progress.average}
    sam.load_state_dict(progress.average, strict=False)
    score = peers.from_first(validation.score(sam.eval()) if peers.writes else 0.0)
    if not progress.scores or score > max(earlier for _, earlier in progress.scores):
        progress.best = {name: tensor.clone() for name, tensor in progress.average.items()}
    progress.scores.append((progress.step, score))
    sam.load_state_dict(own, strict=False)
    sam.train()


def _save(folder: Path, sam: Sam, optimizer: torch.optim.Optimizer, progress: _Progress) -> None:
    """Write state.pt and log.csv, each whole or not at all; what does not learn is not in the state."""
    frozen = {name for name, parameter in sam.named_parameters() if not parameter.requires_grad}
    state = {
        "sam": {name: tensor for name, tensor in sam.state_dict().items() if name not in frozen},
        "optimizer": optimizer.state_dict(),
        "average": progress.average,
        "best": progress.best,
        "step": progress.step,
        "rows": progress.rows,
        "scores": progress.scores,
    }
    with atomic_path(folder / STATE_FILE) as temporary:
        torch.save(state, temporary)
    write_text(folder / LOG_FILE, _log_text(progress))


def _log_text(progress: _Progress) -> str:
    scores = {step: f"{score:.4f}" for step, score in progress.scores}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LOG_COLUMNS)
    if 0 in scores:
        writer.writerow((0, "", "", "", "", scores[0]))
    writer.writerows(
        (step, side_px, f"{loss:.4f}", f"{rate:.2e}", f"{seconds:.0f}", scores.get(step, ""))
        for step, side_px, loss, rate, seconds in progress.rows
    )
    return text.getvalue()


def _resume(folder: Path, sam: Sam, optimizer: torch.optim.Optimizer, progress: _Progress) -> None:
    path = folder / STATE_FILE
    if not path.exists():
        return
    state = load_torch(read_weights(path).content, path.name, sam.device)
    try:
        sam.load_state_dict(state["sam"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        progress.average.update({name: state["average"][name] for name in progress.average})
        progress.best = state.get("best", {})
        progress.step = int(state["step"])
        progress.rows = list(state["rows"])
        progress.scores = list(state.get("scores", []))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(
            f"{path.name} is no state of this training run ({type(error).__name__})", "Delete the run's work folder"
        ) from error
