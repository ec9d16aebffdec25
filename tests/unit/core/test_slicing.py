from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.slicing import intensity_window, plane_axes, slice_uint8, take_slice


def test_a_slice_keeps_the_remaining_axes_in_order_and_is_a_view():
    voxels = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    assert [take_slice(voxels, axis, 1).shape for axis in range(3)] == [(5, 6), (4, 6), (4, 5)]
    assert take_slice(voxels, 1, 3)[2, 4] == voxels[2, 3, 4]
    take_slice(voxels, 2, 0)[1, 2] = -1
    assert voxels[1, 2, 0] == -1
    assert [plane_axes(axis) for axis in range(3)] == [(1, 2), (0, 2), (0, 1)]


def test_the_window_ignores_air_and_single_bright_voxels():
    rng = np.random.default_rng(3)
    volume = np.zeros((20, 30, 10), np.float32)
    volume[5:15, 5:25] = rng.uniform(200, 400, (10, 20, 10))
    clean = intensity_window(volume)
    volume[0, 0, 0] = 1e6
    spiked = intensity_window(volume)
    assert spiked == pytest.approx(clean, rel=0.02)
    assert clean[0] < 201
    assert 390 < clean[1] <= 400


def test_the_window_of_a_volume_that_holds_negative_values_starts_near_its_minimum():
    volume = np.linspace(-100, 900, 1000, dtype=np.float32).reshape(10, 10, 10)
    low, high = intensity_window(volume)
    assert -100 <= low < 10
    assert 880 < high <= 900


@pytest.mark.parametrize("value", [0.0, -3.0, 5e8])
def test_a_constant_volume_is_shown_black_and_not_divided_by_zero(value):
    volume = np.full((4, 5, 6), value, np.float32)
    window = intensity_window(volume)
    assert window[1] > window[0]
    assert (slice_uint8(volume[0], window) == 0).all()


def test_one_bright_voxel_alone_gives_a_usable_window():
    volume = np.zeros((4, 5, 6), np.float32)
    volume[1, 2, 3] = 10
    low, high = intensity_window(volume)
    assert high > low
    assert slice_uint8(volume[1], (low, high))[2, 3] == 255


def test_grey_levels_round_and_are_clipped_at_both_ends():
    plane = np.array([[-50, 0, 1], [50, 100, 500]], np.float32)
    grey = slice_uint8(plane, (0.0, 100.0))
    assert grey.tolist() == [[0, 0, 3], [128, 255, 255]]
    assert grey.dtype == np.uint8
    assert grey.flags.c_contiguous


def test_slices_do_not_depend_on_the_scale_and_offset_of_the_intensities():
    rng = np.random.default_rng(0)
    volume = rng.gamma(2.0, 100.0, (8, 9, 10)).astype(np.float32)
    other = volume * 4 + 1024
    first, second = (slice_uint8(v[3], intensity_window(v)).astype(int) for v in (volume, other))
    assert np.abs(first - second).max() <= 1
