"""Embeddings and prompts to masks with torch: the cheap half of the network, done once per prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import DeviceMemoryFault
from msksam_cli.sam.asking import (
    LOW_RES_PER_EMBEDDING,
    OUTSIDE_LOGIT,
    Asking,
    Focus,
    Layout,
    Questions,
    Seen,
    answer_prompts,
    seen_by,
)
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.encode import is_on_cpu
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.sam.seen import Planes, SeenCells, dense_prompts, masks_of
from msksam_cli.sam.threads import map_over_cores

CPU_CHUNK, GPU_CHUNK = 6, 64
CELLS_ON_CPU = 1300  # of 1 KiB each, near as much as a core's cache holds; more prompts at once are slower


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
        chunk: prompts at once; when None, on a CPU as many of six as a core's cache holds, and 64 elsewhere. Elsewhere
            it is halved as long as it does not fit.
        memory: what the device was found to hold, for later calls to begin with.

    Returns:
        One `MaskPrediction` per prompt with four candidates, above 0 inside: the network's own `mask_threshold` is
        taken off its logits. 0 is the decoder's single answer, 1 to 3 its alternatives for an ambiguous prompt.

    Raises:
        ValueError: a prompt lies outside its slice, or an embedding has another side than the network's.
        DeviceMemoryFault: one prompt alone does not fit the device's memory.
    """
    if is_on_cpu(sam):
        return _decoded(sam, asked, asking, chunk or CPU_CHUNK)
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
    layout = layout_of(sam)
    block_cells = asking.block_in(layout.cells)

    def image_of(embedding: Embedding) -> Planes:
        features = torch.from_numpy(embedding.features.copy()).to(sam.device, torch.float32)
        return Planes.of(features[None], block_cells)

    images = map_over_cores(image_of, [embedding for embedding, _ in asked], None if on_cpu else 1)

    def answer(questions: Questions) -> list[MaskPrediction]:
        return _answered(sam, [images[number] for number in questions.slice_numbers], questions, asking)

    return answer_prompts(
        asked,
        layout,
        asking,
        together=together,
        cells_together=CELLS_ON_CPU if on_cpu else math.inf,
        answer_all=lambda batches: map_over_cores(answer, batches) if on_cpu else [answer(batch) for batch in batches],
    )


def layout_of(sam: Sam) -> Layout:
    """How the network's embeddings lie in its input."""
    return Layout(int(sam.image_encoder.img_size), int(sam.prompt_encoder.image_embedding_size[0]))


def ask(
    sam: Sam,
    images: Sequence[Planes],
    *,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    mask_prompts: Tensor | None,
    seen: Seen | None = None,
    arithmetic: AbstractContextManager[object] | None = None,
) -> tuple[Tensor, Tensor]:
    """Low-res logits (N, 4, 4h, 4h) and IoU predictions (N, 4) of N prompts, each in its own embedding.

    Args:
        sam: the network.
        images: N embeddings (1, 256, h, h) one by one, or one of N together, and the means of their blocks where these
            are seen.
        points: (N, K, 2) pixels of the model frame, and (N, K) labels.
        boxes: (N, 4), counted alike.
        mask_prompts: (N, 1, 4h, 4h) logits; of a block of cells that is seen as one, what the first cell has counts.
        seen: what each prompt sees; beyond its cells logits are far below 0. None to see every cell.
        arithmetic: context the decoder runs in, such as autocast.
    """
    side, blocks = images[0].cells.shape[-1], images[0].blocks.shape[-1]
    sparse, _ = sam.prompt_encoder(points=points, boxes=boxes, masks=None)
    look = None if seen is None else _on_device(seen, images[0].cells.device)
    positions = positions_of(sam, side, side // blocks if blocks else None)
    dense = sam.prompt_encoder.no_mask_embed.weight[None]
    if mask_prompts is not None:
        dense = dense_prompts(sam.prompt_encoder, mask_prompts, look, blocks)
    with arithmetic or nullcontext():
        return masks_of(sam.mask_decoder, images, positions, dense=dense, sparse=sparse, seen=look)


def seen_of(focuses: Sequence[Focus], layout: Layout, asking: Asking) -> Seen | None:
    """What prompts see, None where each sees every cell."""
    whole, block_cells = Focus(0, 0, layout.cells, layout.cells), asking.block_in(layout.cells)
    if block_cells is None or all(focus == whole for focus in focuses):
        return None
    return seen_by(focuses, layout.cells, block_cells)


def _on_device(seen: Seen, device: torch.device) -> SeenCells:
    return SeenCells(*(torch.from_numpy(values).to(device) for values in (seen.near, seen.far, seen.log_counts)))


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
@torch.no_grad()
def _positions(layer: Sam, cells: int, block_cells: int | None, device: torch.device) -> Planes:
    with torch.autocast(device.type, enabled=False):  # kept for all, whoever asks first
        positions = layer((cells, cells))[None]  # gathered cell by cell: all of a cell lies together
        return Planes.of(positions.contiguous(memory_format=torch.channels_last), block_cells)


def positions_of(sam: Sam, cells: int, block_cells: int | None = None) -> Planes:
    """Positions (1, C, h, h) of an embedding's cells and blocks; they never change."""
    return _positions(sam.prompt_encoder.pe_layer, cells, block_cells, sam.device)


def _at_slice(low_res: Tensor, frame: Frame, focuses: Sequence[Focus] = ()) -> Tensor:
    """Low-res logits (N, M, h, h) at the slice's own size, as `Sam.postprocess_masks` but for steps without effect.

    Args:
        low_res: the logits.
        frame: of the slice.
        focuses: the cells beyond which all logits are `OUTSIDE_LOGIT`; none where that is not so.
    """
    rows, columns = frame.resized_shape
    if not focuses or low_res.shape[-1] != frame.side_px:
        planes = _resized(low_res, (frame.side_px, frame.side_px))[..., :rows, :columns]
        return _resized(planes, frame.slice_shape)
    first = min(one.top for one in focuses), min(one.left for one in focuses)
    last = max(one.top + one.rows for one in focuses), max(one.left + one.columns for one in focuses)
    a_cell = LOW_RES_PER_EMBEDDING
    in_frame, in_slice = frame.windows_round(
        (first[0] * a_cell, first[1] * a_cell), (last[0] * a_cell, last[1] * a_cell)
    )
    planes = low_res.new_full((*low_res.shape[:2], *frame.slice_shape), OUTSIDE_LOGIT)
    part = planes[..., in_slice[0], in_slice[1]]
    part.copy_(_resized(low_res[..., in_frame[0], in_frame[1]], (part.shape[2], part.shape[3])))
    return planes


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if planes.shape[2:] == size:
        return planes
    return functional.interpolate(planes, size, mode="bilinear", align_corners=False)


def _answered(sam: Sam, images: Sequence[Planes], questions: Questions, asking: Asking) -> list[MaskPrediction]:
    """Answers to N questions, each with the embedding of its slice."""
    layout = layout_of(sam)
    frame = Frame(questions.slice_shape, layout.side_px)
    with torch.inference_mode():
        boxes = None if questions.boxes_xyxy is None else torch.from_numpy(questions.boxes_xyxy).to(sam.device)
        seen, masks = seen_of(questions.focuses, layout, asking), None
        if boxes is not None and asking.box_as_mask:
            masks = box_mask_prompt(boxes, layout.side_px, layout.cells * LOW_RES_PER_EMBEDDING)
        low_res, iou_predictions = ask(
            sam,
            images,
            points=_points(questions, sam.device),
            boxes=boxes,
            mask_prompts=masks,
            seen=seen,
        )
        logits = _at_slice(low_res, frame, questions.focuses if seen else ())
        if sam.mask_threshold:
            logits -= sam.mask_threshold
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
