from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.asking import Asking, Focus, Layout, focus_for, seen_by
from msksam_cli.sam.decode import decode_slices, layout_of, seen_of
from msksam_cli.sam.runtime import Model

LAYOUT = Layout(side_px=384, cells=96)
WHOLE = Focus(0, 0, 96, 96)
BESIDE_CELLS = 2

places = st.floats(-40, 420, width=32)
boxes = st.tuples(places, places, places, places).map(
    lambda xyxy: (min(xyxy[::2]), min(xyxy[1::2]), max(xyxy[::2]), max(xyxy[1::2]))
)
points_px = st.lists(st.tuples(st.floats(0, 383), st.floats(0, 383)), max_size=3)
embeddings = st.sampled_from([(96, 8), (96, 1), (84, 4), (32, 8), (8, 8), (90, 3)])


@pytest.mark.parametrize(
    ("box", "points", "focus"),
    [
        ((100, 160, 140, 180), None, Focus(top=32, left=16, rows=16, columns=24)),
        ((0, 0, 10, 10), None, Focus(top=0, left=0, rows=8, columns=8)),
        ((340, 350, 380, 383), None, Focus(top=80, left=80, rows=16, columns=16)),
        ((0, 200, 383, 204), None, Focus(top=48, left=0, rows=8, columns=96)),
        ((140, 140, 182.9, 180), None, Focus(top=32, left=32, rows=16, columns=16)),
        ((140, 140, 183.5, 180), None, Focus(top=32, left=32, rows=16, columns=24)),
        ((-50, -9, 500, 400), None, WHOLE),
        ((340, 350, 380, 383), [(360, 360)], Focus(top=80, left=80, rows=16, columns=16)),
        ((340, 350, 380, 383), [(136, 140)], Focus(top=32, left=32, rows=64, columns=64)),
        ((340, 350, 380, 383), [(135, 140)], Focus(top=32, left=24, rows=64, columns=72)),
        ((340, 350, 380, 383), [(140, 140), (104, 200)], Focus(top=32, left=24, rows=64, columns=72)),
        ((100, 160, 140, 180), [(383, 0)], Focus(top=0, left=16, rows=48, columns=80)),
        (None, [(200, 200)], WHOLE),
        (None, None, WHOLE),
    ],
)
def test_what_is_looked_at_closely_are_blocks_round_a_box_and_its_points_and_all_without_a_box(box, points, focus):
    assert focus_for(box, points, LAYOUT, 8) == focus


def test_without_blocks_everything_is_looked_at_closely():
    assert Asking().block_in(96) is None
    assert focus_for((100, 160, 140, 180), [(3, 4)], LAYOUT, None) == WHOLE


@pytest.mark.parametrize(("cells", "block_cells"), [(96, 8), (84, 4), (90, 2), (8, 8), (12, 4), (7, 1)])
def test_blocks_fit_into_the_embedding(cells, block_cells):
    assert Asking(block_cells=8).block_in(cells) == block_cells


@settings(max_examples=300, deadline=None)
@given(box=boxes, points=points_px, embedding=embeddings)
def test_a_focus_is_made_of_whole_blocks_and_holds_the_box_its_points_and_the_cells_round_it(box, points, embedding):
    cells, block_cells = embedding
    layout = Layout(side_px=4 * cells, cells=cells)
    focus = focus_for(box, points, layout, block_cells)
    assert not any(edge % block_cells for edge in (focus.top, focus.left, focus.rows, focus.columns))
    assert min(focus.rows, focus.columns) >= block_cells
    held = set(focus.cells(cells).tolist())
    assert len(held) == focus.rows * focus.columns
    assert held <= set(range(cells**2))

    def spans(first, last, *more):
        """Numbers of the cells along an axis that have to be looked at, of those there are."""
        low, high = min([first, *more]) / 4 - BESIDE_CELLS, (max([last, *more]) + 1) / 4 + BESIDE_CELLS
        return range(max(int(np.floor(low)), 0), min(int(np.ceil(high)), cells))

    for row in spans(box[1], box[3], *(y for _, y in points)):
        for column in spans(box[0], box[2], *(x for x, _ in points)):
            assert row * cells + column in held


@settings(max_examples=100, deadline=None)
@given(asked=st.lists(boxes, min_size=1, max_size=4), embedding=embeddings)
def test_each_prompt_sees_every_cell_exactly_once_whatever_is_filled_up(asked, embedding):
    cells, block_cells = embedding
    focuses = [focus_for(box, None, Layout(4 * cells, cells), block_cells) for box in asked]
    seen, blocks = seen_by(focuses, cells, block_cells), cells // block_cells
    assert seen.near.shape[1] == max(focus.rows * focus.columns for focus in focuses)
    assert seen.log_counts.shape == (len(focuses), seen.near.shape[1] + seen.far.shape[1])
    assert (seen.near.dtype, seen.far.dtype, seen.log_counts.dtype) == (np.int64, np.int64, np.float32)
    counts = np.exp(seen.log_counts.astype(float))
    np.testing.assert_allclose(counts.sum(1), cells**2, rtol=1e-6)
    for near, far, own, focus in zip(seen.near, seen.far, counts, focuses, strict=True):
        times = np.zeros((blocks, block_cells, blocks, block_cells))
        np.add.at(times.reshape(-1), near, own[: len(near)])
        for block, count in zip(far, own[len(near) :], strict=True):
            times[block // blocks, :, block % blocks] += count / block_cells**2
        np.testing.assert_allclose(times, 1, rtol=1e-6)
        assert (own[: len(near)] > 0).sum() == focus.rows * focus.columns


def test_fewer_cells_are_filled_up_with_what_counts_for_nothing():
    seen = seen_by([Focus(2, 2, 2, 2), Focus(0, 0, 2, 4), Focus(0, 0, 4, 4)], cells=4, block_cells=2)
    assert seen.near[0].tolist() == [10, 11, 14, 15] + [10] * 12
    assert seen.far.tolist() == [[0, 1, 2], [2, 3, 2], [0, 0, 0]]
    filling = [[False] * 4 + [True] * 12 + [False] * 3, [False] * 8 + [True] * 8 + [False] * 2 + [True]]
    assert np.isneginf(seen.log_counts).tolist() == [*filling, [False] * 16 + [True] * 3]
    whole = seen_by([Focus(0, 0, 4, 4)] * 2, cells=4, block_cells=2)
    assert whole.far.shape == (2, 0)
    assert not whole.log_counts.any()


def test_nothing_is_chosen_where_every_prompt_sees_every_cell(small: Model):
    layout, asking = layout_of(small.sam), small.asking
    assert seen_of([WHOLE, WHOLE], layout, asking) is None
    assert seen_of([Focus(0, 0, 8, 8)], layout, Asking()) is None
    assert seen_of([WHOLE, Focus(0, 0, 8, 8)], layout, asking) is not None


def test_of_what_is_far_from_a_small_box_only_the_means_of_blocks_count(small: Model, blobs: Callable[..., np.ndarray]):
    (embedding,) = small.encode([blobs((384, 384))])
    before = (embedding.features * 64).round() / 64  # which adding 1 leaves exact in half precision
    rows, columns = np.indices((96, 96))
    chequered, raised = before.copy(), before.copy()
    chequered[:, 72:] += np.where((rows + columns) % 2, 1, -1)[72:].astype(np.float16)
    raised[:, 72:] += 1
    plain, evened, other = (replace(embedding, features=features) for features in (before, chequered, raised))
    prompt = Prompt(1, 0, box=Box((60, 40, 120, 90)), points=Points(((80.0, 60.0),), (True,)))
    answer, same, different = (small.decode(one, [prompt])[0] for one in (plain, evened, other))
    np.testing.assert_allclose(same.logits, answer.logits, atol=1e-4)
    assert np.abs(different.logits - answer.logits).max() > 1e-3
    [(first,), (second,)] = decode_slices(small.sam, [(one, [prompt]) for one in (plain, evened)], asking=Asking(True))
    assert np.abs(first.logits - second.logits).max() > 1e-3


def test_the_inside_of_an_answer_lies_on_the_box_in_the_slice(blobs: Callable[..., np.ndarray]):
    pixels = np.full((300, 500), 40, np.uint8)
    pixels[60:100, 400:460] = 200
    model = load_model("msksam-small")
    (embedding,) = model.encode([pixels])
    (answer,) = model.decode(embedding, [Prompt(1, 0, box=Box((400, 60, 459, 99)))])
    found = answer.logits[int(np.argmax(answer.iou_predictions))] > 0
    wanted = pixels == 200
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.95
