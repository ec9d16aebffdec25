"""Slices in order, and the numbers that refuse a stack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FrameHeader
from msksam_cli.io.dicom_geometry import check_frame, stack_slices

FRAME = FrameHeader(
    frame=0,
    study="s",
    series="s",
    instance="i",
    short_series="0",
    series_number=1,
    rows=12,
    columns=9,
    orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    position_mm=(0.0, 0.0, 0.0),
    spacing_mm=(0.5, 0.7),
    echo_time_ms=30.0,
    image_type="m",
    repeats=(),
)


def sagittal(*x_mm):
    return [replace(FRAME, position_mm=(x, 5.0, 8.0)) for x in x_mm]


def test_the_affine_is_built_from_positions_in_ras():
    stack = stack_slices(sagittal(9, 3, 6, 0))
    assert stack.order == (0, 2, 1, 3)  # row × column points to -x
    assert stack.grid.shape == (9, 12, 4)
    expected = [[0, 0, 3, -9], [-0.7, 0, 0, -5], [0, -0.5, 0, 8], [0, 0, 0, 1]]
    np.testing.assert_allclose(stack.grid.affine, expected, atol=1e-12)
    np.testing.assert_allclose(stack.positions_mm[:, 0], [9, 6, 3, 0])


@pytest.mark.parametrize(
    ("x_mm", "message"),
    [
        ((0, 3, 6, 12), r"gap of 6\.00 mm between slices 1 and 2, elsewhere 3\.00 mm"),
        ((0, 3, 6, 9.2), r"spacing of 3\.20 mm between slices 1 and 2, elsewhere 3\.00 mm"),
        ((0, 3, 3, 6), r"1 of 4 slices repeat another's position"),
        ((2, 2, 2, 2), r"3 of 4 slices repeat another's position"),
        ((0, 3, 9, 12, 18, 21, 27), r"(gap|spacing) of"),
        (tuple(np.cumsum([0] + [3] * 15 + [3.14] * 15)), r"lies 1\.0\d mm off a regular stack of 3\.07 mm"),
    ],
)
def test_irregular_positions_are_refused_with_their_numbers(x_mm, message):
    with pytest.raises(SeriesError, match=message):
        stack_slices(sagittal(*x_mm))


@pytest.mark.parametrize("x_mm", [(0, 3.01, 6, 9.02), (0, 0.5, 1.009, 1.5), (0, 3.14, 6.14, 9.14, 12.14)])
def test_small_errors_of_position_are_accepted(x_mm):
    stack = stack_slices(sagittal(*x_mm))
    assert stack.grid.spacing_mm[2] == pytest.approx((max(x_mm) - min(x_mm)) / (len(x_mm) - 1))


def test_a_tilted_stack_is_refused_from_half_a_degree_on():
    for degrees, accepted in ((0.4, True), (0.7, False), (15, False)):
        slope = np.tan(np.radians(degrees))
        frames = [replace(FRAME, position_mm=(x, slope * x, 8.0)) for x in (0.0, 3.0, 6.0, 9.0)]
        if accepted:
            stack_slices(frames)
        else:
            with pytest.raises(SeriesError, match="stack is sheared"):
                stack_slices(frames)


def test_orientations_are_averaged():
    frames = sagittal(0, 3, 6, 9)
    frames[1] = replace(frames[1], orientation=(0.004, 1.0, 0.0, 0.0, 0.0, -1.0))
    assert stack_slices(frames).orientation[0] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orientation": None}, "orientation is missing"),
        ({"orientation": (2.0, 0, 0, 0, 1, 0)}, "perpendicular unit"),
        ({"position_mm": None}, "position is missing"),
        ({"spacing_mm": None}, "spacing is missing"),
        ({"spacing_mm": (0.5, 0.0)}, "pixel spacing is 0.5 × 0 mm"),
    ],
)
def test_each_defect_of_one_image_is_named(change, message):
    assert message in check_frame(replace(FRAME, **change))
    assert check_frame(FRAME) == ""
