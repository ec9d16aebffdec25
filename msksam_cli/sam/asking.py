"""How prompts are put to the mask decoder: in the whole of an embedding, or in a window of it round a small box.

An encoder that sees no positions embeds a part of an image as it embeds the whole, so that the decoder, whose cost
grows with what it looks at, need only look at the neighbourhood of what is asked for. Decoding and training ask alike.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, zeros_like

from msksam_cli.sam.model import Sam

_OUTSIDE_LOGIT = -10.0


@dataclass(frozen=True)
class Window:
    """A square part of an embedding, in its cells.

    Attributes:
        top: first row.
        left: first column.
        side: rows and columns.
    """

    top: int
    left: int
    side: int

    def of(self, planes: Tensor, per_cell: int = 1) -> Tensor:
        """The window's part (…, h, w) of planes (…, H, W) that have `per_cell` pixels along each cell."""
        rows = slice(per_cell * self.top, per_cell * (self.top + self.side))
        columns = slice(per_cell * self.left, per_cell * (self.left + self.side))
        return planes[..., rows, columns]

    def spread(self, logits: Tensor, side: int, per_cell: int) -> Tensor:
        """Logits (…, h, w) of the window as (…, S, S) of the whole, far below 0 outside."""
        if logits.shape[-1] == side:
            return logits
        whole = logits.new_full((*logits.shape[:-2], side, side), _OUTSIDE_LOGIT)
        self.of(whole, per_cell)[...] = logits
        return whole

    def origin_xy(self, stride_px: int) -> tuple[int, int]:
        """Its first pixel (x, y) in the model frame."""
        return self.left * stride_px, self.top * stride_px


def window_for(
    box_xyxy_px: ArrayLike | None, points_xy_px: ArrayLike | None, sam: Sam, window_cells: int | None
) -> Window:
    """Where a prompt is answered: in a window round its box, if that is at most half as wide and holds its points.

    Args:
        box_xyxy_px: (4,) in the model frame; without a box nothing says how large the answer is, so that the whole
            embedding is taken.
        points_xy_px: (K, 2) in the model frame.
        sam: the network.
        window_cells: side of the window; None takes the whole embedding.
    """
    cells = int(sam.prompt_encoder.image_embedding_size[0])
    whole = Window(0, 0, cells)
    if box_xyxy_px is None or window_cells is None or window_cells >= cells:
        return whole
    stride_px = stride_of(sam)
    box = np.asarray(box_xyxy_px, dtype=np.float64).reshape(2, 2)
    if (box[1] - box[0]).max() > window_cells * stride_px / 2:
        return whole
    middle = box.mean(axis=0) / stride_px
    left, top = (int(v) for v in np.clip(np.rint(middle - window_cells / 2), 0, cells - window_cells))
    window = Window(top, left, window_cells)
    if points_xy_px is not None:
        inside_px = np.asarray(points_xy_px, dtype=np.float64).reshape(-1, 2) - window.origin_xy(stride_px)
        if (inside_px < 0).any() or (inside_px > window_cells * stride_px - 1).any():
            return whole
    return window


def stride_of(sam: Sam) -> int:
    """Pixels of the model frame along each side of a cell of its embedding."""
    return int(sam.image_encoder.img_size // sam.prompt_encoder.image_embedding_size[0])


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

    segment-anything's decoder adds one image's embedding to the dense prompt of each question. Here each question
    brings its own embedding with its dense prompt, and the one image is nought.

    Args:
        sam: the network.
        features: (N, 256, h, w) embeddings, or windows of them, h = w.
        points: (N, K, 2) pixels counted from the corner of what `features` show, and (N, K) labels.
        boxes: (N, 4), counted alike.
        mask_prompts: (N, 1, 4h, 4w) logits.
        arithmetic: context the decoder runs in, such as autocast.
    """
    encoder = _prompt_encoder(sam, features.shape[-1])
    sparse, dense = encoder(points=points, boxes=boxes, masks=mask_prompts)
    with arithmetic or nullcontext():
        logits, scores = sam.mask_decoder.predict_masks(
            image_embeddings=zeros_like(features[:1]),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=features + dense,
        )
    return logits, scores


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
