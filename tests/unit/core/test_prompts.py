from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.prompts import Box, Points, Prompt


def test_the_box_of_a_mask_names_its_first_and_last_column_and_row():
    mask = np.zeros((6, 9), bool)
    mask[2, 3:8] = mask[4, 5] = True
    assert Box.of_mask(mask).xyxy == (3, 2, 7, 4)
    single = np.zeros((6, 9), bool)
    single[5, 3] = True
    assert Box.of_mask(single).xyxy == (3, 5, 3, 5)
    with pytest.raises(ValueError, match="empty mask"):
        Box.of_mask(np.zeros((4, 4), bool))


def test_padding_grows_x_and_y_by_their_own_amounts_and_stops_at_the_slice():
    assert Box((10, 10, 20, 12)).padded(2, 1.5, (100, 50)).xyxy == (8, 8.5, 22, 13.5)
    assert Box((1, 2, 48, 97)).padded(5, 5, (100, 50)).xyxy == (0, 0, 49, 99)


@pytest.mark.parametrize("xyxy", [(5, 0, 4, 1), (0, 5, 1, 4), (0, 0, np.nan, 1), (0, 0, np.inf, 1)], ids=str)
def test_corners_out_of_order_or_not_finite_are_a_mistake(xyxy):
    with pytest.raises(ValueError, match="out of order"):
        Box(xyxy)


def test_points_come_with_one_label_each_and_a_prompt_asks_something():
    with pytest.raises(ValueError, match="2 points with 1 labels"):
        Points(((1, 1), (2, 2)), (True,))
    with pytest.raises(ValueError, match="0 points"):
        Points((), ())
    with pytest.raises(ValueError, match="box or points"):
        Prompt(1, 0)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(1, 0, Box((0, 0, 20, 5))),
        Prompt(1, 0, Box((-1, 0, 5, 5))),
        Prompt(1, 0, None, Points(((3.0, 10.0),), (True,))),
        Prompt(1, 0, Box((0, 0, 1, 1)), Points(((float("nan"), 1.0),), (True,))),
    ],
    ids=str,
)
def test_prompts_outside_the_slice_are_noticed_in_x_and_in_y(prompt):
    with pytest.raises(ValueError, match="outside a slice of 10 rows and 20 columns"):
        prompt.check_inside((10, 20))


def test_prompts_up_to_the_outer_edge_of_the_last_pixel_are_inside():
    Prompt(1, 0, Box((-0.5, 0, 19.5, 9.5)), Points(((19.0, 9.0),), (False,))).check_inside((10, 20))
