from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.atlas.evidence import (
    Classes,
    class_means,
    extended,
    information,
    local_paint,
    template_classes,
    tissue_classes,
)
from msksam_cli.core.geometry import Grid

GRID = Grid((8, 9, 10), np.diag([1.0, 2.0, 3.0, 1.0]))


def _halves() -> Classes:
    left = np.zeros(GRID.shape, dtype=np.float32)
    left[:4] = 1
    return tissue_classes([left], np.ones(GRID.shape, dtype=bool), GRID)


def _score(classes: Classes, image: np.ndarray) -> float:
    counts = classes.weights.sum(axis=(1, 2, 3)).astype(float)
    sums = (classes.weights * image).sum(axis=(1, 2, 3)).astype(float)
    return float(information(counts, sums, np.asarray((image**2).sum()), float(classes.support.sum())))


def test_information_is_half_the_log_of_variance_over_what_is_left() -> None:
    rng = np.random.default_rng(0)
    image = _halves().weights[0] * 0.8 + rng.normal(0, 0.1, GRID.shape)
    within = np.mean([image[:4].var(), image[4:].var()])
    expected = 0.5 * np.log((image.var() + 1e-3) / (within + 1e-3))
    assert _score(_halves(), image) == pytest.approx(expected, rel=1e-3)


def test_inverting_the_contrast_changes_nothing() -> None:
    image = _halves().weights[0] * 0.8 + np.random.default_rng(1).normal(0, 0.1, GRID.shape)
    assert _score(_halves(), 1 - image) == pytest.approx(_score(_halves(), image), rel=1e-4)


def test_classes_that_say_nothing_score_about_zero() -> None:
    image = np.random.default_rng(2).uniform(size=GRID.shape)
    assert _score(_halves(), image) < 0.01


def test_soft_classes_sum_to_one_inside_the_support_and_to_nothing_outside() -> None:
    support = np.ones(GRID.shape, dtype=bool)
    support[:, :2] = False
    template = np.random.default_rng(3).uniform(size=GRID.shape).astype(np.float32)
    for classes in (
        template_classes("t", template, support, GRID),
        tissue_classes([template * 0.4, template * 0.9], support, GRID),
    ):
        np.testing.assert_allclose(classes.support, support, atol=1e-5)


def test_a_constant_template_is_one_class() -> None:
    classes = template_classes("t", np.ones(GRID.shape, np.float32), np.ones(GRID.shape, bool), GRID)
    assert classes.weights.shape[0] == 1


def test_a_class_that_is_nowhere_gets_the_overall_mean() -> None:
    weights = np.stack([np.ones(GRID.shape), np.zeros(GRID.shape)]).astype(np.float32)
    image = np.full(GRID.shape, 0.3, dtype=np.float32)
    np.testing.assert_allclose(class_means(weights, image, np.ones_like(image)), [0.3, 0.3], rtol=1e-5)


def test_paint_follows_a_bias_field_that_one_mean_per_class_cannot() -> None:
    shape, spacing = (60, 40, 30), (2.0, 3.0, 4.0)
    stripes = (np.arange(40) // 5 % 2).astype(np.float32)[None, :, None] * np.ones(shape, dtype=np.float32)
    bias = np.linspace(0.5, 1.5, 60, dtype=np.float32)[:, None, None]
    image = (0.3 + 0.5 * stripes) * bias
    weights = np.stack([stripes, 1 - stripes])
    everywhere = np.ones_like(image)
    flat = np.tensordot(class_means(weights, image, everywhere), weights, axes=1)
    painted = local_paint(weights, image, everywhere, spacing)
    assert np.abs(painted - image).mean() < 0.4 * np.abs(flat - image).mean()


def test_extending_continues_the_nearest_class_and_keeps_the_rest_in_place() -> None:
    classes = _halves()
    wide = extended(classes, 4.0)
    assert wide.grid.shape == (16, 13, 12)
    np.testing.assert_allclose(wide.support, 1.0, atol=1e-5)
    np.testing.assert_allclose(wide.weights[:, 4:-4, 2:-2, 1:-1], classes.weights, atol=1e-6)
    assert wide.weights[0, 0].min() > 0.99
    np.testing.assert_allclose(wide.grid.to_world_mm([4, 2, 1]), GRID.to_world_mm([0, 0, 0]))
