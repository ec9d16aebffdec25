from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.training.dataset import PhantomBatches


@pytest.fixture(scope="module")
def knees():
    i, j, k = np.indices((50, 40, 30))
    values = ((i - 25) ** 2 / 400 + (j - 20) ** 2 / 250 + (k - 15) ** 2 / 120 < 1).astype(np.uint8)
    grid = Grid(values.shape, np.diag([1.5, 1.7, 3.0, 1.0]))
    return [LabelMap(values, grid, TissueTable((Tissue(1, "femur", group="bone"),)))]


def _batches(knees, levels=lambda rng: None, seed=3, shapes_share=0.4):
    return PhantomBatches(
        knees, levels, side_px=32, images=3, questions=2, length=7, seed=seed, shapes_share=shapes_share
    )


def test_an_index_gives_the_same_batch_whatever_was_drawn_before(knees):
    first, second = _batches(knees), _batches(knees)
    for _ in range(2):
        second[1]
    assert torch.equal(first[5].images_on("cpu"), second[5].images_on("cpu"))
    for name in {field.name for field in fields(first[5])} - {"images"}:
        one, other = getattr(first[5], name), getattr(second[5], name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert not torch.equal(first[5].images_on("cpu"), first[4].images_on("cpu"))
    assert not torch.equal(first[5].images_on("cpu"), _batches(knees, seed=4)[5].images_on("cpu"))


def test_batches_have_the_shapes_and_types_the_loop_relies_on(knees):
    batch = _batches(knees)[0]
    images = batch.images_on("cpu")
    assert (images.shape, images.dtype) == ((3, 32, 32), torch.uint8)
    assert (batch.masks.shape, batch.masks.dtype) == ((3, 2, 32, 32), torch.bool)
    assert (batch.boxes_xyxy.shape, batch.boxes_xyxy.dtype) == ((3, 2, 4), torch.float32)
    assert (batch.points_xy.shape, batch.points_xy.dtype) == ((3, 2, 3, 2), torch.float32)
    assert (batch.point_labels.shape, batch.point_labels.dtype) == ((3, 2, 3), torch.int32)


def test_a_dataset_ends_at_its_length(knees):
    batches = _batches(knees)
    assert len(batches) == len(list(batches)) == 7
    for index in (7, -1):
        with pytest.raises(IndexError, match=str(index)):
            batches[index]


def test_every_batch_is_asked_with_boxes_points_or_both(knees):
    kinds = {(b.use_box, b.use_points) for b in (_batches(knees, seed=seed)[0] for seed in range(25))}
    assert kinds == {(True, True), (True, False), (False, True)}


def test_without_volumes_everything_is_random_shapes_and_levels_are_never_asked_for():
    def never(rng):
        raise AssertionError

    assert _batches([], never, shapes_share=0.0)[0].images_on("cpu").shape == (3, 32, 32)
