from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from msksam_cli.sam.model import build_sam
from msksam_cli.training import loop
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.lesson import Lesson
from msksam_cli.training.loop import Recipe, Stage, train

RECIPE = Recipe(
    stages=(Stage(32, 1, 1, 3), Stage(48, 1, 1, 3)), learning_rate=1e-3, warmup_steps=2, decay_steps=3, save_every=2
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)


def _network():
    torch.manual_seed(1)
    return build_sam("msksam_small", 32)


def _batches(stage):
    return PhantomBatches(
        [], lambda rng: None, side_px=stage.side_px, images=stage.images, questions=stage.questions, length=6, seed=9,
        shapes_share=1.0,
    )  # fmt: skip


def _log(folder):
    with (folder / "log.csv").open(newline="") as stream:
        return [[row[name] for name in ("step", "side_px", "loss", "learning_rate")] for row in csv.DictReader(stream)]


class _Killed(Exception):
    pass


def test_a_run_killed_and_resumed_ends_like_one_that_was_not(tmp_path):
    whole = train(_network(), RECIPE, _batches, tmp_path / "whole", workers=0)

    class Dying(PhantomBatches):
        def __getitem__(self, index):
            if index == 5:
                raise _Killed
            return super().__getitem__(index)

    def dying(stage):
        batches = _batches(stage)
        batches.__class__ = Dying
        return batches

    with pytest.raises(_Killed):
        train(_network(), RECIPE, dying, tmp_path / "part", workers=0)
    assert [row[0] for row in _log(tmp_path / "part")] == ["1", "2", "3", "4"]
    resumed = train(_network(), RECIPE, _batches, tmp_path / "part", workers=0)
    assert _log(tmp_path / "part") == _log(tmp_path / "whole")
    assert [row[1] for row in _log(tmp_path / "whole")] == ["32"] * 3 + ["48"] * 3
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_finished_run_gives_its_network_again_without_a_step(tmp_path):
    recipe = replace(RECIPE, stages=(Stage(32, 1, 1, 2),))
    first = train(_network(), recipe, _batches, tmp_path, workers=0)

    def none(stage):
        raise AssertionError(stage)

    again = train(build_sam("msksam_small", 32), recipe, none, tmp_path, workers=0)
    assert not again.training
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_the_loss_of_one_batch_falls_when_it_is_learnt():
    sam, batch = _network().train(), _batches(Stage(32, 2, 2, 6))[0]
    batch = replace(batch, use_box=True, use_points=True)
    optimizer = torch.optim.AdamW(sam.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = Lesson(sam)(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("use_box", "use_points"), [(True, False), (False, True), (True, True)])
def test_gradients_reach_every_part_of_the_network_for_every_kind_of_question(use_box, use_points):
    sam = _network().train()
    batch = replace(_batches(Stage(32, 1, 1, 6))[0], use_box=use_box, use_points=use_points)
    Lesson(sam)(batch).backward()
    for part in (sam.image_encoder, sam.prompt_encoder, sam.mask_decoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_learning_rate_rises_stays_and_falls_to_nearly_nought():
    recipe = Recipe((Stage(64, 1, 1, 60), Stage(128, 1, 1, 40)), 2.0, warmup_steps=20, decay_steps=25)
    rates = [recipe.learning_rate_at(step) for step in range(recipe.steps)]
    assert recipe.steps == 100
    assert rates[0] == pytest.approx(0.1)
    assert rates[19:76] == [2.0] * 57
    assert rates[-1] == pytest.approx(2.0 / 25)
    assert max(abs(a - b) for a, b in pairwise(rates)) <= 0.1 + 1e-9
