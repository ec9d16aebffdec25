"""segment-anything's vision transformer with its own weights, without writing its attention scores to memory.

The stock module fills gigabytes with the scores of a 1024 px image, and multiplies the padding of its windows as if it
were image. Here scores live in pieces that fit a core's cache on a CPU, and in fused kernels elsewhere, and padding is
given the value it has. The sums are the stock module's, so that single precision agrees with it to rounding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from msksam_cli.sam.vision_shim import import_modeling

_SCORES_AT_ONCE = 2**18  # 1 MiB in single precision: what a core keeps near
_TOKENS_AT_ONCE = 512
_WIDTH_STEP = 8


def is_vit(encoder: object) -> bool:
    """Whether an image encoder is segment-anything's vision transformer."""
    return isinstance(encoder, import_modeling().image_encoder.ImageEncoderViT)


def vit_features(encoder: Any, images: Tensor) -> Tensor:
    """What `encoder(images)` gives; under autocast the tokens themselves stay in single precision.

    Args:
        encoder: `segment_anything.modeling.ImageEncoderViT`.
        images: (B, 3, S, S) float32, S being the encoder's side.

    Returns:
        (B, 256, S / 16, S / 16) float32.
    """
    x = encoder.patch_embed(images).float()  # (B, H, W, C)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    x = x.contiguous()
    for block in encoder.blocks:
        x += _attended(block.attn, block.norm1(x), block.window_size)
        _add_mlp(block, x)
    features: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return features.float()


def _attended(attention: Any, x: Tensor, window: int) -> Tensor:
    """Self-attention (B, H, W, C) of normed tokens (B, H, W, C), within windows where `window` is not 0."""
    batch, height, width, channels = x.shape
    qkv = attention.qkv(x)  # (B, H, W, 3C)
    rows, columns = (window or height), (window or width)
    tall, wide = math.ceil(height / rows), math.ceil(width / columns)
    if (tall * rows, wide * columns) != (height, width):
        padded = qkv.new_empty((batch, tall * rows, wide * columns, 3 * channels))
        padded[...] = attention.qkv.bias
        padded[:, :height, :width] = qkv
        qkv = padded
    heads = attention.num_heads
    q, k, v = (
        qkv.view(batch, tall, rows, wide, columns, 3, heads, channels // heads)
        .permute(5, 0, 1, 3, 6, 2, 4, 7)
        .reshape(3, batch * tall * wide * heads, rows * columns, channels // heads)
        .contiguous()
    )
    bias_h, bias_w = _position_bias(attention, q.unflatten(1, (rows, columns)))
    attend = attend_in_pieces if x.device.type == "cpu" else attend_fused
    out = attend(q * attention.scale, k, v, bias_h, bias_w)
    out = (
        out.view(batch, tall, wide, heads, rows, columns, channels // heads)
        .permute(0, 1, 4, 2, 5, 3, 6)
        .reshape(batch, tall * rows, wide * columns, channels)[:, :height, :width]
    )
    projected: Tensor = attention.proj(out)
    return projected.float()


def _position_bias(attention: Any, q: Tensor) -> tuple[Tensor, Tensor]:
    """What queries (N, h, w, d) add to their scores by a key's row (N, h·w, h) and by its column (N, h·w, w)."""
    relative = import_modeling().image_encoder.get_rel_pos
    rows, columns = q.shape[1:3]
    by_row = relative(rows, rows, attention.rel_pos_h).to(q.dtype)  # (h, h, d)
    by_column = relative(columns, columns, attention.rel_pos_w).to(q.dtype)
    return (
        torch.einsum("nhwd,hkd->nhwk", q, by_row).flatten(1, 2),
        torch.einsum("nhwd,wkd->nhwk", q, by_column).flatten(1, 2),
    )


def attend_in_pieces(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """softmax(q kᵀ + bias) v, some queries of some heads at a time.

    A bias shorter than a head is cheaper as part of the product, see `lengthened`.

    Args:
        q: (N, S, d) queries, scaled already.
        k: (N, S, d) keys of a grid of h rows and w columns, S = h · w.
        v: (N, S, d) values.
        bias_h: (N, S, h) what a query adds for a key's row.
        bias_w: (N, S, w) the same for its column.

    Returns:
        (N, S, d).
    """
    rows, columns = bias_h.shape[2], bias_w.shape[2]
    is_added = rows + columns > q.shape[2]
    if not is_added:
        q, k = lengthened(q, k, bias_h, bias_w)
    number, tokens, _ = q.shape
    together = max(_SCORES_AT_ONCE // tokens**2, 1)
    queries = max(min(_SCORES_AT_ONCE // tokens, tokens), 1)
    out, keys = torch.empty_like(v), k.transpose(1, 2)
    for first in range(0, number, together):
        heads = slice(first, first + together)
        for start in range(0, tokens, queries):
            part = heads, slice(start, start + queries)
            scores = torch.bmm(q[part], keys[heads])
            if is_added:
                grid = scores.view(*scores.shape[:2], rows, columns)
                grid += bias_h[part][..., None]
                grid += bias_w[part][..., None, :]
            out[part] = torch.bmm(torch.softmax(scores, dim=-1), v[heads])
    return out


def lengthened(q: Tensor, k: Tensor, bias_h: Tensor, bias_w: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys (N, S, D) whose products are q kᵀ + bias; arguments as for `attend_in_pieces`.

    A query is lengthened by its bias for every row and column, a key by a 1 at its own row and at its own column, and
    both by noughts up to a width that kernels like.
    """
    (number, tokens, width), rows, columns = q.shape, bias_h.shape[2], bias_w.shape[2]
    spare = q.new_zeros((tokens, -(width + rows + columns) % _WIDTH_STEP))
    own_row = torch.eye(rows, dtype=q.dtype, device=q.device).repeat_interleave(columns, dim=0)
    own_column = torch.eye(columns, dtype=q.dtype, device=q.device).repeat(rows, 1)
    place = torch.cat([own_row, own_column, spare], dim=1).expand(number, -1, -1)
    return (
        torch.cat([q, bias_h, bias_w, spare.expand(number, -1, -1)], dim=2),
        torch.cat([k, place], dim=2),
    )


def attend_fused(q: Tensor, k: Tensor, v: Tensor, bias_h: Tensor, bias_w: Tensor) -> Tensor:
    """The same by torch's fused kernels, which take no such bias; arguments and result as for `attend_in_pieces`."""
    width = v.shape[2]
    q, k = lengthened(q, k, bias_h, bias_w)
    v = functional.pad(v, (0, q.shape[2] - width))
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], scale=1.0)[0, ..., :width]


def _add_mlp(block: Any, x: Tensor) -> None:
    """Add a block's perceptron to tokens (B, H, W, C) in place; some of them at a time, whose hidden layer is small."""
    tokens = x.view(-1, x.shape[-1])
    step = _TOKENS_AT_ONCE if x.device.type == "cpu" else len(tokens)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        part += block.mlp(block.norm2(part))
