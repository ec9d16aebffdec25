"""A field between its voxels, against scipy and against differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.atlas.interpolated import value_and_slope


@pytest.mark.parametrize("shape", [(12, 9, 7), (1, 9, 7), (12, 1, 7), (12, 9, 1), (1, 1, 1), (2, 2, 2)])
def test_values_are_scipys_also_beyond_the_field(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    field = rng.normal(size=shape).astype(np.float32)
    at = (rng.random((3, 50_000)) * (np.array(shape)[:, None] + 4) - 2).astype(np.float32)
    value, slope = value_and_slope(field, at)
    np.testing.assert_allclose(value, ndimage.map_coordinates(field, at, order=1, mode="nearest"), atol=1e-5)
    flat = [axis for axis, size in enumerate(shape) if size == 1]
    assert not slope[flat].any()


def test_slopes_are_what_the_values_differ_by() -> None:
    rng = np.random.default_rng(1)
    field = rng.normal(size=(12, 9, 7)).astype(np.float32)
    at = (rng.integers(0, [[11], [8], [6]], (3, 2_000)) + rng.uniform(0.1, 0.9, (3, 2_000))).astype(np.float32)
    _, slope = value_and_slope(field, at)
    for axis in range(3):
        step = np.zeros((3, 1), np.float32)
        step[axis] = 0.05
        after, before = (value_and_slope(field, at + sign * step)[0] for sign in (1, -1))
        np.testing.assert_allclose(slope[axis], (after - before) / 0.1, atol=1e-3)


def test_no_points_are_no_values() -> None:
    value, slope = value_and_slope(np.ones((3, 3, 3), np.float32), np.zeros((3, 0), np.float32))
    assert value.shape == (0,)
    assert slope.shape == (3, 0)
