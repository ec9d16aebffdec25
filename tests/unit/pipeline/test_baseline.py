from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.pipeline.baseline import ellipse_labels, ellipse_logits

GRID = Grid((40, 32, 3), np.diag([0.5, 0.7, 3.0, 1.0]))
TISSUES = default_table([1, 2])


def test_an_ellipse_fills_its_box_x_along_columns_and_has_the_area_of_one():
    inside = ellipse_logits(Box((4, 10, 27, 21)), (32, 40)) > 0
    rows, columns = np.nonzero(inside)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 21, 4, 27)
    assert inside.sum() == pytest.approx(np.pi / 4 * 12 * 24, rel=0.03)


def test_a_drawn_ellipse_is_found_from_its_own_box_on_every_slice():
    values = np.zeros(GRID.shape, np.uint8)
    values[..., 1] = ellipse_logits(Box((5, 6, 20, 33)), GRID.shape[:2]) > 0
    truth = LabelMap(values, GRID, TISSUES)
    found = ellipse_labels(prompts_from_labels(truth, TISSUES, 2, "box", jitter=0.0), GRID, TISSUES)
    assert np.array_equal(found.values, values)


def test_where_two_boxes_meet_the_nearer_middle_wins():
    prompts = [Prompt(1, 0, Box((2, 2, 17, 17))), Prompt(2, 0, Box((12, 2, 27, 17)))]
    values = ellipse_labels(prompts, GRID, TISSUES).values[..., 0]
    assert (values[10, 13], values[10, 16], values[30, 20]) == (1, 2, 0)


def test_points_alone_have_no_ellipse():
    from msksam_cli.core.prompts import Points

    assert not ellipse_labels([Prompt(1, 0, None, Points(((3, 3),), (True,)))], GRID, TISSUES).values.any()
