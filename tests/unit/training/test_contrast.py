from __future__ import annotations

import numpy as np

from msksam_cli.training.contrast import render_plane
from msksam_cli.training.planes import Plane


def _plane(depth=1, side=48):
    labels = np.full((side, side), 1, np.uint8)
    labels[:, side // 2 :] = 2
    labels[: side // 4] = 0
    return Plane(np.stack([labels] * depth), 1.0, frozenset(), frozenset(), {1: 1.0, 2: 1.0})


def test_images_are_8_bit_of_the_planes_side_and_the_same_for_the_same_state():
    for seed in range(10):
        image = render_plane(_plane(depth=1 + 2 * (seed % 2)), np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert image.shape == (48, 48)
        assert image.max() - image.min() > 30
        np.testing.assert_array_equal(
            image, render_plane(_plane(depth=1 + 2 * (seed % 2)), np.random.default_rng(seed))
        )


def test_given_levels_decide_which_tissue_is_brighter():
    brighter = 0
    for seed in range(20):
        image = render_plane(_plane(), np.random.default_rng(seed), {1: 0.15, 2: 0.9}).astype(float)
        brighter += image[30:40, 30:40].mean() > image[30:40, 8:18].mean()
    assert brighter == 20


def test_without_levels_either_tissue_may_be_brighter():
    signs = [
        render_plane(_plane(), np.random.default_rng(seed))[30:40, 30:40].mean()
        > render_plane(_plane(), np.random.default_rng(seed))[30:40, 8:18].mean()
        for seed in range(20)
    ]
    assert 3 < sum(signs) < 17


def test_an_odd_side_and_an_empty_plane_are_drawn_too():
    empty = Plane(np.zeros((1, 35, 35), np.uint8), 2.5, frozenset({1}), frozenset(), {})
    for seed in range(8):
        assert render_plane(empty, np.random.default_rng(seed)).shape == (35, 35)
