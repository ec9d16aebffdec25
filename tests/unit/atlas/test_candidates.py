from __future__ import annotations

import numpy as np

from msksam_cli.atlas.candidates import Candidate, find_near_skeleton, moved_mm, skeleton_classes, tissue_centre_mm
from msksam_cli.atlas.evidence import Classes, atlas_classes, trimmed
from msksam_cli.atlas.resampling import mirror_about_x
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid


def test_bones_are_found_by_themselves_where_the_whole_atlas_was_drawn_away_and_on_the_side_asked_for(
    scan_toy, toy_grid, toy_atlas: Atlas
) -> None:
    volume, _ = scan_toy(toy_grid)
    classes = atlas_classes(toy_atlas)[0]
    away = np.eye(4)
    away[:3, 3] = (18, -14, 20)
    lost = {
        False: Candidate(away, False, 0.3, classes),
        True: Candidate(away @ mirror_about_x(tissue_centre_mm(toy_atlas)), True, 0.2, classes),
    }
    found = find_near_skeleton(toy_atlas, volume.intensities / 100, volume.grid, lost)
    assert [one.mirrored for one in found] == [False, False, True, True]
    assert [one.score for one in found] == [0.3, 0.3, 0.2, 0.2]
    centre = tissue_centre_mm(toy_atlas)
    assert moved_mm(away, np.eye(4), centre) > 25
    assert min(moved_mm(one.atlas_to_volume_mm, np.eye(4), centre) for one in found[:2]) < 5
    assert all((np.linalg.det(one.atlas_to_volume_mm[:3, :3]) < 0) == one.mirrored for one in found)


def test_trimmed_classes_keep_every_weight_at_its_place_in_the_world() -> None:
    grid = Grid((8, 7, 5), np.array([[0.0, 0.7, 0, 3], [0.5, 0, 0, -2], [0, 0, 3.0, 1], [0, 0, 0, 1]]))
    weights = np.zeros((2, 8, 7, 5), dtype=np.float32)
    weights[0, 2, 3, 1], weights[1, 5, 4, 3] = 1.0, 0.25
    cut = trimmed(Classes("tissues", weights, grid))
    assert cut.weights.shape == (2, 4, 2, 3)
    for number, value in ((0, 1.0), (1, 0.25)):
        before, after = np.argwhere(weights[number]), np.argwhere(cut.weights[number])
        np.testing.assert_allclose(cut.grid.to_world_mm(after), grid.to_world_mm(before))
        assert cut.weights[number].max() == value
    empty = Classes("tissues", np.zeros((1, 2, 3, 4), dtype=np.float32), Grid((2, 3, 4), np.eye(4)))
    assert trimmed(empty) is empty


def test_skeleton_classes_know_nothing_far_from_bone(toy_atlas: Atlas) -> None:
    classes = atlas_classes(toy_atlas)[0]
    near = skeleton_classes(classes, toy_atlas, 2.5)
    known_mm3 = [float(one.support.sum()) * one.grid.voxel_volume_mm3 for one in (classes, near)]
    bones_mm3 = toy_atlas.grid.voxel_volume_mm3 * sum(float(toy_atlas.probabilities[n].sum()) for n in (1, 2, 3))
    assert bones_mm3 < known_mm3[1] < 0.8 * known_mm3[0]
