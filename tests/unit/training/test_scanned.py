from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from msksam_cli.training.scanned import ScannedSlice, cut_scanned, read_coloured_slices


@pytest.fixture
def folder(tmp_path):
    """Two slices of 40 × 60: a red half in one, a blue quarter in the other; the third mask has another shape."""
    rng = np.random.default_rng(0)
    for name, colour, rows in (("a", (255, 0, 0), 20), ("b", (0, 0, 255), 10)):
        mask = np.zeros((40, 60, 3), np.uint8)
        mask[:rows] = colour
        _save(tmp_path, name, rng.integers(0, 255, (40, 60)).astype(np.uint8), mask)
    _save(tmp_path, "c", np.zeros((41, 60), np.uint8), np.zeros((40, 60, 3), np.uint8))
    return tmp_path


def _save(folder, name, pixels, mask):
    for part, array in (("images", pixels), ("masks", mask)):
        (folder / part).mkdir(exist_ok=True)
        Image.fromarray(array).save(folder / part / f"{name}.png")


def test_every_colour_but_black_is_a_label_shared_by_all_slices(folder):
    first, second = read_coloured_slices(folder)
    assert set(np.unique(first.labels)) == {0, 2}
    assert set(np.unique(second.labels)) == {0, 1}
    assert (first.labels == 2).sum() == 20 * 60
    assert first.weights == {1: 1.0, 2: 1.0}


def test_a_cut_moves_pixels_and_labels_together():
    """Where the label is drawn the image is bright, so that a cut that moved one alone would mix them up."""
    labels = np.zeros((80, 100), np.uint8)
    labels[20:60, 30:70] = 3
    one = ScannedSlice(labels * 80, labels, {3: 1.0})
    apart = []
    for seed in range(30):
        image, plane = cut_scanned(one, 64, np.random.default_rng(seed))
        assert image.shape == plane.truth.shape == (64, 64)
        inside = plane.truth == 3
        if 200 < inside.sum() < 3500:
            apart.append(abs(float(image[inside].mean()) - float(image[~inside].mean())))
    assert len(apart) > 10
    assert np.median(apart) > 0.3


def test_equal_states_give_equal_cuts_and_others_do_not():
    rng = np.random.default_rng(1)
    one = ScannedSlice(rng.integers(0, 255, (50, 70)).astype(np.uint8), np.ones((50, 70), np.uint8), {1: 1.0})
    first, again, other = (cut_scanned(one, 32, np.random.default_rng(seed))[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
