import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.io.figures import jpeg_from_png, overlay_png, write_overlay

SHAPE = (40, 30, 10)
GRID = Grid(SHAPE, np.diag([-0.5, -0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(1, "femur", color="#ff0000"), Tissue(2, "tibia", color="#00ff00")))
FEMUR = np.s_[10:30, 8:20, 2:8]


def case(**boxes):
    values = np.zeros(SHAPE, np.uint8)
    for index, where in enumerate(boxes.values(), start=1):
        values[where] = index
    volume = Volume(np.random.default_rng(2).normal(100, 5, SHAPE).astype(np.float32), GRID)
    return volume, LabelMap(values, GRID, TISSUES)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def count(content, rgb):
    return int((pixels(content) == rgb).all(axis=2).sum())


def test_tissues_that_occur_are_drawn_in_their_colour_and_others_not():
    content = overlay_png(*case(femur=FEMUR))
    assert count(content, (255, 0, 0)) > 2000
    assert count(content, (0, 255, 0)) == 0


def test_a_figure_without_labels_is_drawn_all_the_same():
    content = overlay_png(*case())
    assert count(content, (255, 0, 0)) == 0
    assert pixels(content).shape[0] > 400


def test_equal_input_gives_equal_bytes_and_a_file_holds_them(tmp_path):
    content = overlay_png(*case(femur=FEMUR), title="knee-1")
    assert content == overlay_png(*case(femur=FEMUR), title="knee-1")
    write_overlay(tmp_path / "figures" / "knee-1.png", *case(femur=FEMUR), title="knee-1")
    assert (tmp_path / "figures" / "knee-1.png").read_bytes() == content


def test_a_square_in_mm_is_a_square_in_the_axial_plane():
    square = np.s_[5:33, 5:25, 4:6]  # 28 × 0.5 mm by 20 × 0.7 mm
    shown = (pixels(overlay_png(*case(femur=square))) == (255, 0, 0)).all(axis=2)
    pieces, _ = ndimage.label(shown, structure=np.ones((3, 3)))
    rows, columns = ndimage.find_objects(pieces)[0]  # the axial plane stands first
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert min(height, width) > 40
    assert width == pytest.approx(height, rel=0.05)


def test_what_lies_on_the_patients_right_is_drawn_on_the_left():
    right = np.s_[0:5, 8:20, 2:8]  # the first axis points to the left, so index 0 is the patient's right
    content = overlay_png(*case(femur=right, tibia=np.s_[35:40, 8:20, 2:8]))
    image = pixels(content)[:200]
    red = np.flatnonzero((image == (255, 0, 0)).all(axis=2).any(axis=0))
    green = np.flatnonzero((image == (0, 255, 0)).all(axis=2).any(axis=0))
    assert red.min() < green.min()


def test_a_box_is_drawn_round_its_mask_and_only_on_its_slice():
    volume, labels = case(femur=FEMUR)
    prompt = Prompt(2, 4, Box((9.0, 11.0, 18.0, 28.0)), Points(((12.0, 15.0), (2.0, 2.0)), (True, False)))
    with_prompt = overlay_png(volume, labels, [prompt])
    assert count(with_prompt, (0, 255, 0)) > 100
    elsewhere = overlay_png(volume, labels, [Prompt(2, 9, Box((9.0, 11.0, 18.0, 28.0)))])
    assert elsewhere == overlay_png(volume, labels)


def test_a_box_of_the_mask_itself_covers_the_outline_of_the_mask():
    volume, labels = case(femur=FEMUR)
    index = 4
    red_box = Prompt(1, index, Box.of_mask(labels.values[:, :, index] == 1))
    plain, boxed = pixels(overlay_png(volume, labels)), pixels(overlay_png(volume, labels, [red_box]))
    changed = np.argwhere((plain != boxed).any(axis=2))
    red = np.argwhere((plain == (255, 0, 0)).all(axis=2))
    assert len(changed) > 0
    distance = np.abs(changed[:, None] - red[None]).max(axis=2).min(axis=1)
    assert distance.max() <= 3  # a voxel is some ten pixels wide


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thin_volumes_of_every_slice_axis_are_drawn(axis):
    shape = tuple(np.roll((3, 25, 35), axis))
    spacing = tuple(np.roll((4.0, 0.7, 0.5), axis))
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    values = np.zeros(shape, np.uint8)
    values[1:2, 1:2, 1:2] = 1
    volume = Volume(np.zeros(shape, np.float32), grid)
    assert count(overlay_png(volume, LabelMap(values, grid, TISSUES)), (255, 0, 0)) > 0


def test_an_image_on_another_grid_is_refused():
    volume, labels = case(femur=FEMUR)
    other = Volume(volume.intensities, Grid(SHAPE, np.diag([-0.5, -0.7, -3.0, 1.0])))
    with pytest.raises(GridMismatchError, match="different grids"):
        overlay_png(other, labels)


def test_a_jpeg_is_smaller_and_shows_the_same():
    content = overlay_png(*case(femur=FEMUR))
    smaller = jpeg_from_png(content)
    assert len(smaller) < len(content) / 2
    assert np.abs(pixels(smaller) - pixels(content)).mean() < 12
