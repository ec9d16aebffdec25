"""segment-anything's mask decoder with its own weights, with less arithmetic and far less memory.

A few tokens attend to thousands of cells of the image and the cells to the tokens. The stock module projects every cell
for each of these attentions. But a product of projections is one matrix, and the tokens are few, so that what projects
the cells is applied to the tokens instead: (Wq t) · (Wk c) = (Wkᵀ Wq t) · c. Its upscaling by strided transposed
convolutions treats every cell by itself; its parts are laid beside each other, and only the masks are put in order.
Sums are the stock module's up to their order. As no cell need have neighbours, some may be left out, or stand for many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Cells:
    """What N questions see of their images.

    Attributes:
        values: (N, L, C) embeddings of cells, and behind them of whole blocks of cells.
        positions: (N or 1, L, C) where each is.
        log_counts: (N, L) logarithm of how many cells each stands for; None where each is one cell.
    """

    values: Tensor
    positions: Tensor
    log_counts: Tensor | None = None


def predict_masks(decoder: Any, cells: Cells, dense: Tensor, sparse: Tensor, masked: int) -> tuple[Tensor, Tensor]:
    """What `decoder.predict_masks` answers, each question in an image of its own.

    Args:
        decoder: `segment_anything.modeling.MaskDecoder`.
        cells: what each question sees.
        dense: (N or 1, L or 1, C) embedded mask prompts of the same cells.
        sparse: (N, T, C) embedded points and boxes.
        masked: how many of the cells, from the first on, masks are wanted of.

    Returns:
        Low-res logits (N, M, masked, 16) of the single answer and its alternatives, see `planes_of`, and IoU
        predictions (N, M).
    """
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(sparse.shape[0], -1, -1), sparse], dim=1)  # (N, t, C)
    answers, values = _two_way(decoder.transformer, tokens, replace(cells, values=cells.values + dense))
    weights = torch.stack(
        [mlp(answers[:, 1 + number]) for number, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )  # (N, M, C / 8)
    return _masks(decoder.output_upscaling, values[:, :masked], weights), decoder.iou_prediction_head(answers[:, 0])


def planes_of(parts: Tensor, height: int, width: int) -> Tensor:
    """Masks (N, M, 4h, 4w) of all h · w cells, row by row, of which each has 16 pixels (N, M, h · w, 16)."""
    by_part: Tensor = parts.view(*parts.shape[:2], height, width, 2, 2, 2, 2)
    return by_part.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(*parts.shape[:2], 4 * height, 4 * width)


def _two_way(transformer: Any, tokens: Tensor, seen: Cells) -> tuple[Tensor, Tensor]:
    """Tokens (N, t, C) and cells (N, L, C) after `transformer`, a `TwoWayTransformer`."""
    queries, cells = tokens, seen.values
    for layer in transformer.layers:
        placed = cells + seen.positions
        if layer.skip_first_layer_pe:
            queries = layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
        else:
            asking = queries + tokens
            queries = layer.norm1(queries + layer.self_attn(q=asking, k=asking, v=queries))
        heard = _of_cells(layer.cross_attn_token_to_image, queries + tokens, placed, cells, seen.log_counts)
        queries = layer.norm2(queries + heard)
        queries = layer.norm3(queries + layer.mlp(queries))
        cells = layer.norm4(cells + _of_tokens(layer.cross_attn_image_to_token, placed, queries + tokens, queries))
    last = transformer.final_attn_token_to_image
    heard = _of_cells(last, queries + tokens, cells + seen.positions, cells, seen.log_counts)
    return transformer.norm_final_attn(queries + heard), cells


def _of_cells(attention: Any, tokens: Tensor, placed: Tensor, cells: Tensor, log_counts: Tensor | None) -> Tensor:
    """What tokens (N, t, C) hear of cells (N, L, C), which they know by the same with positions.

    A score raised by the logarithm of a count is heard as that many cells with the same score would be.
    """
    q = attention.q_proj(tokens).unflatten(2, (attention.num_heads, -1))  # (N, t, H, d)
    scores = _scores(q, attention.k_proj, placed)
    shares = torch.softmax(scores if log_counts is None else scores + log_counts[:, None, None], dim=3)
    heard = torch.einsum("nhtl,nlc->nhtc", shares, cells)
    value = attention.v_proj.weight.unflatten(0, (attention.num_heads, -1))  # (H, d, C)
    out: Tensor = attention.out_proj(torch.einsum("nhtc,hdc->nthd", heard, value).flatten(2) + attention.v_proj.bias)
    return out


def _of_tokens(attention: Any, placed: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What cells (N, L, C), positions added, hear of tokens, whose keys and values are (N, t, C)."""
    heads = attention.num_heads
    k = attention.k_proj(keys).unflatten(2, (heads, -1))  # (N, t, H, d)
    shares = torch.softmax(_scores(k, attention.q_proj, placed), dim=2)
    v = attention.v_proj(values).unflatten(2, (heads, -1))
    said = torch.einsum("nthd,chd->nhtc", v, attention.out_proj.weight.unflatten(1, (heads, -1)))
    heard: Tensor = shares.flatten(1, 2).transpose(1, 2) @ said.flatten(1, 2)
    heard += attention.out_proj.bias
    return heard


def _scores(tokens: Tensor, projection: Any, placed: Tensor) -> Tensor:
    """Scores (N, H, t, L) of projected tokens (N, t, H, d) with cells (N, L, C) yet to be projected."""
    heads, width = tokens.shape[2:]
    tokens = tokens * width**-0.5
    asked = torch.einsum("nthd,hdc->nhtc", tokens, projection.weight.unflatten(0, (heads, -1))).flatten(1, 2)
    own = torch.einsum("nthd,hd->nht", tokens, projection.bias.unflatten(0, (heads, -1))).flatten(1)
    scores = torch.baddbmm(own[..., None], asked, placed.transpose(1, 2))
    return scores.view(scores.shape[0], heads, -1, scores.shape[2])


def _masks(upscaling: Any, cells: Tensor, weights: Tensor) -> Tensor:
    """Masks (N, M, L, 16) of cells (N, L, C), whose upscaled parts are weighed by (N, M, C / 8)."""
    first, norm, first_act, last, last_act = upscaling
    parts = _split(first, cells)  # (N, L · 4, C / 4)
    parts = functional.layer_norm(parts, parts.shape[-1:], norm.weight, norm.bias, norm.eps)
    parts = last_act(_split(last, first_act(parts)))  # (N, L · 16, C / 8)
    masks: Tensor = weights @ parts.transpose(1, 2)  # (N, M, L · 16)
    return masks.view(*masks.shape[:2], -1, 16)


def _split(convolution: Any, cells: Tensor) -> Tensor:
    """The parts (N, L · 4, D), row by row, that a transposed 2 × 2 convolution of stride 2 makes of cells (N, L, C)."""
    channels, parts, *_ = convolution.weight.shape
    weight = convolution.weight.permute(0, 2, 3, 1).reshape(channels, 4 * parts)
    split: Tensor = cells @ weight + convolution.bias.repeat(4)
    return split.view(cells.shape[0], -1, parts)
