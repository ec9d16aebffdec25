from __future__ import annotations

import numpy as np
from scipy import ndimage

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.evidence import Classes
from msksam_cli.atlas.local_contrast import explained_of_shifts, joint_fit, local_contrast
from msksam_cli.atlas.search import Pose, best_shifts
from msksam_cli.core.geometry import Grid

SHAPE, SPACING_MM = (24, 40, 56), 4.0
SHIFT = np.array([0, 3, -3])
STEEP, SLIGHT = 8, 15


def _grid(shape, first=(0, 0, 0)):
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = np.array(first) * SPACING_MM
    return Grid(shape, affine)


def _column(blur):
    """Bodies and discs, one over the other, a canal behind them, and what surrounds them; soft as a mean of people."""
    hard = np.zeros((4, *SHAPE), np.float32)
    for first in range(6, 50, 11):
        hard[0, 8:16, 14:24, first : first + 8] = 1
        hard[1, 8:16, 14:24, first + 8 : first + 11] = 1
    hard[2, 8:16, 24:29, 6:50] = 1
    hard[3] = 1 - hard[:3].sum(axis=0)
    weights = np.stack([ndimage.gaussian_filter(one, blur, mode="nearest") for one in hard])
    return Classes("tissues", (weights / weights.sum(axis=0)).astype(np.float32), _grid(SHAPE))


def _scanned(reach):
    """The column moved by `SHIFT` voxels, seen by a coil behind it that reaches so many voxels; noise everywhere."""
    image = np.roll(np.tensordot([0.8, 0.3, 0.9, 0.5], _column(0.01).weights, axes=1), SHIFT, axis=(0, 1, 2))
    coil = np.exp(-np.arange(SHAPE[1])[::-1] / reach)[:, None]
    image = image * coil + np.random.default_rng(0).normal(0, 0.005, SHAPE)
    return np.clip(image, 0, 1).astype(np.float32)


def _contrast(image):
    return local_contrast(image, (SPACING_MM,) * 3)


def test_a_coils_fall_off_is_gone_from_local_contrast():
    image = _scanned(SLIGHT)
    bodies = np.roll(_column(0.01).weights[0] > 0.5, SHIFT, axis=(0, 1, 2))
    front, back = bodies.copy(), bodies.copy()
    front[:, 22:], back[:, :22] = False, False
    contrast = _contrast(image)
    assert image[back].mean() > 1.3 * image[front].mean()
    assert abs(contrast[back].mean() - contrast[front].mean()) < 0.5 * contrast.std()


def test_nothing_is_no_contrast():
    image = np.zeros(SHAPE, np.float32)
    image[:, :8] = 0.5
    contrast = _contrast(image)
    assert not contrast[:, 14:].any()
    assert np.isfinite(contrast).all()


def test_the_column_is_found_under_a_coils_fall_off_where_grey_levels_mislead():
    image, grid, inside = _scanned(STEEP), _grid(SHAPE), np.ones(SHAPE, np.float32)
    near = np.ascontiguousarray(_column(1.0).weights[:, 4:20, 10:33])
    zone = Classes("tissues", near, _grid(near.shape[1:], (4, 10, 0)))

    def off_mm(volume, scores):
        pose = Pose(np.eye(4), False)
        (found,) = best_shifts(zone, pose, volume, inside, grid, how_many=1, apart_mm=15.0, scores=scores)
        return float(np.abs(found.atlas_to_volume_mm[:3, 3] - SHIFT * SPACING_MM).max())

    assert off_mm(_contrast(image), explained_of_shifts) <= SPACING_MM
    assert off_mm(image, None) > 2 * SPACING_MM


def test_refining_by_contrast_moves_a_start_onto_the_column():
    classes, grid, contrast = _column(1.0), _grid(SHAPE), _contrast(_scanned(SLIGHT))
    begun = np.eye(4)
    begun[:3, 3] = SHIFT * SPACING_MM + [0, 5.0, 5.0]
    fit = joint_fit(classes, grid, contrast)
    matrix, share = refine_affine(classes, contrast, grid, begun, fit=fit)
    _, before = refine_affine(classes, contrast, grid, begun, fit=fit, steps=1)
    middle = np.array([*(np.array([11.5, 18.5, 26.5]) * SPACING_MM), 1.0])
    off_mm = (matrix @ middle)[:3] - middle[:3] - SHIFT * SPACING_MM
    assert np.abs(off_mm).max() < 3.0
    assert 1.2 * before < share <= 1


def test_a_joint_fit_explains_what_was_painted_whole_and_means_of_soft_classes_do_not():
    weights = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0), SHAPE).transpose(3, 0, 1, 2).astype(np.float32)
    classes, levels = Classes("tissues", weights, _grid(SHAPE)), np.array([1.0, -0.5, 0.2])
    painted = np.tensordot(levels, weights, axes=1).astype(np.float32)
    flat = weights.reshape(3, -1).astype(np.float64)
    found, share = joint_fit(classes, classes.grid, painted)(flat, painted.ravel().astype(np.float64), np.eye(4))
    np.testing.assert_allclose(found, levels, atol=0.1)
    assert share > 0.95
    means = flat @ painted.ravel() / flat.sum(axis=1)
    assert np.ptp(means) < 0.5 * np.ptp(levels)
