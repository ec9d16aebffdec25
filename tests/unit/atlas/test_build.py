from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.atlas.build import (
    AtlasCase,
    Naming,
    align_cases,
    atlas_case,
    atlas_from_sums,
    build_atlas,
    case_sums,
    memberships,
    populations,
    tissue_volumes_mm3,
    total,
)
from msksam_cli.atlas.quality import box_recall, card_values, leave_one_out
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import AtlasError, GridMismatchError


def test_every_tissue_is_sure_somewhere_and_none_exceeds_one(toy_atlas: Atlas) -> None:
    for index in (1, 2, 3, 5):
        assert toy_atlas.probabilities[index].max() > 0.95
    assert sum(toy_atlas.probabilities.values()).max() < 1.001


def test_the_mean_anatomy_has_the_mean_volume(toy_atlas: Atlas, toy_cases: list[AtlasCase]) -> None:
    for index in (1, 2):
        volume = toy_atlas.probabilities[index].sum() * toy_atlas.grid.voxel_volume_mm3
        mean = np.mean([case.volumes_mm3[index] for case in toy_cases])
        assert volume == pytest.approx(mean, rel=0.1)


def test_bending_makes_the_average_sharper(toy_atlas: Atlas, toy_cases: list[AtlasCase]) -> None:
    bent = build_atlas(toy_cases, Naming("toy", "", "right"), spacing_mm=2.5, deformable=True)
    undecided = [((p[4] > 0.2) & (p[4] < 0.8)).sum() for p in (bent.probabilities, toy_atlas.probabilities)]
    assert undecided[0] < undecided[1]


def test_left_cases_are_mirrored_onto_a_right_atlas(scan_toy, toy_grid, toy_cases: list[AtlasCase]) -> None:
    volume, labels = scan_toy(toy_grid, np.diag([-1.0, 1, 1, 1]), side="left", seed=8)
    mixed = build_atlas(
        [*toy_cases[:2], atlas_case(volume, labels, 2.5)],
        Naming("mixed", "", "right"),
        spacing_mm=2.5,
        deformable=False,
    )
    assert mixed.probabilities[3].max() > 0.95


def test_contrasts_become_templates_of_their_own(toy_cases: list[AtlasCase]) -> None:
    cases = [replace(case, contrast=name) for case, name in zip(toy_cases[:2], ("t1", "pd"), strict=True)]
    atlas = build_atlas(cases, Naming("two"), spacing_mm=3.0, deformable=False)
    assert sorted(atlas.templates) == ["pd", "t1"]


def test_leaving_a_case_out_equals_averaging_the_others(toy_cases: list[AtlasCase]) -> None:
    alignment = align_cases(toy_cases, "right", spacing_mm=3.0, deformable=False)
    sums = [case_sums(alignment, number) for number in range(len(toy_cases))]
    without = atlas_from_sums(alignment, total(sums).plus(sums[1], -1.0), Naming("x"))
    others = atlas_from_sums(alignment, total([sums[0], *sums[2:]]), Naming("x"))
    for index in (1, 4):
        np.testing.assert_allclose(without.probabilities[index], others.probabilities[index], atol=1e-5)
    card = leave_one_out(alignment, sums, total(sums), Naming("x", "", "right"), most=1)
    assert card.left_out == 1
    assert card.tissues[1].dice_mean > 0.85
    assert 0 <= card.tissues[1].box_recall <= 1
    assert card_values(card)["left_out"] == 1


def test_memberships_are_trilinear_and_nothing_beyond_the_labels() -> None:
    values = np.zeros((3, 4, 5), dtype=np.uint8)
    values[1] = 2
    labels = LabelMap(values, Grid((3, 4, 5), np.eye(4)), default_table([2, 7]))
    points = np.array([[1.0, 1, 1], [1.25, 1, 1], [0.5, 2, 3], [-5, 0, 0], [1, 9, 1]], dtype=np.float32)
    shares = memberships(labels, points.T[:, :, None, None], labels.tissues)
    np.testing.assert_allclose(shares[2].ravel(), (1, 0.75, 0.5, 0, 0), atol=1e-6)
    assert shares[7].max() == 0


def test_only_tissues_clear_of_the_edge_count_as_complete() -> None:
    values = np.zeros((6, 7, 8), dtype=np.uint8)
    values[1:3, 1:3, 1:3] = 1
    values[4:, 4:6, 4:6] = 2
    labels = LabelMap(values, Grid((6, 7, 8), np.diag([0.5, 0.7, 3.0, 1])), default_table([1, 2, 3]))
    assert tissue_volumes_mm3(labels) == {1: pytest.approx(8 * 0.5 * 0.7 * 3)}


def test_populations_take_the_sample_standard_deviation() -> None:
    found = populations([{1: 10.0, 2: 5.0}, {1: 14.0}])
    assert (found[1].volume_mean_mm3, found[1].cases) == (12.0, 2)
    assert found[1].volume_sd_mm3 == pytest.approx(np.sqrt(8))
    assert (found[2].volume_sd_mm3, found[2].cases) == (0.0, 1)


def test_thinning_keeps_voxels_where_they_were(scan_toy) -> None:
    grid = Grid((120, 60, 38), np.diag([0.9, 1.8, 3.0, 1.0]) + np.eye(4, k=3) * -54)
    volume, labels = scan_toy(grid)
    case = atlas_case(volume, labels, 2.0)
    assert case.volume.grid.shape == (60, 60, 38)
    centre = labels.grid.to_world_mm(np.argwhere(labels.mask(3))).mean(axis=0)
    thinned = case.labels.grid.to_world_mm(np.argwhere(case.labels.mask(3))).mean(axis=0)
    np.testing.assert_allclose(thinned, centre, atol=0.6)


def test_image_and_labels_on_different_grids_are_refused(scan_toy, toy_grid) -> None:
    volume, labels = scan_toy(toy_grid)
    shifted = Volume(volume.intensities, Grid(toy_grid.shape, toy_grid.affine + np.eye(4, k=3) * 2))
    with pytest.raises(GridMismatchError, match="do not share a grid"):
        atlas_case(shifted, labels, 2.0)


def test_no_cases_and_no_labels_are_refused(scan_toy, toy_grid) -> None:
    with pytest.raises(AtlasError, match="no labelled case"):
        build_atlas([], Naming("none"))
    volume, labels = scan_toy(toy_grid)
    empty = LabelMap(np.zeros_like(labels.values), toy_grid, labels.tissues)
    with pytest.raises(AtlasError, match="no case has any label"):
        build_atlas([atlas_case(volume, empty, 2.5)], Naming("none"))


def test_box_recall_counts_slices_whose_boxes_together_hold_the_truth() -> None:
    truth = np.zeros((20, 30, 3), dtype=bool)
    truth[5:10, 8:20, :] = True
    boxes = {0: [(8, 5, 13, 9), (14, 5, 19, 9)], 1: [(9, 5, 19, 9)]}
    prompts = [Prompt(1, index, Box(box)) for index, each in boxes.items() for box in each]
    assert box_recall(prompts, truth, 2) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="empty truth"):
        box_recall(prompts, np.zeros((2, 2, 2), dtype=bool), 2)
