from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msksam_cli.sam.frame import Frame
from msksam_cli.sam.vision_shim import import_modeling

SHAPES = st.tuples(st.integers(1, 700), st.integers(1, 700))
SIDES = st.sampled_from([128, 256, 384, 1024])


def judge(side_px: int):
    import_modeling()
    from segment_anything.utils.transforms import ResizeLongestSide

    return ResizeLongestSide(side_px)


@given(SHAPES, SIDES)
def test_sizes_and_coordinates_equal_those_of_segment_anything(shape: tuple[int, int], side_px: int) -> None:
    rows, columns = shape
    frame, theirs = Frame(shape, side_px), judge(side_px)
    expected = theirs.get_preprocess_shape(rows, columns, side_px)
    assert frame.resized_shape == (max(expected[0], 1), max(expected[1], 1))
    if min(expected) > 0:
        corners = np.array([[0.0, 0.0], [columns - 1.0, rows - 1.0], [columns / 3, rows / 7]])
        assert (frame.to_model_xy(corners) == theirs.apply_coords(corners, shape)).all()
        boxes = np.array([[0.0, 1.0, columns - 1.0, rows - 1.0]])
        assert (frame.to_model_xyxy(boxes) == theirs.apply_boxes(boxes, shape)).all()


@given(SHAPES, SIDES, st.floats(0, 1), st.floats(0, 1))
def test_from_slice_to_model_and_back_is_where_it_started(
    shape: tuple[int, int], side_px: int, across: float, down: float
) -> None:
    frame = Frame(shape, side_px)
    xy = np.array([across * (shape[1] - 1), down * (shape[0] - 1)])
    np.testing.assert_allclose(frame.to_slice_xy(frame.to_model_xy(xy)), xy, atol=1e-9)


@pytest.mark.parametrize("shape", [(384, 384), (257, 320), (320, 257), (31, 90), (900, 1100), (512, 77)], ids=str)
@pytest.mark.parametrize("side_px", [256, 1024])
def test_resized_grey_levels_equal_every_channel_of_segment_anything(shape: tuple[int, int], side_px: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    theirs = judge(side_px).apply_image(np.repeat(pixels[:, :, None], 3, axis=2))
    ours = Frame(shape, side_px).resize(pixels)
    assert (theirs == ours[:, :, None]).all()


def test_pixels_of_another_slice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 pixels of shape \(3, 4\), got uint8 \(4, 3\)"):
        Frame((3, 4), 256).resize(np.zeros((4, 3), np.uint8))
