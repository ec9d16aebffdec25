"""Embeddings and prompts to masks with torch: the cheap half of the network, done once per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import DeviceMemoryFault
from msksam_cli.sam.asking import (
    LOW_RES_PER_EMBEDDING,
    OUTSIDE_LOGIT,
    Asking,
    Layout,
    Questions,
    Window,
    answer_prompts,
)
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.encode import is_on_cpu
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.mask_decoder import predict_masks
from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.sam.threads import map_over_cores

GPU_CHUNK = 64


def decode_slices(
    sam: Sam,
    asked: Sequence[tuple[Embedding, Sequence[Prompt]]],
    *,
    asking: Asking,
    chunk: int | None = None,
    memory: DeviceMemory | None = None,
) -> list[list[MaskPrediction]]:
    """Answers to all prompts of some slices, in their order; see `answer_prompts`.

    Args:
        sam: the network whose encoder made the embeddings.
        asked: slices with their prompts, boxes and points in pixels of the slice.
        asking: how prompts are put to the decoder.
        chunk: prompts at once; when None, one on a CPU, where more are slower, and 64 elsewhere. Elsewhere it is
            halved as long as it does not fit.
        memory: what the device was found to hold, for later calls to begin with.

    Returns:
        One `MaskPrediction` per prompt with four candidates, above 0 inside: the network's own `mask_threshold` is
        taken off its logits. 0 is the decoder's single answer, 1 to 3 its alternatives for an ambiguous prompt.

    Raises:
        ValueError: a prompt lies outside its slice, or an embedding has another side than the network's.
        DeviceMemoryFault: one prompt alone does not fit the device's memory.
    """
    if is_on_cpu(sam):
        return _decoded(sam, asked, asking, chunk or 1)
    memory = memory or DeviceMemory()
    together = min(memory.prompts_at_once(chunk or GPU_CHUNK), max(sum(len(prompts) for _, prompts in asked), 1))
    while True:
        try:
            return _decoded(sam, asked, asking, together)
        except torch.OutOfMemoryError as error:
            if together == 1:
                raise DeviceMemoryFault(
                    "one prompt does not fit the device's memory", "Choose a smaller model or --device cpu"
                ) from error
        memory.prompts = together = together // 2
        torch.cuda.empty_cache()


def _decoded(
    sam: Sam, asked: Sequence[tuple[Embedding, Sequence[Prompt]]], asking: Asking, together: int
) -> list[list[MaskPrediction]]:
    """`decode_slices` with so many prompts at once."""
    on_cpu = is_on_cpu(sam)
    features = [torch.from_numpy(embedding.features.astype(np.float32)).to(sam.device) for embedding, _ in asked]

    def answer(questions: Questions) -> list[MaskPrediction]:
        return _answered(sam, [features[number] for number in questions.slice_numbers], questions, asking.box_as_mask)

    return answer_prompts(
        asked,
        layout_of(sam),
        asking,
        together=together,
        answer_all=lambda batches: map_over_cores(answer, batches) if on_cpu else [answer(batch) for batch in batches],
    )


def layout_of(sam: Sam) -> Layout:
    """How the network's embeddings lie in its input."""
    return Layout(int(sam.image_encoder.img_size), int(sam.prompt_encoder.image_embedding_size[0]))


def ask(
    sam: Sam,
    features: Tensor,
    *,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    mask_prompts: Tensor | None,
    arithmetic: AbstractContextManager[object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Low-res logits (N, 4, 4h, 4w) and IoU predictions (N, 4) of N prompts, each in its own embedding.

    Args:
        sam: the network.
        features: (N, 256, h, w) embeddings, or windows of them, h = w.
        points: (N, K, 2) pixels counted from the corner of what `features` show, and (N, K) labels.
        boxes: (N, 4), counted alike.
        mask_prompts: (N, 1, 4h, 4w) logits.
        arithmetic: context the decoder runs in, such as autocast.
    """
    cells = features.shape[-1]
    sparse, dense = _prompt_encoder(sam, cells)(points=points, boxes=boxes, masks=mask_prompts)
    with arithmetic or nullcontext():
        return predict_masks(sam.mask_decoder, features + dense, _positions(sam, cells), sparse)


def spread(logits: Tensor, windows: Sequence[Window], cells: int) -> Tensor:
    """Low-res logits (N, C, h, w) of windows as (N, C, H, W) of the whole embedding, far below 0 outside."""
    side = cells * LOW_RES_PER_EMBEDDING
    if logits.shape[-1] == side:
        return logits
    whole = logits.new_full((*logits.shape[:2], side, side), OUTSIDE_LOGIT)
    for one, part, window in zip(whole, logits, windows, strict=True):
        rows, columns = window.part(LOW_RES_PER_EMBEDDING)
        one[:, rows, columns] = part
    return whole


def _prompt_encoder(sam: Sam, cells: int) -> Sam:
    """The network's prompt encoder for an embedding of `cells` a side; it shares the weights."""
    own = sam.prompt_encoder
    before = int(own.image_embedding_size[0])
    if cells == before:
        return own
    resized = copy(own)
    resized.image_embedding_size = (cells, cells)
    resized.input_image_size = (own.input_image_size[0] * cells // before,) * 2
    resized.mask_input_size = (own.mask_input_size[0] * cells // before,) * 2
    return resized


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
@torch.no_grad()
def _positions_of(layer: Sam, cells: int, device: torch.device) -> Tensor:
    with torch.autocast(device.type, enabled=False):  # kept for all, whoever asks first
        positions: Tensor = layer((cells, cells))
    return positions.flatten(1).T[None].contiguous()


def _positions(sam: Sam, cells: int) -> Tensor:
    """Positions (1, L, C) of an embedding's cells, row by row, L = cells²; they never change."""
    return _positions_of(sam.prompt_encoder.pe_layer, cells, sam.device)


def _answered(sam: Sam, features: Sequence[Tensor], questions: Questions, box_as_mask: bool) -> list[MaskPrediction]:
    """Answers to N questions, each with the features (256, h, w) of its slice."""
    layout, windows = layout_of(sam), questions.windows
    frame = Frame(questions.slice_shape, layout.side_px)
    with torch.inference_mode():
        boxes = None if questions.boxes_xyxy is None else torch.from_numpy(questions.boxes_xyxy).to(sam.device)
        masks = None
        if boxes is not None and box_as_mask:
            masks = box_mask_prompt(boxes, windows[0].side * layout.stride_px, windows[0].side * LOW_RES_PER_EMBEDDING)
        low_res, iou_predictions = ask(
            sam,
            torch.stack([one[:, *window.part()] for one, window in zip(features, windows, strict=True)]),
            points=_points(questions, sam.device),
            boxes=boxes,
            mask_prompts=masks,
        )
        whole = spread(low_res, windows, layout.cells)
        logits = sam.postprocess_masks(whole, frame.resized_shape, frame.slice_shape) - sam.mask_threshold
        answers, scores = _on_host(logits.float()), _on_host(iou_predictions.float())
    return [MaskPrediction(answers[n], scores[n], prompt) for n, prompt in enumerate(questions.prompts)]


def _on_host(values: Tensor) -> NDArray[np.float32]:
    """The values in the computer's memory; from a GPU through pinned memory, which is several times faster."""
    if not values.is_cuda:
        return np.asarray(values.cpu().numpy())
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values)
    return np.asarray(host.numpy())


def _points(questions: Questions, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if not questions.points_xy.shape[1]:
        return None
    labels = torch.from_numpy(questions.is_foreground.astype(np.int32))
    return torch.from_numpy(questions.points_xy).to(device), labels.to(device)
