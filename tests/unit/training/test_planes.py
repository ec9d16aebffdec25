from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import TISSUES as TISSUES_OF_ALL_REGIONS
from msksam_cli.core.tissues import Tissue, TissueTable, default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.training.planes import cut_plane, random_shapes, smooth_noise, with_lesions, with_mottles

TISSUES = TissueTable(
    (Tissue(1, "femur", group="bone"), Tissue(2, "cartilage", group="cartilage"), Tissue(3, "skin", group="skin"))
)


@pytest.fixture(scope="module")
def block():
    """60 × 70 × 50 mm in voxels of 1 × 1.4 × 2 mm: one half bone, one quarter cartilage."""
    values = np.zeros((60, 50, 25), np.uint8)
    values[:30], values[30:, 25:] = 1, 2
    affine = np.diag([1.0, 1.4, 2.0, 1.0])
    affine[:3, 3] = (-100, 40, 7)
    return LabelMap(values, Grid(values.shape, affine), TISSUES)


def test_a_plane_is_square_of_the_asked_side_and_the_same_for_the_same_state(block):
    for side_px in (32, 65):
        plane = cut_plane(block, side_px, np.random.default_rng(5))
        again = cut_plane(block, side_px, np.random.default_rng(5))
        assert plane.slabs.shape[1:] == (side_px, side_px)
        assert plane.slabs.shape[0] in (1, 3, 5)
        assert plane.slabs.dtype == np.uint8
        np.testing.assert_array_equal(plane.slabs, again.slabs)
        np.testing.assert_array_equal(plane.truth, plane.slabs[plane.slabs.shape[0] // 2])
        assert 70 <= plane.pixel_mm * side_px <= 190


def test_a_plane_shows_the_labels_that_lie_at_its_pixels_in_the_volume(block):
    """Where the volume names its own voxels, a plane tells where each of its pixels lies: on straight, even lines."""
    i, j, k = np.indices(block.grid.shape)
    numbers = default_table(range(1, max(block.grid.shape) + 1))
    for seed in range(4):
        cuts = [
            cut_plane(LabelMap(index.astype(np.uint8) + 1, block.grid, numbers), 24, np.random.default_rng(seed))
            for index in (i, j, k)
        ]
        voxels = np.stack([cut.slabs.astype(int) - 1 for cut in cuts], axis=-1)
        inside = voxels[..., 0] >= 0
        assert inside.any()
        shown = cut_plane(block, 24, np.random.default_rng(seed)).slabs
        np.testing.assert_array_equal(shown[inside], block.values[tuple(voxels[inside].T)])
        assert not shown[~inside].any()
        world = block.grid.to_world_mm(voxels[inside])
        middle = np.argwhere(inside) - np.argwhere(inside).mean(axis=0)
        steps, *_ = np.linalg.lstsq(middle, world - world.mean(axis=0), rcond=None)  # mm per depth, row and column
        assert np.abs(middle @ steps + world.mean(axis=0) - world).max() < 1.8
        assert np.linalg.norm(steps[1:], axis=1) == pytest.approx([cuts[0].pixel_mm] * 2, rel=0.1)
        assert abs(np.dot(steps[1], steps[2])) < 0.1 * cuts[0].pixel_mm ** 2


def test_pixels_finer_than_voxels_draw_a_smooth_outline():
    """A ball of 3 mm voxels in much finer pixels: steps of 3 mm stray from a circle by 1.2 mm, a smooth rim by less."""
    i, j, k = np.indices((50, 50, 50))
    ball = ((i - 25) ** 2 + (j - 25) ** 2 + (k - 25) ** 2 < 12**2).astype(np.uint8)
    coarse = LabelMap(ball, Grid(ball.shape, np.diag([3.0, 3.0, 3.0, 1.0])), TISSUES)
    strays_mm = []
    for seed in range(40):
        plane = cut_plane(coarse, 256, np.random.default_rng(seed))
        mask = plane.truth == 1
        if mask.sum() > 2000 and not (mask[[0, -1]].any() or mask[:, [0, -1]].any()):
            rim = np.argwhere(mask & ~ndimage.binary_erosion(mask))
            radii_px = np.linalg.norm(rim - rim.mean(axis=0), axis=1)
            strays_mm.append(radii_px.std() * plane.pixel_mm)
    assert len(strays_mm) >= 8
    assert np.median(strays_mm) < 1.05


def test_planes_show_each_tissue_about_as_often_as_the_volume_holds_it(block):
    planes = [cut_plane(block, 24, np.random.default_rng(seed)).truth for seed in range(60)]
    counts = np.bincount(np.concatenate([plane.ravel() for plane in planes]), minlength=4)
    assert counts[1] > 1.3 * counts[2] > 0
    assert counts[3] == 0


def test_bones_get_shells_thin_tissues_tiles_and_skin_is_never_asked_for(block):
    plane = cut_plane(block, 16, np.random.default_rng(0))
    assert plane.shelled == {1}
    assert plane.thin == {2, 3}
    assert plane.weights[3] == 0 < plane.weights[1] < plane.weights[2]


def test_random_shapes_ask_for_shapes_and_never_for_the_background():
    for seed in range(12):
        plane = random_shapes(48, np.random.default_rng(seed))
        assert plane.truth.shape == (48, 48)
        assert plane.truth.min() >= 1
        wholes = set(np.unique(plane.truth)) - set(plane.weights)
        assert 1 <= len(wholes) <= 3
        assert max(wholes) < min(plane.weights)
        assert not set(plane.weights) & set(TISSUES_OF_ALL_REGIONS.indices)


def test_parts_have_labels_of_their_own_in_what_is_drawn_and_count_to_their_whole_in_the_truth():
    planes = [random_shapes(64, np.random.default_rng(seed)) for seed in range(12)]
    mottled = [plane for plane in planes if set(plane.whole_of) & set(np.unique(plane.slabs))]
    assert mottled
    for plane in mottled:
        drawn = plane.slabs[0]
        assert not set(plane.whole_of) & set(np.unique(plane.truth))
        for part, whole in plane.whole_of.items():
            assert (plane.truth[drawn == part] == whole).all()


def test_mottles_change_what_is_drawn_and_nothing_of_the_truth(block):
    changed = 0
    for seed in range(12):
        plane = cut_plane(block, 48, np.random.default_rng(seed))
        mottled = with_mottles(plane, np.random.default_rng(seed))
        np.testing.assert_array_equal(mottled.truth, plane.truth)
        assert set(mottled.whole_of.values()) <= {1, 2}
        changed += not np.array_equal(mottled.slabs, plane.slabs)
    assert changed >= 4


def test_lesions_lie_in_the_body_and_are_asked_for(block):
    for seed in range(20):
        plane = cut_plane(block, 48, np.random.default_rng(seed))
        changed = with_lesions(plane, 9, np.random.default_rng(seed))
        mass = changed.truth == 9
        assert (plane.truth[mass] > 0).all()
        np.testing.assert_array_equal(changed.truth[~mass], plane.truth[~mass])
        assert changed.weights[9] > 0
        assert 9 not in plane.weights
    assert any((with_lesions(plane, 9, np.random.default_rng(s)).truth == 9).any() for s in range(9))


@pytest.mark.parametrize("side_px", [16, 33, 64])
@pytest.mark.parametrize("scale", [0.01, 0.05, 0.9])
def test_noise_has_the_asked_side_no_mean_unit_deviation_and_is_smoother_the_larger_its_scale(side_px, scale):
    noise = smooth_noise(side_px, scale, np.random.default_rng(2))
    assert noise.shape == (side_px, side_px)
    assert noise.mean() == pytest.approx(0, abs=1e-3)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    if scale == 0.9:
        assert np.abs(np.diff(noise, axis=0)).mean() < 0.4
