from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.asking import Asking, Layout, Window, window_for
from msksam_cli.sam.decode import ask, decode_slices, spread
from msksam_cli.sam.model import build_sam
from msksam_cli.sam.runtime import Model

LAYOUT = Layout(side_px=384, cells=96)
WHOLE = Window(0, 0, 96)


@pytest.fixture(scope="module")
def sam():
    return build_sam("msksam_small")


@pytest.mark.parametrize(
    ("box", "points", "window"),
    [
        ((100, 160, 140, 180), None, Window(top=10, left=0, side=64)),
        ((340, 350, 380, 383), None, Window(top=32, left=32, side=64)),
        ((180, 180, 308, 300), None, Window(top=28, left=29, side=64)),
        ((180, 180, 309, 300), None, WHOLE),
        ((180, 180, 200, 309), None, WHOLE),
        (None, [(200, 200)], WHOLE),
        ((340, 350, 380, 383), [(128, 128)], Window(top=32, left=32, side=64)),
        ((340, 350, 380, 383), [(128, 128), (127, 200)], WHOLE),
    ],
)
def test_a_small_box_is_answered_round_itself_and_all_else_in_the_whole(box, points, window):
    assert window_for(box, points, LAYOUT, 64) == window


@pytest.mark.parametrize("cells", [None, 96, 128])
def test_an_embedding_no_larger_than_the_window_is_taken_whole(cells):
    assert window_for((10, 10, 20, 20), None, LAYOUT, cells) == WHOLE


def test_a_window_cuts_and_puts_back_where_it_lies():
    window, planes = Window(top=1, left=2, side=3), torch.arange(2 * 64).reshape(2, 8, 8).float()
    assert torch.equal(planes[:, *window.part()], planes[:, 1:4, 2:5])
    logits = torch.ones(1, 2, 12, 12)
    whole = spread(logits, [window], cells=8)
    assert whole.shape == (1, 2, 32, 32)
    assert torch.equal(whole[..., 4:16, 8:20], logits)
    assert (whole > 0).sum() == logits.numel()


def test_a_window_answers_as_an_embedding_of_its_own_would(sam):
    torch.manual_seed(3)
    features, boxes = torch.randn(1, 256, 96, 96), torch.tensor([[40.0, 50.0, 90.0, 100.0]])
    small = build_sam("msksam_small", 256)
    small.load_state_dict(sam.state_dict())
    with torch.inference_mode():
        window = Window(top=7, left=20, side=64)
        found, _ = ask(sam, features[..., *window.part()], points=None, boxes=boxes, mask_prompts=None)
        wanted, _ = ask(small, features[..., *window.part()], points=None, boxes=boxes, mask_prompts=None)
    torch.testing.assert_close(found, wanted)
    assert sam.prompt_encoder.image_embedding_size == (96, 96), "the network itself keeps its size"


def test_what_is_embedded_far_from_a_small_box_does_not_change_its_answer(
    small: Model, blobs: Callable[..., np.ndarray]
):
    (embedding,) = small.encode([blobs((384, 384))])
    changed = embedding.features.copy()
    changed[:, 70:] += 1
    other = replace(embedding, features=changed)
    prompt = Prompt(1, 0, box=Box((60, 40, 120, 90)), points=Points(((80.0, 60.0),), (True,)))
    (near,), (same,) = (small.decode(one, [prompt]) for one in (embedding, other))
    np.testing.assert_array_equal(near.logits, same.logits)
    [(first,), (second,)] = decode_slices(
        small.sam, [(one, [prompt]) for one in (embedding, other)], asking=Asking(True)
    )
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
