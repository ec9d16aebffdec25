from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.training.planes import Plane, random_shapes
from msksam_cli.training.questions import jittered_box, sample_questions


def _plane(labels, thin=(), weights=None):
    weights = weights or {int(label): 1.0 for label in np.unique(labels) if label}
    return Plane(labels[None].astype(np.uint8), 1.0, frozenset(), frozenset(thin), weights)


def _arc():
    y, x = np.mgrid[0:96, 0:96]
    radius = np.hypot(y - 60, x - 48)
    return ((radius > 38) & (radius < 43) & (y < 60)).astype(np.uint8)


def _area(box):
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def test_as_many_questions_as_asked_for_each_about_one_piece_of_one_tissue():
    for seed in range(10):
        plane = random_shapes(64, np.random.default_rng(seed))
        questions = sample_questions(plane, 5, np.random.default_rng(seed))
        assert len(questions) == 5
        for question in questions:
            assert question.mask.sum() >= 12
            assert np.mean(plane.truth[question.mask] == question.label) > 0.8


def test_streaks_and_specks_belong_to_the_tissue_they_lie_in_and_a_cavity_does_not():
    labels = np.zeros((80, 80), np.uint8)
    labels[10:70, 10:70] = 1
    labels[20:60, 30:32] = 2
    labels[64, 12:68:7] = 2
    labels[25:55, 36:66] = 3
    (question,) = sample_questions(_plane(labels, weights={1: 1.0}), 1, np.random.default_rng(0))
    assert question.mask[20:60, 30:32].all()
    assert question.mask[64, 10:70].all()
    assert not question.mask[28:52, 39:63].any()
    assert not question.mask[:9].any()


def test_points_called_inside_lie_in_the_mask_and_the_others_do_not():
    for seed in range(25):
        plane = random_shapes(64, np.random.default_rng(seed))
        for question in sample_questions(plane, 4, np.random.default_rng(seed)):
            x, y = question.points_xy.astype(int).T
            assert question.mask[y, x].tolist() == (question.point_labels == 1).tolist()
            assert question.point_labels[0] == 1
            assert question.points_xy.shape == (3, 2)


def test_a_box_holds_most_of_its_mask_and_is_not_much_larger():
    shares, sizes = [], []
    for seed in range(40):
        plane = random_shapes(96, np.random.default_rng(seed))
        for question in sample_questions(plane, 3, np.random.default_rng(seed)):
            x0, y0, x1, y1 = question.box_xyxy
            y, x = np.nonzero(question.mask)
            covered = (x >= x0 - 0.5) & (x <= x1 + 0.5) & (y >= y0 - 0.5) & (y <= y1 + 0.5)
            shares.append(np.mean(covered))
            rows, columns = np.ptp(y) + 1, np.ptp(x) + 1
            sizes.append(_area(question.box_xyxy) / (rows * columns))
            assert 0 <= x0 <= x1 <= 95
            assert 0 <= y0 <= y1 <= 95
    assert np.mean(shares) > 0.9
    assert min(shares) > 0.6
    assert 1.0 < np.median(sizes) < 1.5


def test_boxes_are_missed_inwards_and_outwards_and_too_large_more_often():
    mask = np.zeros((256, 256), bool)
    mask[60:160, 80:180] = True
    rng = np.random.default_rng(0)
    outward = np.array([(jittered_box(mask, rng) - (80, 60, 179, 159)) * (-1, -1, 1, 1) for _ in range(400)])
    assert -7 < outward.min() < -5.5
    assert 10 < outward.max() < 12
    assert 0 < np.mean(outward) < 2
    assert 0.3 < np.mean(outward < 0) < 0.5


@pytest.mark.parametrize("seed", range(8))
def test_the_box_of_a_single_pixel_is_in_order_and_near_it(seed):
    mask = np.zeros((20, 20), bool)
    mask[19, 0] = True
    x0, y0, x1, y1 = jittered_box(mask, np.random.default_rng(seed))
    assert 0 <= x0 <= x1 <= 2
    assert 17 <= y0 <= y1 <= 19


def test_thin_tissues_are_mostly_asked_for_in_tiles_and_others_never():
    whole = _arc().sum()
    rng = np.random.default_rng(1)
    tiled = [question.mask.sum() < whole for question in sample_questions(_plane(_arc(), thin=[1]), 60, rng)]
    assert 0.5 < np.mean(tiled) < 0.95
    assert all(question.mask.sum() == whole for question in sample_questions(_plane(_arc()), 20, rng))


def test_a_plane_with_nothing_large_enough_gives_no_question():
    labels = np.zeros((32, 32), np.uint8)
    assert sample_questions(_plane(labels, weights={1: 1.0}), 3, np.random.default_rng(0)) == []
    labels[3:6, 3:6] = 1
    assert sample_questions(_plane(labels), 3, np.random.default_rng(0)) == []
    labels[10:20, 10:20] = 2
    questions = sample_questions(_plane(labels), 3, np.random.default_rng(0))
    assert [question.label for question in questions] == [2, 2, 2]


def test_tissues_of_no_weight_are_never_asked_for_and_heavy_ones_more_often():
    labels = np.zeros((60, 60), np.uint8)
    labels[:20], labels[20:40], labels[40:] = 1, 2, 3
    plane = _plane(labels, weights={1: 0.0, 2: 1.0, 3: 4.0})
    counts = np.bincount([q.label for q in sample_questions(plane, 200, np.random.default_rng(0))], minlength=4)
    assert counts[1] == 0
    assert 2.5 < counts[3] / counts[2] < 6.5


def test_a_mask_that_fills_the_plane_has_only_inner_points():
    questions = sample_questions(_plane(np.ones((24, 24), np.uint8)), 6, np.random.default_rng(0))
    assert all((question.point_labels == 1).all() for question in questions)
