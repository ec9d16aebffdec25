"""One volume to labels with a real, if random, network and an atlas built from three small cases."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

from msksam_cli.atlas.attached import attach_to_bones
from msksam_cli.atlas.priors import prompts_from_priors
from msksam_cli.core.boxed import Boxed
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.embeddings import EmbeddingKey, MemoryStore
from msksam_cli.errors import EnvironmentFault
from msksam_cli.fusion import FusionRules
from msksam_cli.io.atlas_folder import read_atlas
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.network import arithmetic
from msksam_cli.pipeline import segment_case
from msksam_cli.pipeline.models import load_model
from msksam_cli.pipeline.segment_case import Setup, Tally, embed, segment_with_atlas, segment_with_prompts

TISSUES = TissueTable((Tissue(2, "femur", group="bone"), Tissue(5, "tibia", group="bone")))
GRID = Grid((26, 22, 6), np.diag([0.5, 0.7, 3.0, 1.0]))
PROMPTS = (
    Prompt(2, 1, Box((3.0, 2.0, 15.0, 12.0))),
    Prompt(5, 1, Box((12.0, 15.0, 20.0, 24.0))),
    Prompt(5, 4, Box((12.0, 15.0, 20.0, 24.0))),
)


@pytest.fixture
def setup(small_checkpoint):
    model = load_model(str(small_checkpoint), device="cpu")
    return Setup(TISSUES, model, MemoryStore(), FusionRules())


@pytest.fixture
def volume(make_bones):
    return make_bones(GRID)[0]


def test_only_asked_slices_are_encoded_and_labelled_and_answers_stay_with_their_prompts(setup, volume):
    done = segment_with_prompts(volume, PROMPTS, setup)
    assert (done.tally.slices_encoded, done.tally.slices_cached) == (2, 0)
    assert done.prompts == PROMPTS
    assert len(done.iou_predictions) == 3
    assert sorted(set(np.nonzero(done.labels.values)[2].tolist())) == [1, 4]
    assert done.labels.grid is volume.grid
    assert done.labels.values.dtype == np.uint8
    again = segment_with_prompts(volume, PROMPTS[:1], setup)
    assert (again.tally.slices_encoded, again.tally.slices_cached) == (0, 1)
    assert again.iou_predictions[0] == pytest.approx(done.iou_predictions[0], abs=1e-5)
    assert again.mean_iou_prediction(5) is None
    assert done.mean_iou_prediction(5) == pytest.approx(np.mean(done.iou_predictions[1:]))


def test_labels_lie_inside_the_boxes_that_were_asked_for_with_x_along_columns(setup, volume):
    values = segment_with_prompts(volume, PROMPTS, setup).labels.values[:, :, 1]
    rows, columns = np.nonzero(values == 2)
    assert rows.size > 0
    assert (rows.min() >= 1, rows.max() <= 13, columns.min() >= 2, columns.max() <= 16) == (True,) * 4


def test_no_prompts_give_an_empty_label_map_and_encode_nothing(setup, volume):
    done = segment_with_prompts(volume, (), setup)
    assert not done.labels.values.any()
    assert done.tally.slices_encoded == 0


def test_label_values_above_255_are_kept(setup, volume):
    wide = TissueTable((Tissue(700, "femur", group="bone"),))
    prompts = [dataclasses.replace(PROMPTS[0], tissue_index=700)]
    done = segment_with_prompts(volume, prompts, dataclasses.replace(setup, tissues=wide))
    assert done.labels.values.dtype == np.uint16
    assert set(np.unique(done.labels.values)) == {0, 700}


def test_a_prior_of_nought_leaves_no_label_and_no_prior_leaves_the_decoders(setup, volume):
    nothing = {index: Boxed.of(np.zeros(GRID.shape, np.uint8)) for index in TISSUES.indices}
    assert not segment_with_prompts(volume, PROMPTS, setup, priors=nothing).labels.values.any()
    assert segment_with_prompts(volume, PROMPTS, setup, priors=None).labels.values.any()


def test_equal_slices_share_one_entry_and_a_changed_pixel_does_not(setup):
    plane = np.arange(572, dtype=np.uint8).reshape(26, 22)
    changed = plane.copy()
    changed[3, 4] += 1
    tally = Tally()
    embed([plane], setup, tally)
    embeddings = embed([plane.copy(), changed, plane], setup, tally)
    assert (tally.slices_encoded, tally.slices_cached) == (2, 2)
    np.testing.assert_array_equal(embeddings[0].features, embeddings[2].features)
    assert not np.array_equal(embeddings[0].features, embeddings[1].features)
    assert embeddings[0].slice_shape == (26, 22)


def test_an_atlas_is_placed_prompts_where_its_tissues_are_and_its_prior_takes_part(setup, small_atlas, make_bones):
    grid = Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0]))
    volume, truth = make_bones(grid, shift_px=1)
    done = segment_with_atlas(volume, read_atlas(small_atlas), setup)
    assert done.placed is not None
    assert done.placed.fit.reliable, done.placed.fit
    assert {"place", "prompts", "encode", "decode", "clean"} <= set(done.tally.seconds)
    assert {prompt.source for prompt in done.prompts} == {"atlas:two-bones"}
    for index in TISSUES.indices:
        prior = done.placed.probabilities[index] > 0.5
        mask = truth.mask(index)
        assert 2 * (prior & mask).sum() / (prior.sum() + mask.sum()) > 0.7
        found = done.labels.mask(index)
        assert not (found & (done.placed.probabilities[index] == 0)).any()
    alone = segment_with_prompts(volume, done.prompts, setup)
    assert not np.array_equal(alone.labels.values, done.labels.values)


@pytest.mark.parametrize(
    "case",
    [(["femur"], [["femur"]]), (["tibia"], [["femur"], ["tibia"]]), (None, [["femur"], ["femur", "tibia"]])],
    ids=["a bone", "a thin tissue", "both"],
)
def test_bones_are_asked_for_first_where_a_thin_tissue_is_wanted(setup, small_atlas, make_bones, monkeypatch, case):
    wanted, rounds = case
    thin = TissueTable((TISSUES.by_index(2), dataclasses.replace(TISSUES.by_index(5), group="cartilage")))
    atlas = dataclasses.replace(read_atlas(small_atlas), tissues=thin)
    volume, _ = make_bones(Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0])), shift_px=1)
    asked, found = [], []

    def noted(placed, tissues, *others):
        asked.append([tissue.name for tissue in tissues])
        return prompts_from_priors(placed, tissues, *others)

    def attached(placed, masks):
        found.append({index: int(mask.part.sum()) for index, mask in masks.items()})
        return attach_to_bones(placed, masks)

    monkeypatch.setattr(segment_case, "prompts_from_priors", noted)
    monkeypatch.setattr(segment_case, "attach_to_bones", attached)
    tissues = thin.select(wanted) if wanted else thin
    done = segment_with_atlas(volume, atlas, dataclasses.replace(setup, tissues=tissues))
    assert asked == rounds
    assert [list(masks) for masks in found] == [[2]] * (len(rounds) - 1)
    assert {prompt.tissue_index for prompt in done.prompts} == set(tissues.indices)


def test_a_volume_without_contrast_is_refused_and_not_labelled(setup, small_atlas):
    from msksam_cli.errors import AtlasError

    grid = Grid((20, 18, 7), np.diag([4.0, 4.4, 10.0, 1.0]))
    with pytest.raises(AtlasError, match="no contrast"):
        segment_with_atlas(Volume(np.full(grid.shape, 3.0, np.float32), grid), read_atlas(small_atlas), setup)


def test_what_another_process_encodes_is_waited_for_and_encoded_here_when_it_gives_up(setup, tmp_path):
    planes = [np.arange(n, n + 572, dtype=np.uint16).astype(np.uint8).reshape(26, 22) for n in range(3)]
    keys = [
        EmbeddingKey.of_slice(p, setup.model.encoder_sha256, PREPROCESSING_VERSION, arithmetic(setup.model))
        for p in planes
    ]
    setup = dataclasses.replace(setup, store=DiskStore(tmp_path))
    whole = setup.model.encode(planes)
    assert all(setup.store.claim(key) for key in keys[:2])

    def other() -> None:
        time.sleep(0.3)
        setup.store.put(keys[0], whole[0])
        setup.store.release(keys[0])
        setup.store.release(keys[1])

    thread, tally = threading.Thread(target=other), Tally()
    thread.start()
    embeddings = embed(planes, setup, tally)
    thread.join()
    assert (tally.slices_encoded, tally.slices_cached) == (2, 1)
    assert [one.features.tobytes() for one in embeddings] == [one.features.tobytes() for one in whole]
    assert not list(tmp_path.rglob("*.claim"))


def test_a_network_that_fails_leaves_no_claim(setup, tmp_path, monkeypatch):
    def fail(*_):
        raise EnvironmentFault("the device went away")

    setup = dataclasses.replace(setup, store=DiskStore(tmp_path))
    monkeypatch.setattr(type(setup.model), "encode", fail)
    with pytest.raises(EnvironmentFault, match="went away"):
        embed([np.zeros((26, 22), np.uint8)], setup, Tally())
    assert not list(tmp_path.rglob("*.claim"))
