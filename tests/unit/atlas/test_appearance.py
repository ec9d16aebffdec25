"""Sharpening a placement by what its tissues look like in the volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.atlas.appearance import SharpeningRules, explained_nats, sharpen_placement
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.core.atlases import Fit, PlacedAtlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume

GRID = Grid((60, 52, 28), np.array([[1.7, 0, 0, -50], [0, 1.9, 0, -48], [0, 0, 3.5, -49], [0, 0, 0, 1]]))
NUDGE = (2, 1, 1)


def _placed_off(labels: LabelMap, shift: tuple[int, int, int] = NUDGE) -> PlacedAtlas:
    """The truth as an atlas would give it: soft, and a few millimetres off."""
    soft = {
        index: ndimage.gaussian_filter(np.roll(labels.mask(index), shift, (0, 1, 2)).astype(np.float32), 0.8)
        for index in labels.tissues.indices
    }
    fit = Fit(1.0, 1.0, False, None, True)
    probabilities = WorkingProbabilities(labels.grid, labels.grid, soft)
    return PlacedAtlas(labels.grid, probabilities, {}, labels.tissues, fit, "", "toy", "")


def _dice(placed: PlacedAtlas, labels: LabelMap) -> dict[int, float]:
    masks = {index: placed.probabilities[index] > 0.5 for index in labels.tissues.indices}
    truth = {index: labels.mask(index) for index in masks}
    return {i: 2.0 * float((m & truth[i]).sum()) / float(m.sum() + truth[i].sum()) for i, m in masks.items()}


@pytest.fixture(scope="module", params=[False, True], ids=["bright bones", "dark bones"])
def scanned(request: pytest.FixtureRequest, scan_toy) -> tuple[Volume, LabelMap]:
    return scan_toy(GRID, inverted=request.param)


def test_every_tissue_comes_nearer_to_the_truth_whatever_the_contrast(scanned) -> None:
    volume, labels = scanned
    placed = _placed_off(labels)
    before, after = _dice(placed, labels), _dice(sharpen_placement(placed, volume), labels)
    assert all(after[index] > before[index] + 0.02 for index in (1, 2, 3, 5))
    assert after[4] > before[4] + 0.2


def test_what_the_prior_rules_out_stays_out(scanned) -> None:
    volume, labels = scanned
    sharper = sharpen_placement(_placed_off(labels), volume)
    far = np.zeros(GRID.shape, dtype=bool)
    far[:, :, :6] = True
    assert sharper.probabilities[3][far].max() < 0.01


def test_memberships_add_up_to_at_most_one_on_the_volumes_grid(scanned) -> None:
    volume, labels = scanned
    sharper = sharpen_placement(_placed_off(labels), volume)
    total = np.sum([sharper.probabilities[index] for index in labels.tissues.indices], axis=0)
    assert total.shape == GRID.shape
    assert total.min() >= 0.0
    assert total.max() < 1.02


def test_an_image_without_any_difference_teaches_nothing(scanned) -> None:
    _, labels = scanned
    placed = _placed_off(labels, (0, 0, 0))
    flat = Volume(np.random.default_rng(1).normal(50, 5, GRID.shape).astype(np.float32), GRID)
    sharper = sharpen_placement(placed, flat, SharpeningRules(blur_mm=0.0))
    assert _dice(sharper, labels)[1] > 0.95


def test_an_atlas_of_one_tissue_learns_what_surrounds_it(scanned) -> None:
    volume, labels = scanned
    alone = LabelMap(np.where(labels.values == 1, labels.values, 0), GRID, labels.tissues.select(["upper"]))
    placed = _placed_off(alone)
    assert _dice(sharpen_placement(placed, volume), alone)[1] > _dice(placed, alone)[1]


def test_a_volume_with_many_voxels_is_worked_on_more_coarsely(scanned) -> None:
    volume, labels = scanned
    sharper = sharpen_placement(_placed_off(labels), volume, SharpeningRules(most_voxels=20_000))
    assert isinstance(sharper.probabilities, WorkingProbabilities)
    assert np.prod(sharper.probabilities.work.shape) <= 20_000
    assert sharper.probabilities[1].shape == GRID.shape


def test_a_bone_keeps_its_dark_rim_although_what_surrounds_it_is_as_dark() -> None:
    grid = Grid((44, 40, 30), np.diag([1.0, 1.1, 1.6, 1.0]))
    radius_mm = np.linalg.norm(grid.to_world_mm(np.argwhere(np.ones(grid.shape))) - (22, 22, 24), axis=1)
    radius_mm = radius_mm.reshape(grid.shape)
    labels = LabelMap((radius_mm < 15).astype(np.uint8), grid, TissueTable((Tissue(1, "femur", group="bone"),)))
    noise = np.random.default_rng(2).normal(0, 5, grid.shape)
    volume = Volume((np.where(radius_mm < 13, 300, 100) + noise).astype(np.float32), grid)
    placed = _placed_off(labels, (0, 0, 0))
    with_rim = sharpen_placement(placed, volume, SharpeningRules(rim_mm=2.0))
    without = sharpen_placement(placed, volume, SharpeningRules(rim_mm=-50.0))  # all of it marrow
    assert _dice(with_rim, labels)[1] > 0.95
    assert _dice(without, labels)[1] < 0.85


def test_classes_in_their_place_explain_more_than_beside_it_and_shuffled_ones_nothing() -> None:
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], 4000)
    levels = np.clip(np.rint(np.array([8, 20, 30])[truth] + rng.normal(0, 2, truth.size)), 0, 47).astype(np.intp)
    priors = np.stack([truth == number for number in range(2)]).astype(np.float32)
    right, beside = (explained_nats(np.roll(priors, shift, axis=1), levels) for shift in (0, 700))
    assert right == pytest.approx(np.log(3), abs=0.1)
    assert 0.1 < beside < right - 0.1
    assert explained_nats(rng.permuted(priors, axis=1), levels, SharpeningRules(rounds=1)) < 0.05


def test_a_placement_on_another_grid_is_a_programmers_mistake(scanned) -> None:
    volume, labels = scanned
    moved = replace(_placed_off(labels), grid=Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(ValueError, match="does not belong"):
        sharpen_placement(moved, volume)
