from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.fusion import NOTHING, FusionRules, clean_labels, fuse_slice, join_answers

RULES = FusionRules()
SHAPE = (10, 14)
GRID = Grid((12, 10, 6), np.diag([0.5, 0.7, 3.0, 1.0]))


def plane(value, shape=SHAPE):
    return np.full(shape, value, np.float32)


def boxed(xyxy):
    return Prompt(1, 0, Box(xyxy))


def test_an_answer_counts_inside_its_box_and_one_pixel_beyond_and_nowhere_else():
    joined = join_answers([(boxed((3, 5, 6, 7)), plane(2.0))], SHAPE, RULES)
    inside = np.zeros(SHAPE, bool)
    inside[4:9, 2:8] = True
    assert (joined[inside] == 2).all()
    assert (joined[~inside] == NOTHING).all()


def test_a_box_with_fractions_and_at_the_edge_keeps_whole_pixels_of_the_slice():
    joined = join_answers([(boxed((9.4, 0.0, 13.0, 1.6)), plane(1.0))], SHAPE, RULES)
    asked = np.argwhere(joined > NOTHING)
    assert asked.min(axis=0).tolist() == [0, 8]
    assert asked.max(axis=0).tolist() == [3, 13]


def test_of_several_answers_the_most_certain_inside_wins_and_points_alone_reach_everywhere():
    everywhere = Prompt(1, 0, None, Points(((2.0, 2.0),), (True,)))
    joined = join_answers([(everywhere, plane(-1.0)), (boxed((0, 0, 3, 3)), plane(0.5))], SHAPE, RULES)
    assert joined[0, 0] == 0.5
    assert joined[9, 13] == -1.0


def test_certainty_is_limited_so_that_the_prior_is_never_drowned():
    joined = join_answers([(boxed((0, 0, 13, 9)), plane(1000.0))], SHAPE, RULES)
    assert joined.max() == RULES.logit_limit
    assert (join_answers([(boxed((0, 0, 13, 9)), plane(-1000.0))], SHAPE, RULES) == -RULES.logit_limit).all()


def test_no_answers_give_no_labels():
    assert (join_answers([], SHAPE, RULES) == NOTHING).all()
    assert not fuse_slice({}, None, SHAPE, RULES).any()
    assert not fuse_slice({1: plane(NOTHING)}, {1: plane(1.0)}, SHAPE, RULES).any()


def test_without_priors_the_largest_logit_above_zero_wins():
    first, second = plane(1.0), plane(-1.0)
    second[:, 7:] = 2.0
    first[0] = second[0] = -0.5
    labels = fuse_slice({3: first, 700: second}, None, SHAPE, RULES)
    assert labels.dtype == np.uint16
    assert (labels[1:, :7] == 3).all()
    assert (labels[1:, 7:] == 700).all()
    assert not labels[0].any()


def test_prior_and_logits_add_up_as_independent_witnesses():
    probability = plane(0.0)
    probability[:, 0], probability[:, 1], probability[:, 2], probability[:, 3] = 0.5, 0.88, 0.12, 0.005
    labels = fuse_slice({1: plane(1.0)}, {1: probability}, SHAPE, RULES)
    assert labels[0, :5].tolist() == [1, 1, 0, 0, 0]
    weak = fuse_slice({1: plane(-1.0)}, {1: probability}, SHAPE, RULES)
    assert weak[0, :4].tolist() == [0, 1, 0, 0]
    doubled = fuse_slice({1: plane(-3.0)}, {1: probability}, SHAPE, FusionRules(prior_weight=2.0))
    assert doubled[0, 1] == 1


def test_a_prior_of_one_or_nought_stays_finite_and_cannot_speak_alone():
    labels = fuse_slice({1: plane(-5.0)}, {1: plane(1.0)}, SHAPE, RULES)
    assert not labels.any()
    certain = fuse_slice({1: plane(6.0)}, {1: plane(0.0)}, SHAPE, RULES)
    assert not certain.any()


def test_nothing_is_labelled_where_the_prior_rules_a_tissue_out_even_at_weight_nought():
    probability = plane(0.0)
    probability[4] = 0.02
    labels = fuse_slice({1: plane(6.0)}, {1: probability}, SHAPE, FusionRules(prior_weight=0.0))
    assert labels[4].all()
    assert not np.delete(labels, 4, axis=0).any()


def test_fusing_does_not_change_what_it_is_given():
    logits, probability = plane(1.0), plane(0.001)
    fuse_slice({1: logits}, {1: probability}, SHAPE, RULES)
    assert (logits == 1).all()
    assert (probability == np.float32(0.001)).all()


def test_small_pieces_go_and_large_ones_stay():
    values = np.zeros(GRID.shape, np.uint16)
    values[1:6, 1:6, 1:5] = 4
    values[8:11, 1:4, 1] = 4
    values[9, 8, 5] = 4
    cleaned = clean_labels(values, GRID, RULES)
    assert cleaned[9, 8, 5] == 0
    assert np.count_nonzero(cleaned) == 109
    assert np.count_nonzero(values) == 110


def test_the_largest_piece_of_each_tissue_stays_however_small():
    values = np.zeros(GRID.shape, np.uint16)
    values[0:5, 0:5, 0:5] = 1
    values[11, 9, 5] = 2
    values[7, 7, 2], values[8, 8, 3] = 300, 300
    np.testing.assert_array_equal(clean_labels(values, GRID, RULES), values)


def test_enclosed_holes_up_to_50_mm3_are_filled_and_larger_or_open_ones_are_not():
    values = np.zeros((14, 12, 9), np.uint16)
    grid = Grid(values.shape, np.diag([1.0, 1.5, 3.0, 1.0]))
    values[1:13, 1:11, 1:8] = 6
    values[3, 3, 3] = 0
    values[6:9, 5:8, 3:6] = 0
    values[0:4, 9, 4] = 0
    cleaned = clean_labels(values, grid, RULES)
    assert cleaned[3, 3, 3] == 6
    assert not cleaned[6:9, 5:8, 3:6].any()
    assert not cleaned[0:4, 9, 4].any()
    assert 27 * grid.voxel_volume_mm3 > 50 > grid.voxel_volume_mm3


def test_a_hole_that_another_tissue_fills_stays_that_tissues():
    values = np.zeros((9, 9, 9), np.uint16)
    values[1:8, 1:8, 1:8] = 1
    values[4, 4, 4] = 2
    values[4, 4, 5] = 0
    cleaned = clean_labels(values, Grid(values.shape, np.eye(4)), RULES)
    assert cleaned[4, 4, 4] == 2
    assert cleaned[4, 4, 5] == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 4)])
def test_empty_and_full_volumes_come_back_as_they_were(shape):
    grid = Grid(shape, np.eye(4))
    for value in (0, 3):
        values = np.full(shape, value, np.uint16)
        np.testing.assert_array_equal(clean_labels(values, grid, RULES), values)
