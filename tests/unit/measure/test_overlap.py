import numpy as np
import pytest

from msksam_cli.core.boxed import bounding_box
from msksam_cli.measure.overlap import dice, iou, overlaps, union_box


def masks():
    a, b = np.zeros((4, 5, 6), dtype=bool), np.zeros((4, 5, 6), dtype=bool)
    a[0, 0, :4] = True
    b[0, 0, 2:5] = True
    return a, b


def test_dice_and_iou_of_4_and_3_voxels_that_share_2():
    a, b = masks()
    assert dice(a, b) == 4 / 7
    assert iou(a, b) == 2 / 5


def test_overlap_is_0_when_one_mask_is_empty_and_unknown_when_both_are():
    a, _ = masks()
    nothing = np.zeros_like(a)
    assert (dice(a, nothing), iou(a, nothing)) == (0.0, 0.0)
    assert (dice(nothing, a), iou(nothing, a)) == (0.0, 0.0)
    assert (dice(nothing, nothing), iou(nothing, nothing)) == (None, None)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_counting_all_labels_at_once_equals_counting_each_mask(order, dtype):
    generator = np.random.default_rng(3)
    a, b = (np.asarray(generator.integers(0, 5, (7, 5, 3)), dtype=dtype, order=order) for _ in range(2))
    b[b == 2] = 9 if dtype == np.uint8 else 4000
    counted = overlaps(a, b)
    assert list(counted) == sorted((set(np.unique(a)) | set(np.unique(b))) - {0})
    for label, counts in counted.items():
        assert counts.dice == dice(a == label, b == label)
        assert counts.iou == iou(a == label, b == label)


def test_labels_that_occur_on_one_side_only_are_counted():
    a, b = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint16)
    a[0, 0, 0], b[1, 1, 1] = 3, 700
    assert {label: (c.voxels_a, c.voxels_b) for label, c in overlaps(a, b).items()} == {3: (1, 0), 700: (0, 1)}
    assert overlaps(a * 0, b * 0) == {}


def test_shapes_must_agree():
    a, _ = masks()
    for compare in (dice, iou):
        with pytest.raises(ValueError, match="cannot be compared"):
            compare(a, a[1:])
    with pytest.raises(ValueError, match="cannot be compared"):
        overlaps(a.view(np.uint8), a[1:].view(np.uint8))


def test_a_bounding_box_is_the_smallest_that_holds_the_mask():
    mask = np.zeros((6, 7, 8), dtype=bool)
    assert bounding_box(mask) is None
    mask[2, 3, 4] = mask[4, 1, 4] = mask[3, 3, 7] = True
    assert bounding_box(mask) == (slice(2, 5), slice(1, 4), slice(4, 8))


def test_the_union_with_nothing_is_the_other_box():
    box = (slice(1, 2), slice(3, 4), slice(5, 6))
    assert union_box(None, None) is None
    assert union_box(box, None) == union_box(None, box) == box
    assert union_box(box, (slice(0, 1), slice(3, 9), slice(5, 6))) == (slice(0, 2), slice(3, 9), slice(5, 6))
