"""Embeddings and prompts to masks: the cheap half of the network, done once per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.sam.threads import map_over_cores

GPU_CHUNK = 64


def decode_slice(
    sam: Sam, embedding: Embedding, prompts: Sequence[Prompt], *, box_as_mask: bool, chunk: int | None = None
) -> list[MaskPrediction]:
    """Answers to all prompts of one slice, in their order.

    Prompts with the same kinds and number of parts go through the decoder together; nothing is padded, so that an
    answer is the same whatever else was asked.

    Args:
        sam: the network whose encoder made the embedding.
        embedding: the slice.
        prompts: boxes and points in pixels of the slice.
        box_as_mask: whether boxes are also given as dense masks, see `box_mask_prompt`.
        chunk: prompts at once; when None, one on a CPU, where more are slower, and 64 elsewhere.

    Returns:
        One `MaskPrediction` per prompt with four candidates, above 0 inside: the network's own `mask_threshold` is
        taken off its logits. 0 is the decoder's single answer, 1 to 3 its
        alternatives for an ambiguous prompt.

    Raises:
        ValueError: a prompt lies outside the slice, or the embedding has another shape than the network's.
    """
    for prompt in prompts:
        prompt.check_inside(embedding.slice_shape)
    on_cpu = sam.device.type == "cpu"
    batches = _batches(prompts, chunk or (1 if on_cpu else GPU_CHUNK))
    frame, features = Frame(embedding.slice_shape, sam.image_encoder.img_size), _features(sam, embedding)

    def answer(positions: Sequence[int]) -> list[MaskPrediction]:
        return _decode_batch(sam, features, frame, [prompts[position] for position in positions], box_as_mask)

    answered = map_over_cores(answer, batches) if on_cpu else [answer(batch) for batch in batches]
    by_position = dict(zip(chain(*batches), chain(*answered), strict=True))
    return [by_position[position] for position in range(len(prompts))]


def _batches(prompts: Sequence[Prompt], size: int) -> list[list[int]]:
    """Positions of prompts that can share a forward pass: equal kinds and number of parts, at most `size` of them."""
    alike: dict[tuple[bool, int], list[int]] = {}
    for position, prompt in enumerate(prompts):
        parts = prompt.box is not None, len(prompt.points.xy) if prompt.points else 0
        alike.setdefault(parts, []).append(position)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _features(sam: Sam, embedding: Embedding) -> Tensor:
    expected = (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    if embedding.features.shape != expected:
        raise ValueError(f"embedding of shape {embedding.features.shape}, the network makes {expected}")
    return torch.from_numpy(embedding.features.astype(np.float32)).to(sam.device)[None]


def _decode_batch(
    sam: Sam, features: Tensor, frame: Frame, prompts: Sequence[Prompt], box_as_mask: bool
) -> list[MaskPrediction]:
    with torch.inference_mode():
        points, boxes = _points(frame, prompts, sam.device), _boxes(frame, prompts, sam.device)
        masks = None
        if boxes is not None and box_as_mask:
            masks = box_mask_prompt(boxes, frame.side_px, sam.prompt_encoder.mask_input_size[0])
        sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
        low_res, iou_predictions = sam.mask_decoder.predict_masks(
            image_embeddings=features,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        logits = sam.postprocess_masks(low_res, frame.resized_shape, frame.slice_shape) - sam.mask_threshold
        logits, scores = logits.cpu().numpy(), iou_predictions.cpu().numpy()
    return [
        MaskPrediction(logits[n].astype(np.float32), scores[n].astype(np.float32), prompt)
        for n, prompt in enumerate(prompts)
    ]


def _points(frame: Frame, prompts: Sequence[Prompt], device: torch.device) -> tuple[Tensor, Tensor] | None:
    points = [prompt.points for prompt in prompts if prompt.points]
    if not points:
        return None
    xy = frame.to_model_xy([one.xy for one in points])
    labels = np.array([one.is_foreground for one in points], dtype=np.int32)
    return torch.as_tensor(xy, dtype=torch.float32, device=device), torch.as_tensor(labels, device=device)


def _boxes(frame: Frame, prompts: Sequence[Prompt], device: torch.device) -> Tensor | None:
    boxes = [prompt.box.xyxy for prompt in prompts if prompt.box]
    if not boxes:
        return None
    return torch.as_tensor(frame.to_model_xyxy(boxes), dtype=torch.float32, device=device)
