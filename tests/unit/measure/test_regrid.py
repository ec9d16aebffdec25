from itertools import permutations, product

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.regrid import labels_on_grid, reordered_labels


def oblique_map():
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 0.7, 3.0])
    affine[:3, 3] = (-20, 35, 7)
    values = np.random.default_rng(5).integers(0, 4, (9, 7, 5)).astype(np.uint8)
    return LabelMap(values, Grid(values.shape, affine), default_table([1, 2, 3]))


def stored_otherwise(label_map, order, flips):
    values = np.transpose(label_map.values, order)
    affine = label_map.grid.affine[:, [*order, 3]].copy()
    for axis, flipped in enumerate(flips):
        if flipped:
            values = np.flip(values, axis)
            affine[:, 3] += (values.shape[axis] - 1) * affine[:, axis]
            affine[:, axis] *= -1
    return LabelMap(values, Grid(values.shape, affine), label_map.tissues)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_every_order_and_direction_of_axes_is_undone_exactly_and_as_nearest_neighbour_would(order, flips):
    original = oblique_map()
    stored = stored_otherwise(original, order, flips)
    back = reordered_labels(stored, original.grid)
    np.testing.assert_array_equal(back.values, original.values)
    np.testing.assert_array_equal(labels_on_grid(stored, original.grid).values, original.values)


def test_another_lattice_cannot_be_reordered():
    original = oblique_map()
    shifted = original.grid.affine.copy()
    shifted[0, 3] += 0.2
    assert reordered_labels(original, Grid(original.grid.shape, shifted)) is None
    assert reordered_labels(original, Grid((9, 7, 4), original.grid.affine)) is None
    assert reordered_labels(original, original.grid.resampled(0.9)) is None


def test_voxels_outside_the_old_grid_become_background():
    values = np.ones((3, 4, 5), np.uint8)
    affine = np.diag([0.5, 0.7, 3.0, 1.0])
    label_map = LabelMap(values, Grid(values.shape, affine), default_table([1]))
    moved = affine.copy()
    moved[:3, 3] = (0.5, -1.4, 6.0)
    expected = np.zeros((3, 4, 5), np.uint8)
    expected[:2, 2:, :3] = 1
    np.testing.assert_array_equal(labels_on_grid(label_map, Grid((3, 4, 5), moved)).values, expected)


def test_a_finer_grid_repeats_labels():
    original = oblique_map()
    finer = original.grid.resampled(0.25)
    result = labels_on_grid(original, finer)
    centres = original.grid.to_voxel(finer.to_world_mm(np.argwhere(np.ones(finer.shape, bool))))
    nearest = np.floor(centres + 0.5).astype(int)
    np.testing.assert_array_equal(result.values.ravel(), original.values[tuple(nearest.T)])
