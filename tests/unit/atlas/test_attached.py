"""Thin tissues laid along found bones: shells on balls and ellipsoids, whose distances are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.attached import (
    AttachmentRules,
    attach_to_bones,
    bones_to_find,
    filling_its_volume,
)
from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.core.atlases import Fit, PlacedAtlas
from msksam_cli.core.boxed import Boxed
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable

GRID = Grid((66, 56, 28), np.array([[1.0, 0, 0, -33], [0, 1.2, 0, -33], [0, 0, 2.4, -33], [0, 0, 0, 1.0]]))
BONE, SHELL, FAT, DISC = 1, 2, 3, 4
TISSUES = TissueTable(
    (
        Tissue(BONE, "femur", group="bone"),
        Tissue(SHELL, "cap", group="cartilage"),
        Tissue(FAT, "fat", group="fat"),
        Tissue(DISC, "wedge", group="meniscus"),
    )
)
Mask = NDArray[np.bool_]
Point = tuple[float, float, float]


def _from(centre: Point) -> NDArray[np.float64]:
    points = GRID.to_world_mm(np.moveaxis(np.indices(GRID.shape), 0, -1)) - np.array(centre)
    return np.moveaxis(points, -1, 0)


def _ball(radius_mm: float, centre: Point = (0, 0, 0)) -> Mask:
    return np.asarray(np.linalg.norm(_from(centre), axis=0) < radius_mm)


def _cap(radius_mm: float, centre: Point = (0, 0, 0), thick_mm: float = 3.0) -> Mask:
    """A shell on the upper half of a ball."""
    return _ball(radius_mm + thick_mm, centre) & ~_ball(radius_mm, centre) & (_from(centre)[2] > 0)


def _placed(masks: dict[int, Mask], blur: float = 0.0) -> PlacedAtlas:
    soft = {
        index: ndimage.gaussian_filter(masks.get(index, np.zeros(GRID.shape, bool)).astype(np.float32), blur)
        for index in TISSUES.indices
    }
    fit = Fit(1.0, 1.0, False, None, True)
    return PlacedAtlas(GRID, WorkingProbabilities(GRID, GRID, soft), {}, TISSUES, fit, "", "toy", "")


def _attached(placed: PlacedAtlas, found: dict[int, Mask], rules: AttachmentRules | None = None) -> PlacedAtlas:
    return attach_to_bones(placed, {index: Boxed.of(mask) for index, mask in found.items()}, rules)


def _dice(first: Mask, second: Mask) -> float:
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.mark.parametrize(
    ("radius_mm", "centre"),
    [(17.0, (0, 0, 0)), (13.0, (0, 0, 0)), (15.0, (3.0, -2.0, 2.5)), (16.5, (-2.0, 2.0, -2.0))],
    ids=["larger", "smaller", "shifted", "larger and shifted"],
)
def test_a_shell_comes_to_lie_on_the_bone_as_found_and_keeps_its_thickness(radius_mm: float, centre: Point) -> None:
    placed = _placed({BONE: _ball(15.0), SHELL: _cap(15.0)})
    truth = _cap(radius_mm, centre)
    attached = _attached(placed, {BONE: _ball(radius_mm, centre)}).probabilities
    before, after = (_dice(p[SHELL] > 0.5, truth) for p in (placed.probabilities, attached))
    assert before < 0.65
    assert after > max(0.72, before + 0.2)
    assert float((attached[SHELL] > 0.5).sum()) == pytest.approx(float(truth.sum()), rel=0.2)
    assert _dice(attached[BONE] > 0.5, _ball(radius_mm, centre)) > 0.96


def test_a_bone_that_is_no_ball_tells_the_shift_along_its_surface_too() -> None:
    def long_bone(centre: Point) -> tuple[Mask, Mask]:
        x, y, z = _from(centre)
        inside = (x / 22) ** 2 + (y / 12) ** 2 + (z / 14) ** 2 < 1
        around = (x / 25) ** 2 + (y / 15) ** 2 + (z / 17) ** 2 < 1
        return inside, around & ~inside & (z > 0) & (np.abs(x) < 8)

    bone, patch = long_bone((0, 0, 0))
    found, truth = long_bone((4.0, 0, 0))
    placed = _placed({BONE: bone, SHELL: patch})
    both, normal_only = (
        _attached(placed, {BONE: found}, rules).probabilities[SHELL] > 0.5
        for rules in (AttachmentRules(), AttachmentRules(rigid_steps=0))
    )
    assert _dice(both, truth) > 0.8
    assert _dice(both, truth) > _dice(normal_only, truth) + 0.05


def test_a_prior_blurred_over_the_bone_leaves_it_and_fills_its_volume_again() -> None:
    placed = _placed({BONE: _ball(15.0), SHELL: _cap(15.0)}, blur=1.5)
    attached = _attached(placed, {BONE: _ball(15.0)}).probabilities
    assert placed.probabilities[SHELL][_ball(14.0)].sum() > 10 * attached[SHELL][_ball(14.0)].sum()
    truth = _cap(15.0)
    assert _dice(attached[SHELL] > 0.5, truth) > _dice(placed.probabilities[SHELL] > 0.5, truth) + 0.1


def test_what_lies_between_two_bones_keeps_touching_both() -> None:
    table = TissueTable((*TISSUES, Tissue(5, "tibia", group="bone")))
    low, high = (0.0, 0.0, -17.0), (0.0, 0.0, 17.0)

    def joint(radius_mm: float) -> dict[int, Mask]:
        x, y, _ = _from((0, 0, 0))
        bones = {BONE: _ball(radius_mm, high), 5: _ball(radius_mm, low)}
        gap = ~bones[BONE] & ~bones[5] & (np.hypot(x, y) < 9) & (np.abs(_from((0, 0, 0))[2]) < 7)
        return {**bones, DISC: gap}

    before, now = joint(15.0), joint(13.5)
    soft = {index: before.get(index, np.zeros(GRID.shape, bool)).astype(np.float32) for index in table.indices}
    placed = replace(_placed({}), probabilities=WorkingProbabilities(GRID, GRID, soft), tissues=table)
    attached = _attached(placed, {index: now[index] for index in (BONE, 5)}).probabilities
    assert _dice(attached[DISC] > 0.5, now[DISC]) > _dice(before[DISC], now[DISC]) + 0.05


def test_neighbours_make_room_and_probabilities_add_up_to_at_most_one() -> None:
    masks = {BONE: _ball(13.0), SHELL: _cap(13.0), FAT: ~_ball(13.0) & ~_cap(13.0)}
    attached = _attached(_placed(masks), {BONE: _ball(16.0)}).probabilities
    total = np.sum([attached[index] for index in TISSUES.indices], axis=0)
    assert total.max() < 1.05
    assert attached[FAT][_cap(16.0)].mean() < 0.25
    far = np.linalg.norm(_from((0, 0, 0)), axis=0) > 31
    assert attached[FAT][far].min() > 0.95


def test_without_a_trustworthy_bone_the_placement_is_left_alone() -> None:
    placed = _placed({BONE: _ball(12.0), SHELL: _cap(12.0)})
    assert _attached(placed, {}) is placed
    assert _attached(placed, {BONE: np.zeros(GRID.shape, bool)}) is placed
    assert _attached(placed, {BONE: _ball(6.0, (20, 20, 20))}) is placed
    without_shell = _placed({BONE: _ball(12.0)})
    assert _attached(without_shell, {BONE: _ball(13.0)}) is without_shell


def test_a_volume_thinner_than_the_grid_is_left_as_it_was_placed() -> None:
    thin = Grid((40, 40, 2), np.diag([1.0, 1.0, 0.5, 1.0]))
    bone = np.zeros(thin.shape, dtype=bool)
    bone[10:30, 10:20] = True
    shell = np.roll(bone, 10, axis=1) & ~bone
    soft = {index: np.zeros(thin.shape, np.float32) for index in TISSUES.indices}
    soft |= {BONE: bone.astype(np.float32), SHELL: shell.astype(np.float32)}
    placed = replace(_placed({}), grid=thin, probabilities=WorkingProbabilities(thin, thin, soft))
    assert _attached(placed, {BONE: bone}) is placed


def test_a_large_volume_is_worked_on_more_coarsely() -> None:
    placed = _placed({BONE: _ball(15.0), SHELL: _cap(15.0)})
    attached = _attached(placed, {BONE: _ball(17.0)}, AttachmentRules(most_voxels=60_000)).probabilities
    assert isinstance(attached, WorkingProbabilities)
    assert np.prod(attached.work.shape) <= 60_000
    assert _dice(attached[SHELL] > 0.5, _cap(17.0)) > 0.6


def test_a_mask_of_another_shape_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="do not belong"):
        _attached(_placed({BONE: _ball(12.0)}), {BONE: np.zeros((3, 4, 5), bool)})


def test_a_prior_that_is_nowhere_likely_fills_the_volume_it_is_expected_to_have() -> None:
    soft = ndimage.gaussian_filter(_cap(15.0, thick_mm=2.0).astype(np.float32), 1.5)
    assert (soft > 0.5).sum() < 0.5 * soft.sum()
    filled = filling_its_volume(soft)
    assert (filled > 0.5).sum() == pytest.approx(soft.sum(), rel=0.1)
    assert (np.argsort(filled.ravel())[-50:] == np.argsort(soft.ravel())[-50:]).mean() > 0.5
    assert not filling_its_volume(np.zeros((3, 4, 5), np.float32)).any()


def test_bones_are_looked_for_only_where_a_thin_tissue_is_wanted() -> None:
    assert [bone.name for bone in bones_to_find(TISSUES, TISSUES.select(["cap"]))] == ["femur"]
    assert bones_to_find(TISSUES, TISSUES.select(["femur", "fat"])) == ()
