from __future__ import annotations

import numpy as np
from scipy import ndimage

from msksam_cli.atlas.deform import composed, looked_up, no_displacement, on_grid
from msksam_cli.atlas.placed import WorkingProbabilities, nearest, spread, spread_boxed
from msksam_cli.core.geometry import Grid

FINE = Grid((50, 42, 12), np.diag([0.5, 0.7, 3.0, 1.0]))


def _ramp(grid: Grid) -> np.ndarray:
    world = grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    return (0.1 + world @ (0.01, 0.008, 0.005)).astype(np.float32)


def test_spreading_keeps_a_linear_field_in_place() -> None:
    work = FINE.resampled(1.5)
    inner = (slice(3, -3), slice(3, -3), slice(1, -1))
    np.testing.assert_allclose(spread(_ramp(work), FINE.shape)[inner], _ramp(FINE)[inner], atol=1e-5)


def test_spreading_repeats_the_outermost_value_at_the_edge() -> None:
    values = np.ones((2, 2, 2), dtype=np.float32)
    np.testing.assert_allclose(spread(values, (8, 6, 4)), 1.0)


def test_working_probabilities_are_within_one_grey_level_and_know_their_keys() -> None:
    work = FINE.resampled(1.5)
    ramp = _ramp(work)
    kept = WorkingProbabilities(work, FINE, {3: ramp, 7: np.zeros_like(ramp)})
    assert sorted(kept) == [3, 7]
    assert kept[3].shape == FINE.shape
    assert np.abs(kept.on_work(3) - ramp).max() <= 0.5 / 255 + 1e-6
    assert kept[7].max() == 0


def test_nearest_labels_stay_where_they_were() -> None:
    work = FINE.resampled(1.5)
    labels = np.zeros(work.shape, dtype=np.uint16)
    labels[: work.shape[0] // 2] = 5
    seen = nearest(labels, FINE.shape)
    assert set(np.unique(seen)) == {0, 5}
    assert abs(int((seen[:, 0, 0] == 5).sum()) - FINE.shape[0] / 2) <= 2


def test_constant_displacements_add_up_and_mean_mm_on_every_grid() -> None:
    first, then = no_displacement(FINE), no_displacement(FINE)
    first[0], then[2] = 2.0, -3.0
    both = composed(first, then, FINE)
    np.testing.assert_allclose(both[:, 10, 10, 5], (2.0, 0.0, -3.0), atol=1e-5)
    coarse = on_grid(both, FINE.resampled(2.0))
    np.testing.assert_allclose(coarse[:, 4, 4, 4], (2.0, 0.0, -3.0), atol=1e-5)
    np.testing.assert_allclose(on_grid(coarse, FINE)[:, 20, 20, 6], (2.0, 0.0, -3.0), atol=1e-5)


def test_a_field_looks_up_what_lies_further_along_the_axis() -> None:
    values = np.zeros(FINE.shape, dtype=np.float32)
    values[20, 10, 5] = 1
    field = no_displacement(FINE)
    field[0], field[2] = 1.0, 3.0
    assert np.argwhere(looked_up(values, FINE, field) > 0.5).tolist() == [[18, 10, 4]]


def test_spreading_a_small_part_of_a_grid_leaves_no_trace_of_the_rest() -> None:
    values = np.zeros((12, 11, 10), dtype=np.float32)
    values[4:7, 5, 3:9] = 0.75
    shape = (31, 17, 10)
    boxed = spread_boxed(values, shape)
    assert boxed.part.size < 0.2 * np.prod(shape)
    places = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, values.shape, strict=True)]
    at = np.stack(np.meshgrid(*places, indexing="ij"))
    judge = ndimage.map_coordinates(values, at, order=1, mode="nearest")
    np.testing.assert_allclose(boxed.whole(), judge, atol=1e-6)


def test_what_a_coarser_grid_steps_over_is_nothing_on_it() -> None:
    values = np.zeros((30, 30, 30), dtype=np.float32)
    values[7, 14, 14] = 1.0
    coarse = (3, 30, 30)  # its voxels lie at 4.5, 14.5 and 24.5
    assert spread_boxed(values, coarse).part.size == 0
    assert not spread(values, coarse).any()
    values[14, 14, 14] = 1.0
    assert spread(values, coarse)[1, 14, 14] == 0.5
