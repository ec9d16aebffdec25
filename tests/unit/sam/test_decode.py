from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.sam.asking import Asking
from msksam_cli.sam.decode import decode_slices
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
