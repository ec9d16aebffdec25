from __future__ import annotations

import numpy as np
import pytest
import torch

from msksam_cli.training.contrast import degrade, render, sketch_images, smooth_fields
from msksam_cli.training.planes import Plane


def render_plane(plane, rng, levels=None):
    return render(sketch_images([plane], rng, [levels]))[0].numpy()


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
        brighter += image[14:46, 26:30].mean() > image[14:46, 18:22].mean()
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


def test_planes_of_a_batch_are_drawn_each_with_its_own_levels_and_number_of_slabs():
    planes = [_plane(1), _plane(3), _plane(1)]
    levels = [{1: 0.1, 2: 0.9}, {1: 0.9, 2: 0.1}, {1: 0.1, 2: 0.9}]
    images = render(sketch_images(planes, np.random.default_rng(3), levels)).float()
    assert images.shape == (3, 48, 48)
    left, right = images[:, 30:40, 8:18].mean((1, 2)), images[:, 30:40, 30:40].mean((1, 2))
    assert (right > left).tolist() == [True, False, True]


def test_a_shell_is_a_dark_rim_inside_its_bone_as_wide_as_millimetres_say():
    """A square bone at 1 mm a pixel: the rim reaches at most 2.2 mm inwards, none outwards."""
    labels = np.ones((64, 64), np.uint8)
    labels[16:48, 16:48] = 2
    bone = Plane(labels[None], 1.0, frozenset({2}), frozenset(), {})
    darker = 0
    for seed in range(12):
        image = render_plane(bone, np.random.default_rng(seed), {1: 1.0, 2: 1.0}).astype(float)
        rim, middle, outside = image[16, 20:44].mean(), image[24:40, 24:40].mean(), image[10, 20:44].mean()
        darker += rim < 0.8 * min(middle, outside)
    assert darker >= 6


def test_parts_of_a_bone_are_drawn_without_shells_of_their_own():
    labels = np.ones((64, 64), np.uint8)
    labels[8:56, 8:56] = 2
    labels[24:40, 24:40] = 200
    levels = {1: 1.0, 2: 1.0, 200: 1.0}
    plane = Plane(labels[None], 1.0, frozenset({2}), frozenset(), {}, {200: 2})
    rims = []
    for seed in range(12):
        image = render_plane(plane, np.random.default_rng(seed), levels).astype(float)
        rims.append(
            (image[24, 26:38].mean() / image[18, 26:38].mean(), image[8, 12:52].mean() / image[13, 12:52].mean())
        )
    inner, outer = np.median(rims, axis=0)
    assert inner > 0.85
    assert outer < 0.7


def test_scans_stand_where_they_were_shown_among_planes_and_alone():
    scan = np.zeros((48, 48), np.float32)
    scan[:, :24] = 0.9
    mixed = render(sketch_images([_plane(3), scan, _plane()], np.random.default_rng(5), [{1: 0.1, 2: 0.9}] * 3)).float()
    left, right = mixed[:, 30:40, 8:18].mean((1, 2)), mixed[:, 30:40, 30:40].mean((1, 2))
    assert (right > left).tolist() == [True, False, True]
    alone = render(sketch_images([scan, scan], np.random.default_rng(5))).float()
    assert (alone[:, :, :20].mean((1, 2)) > alone[:, :, 28:].mean((1, 2)) + 60).all()


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.6])
def test_fields_have_no_mean_unit_deviation_and_are_smoother_the_larger_their_scale(scale):
    noise = torch.Generator().manual_seed(0)
    fields = smooth_fields(6, 64, np.full(6, scale), noise)
    assert fields.shape == (6, 64, 64)
    assert fields.mean((1, 2)).abs().max() < 1e-4
    assert (fields.std((1, 2)) - 1).abs().max() < 1e-2
    roughness = (fields.diff(dim=1).abs().mean() + fields.diff(dim=2).abs().mean()) / 2
    assert 0.2 / (scale * 64) < roughness < 2.5 / (scale * 64)


def test_faults_keep_what_is_bright_bright():
    images = torch.zeros(10, 40, 40)
    images[:, 10:30, 10:30] = 0.8
    worse = degrade(images, np.random.default_rng(1)).float()
    assert worse.dtype == torch.float32
    assert (worse[:, 14:26, 14:26].mean((1, 2)) > worse[:, :6].mean((1, 2)) + 40).all()
