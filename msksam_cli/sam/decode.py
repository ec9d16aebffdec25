"""Embeddings and prompts to masks: the cheap half of the network, done once per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.sam.asking import Window, ask, stride_of, window_for
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import LOW_RES_PER_EMBEDDING, Asking, Sam, box_mask_prompt
from msksam_cli.sam.threads import map_over_cores

GPU_CHUNK = 64


def decode_slice(
    sam: Sam, embedding: Embedding, prompts: Sequence[Prompt], *, asking: Asking, chunk: int | None = None
) -> list[MaskPrediction]:
    """Answers to all prompts of one slice, in their order.

    Prompts with the same kinds and number of parts and windows of one size go through the decoder together; nothing is
    padded, so that an answer is the same whatever else was asked.

    Args:
        sam: the network whose encoder made the embedding.
        embedding: the slice.
        prompts: boxes and points in pixels of the slice.
        asking: how prompts are put to the decoder.
        chunk: prompts at once; when None, one on a CPU, where more are slower, and 64 elsewhere.

    Returns:
        One `MaskPrediction` per prompt with four candidates, above 0 inside: the network's own `mask_threshold` is
        taken off its logits. 0 is the decoder's single answer, 1 to 3 its alternatives for an ambiguous prompt.

    Raises:
        ValueError: a prompt lies outside the slice, or the embedding has another shape than the network's.
    """
    for prompt in prompts:
        prompt.check_inside(embedding.slice_shape)
    on_cpu = sam.device.type == "cpu"
    frame, features = Frame(embedding.slice_shape, sam.image_encoder.img_size), _features(sam, embedding)
    questions = [_question(sam, frame, prompt, asking.window_cells) for prompt in prompts]
    batches = _batches(questions, chunk or (1 if on_cpu else GPU_CHUNK))

    def answer(positions: Sequence[int]) -> list[MaskPrediction]:
        return _decode_batch(sam, features, frame, [questions[position] for position in positions], asking.box_as_mask)

    answered = map_over_cores(answer, batches) if on_cpu else [answer(batch) for batch in batches]
    by_position = dict(zip(chain(*batches), chain(*answered), strict=True))
    return [by_position[position] for position in range(len(prompts))]


@dataclass(frozen=True, eq=False)
class _Question:
    """A prompt in the model frame, and where it is answered.

    Attributes:
        prompt: as it was asked.
        box_xyxy: (4,) pixels of the model frame, or None.
        points_xy: (K, 2) pixels of the model frame, K may be 0.
        window: part of the embedding.
    """

    prompt: Prompt
    box_xyxy: NDArray[np.float64] | None
    points_xy: NDArray[np.float64]
    window: Window


def _question(sam: Sam, frame: Frame, prompt: Prompt, window_cells: int | None) -> _Question:
    box = frame.to_model_xyxy([prompt.box.xyxy])[0] if prompt.box else None
    points = frame.to_model_xy(np.reshape(prompt.points.xy if prompt.points else (), (-1, 2)))
    return _Question(prompt, box, points, window_for(box, points, sam, window_cells))


def _batches(questions: Sequence[_Question], size: int) -> list[list[int]]:
    """Positions of questions that can share a forward pass: equal parts and window sides, at most `size` of them."""
    alike: dict[tuple[bool, int, int], list[int]] = {}
    for position, question in enumerate(questions):
        key = question.box_xyxy is not None, len(question.points_xy), question.window.side
        alike.setdefault(key, []).append(position)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _features(sam: Sam, embedding: Embedding) -> Tensor:
    expected = (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    if embedding.features.shape != expected:
        raise ValueError(f"embedding of shape {embedding.features.shape}, the network makes {expected}")
    return torch.from_numpy(embedding.features.astype(np.float32)).to(sam.device)


def _decode_batch(
    sam: Sam, features: Tensor, frame: Frame, questions: Sequence[_Question], box_as_mask: bool
) -> list[MaskPrediction]:
    windows = [question.window for question in questions]
    origins_px = np.array([window.origin_xy(stride_of(sam)) for window in windows])
    with torch.inference_mode():
        points, boxes = _points(questions, origins_px, sam.device), _boxes(questions, origins_px, sam.device)
        masks = None
        if boxes is not None and box_as_mask:
            side = windows[0].side
            masks = box_mask_prompt(boxes, side * stride_of(sam), side * LOW_RES_PER_EMBEDDING)
        low_res, iou_predictions = ask(
            sam,
            torch.stack([window.of(features) for window in windows]),
            points=points,
            boxes=boxes,
            mask_prompts=masks,
        )
        low_res_side = sam.prompt_encoder.mask_input_size[0]
        whole = torch.stack(
            [
                window.spread(one, low_res_side, LOW_RES_PER_EMBEDDING)
                for window, one in zip(windows, low_res, strict=True)
            ]
        )
        logits = sam.postprocess_masks(whole, frame.resized_shape, frame.slice_shape) - sam.mask_threshold
        answers, scores = logits.cpu().numpy(), iou_predictions.cpu().numpy()
    return [
        MaskPrediction(answers[n].astype(np.float32), scores[n].astype(np.float32), question.prompt)
        for n, question in enumerate(questions)
    ]


def _points(
    questions: Sequence[_Question], origins_px: NDArray[np.integer], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    if not len(questions[0].points_xy):
        return None
    xy = np.stack([question.points_xy for question in questions]) - origins_px[:, None]
    labels = [question.prompt.points.is_foreground for question in questions if question.prompt.points]
    return (
        torch.as_tensor(xy, dtype=torch.float32, device=device),
        torch.as_tensor(np.array(labels, dtype=np.int32), device=device),
    )


def _boxes(questions: Sequence[_Question], origins_px: NDArray[np.integer], device: torch.device) -> Tensor | None:
    boxes = [question.box_xyxy for question in questions if question.box_xyxy is not None]
    if not boxes:
        return None
    return torch.as_tensor(np.stack(boxes) - np.tile(origins_px, 2), dtype=torch.float32, device=device)
