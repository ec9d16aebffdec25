from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import GridMismatchError, InputError

OBLIQUE = np.array(
    [[0.4829, -0.1812, 0.0, -20.0], [0.1294, 0.6761, 0.0, 11.0], [0.0, 0.0, 3.0, 35.0], [0.0, 0.0, 0.0, 1.0]]
)


def test_spacing_and_volume_follow_the_columns_of_an_oblique_affine():
    grid = Grid((7, 5, 4), OBLIQUE)
    assert grid.spacing_mm == pytest.approx((0.5, 0.7, 3.0), abs=1e-3)
    assert grid.voxel_volume_mm3 == pytest.approx(0.5 * 0.7 * 3.0, rel=1e-3)


def test_volume_of_a_sheared_voxel_is_less_than_the_product_of_its_spacings():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 1] = 1.0
    assert Grid((3, 3, 3), affine).voxel_volume_mm3 == pytest.approx(2.0)


def test_world_coordinates_move_by_the_column_of_the_axis_walked_along():
    grid = Grid((7, 5, 4), OBLIQUE)
    np.testing.assert_allclose(grid.to_world_mm((0, 0, 0)), (-20, 11, 35))
    np.testing.assert_allclose(grid.to_world_mm((2, 0, 1)) - grid.to_world_mm((0, 0, 0)), (0.9658, 0.2588, 3.0))
    np.testing.assert_allclose(grid.centre_mm, grid.corners_mm().mean(axis=0))
    assert grid.corners_mm().shape == (8, 3)


def test_a_million_points_keep_their_shape_through_voxel_and_world():
    grid = Grid((7, 5, 4), OBLIQUE)
    points = np.random.default_rng(1).normal(scale=50, size=(2, 3, 5, 3))
    assert grid.to_voxel(points).shape == points.shape
    np.testing.assert_allclose(grid.to_world_mm(grid.to_voxel(points)), points, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((30, 256, 200), (3.0, 0.5, 0.7), 0),
        ((256, 30, 200), (0.5, 3.0, 0.7), 1),
        ((256, 200, 300), (0.5, 0.7, 3.0), 2),
        ((60, 224, 224), (1.0, 1.0, 1.0), 0),
        ((224, 60, 60), (1.0, 1.0, 1.1), 2),
        ((50, 50, 50), (1.0, 1.0, 1.0), 2),
        ((10, 20, 30), (3.0, 3.0, 1.0), 0),
        ((1, 1, 1), (1.0, 1.0, 1.0), 2),
    ],
)
def test_slices_are_stacked_on_the_coarsest_axis_else_the_shortest_else_the_last(shape, spacing, axis):
    assert Grid(shape, np.diag([*spacing, 1.0])).slice_axis == axis


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize(("order", "letters"), [((0, 1, 2), "RAS"), ((2, 0, 1), "SRA"), ((1, 2, 0), "ASR")])
def test_orientation_names_the_nearest_direction_of_each_axis(order, letters, flip):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, row in enumerate(order):
        affine[row, column] = flip[column] * (0.5, 0.7, 3.0)[column]
    affine[:3, :3] = OBLIQUE[:3, :3] @ np.diag([2, 1 / 0.7, 1 / 3]) @ affine[:3, :3]
    opposite = dict(zip("RASLPI", "LPIRAS", strict=True))
    expected = "".join(c if sign > 0 else opposite[c] for c, sign in zip(letters, flip, strict=True))
    assert Grid((4, 5, 6), affine).orientation == expected


@pytest.mark.parametrize("spacing_mm", [0.4, 1.5, 4.0, 500.0])
def test_a_resampled_grid_keeps_the_outer_edges(spacing_mm):
    grid = Grid((31, 17, 9), OBLIQUE)
    other = grid.resampled(spacing_mm)
    low, high = np.array((-0.5, -0.5, -0.5)), np.array(grid.shape) - 0.5
    np.testing.assert_allclose(other.to_world_mm((-0.5, -0.5, -0.5)), grid.to_world_mm(low), atol=1e-9)
    np.testing.assert_allclose(other.to_world_mm(np.array(other.shape) - 0.5), grid.to_world_mm(high), atol=1e-9)
    extent_mm = np.array(grid.shape) * grid.spacing_mm
    off_mm = np.abs(np.array(other.shape) * spacing_mm - extent_mm)
    assert np.all(off_mm <= np.maximum(spacing_mm / 2, spacing_mm - extent_mm) + 1e-9)


def test_grids_match_within_a_tenth_of_a_voxel_and_never_with_another_shape():
    grid = Grid((7, 5, 4), OBLIQUE)
    moved = OBLIQUE.copy()
    moved[:3, 3] += 0.09 * OBLIQUE[:3, 1]
    assert grid.corner_offset_voxels(Grid((7, 5, 4), moved)) == pytest.approx(0.09)
    assert grid.matches(Grid((7, 5, 4), moved))
    moved[:3, 3] += 0.02 * OBLIQUE[:3, 1]
    assert not grid.matches(Grid((7, 5, 4), moved))
    assert not grid.matches(Grid((7, 5, 5), OBLIQUE))
    with pytest.raises(GridMismatchError, match=r"shapes \(7, 5, 4\) and \(5, 7, 4\)"):
        grid.corner_offset_voxels(Grid((5, 7, 4), OBLIQUE))


def test_a_stretch_that_leaves_the_first_corner_in_place_is_noticed_at_the_last():
    grid = Grid((100, 5, 4), np.diag([1.0, 1, 1, 1]))
    assert not grid.matches(Grid((100, 5, 4), np.diag([1.002, 1, 1, 1])))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "singular")], ids=str
)
def test_an_unusable_affine_is_refused(value, message):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[1, 1] = value
    with pytest.raises(InputError, match=message):
        Grid((3, 3, 3), affine)


def test_a_last_row_that_is_not_0_0_0_1_a_wrong_shape_and_no_voxels_are_refused():
    affine = np.eye(4)
    affine[3, 0] = 0.1
    with pytest.raises(InputError, match="not affine"):
        Grid((3, 3, 3), affine)
    with pytest.raises(InputError, match="holds no voxel"):
        Grid((3, 0, 3), np.eye(4))
    with pytest.raises(ValueError, match="three axes"):
        Grid((3, 3), np.eye(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(4, 4\) affine"):
        Grid((3, 3, 3), np.eye(3))


def test_a_grid_does_not_change_when_the_array_it_was_made_from_does():
    affine = np.eye(4)
    grid = Grid((3, 3, 3), affine)
    affine[0, 0] = 9
    assert grid.spacing_mm == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2
