from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from msksam_cli.errors import ModelError
from msksam_cli.sam.model import ARCHITECTURES, build_sam
from msksam_cli.training.dataset import PhantomBatches
from msksam_cli.training.loop import Recipe, Stage, Validation, train

SMALL = ARCHITECTURES["msksam_small"].asking
RECIPE = Recipe(
    stages=(Stage(32, 1, 1, 3), Stage(48, 1, 1, 3)),
    learning_rate=1e-3,
    warmup_steps=2,
    decay_steps=3,
    save_every=2,
    log_every=1,
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


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


def _rows(folder):
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


class _Killed(Exception):
    pass


def test_a_run_killed_and_resumed_ends_like_one_that_was_not(tmp_path):
    whole = train(_network(), RECIPE, _batches, tmp_path / "whole", asking=SMALL, workers=0)

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
        train(_network(), RECIPE, dying, tmp_path / "part", asking=SMALL, workers=0)
    assert [row[0] for row in _log(tmp_path / "part")] == ["1", "2", "3", "4"]
    resumed = train(_network(), RECIPE, _batches, tmp_path / "part", asking=SMALL, workers=0)
    assert _log(tmp_path / "part") == _log(tmp_path / "whole")
    assert [row[1] for row in _log(tmp_path / "whole")] == ["32"] * 3 + ["48"] * 3
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_finished_run_gives_its_network_again_without_a_step(tmp_path):
    recipe = replace(RECIPE, stages=(Stage(32, 1, 1, 2),))
    first = train(_network(), recipe, _batches, tmp_path, asking=SMALL, workers=0)

    def none(stage):
        raise AssertionError(stage)

    again = train(build_sam("msksam_small", 32), recipe, none, tmp_path, asking=SMALL, workers=0)
    assert not again.training
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_the_learning_rate_rises_stays_and_falls_to_nearly_nought():
    recipe = Recipe((Stage(64, 1, 1, 60), Stage(128, 1, 1, 40)), 2.0, warmup_steps=20, decay_steps=25)
    rates = [recipe.learning_rate_at(step) for step in range(recipe.steps)]
    assert recipe.steps == 100
    assert rates[0] == pytest.approx(0.1)
    assert rates[19:76] == [2.0] * 57
    assert rates[-1] == pytest.approx(2.0 / 25)
    assert max(abs(a - b) for a, b in pairwise(rates)) <= 0.1 + 1e-9


def test_along_a_cosine_the_learning_rate_falls_slowly_at_both_ends():
    recipe = Recipe((Stage(64, 1, 1, 100),), 2.0, warmup_steps=10, decay_steps=90, cosine=True)
    rates = [recipe.learning_rate_at(step) for step in range(100)]
    assert rates[9] == pytest.approx(2.0)
    assert rates[10 + 45] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.001
    falls = [a - b for a, b in pairwise(rates[10:])]
    assert falls[45] > 5 * max(falls[0], falls[-1])


def _short(**changes):
    return replace(RECIPE, stages=(Stage(32, 1, 1, 6),), save_every=100, **changes)


class _Scores:
    """A validation that gives the next of some scores and remembers what it was shown."""

    def __init__(self, *scores):
        self.scores, self.seen = list(scores), []

    def __call__(self, sam):
        assert not sam.training
        self.seen.append({name: tensor.clone() for name, tensor in sam.state_dict().items()})
        return self.scores[len(self.seen) - 1]


def test_the_weights_that_validated_best_are_kept_and_training_goes_on_from_its_own(tmp_path):
    scores = _Scores(0.1, 0.7, 0.9, 0.8)
    watched = train(
        _network(), _short(), _batches, tmp_path / "a", asking=SMALL, workers=0, validation=Validation(scores, 2, 9)
    )
    alone = train(_network(), _short(), _batches, tmp_path / "b", asking=SMALL, workers=0)
    assert len(scores.seen) == 4
    for name, tensor in watched.state_dict().items():
        assert torch.equal(tensor, scores.seen[2][name]), name
        assert torch.equal(alone.state_dict()[name], scores.seen[3][name]), name
    start = _network().state_dict()
    assert all(torch.equal(tensor, scores.seen[0][name]) for name, tensor in start.items())


def test_a_run_ends_after_so_many_looks_without_a_better_one_and_stays_ended(tmp_path):
    scores = _Scores(0.5, 0.6, 0.6, 0.4)
    validation = Validation(scores, 1, 2)
    first = train(_network(), _short(), _batches, tmp_path, asking=SMALL, workers=0, validation=validation)
    rows = _rows(tmp_path)
    assert [row["validation"] for row in rows] == ["0.5000", "0.6000", "0.6000", "0.4000"]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    again = train(_network(), _short(), _batches, tmp_path, asking=SMALL, workers=0, validation=validation)
    assert len(scores.seen) == 4
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        assert torch.equal(tensor, scores.seen[1][name])


def test_a_run_that_never_gets_better_gives_back_what_it_began_with(tmp_path):
    validation = Validation(_Scores(0.5, 0.4, 0.3), 3, 9)
    trained = train(_network(), _short(), _batches, tmp_path, asking=SMALL, workers=0, validation=validation)
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in _network().state_dict().items())


def test_what_does_not_learn_keeps_every_bit_and_is_not_in_the_state(tmp_path):
    sam = _network()
    sam.image_encoder.requires_grad_(False)
    before = _network().state_dict()
    after = train(sam, _short(), _batches, tmp_path, asking=SMALL, workers=0).state_dict()
    encoder = {name for name in before if name.startswith("image_encoder.")}
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["mask_decoder.iou_token.weight"], after["mask_decoder.iou_token.weight"])
    assert not encoder & set(torch.load(tmp_path / "state.pt")["sam"])


def test_two_batches_in_a_step_are_two_batches_further(tmp_path):
    asked = []

    class Noting(PhantomBatches):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    def noting(stage):
        batches = _batches(stage)
        batches.__class__ = Noting
        return batches

    recipe = replace(_short(accumulate=2), stages=(Stage(32, 1, 1, 3),))
    assert recipe.batches() == 6
    train(_network(), recipe, noting, tmp_path, asking=SMALL, workers=0)
    assert asked == list(range(6))


class _Code:
    def __reduce__(self):
        return (print, ("executed",))


def _flipped(content):
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 4
    return bytes(damaged)


def _saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "was not loaded"),
        (lambda content: b"", "was not loaded"),
        (_flipped, "is damaged"),
        (lambda content: _saved(_Code()), "it holds code"),
        (lambda content: _saved([1, 2]), "is no state of this training run"),
        (lambda content: _saved({"sam": {}, "optimizer": {}, "step": 2}), "is no state of this training run"),
        (
            lambda content: _saved({"sam": {"mask_decoder.iou_token.weight": torch.zeros(3)}}),
            "is no state of this training run",
        ),
    ],
    ids=["cut", "empty", "flipped", "code", "list", "other", "shape"],
)
def test_a_damaged_state_is_refused_in_one_line_and_nothing_in_it_is_executed(damage, message, tmp_path, capsys):
    train(_network(), _short(), _batches, tmp_path, asking=SMALL, workers=0)
    state = tmp_path / "state.pt"
    state.write_bytes(damage(state.read_bytes()))
    with pytest.raises(ModelError, match=message):
        train(_network(), _short(), _batches, tmp_path, asking=SMALL, workers=0)
    assert "executed" not in capsys.readouterr().out
