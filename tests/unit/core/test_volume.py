from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError

GRID = Grid((4, 3, 2), np.diag([0.5, 0.7, 3.0, 1.0]))


def test_intensities_become_single_precision_and_read_only_without_locking_the_callers_array():
    source = np.arange(24, dtype=np.float64).reshape(GRID.shape)
    volume = Volume(source, GRID)
    assert volume.intensities.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        volume.intensities[0, 0, 0] = 1
    single = source.astype(np.float32)
    Volume(single, GRID)
    single[0, 0, 0] = 5


def test_voxels_of_another_shape_than_the_grid_are_a_mistake():
    with pytest.raises(ValueError, match=r"shape \(3, 4, 2\) on a grid of shape \(4, 3, 2\)"):
        Volume(np.zeros((3, 4, 2), np.float32), GRID)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\) on a grid of shape \(4, 3, 2\)"):
        LabelMap(np.zeros((2, 3, 4), np.uint8), GRID, default_table([1]))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint32, bool])
def test_labels_are_unsigned_integers_of_8_or_16_bits(dtype):
    with pytest.raises(ValueError, match="uint8 or uint16"):
        LabelMap(np.zeros(GRID.shape, dtype), GRID, default_table([1]))


def test_a_value_the_table_does_not_know_is_refused_by_its_number():
    values = np.zeros(GRID.shape, np.uint16)
    values[1, 1, 1], values[0, 0, 0] = 300, 2
    with pytest.raises(InputError, match=r"values \[300\].*knows \[1, 2\]"):
        LabelMap(values, GRID, default_table([1, 2]))


def test_a_mask_holds_the_voxels_of_one_tissue_and_may_be_empty():
    values = np.zeros(GRID.shape, np.uint8)
    values[3, 2, 1] = 7
    labels = LabelMap(values, GRID, default_table([1, 7]))
    assert np.argwhere(labels.mask(7)).tolist() == [[3, 2, 1]]
    assert not labels.mask(1).any()
    assert labels.mask(1).dtype == bool


def test_every_tissue_with_voxels_has_a_box_that_holds_its_mask():
    values = np.zeros(GRID.shape, np.uint8)
    values[0:2, 1:3, 0], values[3, 2, 1] = 1, 7
    labels = LabelMap(values, GRID, default_table([1, 2, 7]))
    assert labels.boxes == {1: np.s_[0:2, 1:3, 0:1], 7: np.s_[3:4, 2:3, 1:2]}
    for index in labels.tissues.indices:
        np.testing.assert_array_equal(labels.boxed(index).whole(), labels.mask(index))
        np.testing.assert_array_equal(labels.boxed(index).voxels(), np.argwhere(labels.mask(index)))
