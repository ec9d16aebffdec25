from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from msksam_cli.core.geometry import Grid
from msksam_cli.embeddings import MemoryStore
from msksam_cli.errors import UsageError
from msksam_cli.pipeline import finetune as module
from msksam_cli.pipeline.finetune import finetune
from msksam_cli.pipeline.finetune_options import FinetuneOptions
from msksam_cli.pipeline.finetune_scores import Labelled, by_tissue, mean_dice, volume_dice, watched
from msksam_cli.pipeline.models import load_model
from msksam_cli.training.slices import SliceBatches


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def options(small_study, small_checkpoint, tmp_path):
    """Three cases of the small study, and a run of two steps on them."""
    folder = tmp_path / "cases"
    cases = replace(small_study, images=folder / "images", labels=folder / "labels")
    for number in range(3):
        cases.add(f"case{number}", shift_px=number)
    (tmp_path / "truth" / "labels.tsv").rename(folder / "labels.tsv")
    return FinetuneOptions(
        folder, tmp_path / "out" / "site.safetensors", str(small_checkpoint), steps=2, images=1,
        validate_every=2, slices=2, learning_rate=1e-5, cache=tmp_path / "cache", device="cpu", licence="CC BY 4.0",
    )  # fmt: skip


def _weights(path):
    return load_model(str(path), device="cpu").sam.state_dict()


def test_the_decoder_learns_on_the_parents_embeddings_and_leaves_its_encoder_bit_for_bit(options, monkeypatch):
    encoded = []
    whole = module.embed
    monkeypatch.setattr(module, "embed", lambda planes, *rest: encoded.append(len(planes)) or whole(planes, *rest))
    result = finetune(options)
    parent, child = load_model(options.model, device="cpu"), load_model(str(options.output), device="cpu")
    assert parent.encoder_sha256 == child.encoder_sha256
    before, after = parent.sam.state_dict(), child.sam.state_dict()
    encoder = [name for name in before if name.startswith("image_encoder.")]
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    if result.facts.best_step:
        assert any(not torch.equal(before[name], after[name]) for name in before if name not in encoder)
    assert sum(encoded) == result.facts.slices == 4
    assert child.metadata["parent_sha256"] == parent.weights_sha256
    assert json.loads(child.metadata["tissues"]) == {"2": "femur", "5": "tibia"}
    assert child.metadata["licence"] == "CC BY 4.0"
    assert child.metadata["normalisation"] == "imagenet"


def test_curves_figure_and_card_lie_beside_the_checkpoint_and_name_no_case(options):
    result = finetune(options)
    with options.mate(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["0", "2"]
    assert all(row["validation"] for row in rows)
    assert options.mate(".png").read_bytes().startswith(b"\x89PNG")
    card = options.mate(".md").read_text()
    assert "case0" not in card
    assert "case0" not in options.output.read_bytes()[:4000].decode(errors="replace")
    for said in ("2 subjects (2 volumes, 4 labelled slices)", "CC BY 4.0", "seed 0", result.facts.sha256, "torch "):
        assert said in card.replace("\n  ", " ")
    for tissue in ("femur", "tibia"):
        values = result.facts.before[result.facts.tissues.by_name(tissue).index]
        assert f"| {tissue} | 1 | {values[0]:.3f} |" in card


class _Killed(Exception):
    pass


def test_a_run_killed_and_started_again_writes_the_checkpoint_of_one_that_was_not(options, monkeypatch):
    quick = replace(options, learning_rate=1e-3, steps=4)
    finetune(quick)
    whole, log = options.output.read_bytes(), options.mate(".csv").read_text()
    draw = SliceBatches.__getitem__

    def dying(self, index):
        if index >= 3:
            raise _Killed
        return draw(self, index)

    monkeypatch.setattr(SliceBatches, "__getitem__", dying)
    with pytest.raises(_Killed):
        finetune(replace(quick, overwrite=True))
    monkeypatch.setattr(SliceBatches, "__getitem__", draw)
    finetune(quick)
    monkeypatch.setattr(SliceBatches, "__getitem__", dying)
    finetune(quick)  # finished: not a step more
    assert options.output.read_bytes() == whole
    without_seconds = [[line.split(",")[n] for n in (0, 2, 3, 5)] for line in log.splitlines()]
    again = options.mate(".csv").read_text().splitlines()
    assert [[line.split(",")[n] for n in (0, 2, 3, 5)] for line in again] == without_seconds


def test_another_runs_state_or_checkpoint_is_not_replaced_unasked(options):
    options.output.parent.mkdir()
    options.output.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"site\.safetensors comes from a run with other cases, options or model"):
        finetune(options)
    finetune(replace(options, overwrite=True))
    with pytest.raises(UsageError, match=r"site\.work comes from a run with other"):
        finetune(replace(options, seed=1))


@pytest.mark.parametrize("part", ["lora", "all"])
def test_an_encoder_that_learns_is_saved_as_plain_weights_of_the_same_names(options, part):
    result = finetune(replace(options, train=part, learning_rate=1e-3, use_cache=False, rank=2))
    before, after = _weights(options.model), _weights(options.output)
    assert before.keys() == after.keys()
    assert result.facts.part == part
    assert not options.cache.exists()
    if result.facts.best_step:
        assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("image_encoder."))


def test_if_nothing_gets_better_the_parents_weights_come_back_and_the_card_says_so(options):
    result = finetune(replace(options, learning_rate=0.5))
    assert result.facts.best_step == 0
    before, after = _weights(options.model), _weights(options.output)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert result.facts.before == result.facts.after
    assert "No step made the validation volumes better" in options.mate(".md").read_text().replace("\n  ", " ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "encoder"}, "cannot train 'encoder'"),
        ({"validation": 1.0}, "validation share of 1"),
        ({"steps": 0}, "steps of 0"),
        ({"subject": "("}, "no regular expression"),
        ({"learning_rate": 3.0}, "learning rate outside"),
        ({"tissues": ()}, "no tissue was named"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        FinetuneOptions(tmp_path, tmp_path / "a.safetensors", **changes)


def test_a_checkpoint_is_named_as_one(tmp_path):
    with pytest.raises(UsageError, match=r"'a\.pth' is no name of a checkpoint.*a\.safetensors"):
        FinetuneOptions(tmp_path, tmp_path / "a.pth")


def test_a_watched_volume_holds_every_nth_slice_where_it_was(make_bones):
    grid = Grid((26, 22, 40), np.diag([0.5, 0.7, 3.0, 1.0]))
    case = Labelled(*make_bones(grid))
    few = watched(case, case.labels.tissues, 5)
    assert few.volume.grid.spacing_mm == pytest.approx((0.5, 0.7, 3.0 * (40 // few.volume.grid.shape[2] + 0)), rel=0.3)
    for k in range(few.volume.grid.shape[2]):
        (i, j, full) = grid.to_voxel(few.volume.grid.to_world_mm((4, 7, k))).round().astype(int)
        assert (i, j) == (4, 7)
        assert np.array_equal(few.labels.values[..., k], case.labels.values[..., full])
        assert np.array_equal(few.volume.intensities[..., k], case.volume.intensities[..., full])
    labelled = sum(bool(few.labels.values[..., k].any()) for k in range(few.labels.grid.shape[2]))
    assert 4 <= labelled <= 5
    assert few.volume.grid.slice_axis == 2


def test_dice_is_that_of_the_volume_and_only_of_wanted_tissues(make_bones, small_checkpoint):
    case = Labelled(*make_bones(Grid((26, 22, 6), np.diag([0.5, 0.7, 3.0, 1.0]))))
    model = load_model(str(small_checkpoint), device="cpu")
    femur = case.labels.tissues.select(["femur"])
    both, one = (volume_dice(model, MemoryStore(), case, tissues) for tissues in (case.labels.tissues, femur))
    assert set(both) == {2, 5}
    assert set(one) == {2}
    assert 0 < one[2] < 1


def test_means_are_over_tissues_first_and_absent_tissues_do_not_count():
    scores = [{1: 0.8, 2: 0.6}, {1: 0.4}]
    assert mean_dice(scores) == pytest.approx((0.7 + 0.4) / 2)
    assert by_tissue(scores) == {1: [0.8, 0.4], 2: [0.6]}
