import gzip
import io

import numpy as np
import pytest
from PIL import Image

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, InputError
from msksam_cli.io.preview import _block_means, preview

SHAPE = (50, 40, 11)
AFFINE = np.array([[0, 0, 3.0, -20.0], [0.5, 0, 0, 11.0], [0, -0.7, 0, 35.0], [0, 0, 0, 1.0]])
PAGE = TissueTable((Tissue(1, "tibia"), Tissue(4, "femur"), Tissue(700, "patella")))
OWN = TissueTable((Tissue(4, "femur"), Tissue(700, "patella")))


@pytest.fixture
def case():
    grid = Grid(SHAPE, AFFINE)
    i, j, k = np.indices(SHAPE)
    grey = 100.0 + 60.0 * np.sin(i / 9) * np.cos(j / 7) + 8.0 * k
    values = np.zeros(SHAPE, np.uint16)
    values[14:30, 10:22, 3:8] = 4
    values[30:36, 12:20, 4:6] = 700
    return Volume(grey.astype(np.float32), grid), LabelMap(values, grid, OWN)


def unpacked(shown):
    """Greys and places of tissues (I, J, K) as the page's script takes them out."""
    picture = np.asarray(Image.open(io.BytesIO(shown.jpeg)))
    width, height = shown.tile_px
    i, j, k = np.indices(shown.grid.shape)
    greys = picture[k // shown.columns * height + j, k % shown.columns * width + i]
    places = np.frombuffer(gzip.decompress(shown.labels_gzip), np.uint8).reshape(shown.grid.shape, order="F")
    return greys, places


def test_what_fits_keeps_its_grid_its_labels_and_nearly_its_greys(case):
    volume, labels = case
    shown = preview(volume, labels, PAGE)
    greys, places = unpacked(shown)
    np.testing.assert_array_equal(shown.grid.affine, AFFINE)
    np.testing.assert_array_equal(places, np.where(labels.values == 700, 3, np.where(labels.values == 4, 2, 0)))
    low, high = volume.window
    wanted = np.clip((volume.intensities - low) / (high - low), 0, 1) * 255
    assert np.abs(greys - wanted).mean() < 2
    assert np.abs(greys - wanted).max() < 25


def test_what_does_not_fit_is_cropped_to_the_labels_with_a_margin(case):
    far = Volume(np.pad(case[0].intensities, [(300, 0), (0, 0), (0, 0)]), Grid((350, 40, 11), AFFINE))
    labels = LabelMap(np.pad(case[1].values, [(300, 0), (0, 0), (0, 0)]), far.grid, OWN)
    shown = preview(far, labels, PAGE, most_voxels=100_000)
    assert shown.grid.shape == (76, 40, 11)
    np.testing.assert_allclose(shown.grid.to_world_mm((0, 0, 0)), far.grid.to_world_mm((274, 0, 0)))


def test_a_small_budget_thins_the_finest_axes_and_every_tissue_stays_where_it_is(case):
    volume, labels = case
    shown = preview(volume, labels, PAGE, most_voxels=6_000)
    assert shown.grid.shape == (25, 20, 11)
    _, places = unpacked(shown)
    for index, place in ((4, 2), (700, 3)):
        true = volume.grid.to_world_mm(np.argwhere(labels.values == index)).mean(axis=0)
        seen = shown.grid.to_world_mm(np.argwhere(places == place)).mean(axis=0)
        assert np.abs(true - seen).max() < 0.7


def test_slices_do_not_bleed_into_one_another():
    values = np.zeros((13, 11, 4), np.float32)
    values[:, :, 1] = 1000.0
    labels = LabelMap(np.zeros(values.shape, np.uint8), Grid(values.shape, np.eye(4)), OWN)
    greys, _ = unpacked(preview(Volume(values, labels.grid), labels, PAGE))
    assert greys[:, :, 1].min() > 250
    assert greys[:, :, [0, 2, 3]].max() < 5


def test_labels_of_another_grid_and_too_many_tissues_are_refused(case):
    volume, labels = case
    other = LabelMap(labels.values, Grid(SHAPE, AFFINE + np.diag([0, 0, 0.2, 0])), OWN)
    with pytest.raises(GridMismatchError, match="different grids"):
        preview(volume, other, PAGE)
    many = TissueTable(tuple(Tissue(n, f"tissue-{n}") for n in range(1, 257)))
    with pytest.raises(InputError, match="256 tissues"):
        preview(volume, labels, many)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("steps", [(1, 1, 1), (3, 2, 1), (2, 3, 4)])
def test_a_thinned_voxel_is_the_mean_of_its_block_and_the_border_is_repeated(order, steps):
    voxels = np.array(np.random.default_rng(4).integers(0, 4000, (13, 11, 7)), dtype=np.float32, order=order)
    i, j, k = (np.minimum(np.arange(-(-n // step) * step), n - 1) for n, step in zip(voxels.shape, steps, strict=True))
    blocks = voxels[np.ix_(i, j, k)].reshape(
        len(i) // steps[0], steps[0], len(j) // steps[1], steps[1], len(k) // steps[2], steps[2]
    )
    means = _block_means(voxels, steps)
    assert means.dtype == np.float32
    np.testing.assert_array_equal(means, blocks.mean(axis=(1, 3, 5)))
