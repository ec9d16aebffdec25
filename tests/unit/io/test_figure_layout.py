import io

import numpy as np
import pytest
from PIL import Image

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.figure_layout import figure_layout, prompt_marks
from msksam_cli.io.figures import overlay_png

SHAPE = (60, 46, 9)
TISSUES = TissueTable((Tissue(3, "femur", color="#ff0000"),))
AFFINES = {
    "axial": np.diag([-0.5, -0.7, 3.0, 1.0]),
    "sagittal": np.array([[0, 0, 3.0, 0], [0.5, 0, 0, 0], [0, -0.7, 0, 0], [0, 0, 0, 1.0]]),
}


def labels_on(affine):
    values = np.zeros(SHAPE, np.uint8)
    values[10:47, 8:31, 2:8] = 3
    return LabelMap(values, Grid(SHAPE, affine), TISSUES)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("titled", [True, False])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_layout_is_that_of_the_figure(affine, titled):
    labels = labels_on(affine)
    content = overlay_png(Volume(np.ones(SHAPE, np.float32), labels.grid), labels, title="a" if titled else "")
    layout = figure_layout(labels, titled=titled)
    height, width = pixels(content).shape[:2]
    assert layout.width_px == width
    assert 20 < height - layout.bottom_px < 60  # one line of names


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_marks_lie_where_the_figure_draws_the_prompts(affine):
    labels = labels_on(affine)
    volume = Volume(np.zeros(SHAPE, np.float32), labels.grid)
    prompt = Prompt(3, 5, Box((12.0, 15.0, 27.0, 40.0)), Points(((20.0, 30.0),), (False,)))
    drawn = pixels(overlay_png(volume, labels, [prompt], title="a"))
    changed = np.argwhere((drawn != pixels(overlay_png(volume, labels, title="a"))).any(axis=2))
    (mark,) = prompt_marks(figure_layout(labels, titled=True), [prompt])
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0)
    assert mark.box == pytest.approx((left, top, right, bottom), abs=1.0)
    (x, y, inside), *others = mark.points
    assert not others
    assert not inside
    centre = changed[(np.abs(changed - (y, x)) <= 4).all(axis=1)].mean(axis=0)
    assert (centre[1], centre[0]) == pytest.approx((x, y), abs=1.0)


def test_prompts_of_slices_that_are_not_shown_have_no_mark():
    layout = figure_layout(labels_on(AFFINES["axial"]), titled=False)
    assert prompt_marks(layout, [Prompt(3, 0, Box((1.0, 1.0, 4.0, 4.0)))]) == ()


def test_a_grid_that_went_through_a_file_has_the_same_layout():
    exact = AFFINES["axial"].copy()
    exact[0, 0] = -0.5
    noisy = exact * (1 + 1e-7)
    noisy[3, 3] = 1.0
    sizes = [
        [cut.size_px for row in figure_layout(labels_on(affine), titled=False).rows for cut in row]
        for affine in (exact, noisy)
    ]
    assert np.abs(np.array(sizes[0]) - np.array(sizes[1])).max() <= 1
