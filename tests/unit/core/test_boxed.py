from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from msksam_cli.core.boxed import Boxed, bounding_box, label_boxes, quantised


def test_a_boxed_array_is_the_whole_one_and_each_of_its_slices() -> None:
    rng = np.random.default_rng(3)
    values = np.zeros((9, 8, 7), dtype=np.float32)
    values[2:6, 3:5, 1:6] = rng.random((4, 2, 5))
    boxed = Boxed.of(values)
    assert boxed.part.shape == (4, 2, 5)
    np.testing.assert_array_equal(boxed.whole(), values)
    for axis in range(3):
        for index in range(values.shape[axis]):
            np.testing.assert_array_equal(boxed.plane(axis, index), np.take(values, index, axis=axis))
    np.testing.assert_array_equal(boxed.quantised().whole(), quantised(values))
    nothing = Boxed.of(np.zeros((3, 4, 5), dtype=np.uint8))
    assert not nothing.whole().any()
    assert nothing.plane(0, 2).shape == (4, 5)


def _scattered() -> np.ndarray:
    """Labels that fill the volume's corners, lie inside one another, or are one voxel."""
    values = np.zeros((9, 8, 7), dtype=np.uint16)
    values[0:3, 0:4, 0:2], values[6:9, 5:8, 4:7] = 3, 3
    values[3:6, 2:7, 1:6], values[4, 4, 2:4], values[8, 0, 6] = 7, 300, 255
    return values


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_box_of_each_label_is_that_of_its_mask_however_the_array_lies(order: Literal["C", "F"]) -> None:
    values = np.array(_scattered(), order=order)
    boxes = label_boxes(values)
    assert list(boxes) == [3, 7, 255, 300]
    assert boxes == {label: bounding_box(values == label) for label in boxes}
    turned = values[::-1, :, ::2]
    assert label_boxes(turned) == {label: bounding_box(turned == label) for label in boxes}
    assert label_boxes(np.zeros((3, 4, 5), np.uint8)) == {}


@pytest.mark.parametrize(
    "box", [np.s_[0:9, 0:8, 0:7], np.s_[4:9, 0:5, 3:4], np.s_[0:2, 0:2, 5:7], np.s_[3:3, 1:2, 0:7]]
)
def test_what_lies_in_another_box_is_cut_out_of_the_whole(box: tuple[slice, slice, slice]) -> None:
    mask = _scattered() == 7
    np.testing.assert_array_equal(Boxed.of(mask).within(box), mask[box])
    assert not Boxed.of(np.zeros((9, 8, 7), bool)).within(box).any()


def test_voxels_count_from_the_corner_of_the_whole() -> None:
    mask = _scattered() == 7
    np.testing.assert_array_equal(Boxed.of(mask).voxels(), np.argwhere(mask))
    assert Boxed.of(np.zeros((3, 4, 5), bool)).voxels().shape == (0, 3)
