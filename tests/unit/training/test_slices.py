from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.sam.frame import Frame
from msksam_cli.training.slices import SliceBatches, labelled_slices, training_slices

TISSUES = TissueTable((Tissue(3, "femur", group="bone"), Tissue(300, "cartilage", group="cartilage"), Tissue(7, "fat")))
WANTED = TissueTable(TISSUES.tissues[:1] + TISSUES.tissues[2:])
GRID = Grid((30, 40, 9), np.diag([0.5, 0.8, 3.0, 1.0]))


def _volume(seed=0):
    values = np.zeros(GRID.shape, np.uint16)
    values[4:20, 10:30, 1:8] = 3
    values[20:24, 10:30, 2:6] = 300
    values[26:30, 0:40, :] = 7
    grey = 100.0 + 50.0 * (values == 3) + 90.0 * (values == 300) + np.random.default_rng(seed).normal(0, 5, GRID.shape)
    return Volume(grey.astype(np.float32), GRID), LabelMap(values, GRID, TISSUES)


def _slices(subject="a", most=0, side=32, tissues=WANTED, seed=0):
    return training_slices(subject, *_volume(seed), tissues, low_res_side=side, most=most)


def _batches(slices, **changes):
    given = {"side_px": 32, "images": 2, "questions": 2, "length": 40, "seed": 6, **changes}
    return SliceBatches(slices, WANTED, **given)


def test_only_slices_with_a_wanted_tissue_are_learnt_from():
    _, labels = _volume()
    assert labelled_slices(labels, WANTED, 2) == list(range(1, 8))
    assert len(_slices()) == 7
    assert not _slices(tissues=TissueTable((Tissue(9, "nothing"),)))


def test_at_most_so_many_slices_are_taken_spread_from_first_to_last():
    every, few = _slices(), _slices(most=3)
    assert len(few) == 3
    for chosen, index in zip(few, (0, 3, 6), strict=True):
        assert np.array_equal(chosen.pixels, every[index].pixels)


def test_truth_holds_ranks_in_the_frame_of_the_masks_and_nothing_in_the_padding():
    one = _slices(side=80)[3]
    assert one.truth.shape == (80, 80)
    assert set(np.unique(one.truth)) == {0, 1, 2}
    assert not one.truth[60:].any()
    assert np.array_equal(np.flatnonzero((one.truth == 1).any(axis=1))[[0, -1]], [8, 39])
    assert np.array_equal(np.flatnonzero((one.truth == 1).any(axis=0))[[0, -1]], [20, 59])
    assert one.pixel_mm == pytest.approx(np.sqrt(0.5 * 0.8) / 2)


def test_boxes_and_points_are_told_in_pixels_of_the_model():
    low = _batches(_slices(side=32), side_px=32)[5]
    high = _batches(_slices(side=32), side_px=128)[5]
    np.testing.assert_allclose(high.boxes_xyxy, (low.boxes_xyxy + 0.5) * 4 - 0.5, rtol=1e-6)
    np.testing.assert_allclose(high.points_xy, (low.points_xy + 0.5) * 4 - 0.5, rtol=1e-6)
    assert (high.masks == low.masks).all()


def test_a_box_holds_most_of_its_mask_and_foreground_points_lie_inside():
    batches = _batches(_slices())
    for index in range(10):
        batch = batches[index]
        for mask, box, points, inside in zip(
            batch.masks.flatten(0, 1).numpy(), batch.boxes_xyxy.flatten(0, 1).numpy(),
            batch.points_xy.flatten(0, 1).numpy().astype(int), batch.point_labels.flatten(0, 1).numpy(), strict=True,
        ):  # fmt: skip
            rows, columns = np.nonzero(mask)
            held = (columns >= box[0] - 1) & (columns <= box[2] + 1) & (rows >= box[1] - 1) & (rows <= box[3] + 1)
            assert held.mean() > 0.8
            assert mask[points[:, 1], points[:, 0]].tolist() == (inside == 1).tolist()


def test_an_image_lies_in_its_extent_as_the_network_would_see_it_in_use():
    slices = _slices(most=1)
    batch = _batches(slices, images=1, side_px=64)[0]
    assert batch.extents.tolist() == [[48, 64]]
    seen = batch.images[0].numpy()
    assert not seen[48:].any()
    plain = Frame((30, 40), 64).resize(slices[0].pixels).astype(float)
    assert np.corrcoef(seen[:48].ravel(), plain.ravel())[0, 1] > 0.9


def test_embeddings_are_looked_up_by_the_unchanged_pixels():
    slices = _slices()
    known = {one.pixels.tobytes(): number for number, one in enumerate(slices)}
    asked = []

    def features_of(pixels):
        asked.append(known[pixels.tobytes()])
        return np.full((256, 8, 8), asked[-1], np.float16)

    batch = _batches(slices, images=3, features_of=features_of)[1]
    assert batch.embeddings[:, 0, 0, 0].tolist() == asked
    assert batch.images.numel() == 0


def test_equal_numbers_give_equal_batches_and_the_next_another():
    first, again, other = _batches(_slices())[3], _batches(_slices())[3], _batches(_slices())[4]
    assert (first.images == again.images).all()
    assert (first.boxes_xyxy == again.boxes_xyxy).all()
    assert not np.array_equal(first.boxes_xyxy, other.boxes_xyxy)
    assert (first.seed, other.seed) == (3, 4)
    with pytest.raises(IndexError):
        _batches(_slices())[40]


def test_a_subject_with_few_slices_is_asked_about_as_often_as_one_with_many():
    slices = _slices("many") + _slices("few", most=1, seed=1)
    owner = {one.pixels.tobytes(): one.subject for one in slices}
    drawn = []

    def features_of(pixels):
        drawn.append(owner[pixels.tobytes()])
        return np.zeros((256, 1, 1), np.float16)

    batches = _batches(slices, length=100, questions=1, features_of=features_of)
    for index in range(100):
        batches[index]
    assert 70 < Counter(drawn)["few"] < 130
