from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.sam.asking import OUTSIDE_LOGIT, Asking, Focus, focus_for
from msksam_cli.sam.decode import _at_slice, decode_slices, layout_of
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.runtime import Model
from msksam_cli.sam.vision_shim import import_modeling

SHAPES = [(384, 384), (257, 320), (320, 257), (512, 200), (31, 90), (1100, 900)]
LOGIT_TOLERANCE = 1e-4
Slices = Callable[..., np.ndarray]


def prompts_for(shape: tuple[int, int]) -> dict[str, Prompt]:
    rows, columns = shape
    box = Box((0.2 * columns, 0.3 * rows, 0.7 * columns, 0.8 * rows))
    points = Points(((0.4 * columns, 0.5 * rows), (0.9 * columns, 0.1 * rows)), (True, False))
    return {
        "box": Prompt(1, 0, box=box),
        "points": Prompt(1, 0, points=points),
        "box and points": Prompt(1, 0, box=box, points=points),
        "one point": Prompt(1, 0, points=Points((points.xy[0],), (True,))),
    }


def judge_answer(model: Model, pixels: np.ndarray, prompt: Prompt) -> tuple[np.ndarray, np.ndarray]:
    """What segment-anything's own predictor says: candidate 0, then 1 to 3."""
    import_modeling()
    from segment_anything import SamPredictor

    judge = SamPredictor(model.sam)
    judge.set_image(np.repeat(pixels[:, :, None], 3, axis=2))
    judge.features = judge.features.half().float()
    asked = {
        "box": np.array(prompt.box.xyxy) if prompt.box else None,
        "point_coords": np.array(prompt.points.xy) if prompt.points else None,
        "point_labels": np.array(prompt.points.is_foreground, dtype=int) if prompt.points else None,
    }
    answers = [judge.predict(**asked, multimask_output=multi, return_logits=True) for multi in (False, True)]
    return np.concatenate([a[0] for a in answers]), np.concatenate([a[1] for a in answers])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_and_scores_equal_those_of_segment_anything_for_boxes_points_and_both(
    vit: Model, shape: tuple[int, int], blobs: Slices
) -> None:
    pixels = blobs(shape)
    (embedding,) = vit.encode([pixels])
    for kind, prompt in prompts_for(shape).items():
        (prediction,) = vit.decode(embedding, [prompt])
        logits, scores = judge_answer(vit, pixels, prompt)
        assert prediction.logits.shape == (4, *shape), kind
        assert logits.std() > 0.01, "a judge that says the same everywhere judges nothing"
        np.testing.assert_allclose(prediction.logits, logits, atol=LOGIT_TOLERANCE, err_msg=kind)
        np.testing.assert_allclose(prediction.iou_predictions, scores, atol=LOGIT_TOLERANCE, err_msg=kind)
        undecided = np.abs(logits) < LOGIT_TOLERANCE
        assert ((prediction.logits > 0) == (logits > 0))[~undecided].all(), kind


def test_prompts_together_are_answered_as_one_by_one_and_in_their_order(small: Model, blobs: Slices) -> None:
    shape = (120, 180)
    (embedding,) = small.encode([blobs(shape)])
    prompts = [*prompts_for(shape).values(), *prompts_for((100, 100)).values(), *prompts_for((60, 170)).values()]
    together = small.decode(embedding, prompts)
    assert [answer.prompt for answer in together] == prompts
    for answer in together:
        (alone,) = small.decode(embedding, [answer.prompt])
        np.testing.assert_allclose(answer.logits, alone.logits, atol=LOGIT_TOLERANCE)
        np.testing.assert_allclose(answer.iou_predictions, alone.iou_predictions, atol=LOGIT_TOLERANCE)


def test_the_small_model_is_told_the_box_as_a_mask_too(small: Model, blobs: Slices) -> None:
    (embedding,) = small.encode([blobs((90, 90))])
    prompt = prompts_for((90, 90))["box"]
    (with_mask,) = small.decode(embedding, [prompt])
    (without,) = decode_slices(small.sam, [(embedding, [prompt])], asking=Asking(box_as_mask=False))[0]
    assert np.abs(with_mask.logits - without.logits).max() > 1e-3


def test_no_prompts_give_no_answers(small: Model) -> None:
    assert small.decode(Embedding(np.zeros((256, 96, 96), np.float16), (50, 70)), []) == []


def test_a_prompt_outside_the_slice_is_refused(small: Model) -> None:
    embedding = Embedding(np.zeros((256, 96, 96), np.float16), (50, 70))
    with pytest.raises(ValueError, match="outside a slice of 50 rows and 70 columns"):
        small.decode(embedding, [Prompt(1, 0, box=Box((0, 0, 60, 60)))])


def test_an_embedding_of_another_network_is_refused(small: Model) -> None:
    embedding = Embedding(np.zeros((256, 16, 16), np.float16), (50, 70))
    with pytest.raises(ValueError, match=r"shape \(256, 16, 16\), the network makes \(256, 96, 96\)"):
        small.decode(embedding, [Prompt(1, 0, box=Box((0, 0, 6, 6)))])


def test_a_mask_threshold_is_taken_off_every_logit(
    small: Model, blobs: Slices, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = blobs((90, 120))
    (embedding,) = small.encode([pixels])
    prompt = prompts_for(pixels.shape)["box"]
    (plain,) = small.decode(embedding, [prompt])
    monkeypatch.setattr(small.sam, "mask_threshold", -0.75)
    (shifted,) = small.decode(embedding, [prompt])
    np.testing.assert_allclose(shifted.logits, plain.logits + 0.75, atol=1e-5)
    np.testing.assert_array_equal(shifted.iou_predictions, plain.iou_predictions)


def test_prompts_of_several_slices_together_are_answered_as_one_by_one(small: Model, blobs: Slices) -> None:
    shapes = [(257, 320), (384, 384), (257, 320)]
    embeddings = small.encode([blobs(shape, seed) for seed, shape in enumerate(shapes)])
    asked = [(one, list(prompts_for(shape).values())) for one, shape in zip(embeddings, shapes, strict=True)]
    asked[1] = (embeddings[1], [])
    for chunk in (None, 5):
        together = decode_slices(small.sam, asked, asking=small.asking, chunk=chunk)
        assert [len(answers) for answers in together] == [4, 0, 4]
        for answers, (embedding, prompts) in zip(together, asked, strict=True):
            for answer, alone, prompt in zip(answers, small.decode(embedding, prompts), prompts, strict=True):
                assert answer.prompt is prompt
                np.testing.assert_allclose(answer.logits, alone.logits, atol=1e-4)
    assert np.abs(together[0][0].logits - together[2][0].logits).max() > 1e-2


UNEQUAL_BOXES = [(30, 60, 150, 80), (200, 190, 290, 230), (340, 300, 383, 383), (100, 20, 190, 110), (10, 10, 370, 380)]


def test_prompts_that_see_unequal_parts_are_answered_together_as_each_alone(small: Model, blobs: Slices) -> None:
    (embedding,) = small.encode([blobs((384, 384))])
    boxes = [Prompt(1, 0, box=Box(tuple(float(edge) for edge in box))) for box in UNEQUAL_BOXES]
    prompts = [*boxes, prompts_for((384, 384))["one point"]]
    focuses = [focus_for(box, None, layout_of(small.sam), 8) for box in UNEQUAL_BOXES]
    sizes = [focus.rows * focus.columns for focus in focuses]
    assert len({size.bit_length() for size in sizes}) < len(set(sizes)), "some go together and are filled up"
    (together,) = decode_slices(small.sam, [(embedding, prompts)], asking=small.asking, chunk=16)
    for answer, prompt in zip(together, prompts, strict=True):
        ((alone,),) = decode_slices(small.sam, [(embedding, [prompt])], asking=small.asking, chunk=1)
        assert answer.prompt is prompt
        np.testing.assert_allclose(answer.logits, alone.logits, atol=LOGIT_TOLERANCE)
        np.testing.assert_allclose(answer.iou_predictions, alone.iou_predictions, atol=LOGIT_TOLERANCE)


@pytest.mark.parametrize("box", UNEQUAL_BOXES[:4], ids=str)
def test_a_focus_whose_far_cells_are_seen_one_by_one_answers_as_all_cells_do(
    small: Model, blobs: Slices, box: tuple[float, float, float, float]
) -> None:
    (embedding,) = small.encode([blobs((384, 384))])
    prompt = Prompt(1, 0, box=Box(box))
    singly, every = (
        decode_slices(small.sam, [(embedding, [prompt])], asking=Asking(True, block_cells))[0][0]
        for block_cells in (1, None)
    )
    focus = focus_for(box, None, layout_of(small.sam), 1)
    inside = np.zeros((384, 384), bool)  # a slice pixel is a low-res pixel here, 4 × 4 to a cell
    inside[4 * focus.top : 4 * (focus.top + focus.rows), 4 * focus.left : 4 * (focus.left + focus.columns)] = True
    assert 0 < inside.mean() < 0.2
    np.testing.assert_allclose(singly.logits[:, inside], every.logits[:, inside], atol=LOGIT_TOLERANCE)
    np.testing.assert_allclose(singly.iou_predictions, every.iou_predictions, atol=LOGIT_TOLERANCE)
    assert (singly.logits[:, ~inside] == OUTSIDE_LOGIT).all()
    assert OUTSIDE_LOGIT < 4 * every.logits.min() < 0


@pytest.mark.parametrize("low_res_px", [1, 4])
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64), (7, 21), (384, 1), (500, 384)], ids=str)
def test_logits_are_taken_to_the_slice_as_segment_anything_does(
    small: Model, tiny_vit: Model, shape: tuple[int, int], low_res_px: int
) -> None:
    model = {1: small, 4: tiny_vit}[low_res_px]
    side_px = model.image_side_px // low_res_px
    low_res, frame = torch.randn(2, 4, side_px, side_px), Frame(shape, model.image_side_px)
    judged = model.sam.postprocess_masks(low_res, frame.resized_shape, shape)
    assert judged.shape == (2, 4, *shape)
    torch.testing.assert_close(_at_slice(low_res, frame), judged, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(512, 512), (384, 384), (320, 511), (224, 77), (640, 600), (31, 384), (5, 7)], ids=str
)
@pytest.mark.parametrize(
    "focuses",
    [(Focus(8, 16, 24, 8),), (Focus(0, 0, 8, 8), Focus(8, 8, 8, 16)), (Focus(72, 80, 24, 16),), (Focus(0, 0, 96, 96),)],
    ids=["middle", "two at the corner", "end", "whole"],
)
def test_logits_round_a_focus_are_those_of_the_whole_plane(
    small: Model, shape: tuple[int, int], focuses: tuple[Focus, ...]
) -> None:
    frame = Frame(shape, small.image_side_px)
    low_res = torch.full((2, 4, 384, 384), OUTSIDE_LOGIT)  # a step of 20 in a pixel: 1e-4 px are 2e-3
    for focus in focuses:
        part = (
            slice(4 * focus.top, 4 * (focus.top + focus.rows)),
            slice(4 * focus.left, 4 * (focus.left + focus.columns)),
        )
        low_res[..., part[0], part[1]] = torch.randn(2, 4, 4 * focus.rows, 4 * focus.columns)
    torch.testing.assert_close(_at_slice(low_res, frame, focuses), _at_slice(low_res, frame), rtol=0, atol=2e-3)
