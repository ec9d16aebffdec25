from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.atlas.resampling import coverage, mirror_about_x, resample, world_aligned_grid
from msksam_cli.core.geometry import Grid


def _oblique(shape: tuple[int, int, int]) -> Grid:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, -0.7, 3.0])
    affine[:3, 3] = (4, -9, 20)
    return Grid(shape, affine)


def test_a_linear_field_of_world_space_survives_resampling_between_oblique_grids() -> None:
    source = _oblique((40, 30, 9))
    target = Grid((5, 6, 7), np.array([[1, 0, 0, 11.0], [0, 1, 0, -14], [0, 0, 1.5, 28], [0, 0, 0, 1]]))
    slope = np.array([1.0, -2.0, 0.5])
    index = np.moveaxis(np.indices(source.shape), 0, -1)
    values = (source.to_world_mm(index) @ slope).astype(np.float32)
    seen = resample(values, source, target, outside=np.nan)
    wanted = target.to_world_mm(np.moveaxis(np.indices(target.shape), 0, -1)) @ slope
    known = np.isfinite(seen)
    assert known.mean() > 0.3
    np.testing.assert_allclose(seen[known], wanted[known], atol=0.6)


def test_the_map_takes_the_targets_world_to_the_sources() -> None:
    grid = Grid((9, 8, 7), np.diag([1.0, 2.0, 3.0, 1.0]))
    values = np.zeros(grid.shape, dtype=np.float32)
    values[5, 4, 3] = 1
    shift = np.eye(4)
    shift[:3, 3] = (2, 4, -3)
    assert np.argwhere(resample(values, grid, grid, shift) > 0.5).tolist() == [[3, 2, 4]]


def test_coverage_counts_half_a_voxel_beyond_the_centres() -> None:
    source = Grid((4, 5, 6), np.diag([3.0, 2.0, 1.0, 1.0]))
    fine = Grid((20, 1, 1), np.diag([0.75, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * -3.0)
    inside = coverage(source, fine)[:, 0, 0]
    x = fine.to_world_mm(np.argwhere(np.ones(fine.shape)))[:, 0]
    np.testing.assert_array_equal(inside, (x >= -1.5) & (x <= 10.5))


def test_mirroring_twice_is_nothing_and_keeps_the_plane() -> None:
    flip = mirror_about_x(np.array([7.0, 1.0, 2.0]))
    np.testing.assert_allclose(flip @ flip, np.eye(4))
    np.testing.assert_allclose(flip @ [7, 3, 4, 1], [7, 3, 4, 1])


def test_a_world_aligned_grid_spans_its_corners_and_margin() -> None:
    corners = np.array([[0.0, -3, 5], [10, 4, 6]])
    grid = world_aligned_grid(corners, 2.0, margin_mm=1.0)
    ends = grid.to_world_mm([[0, 0, 0], np.array(grid.shape) - 1])
    assert (ends[0] <= corners[0] - 1 + 1e-9).all()
    assert (ends[1] >= corners[1] + 1 - 1e-9).all()
    assert grid.orientation == "RAS"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "step", "start"),
    [((10, 11, 12), (4.0, -2.5, 1.5), (0.3, 28.0, -2.0)), ((90, 20, 30), (0.4, 1.0, 0.7), (0, 0, -3)),
     ((40, 30, 20), (1, 1, 1), (0, 0, 0)), ((1, 3, 1), (9, 9, 9), (3, 1, 4)), ((1, 1, 1), (2, 2, 2), (3, 1, 4))],
)  # fmt: skip
def test_parallel_grids_are_seen_as_by_a_gaussian_and_trilinear_interpolation(
    order: str, shape: tuple[int, int, int], step: tuple[float, ...], start: tuple[float, ...]
) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(40, 30, 20)), np.float32, order=order)
    source = _oblique((40, 30, 20))
    affine = source.affine @ np.vstack([np.column_stack([np.diag(step), start]), [0, 0, 0, 1]])
    wide = np.abs(step) > 1.25
    sigma = np.where(wide, 0.5 * np.sqrt(np.maximum(np.square(step) - 1.0, 0)), 0)
    wanted = ndimage.affine_transform(
        ndimage.gaussian_filter(values, sigma, mode="nearest"),
        np.diag(step), start, shape, order=1, mode="constant", cval=-7.0,
    )  # fmt: skip
    seen = resample(values, source, Grid(shape, affine), outside=-7.0)
    assert seen.flags.c_contiguous
    np.testing.assert_allclose(seen, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 1, 1)])
def test_a_single_line_of_voxels_is_resampled_too(shape: tuple[int, int, int]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(resample(values, _oblique(shape), _oblique(shape)), values)
