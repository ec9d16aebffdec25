"""Laws of grids, boxes, slices, prompts and fusion that hold for every value."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.slicing import intensity_window, plane_axes, slice_uint8, take_slice
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.fusion import FusionRules, clean_labels, join_answers
from msksam_cli.io.prompt_files import read_prompts, write_prompts
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.sam.frame import Frame

ANGLES = st.floats(-180, 180)
SPACINGS = st.tuples(*[st.floats(0.1, 8.0)] * 3)
SHAPES = st.tuples(*[st.integers(1, 40)] * 3)
ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


@st.composite
def grids(draw):
    angles = np.radians(draw(st.tuples(ANGLES, ANGLES, ANGLES)))
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
        )  # fmt: skip
        rotation = turn @ rotation
    affine = np.eye(4)
    affine[:3, :3] = rotation * draw(SPACINGS) * draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(draw(SHAPES), affine)


@settings(deadline=None)
@given(grids(), arrays(np.float64, (4, 3), elements=st.floats(-100, 1000)))
def test_voxels_come_back_from_the_world(grid, voxels):
    np.testing.assert_allclose(grid.to_voxel(grid.to_world_mm(voxels)), voxels, atol=1e-7)


@settings(deadline=None)
@given(grids())
def test_a_grid_matches_itself_has_three_different_axis_names_and_its_volume_is_that_of_its_spacings(grid):
    assert grid.matches(grid, 0.0)
    assert {frozenset(pair) for pair in ("LR", "PA", "IS")} == {
        frozenset(next(pair for pair in ("LR", "PA", "IS") if letter in pair)) for letter in grid.orientation
    }
    assert grid.voxel_volume_mm3 == pytest.approx(np.prod(grid.spacing_mm))


@settings(deadline=None)
@given(grids(), st.floats(0.3, 9.0))
def test_resampling_keeps_the_centre_and_the_volume_of_a_grid(grid, spacing_mm):
    other = grid.resampled(spacing_mm)
    np.testing.assert_allclose(other.centre_mm, grid.centre_mm, atol=1e-6)
    volume = grid.voxel_volume_mm3 * np.prod(grid.shape)
    assert other.voxel_volume_mm3 * np.prod(other.shape) == pytest.approx(volume)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_labels_stored_in_any_of_48_orientations_come_back_and_keep_their_slices(order, flips):
    affine = np.array([[0.48, -0.18, 0, -20], [0.13, 0.67, 0, 11], [0, 0, 3.0, 35], [0, 0, 0, 1.0]])
    values = np.random.default_rng(1).integers(0, 4, (7, 5, 4)).astype(np.uint8)
    labels = LabelMap(values, Grid(values.shape, affine), default_table([1, 2, 3]))
    turned, moved = values.transpose(order), affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis)
            moved[:, 3] += (turned.shape[axis] - 1) * moved[:, axis]
            moved[:, axis] *= -1
    grid = Grid(turned.shape, moved)
    there = reordered_labels(labels, grid)
    np.testing.assert_array_equal(there.values, turned)
    np.testing.assert_array_equal(reordered_labels(there, labels.grid).values, values)
    assert grid.slice_axis == order.index(labels.grid.slice_axis)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)).filter(lambda mask: mask.any()))
def test_a_box_holds_its_mask_and_every_side_touches_it(mask):
    x0, y0, x1, y1 = (int(v) for v in Box.of_mask(mask).xyxy)
    assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() == mask.sum()
    assert mask[y0].any()
    assert mask[y1].any()
    assert mask[:, x0].any()
    assert mask[:, x1].any()


@given(arrays(np.bool_, (9, 13)).filter(lambda mask: mask.any()), st.floats(0, 20), st.floats(0, 20), st.integers(0, 3))
def test_a_padded_box_holds_the_box_lies_in_the_slice_and_its_answer_covers_the_mask(mask, pad_x, pad_y, index):
    box = Box.of_mask(mask)
    padded = box.padded(pad_x, pad_y, mask.shape)
    assert padded.xyxy[0] <= box.xyxy[0] <= box.xyxy[2] <= padded.xyxy[2]
    assert padded.xyxy[1] <= box.xyxy[1] <= box.xyxy[3] <= padded.xyxy[3]
    Prompt(1, index, padded).check_inside(mask.shape)
    joined = join_answers([(Prompt(1, index, box), np.ones(mask.shape, np.float32))], mask.shape, FusionRules())
    assert (joined[mask] == 1).all()


@given(st.tuples(st.integers(1, 700), st.integers(1, 700)), st.sampled_from([64, 256, 1024]), st.data())
def test_slice_pixels_come_back_from_the_model_frame_within_half_a_pixel(shape, side_px, data):
    frame = Frame(shape, side_px)
    xy = (data.draw(st.floats(0, shape[1] - 1)), data.draw(st.floats(0, shape[0] - 1)))
    there = frame.to_model_xy(xy)
    assert (there >= 0).all()
    assert (there <= side_px).all()
    assert np.abs(frame.to_slice_xy(there) - xy).max() < 0.5


@given(arrays(np.int16, (3, 4, 5)), st.integers(0, 2))
def test_all_slices_of_an_axis_stacked_are_the_volume(voxels, axis):
    slices = [take_slice(voxels, axis, index) for index in range(voxels.shape[axis])]
    np.testing.assert_array_equal(np.stack(slices, axis), voxels)
    assert slices[0].shape == tuple(voxels.shape[one] for one in plane_axes(axis))


TINY = float(np.float32(1e-36))
FAINT = np.zeros((3, 4, 5), dtype=np.float32)
FAINT[1, 2, 3] = np.finfo(np.float32).tiny


@example(FAINT)
@given(arrays(np.float32, (3, 4, 5), elements=st.floats(-30000, 30000, width=32) | st.floats(-TINY, TINY, width=32)))
def test_grey_levels_never_reverse_the_order_of_intensities(voxels):
    window = intensity_window(voxels)
    assert window[1] > window[0]
    grey = slice_uint8(voxels.reshape(6, 10), window).ravel().astype(int)
    assert (np.diff(grey[np.argsort(voxels.ravel(), kind="stable")]) >= 0).all()


@given(
    arrays(np.float32, (6, 5), elements=st.floats(-30000, 30000, width=32)),
    st.floats(-30000, 30000),
    st.floats(0.1, 30000),
)
def test_grey_levels_are_to_the_bit_what_stored_embeddings_were_made_of(plane, low, width):
    window = low, low + width
    scaled = (plane - low) * (255.0 / (window[1] - window[0]))
    np.testing.assert_array_equal(slice_uint8(plane, window), np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


@settings(deadline=None, max_examples=50)
@given(arrays(np.uint16, (5, 4, 6), elements=st.integers(0, 3)))
def test_cleaning_keeps_every_tissue_that_was_there_and_adds_none(values):
    cleaned = clean_labels(values, Grid(values.shape, np.diag([0.5, 0.7, 3.0, 1.0])), FusionRules())
    assert set(np.unique(cleaned)) | {0} == set(np.unique(values)) | {0}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_prompts_are_read_as_they_were_written(tmp_path_factory, data):
    grid, tissues = Grid((9, 14, 6), np.diag([0.5, 0.7, 3.0, 1.0])), default_table([1, 2])
    x, y = st.floats(0, 13), st.floats(0, 8)
    prompts = []
    for index in data.draw(st.lists(st.integers(0, 5), unique=True)):
        xs, ys = sorted(data.draw(st.tuples(x, x))), sorted(data.draw(st.tuples(y, y)))
        xy = tuple(data.draw(st.lists(st.tuples(x, y), min_size=1, max_size=3)))
        points = Points(xy, tuple(data.draw(st.booleans()) for _ in xy))
        prompts.append(
            Prompt(data.draw(st.sampled_from([1, 2])), index, Box((xs[0], ys[0], xs[1], ys[1])), points, "p")
        )
    prompts.sort(key=lambda prompt: prompt.slice_index)
    path = tmp_path_factory.mktemp("prompts") / "a.json"
    write_prompts(path, prompts, [0.5] * len(prompts), grid=grid, tissues=tissues, provenance={})
    assert read_prompts(path, grid, tissues) == tuple(prompts)
