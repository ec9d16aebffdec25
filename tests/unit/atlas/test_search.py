from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.evidence import atlas_classes, on_spacing
from msksam_cli.atlas.resampling import coverage, resample, world_aligned_grid
from msksam_cli.atlas.search import best_shifts, poses
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid


def _seen(volume, spacing_mm: float) -> tuple[np.ndarray, np.ndarray, Grid]:
    grid = world_aligned_grid(volume.grid.corners_mm(), spacing_mm)
    image = resample(volume.intensities / 100, volume.grid, grid)
    return image, coverage(volume.grid, grid).astype(np.float32), grid


@pytest.mark.parametrize("inverted", [False, True])
def test_the_best_shift_is_the_true_one_in_either_contrast(scan_toy, toy_grid, toy_atlas: Atlas, inverted) -> None:
    shift = np.eye(4)
    shift[:3, 3] = (-9, 8, 14)
    wide = toy_grid.affine.copy()
    wide[:3, 3] -= (20, 25, 24)
    grid = Grid((73, 65, 54), wide)
    still, _ = scan_toy(grid, inverted=inverted)
    moved, _ = scan_toy(grid, shift, inverted=inverted)
    classes = atlas_classes(toy_atlas)[0]
    pose = next(poses(toy_atlas.grid.centre_mm, (False,), 0.0, ()))
    found = []
    for volume in (still, moved):
        start = best_shifts(classes, pose, *_seen(volume, 5.0), how_many=1, apart_mm=15.0)[0]
        found.append(start.atlas_to_volume_mm[:3, 3])
    np.testing.assert_allclose(found[0] - found[1], shift[:3, 3], atol=7.6)


def test_starts_come_in_order_and_apart(scan_toy, toy_grid, toy_atlas: Atlas) -> None:
    volume, _ = scan_toy(toy_grid)
    pose = next(poses(toy_atlas.grid.centre_mm, (False,), 0.0, ()))
    starts = best_shifts(atlas_classes(toy_atlas)[0], pose, *_seen(volume, 5.0), how_many=3, apart_mm=15.0)
    scores = [start.score for start in starts]
    assert scores == sorted(scores, reverse=True)
    first, second = (start.atlas_to_volume_mm[:3, 3] for start in starts[:2])
    assert np.abs(first - second).max() > 15.0


def test_poses_turn_both_ways_about_each_axis_and_mirror() -> None:
    tried = list(poses(np.array([1.0, 2.0, 3.0]), (False, True), 15.0, (0.9, 1.1)))
    assert len(tried) == 2 * (1 + 6 + 2)
    assert all((np.linalg.det(p.matrix_mm[:3, :3]) < 0) == p.mirrored for p in tried)
    for pose in tried:
        np.testing.assert_allclose(pose.matrix_mm @ [1, 2, 3, 1], [1, 2, 3, 1], atol=1e-9)


def test_affine_refinement_recovers_a_turn_stretch_and_shift(scan_toy, toy_grid, toy_atlas: Atlas) -> None:
    angle = np.deg2rad(7)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    ) @ np.diag([1.05, 0.96, 1.04])
    matrix[:3, 3] = (3, -4, 5)
    reference, _ = scan_toy(toy_grid)
    volume, _ = scan_toy(toy_grid, matrix, inverted=True)
    classes = on_spacing(atlas_classes(toy_atlas)[0], 3.0)
    image, _, grid = _seen(reference, 3.0)
    base, _ = refine_affine(classes, image, grid, np.eye(4))
    image, _, grid = _seen(volume, 3.0)
    found, score = refine_affine(classes, image, grid, np.eye(4))
    assert score > 0.3
    points = np.array([[0, 0, 24, 1], [0, 0, -24, 1], [17, 25, 6, 1], [-15, -10, 15, 1.0]])
    true = points @ (np.linalg.inv(matrix) @ base).T
    before = np.abs(points @ base.T - true).max()
    assert np.abs(points @ found.T - true).max() < 0.5 * before


def test_a_rigid_refinement_keeps_lengths(scan_toy, toy_grid, toy_atlas: Atlas) -> None:
    volume, _ = scan_toy(toy_grid, np.diag([1.1, 1.1, 1.1, 1.0]))
    image, _, grid = _seen(volume, 3.0)
    found, _ = refine_affine(on_spacing(atlas_classes(toy_atlas)[0], 3.0), image, grid, np.eye(4), rigid=True)
    assert np.abs(np.linalg.det(found[:3, :3]) - 1) < 0.03
