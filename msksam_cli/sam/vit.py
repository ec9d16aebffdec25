"""segment-anything's vision transformer with its own weights, without writing its attention scores to memory.

The stock module fills gigabytes with the scores of a 1024 px image, and multiplies the padding of its windows as if it
were image. Here scores live in pieces that fit a core's cache on a CPU, and in fused kernels elsewhere, and padding is
given the value it has. The sums are the stock module's, so that single precision agrees with it to rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from msksam_cli.sam.vision_shim import import_modeling

_SCORES_AT_ONCE = 2**18  # 1 MiB in single precision: what a core keeps near
_TOKENS_AT_ONCE = 512
_WIDTH_STEP = 8

ByOffset = tuple[Tensor, Tensor]


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
    x = _patches(encoder.patch_embed.proj, images).float()  # (B, H, W, C)
    if encoder.pos_embed is not None:
        x += encoder.pos_embed
    for block in encoder.blocks:
        x += _attended(block.attn, block.norm1(x), block.window_size)
        _add_mlp(block, x)
    features: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return features.float()


def _patches(convolution: Any, images: Tensor) -> Tensor:
    """Tokens (B, H, W, C) of a convolution whose stride is its width: a product of patches."""
    batch, colours, height, width = images.shape
    (down, right), (channels, *_) = convolution.stride, convolution.weight.shape
    split = images.view(batch, colours, height // down, down, width // right, right)
    patches = split.permute(0, 2, 4, 1, 3, 5).flatten(3)
    return functional.linear(patches, convolution.weight.view(channels, -1), convolution.bias)


def _attended(attention: Any, x: Tensor, window: int) -> Tensor:
    """Self-attention (B, H, W, C) of normed tokens (B, H, W, C), within windows where `window` is not 0."""
    batch, height, width, channels = x.shape
    qkv = attention.qkv(x).flatten(1, 2)  # (B, H · W, 3C)
    if window:
        places, padding = _window_places(height, width, window, x.device)
        in_windows = qkv.new_empty((batch, len(places) + len(padding), 3 * channels))
        in_windows.index_copy_(1, places, qkv)
        in_windows[:, padding] = attention.qkv.bias.to(qkv.dtype)
        qkv = in_windows.view(-1, window * window, 3 * channels)
    q, k, v = qkv.unflatten(2, (3, attention.num_heads, -1)).unbind(2)  # (B', S, heads, d)
    by_offset = attention.rel_pos_h.flip(0).to(q.dtype), attention.rel_pos_w.flip(0).to(q.dtype)
    attend = attend_in_pieces if x.device.type == "cpu" else attend_fused
    out = attend(q, k, v, by_offset, attention.scale).flatten(2).view(batch, -1, channels)
    if window:
        out = out.index_select(1, places)
    projected: Tensor = attention.proj(out)
    return projected.view(x.shape)


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)
def _window_places(height: int, width: int, window: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where tokens, row by row, lie among those of windows one after the other, and where those are padding."""
    rows, columns = (-(-side // window) * window for side in (height, width))
    order = torch.arange(rows * columns, device=device).view(rows // window, columns // window, window, window)
    order = order.permute(0, 2, 1, 3).reshape(rows, columns)
    places = order[:height, :width].flatten()
    is_padding = torch.ones(rows * columns, dtype=torch.bool, device=device)
    is_padding[places] = False
    return places, is_padding.nonzero()[:, 0]


def attend_in_pieces(q: Tensor, k: Tensor, v: Tensor, by_offset: ByOffset, scale: float) -> Tensor:
    """softmax(scale · q kᵀ + bias) v, some queries of some heads at a time.

    A query adds to its score with a key its product with what their difference in rows stands for, and the same for
    columns. Where that is little beside a head it is cheaper as part of the product, see `lengthened`.

    Args:
        q: (B, S, heads, d) queries of a grid of h rows and w columns, S = h · w.
        k: (B, S, heads, d) keys.
        v: (B, S, heads, d) values.
        by_offset: (2h − 1, d) what it stands for that a key lies −(h − 1) … h − 1 rows below a query, and (2w − 1, d)
            the same for columns to the right.
        scale: of the products of queries and keys.

    Returns:
        (B, S, heads, d).
    """
    (batch, tokens, heads, width), (rows, columns) = q.shape, _grid_shape(by_offset)
    biases: tuple[Tensor, ...] = ()
    if rows + columns <= width:
        q, k = lengthened(q, k, by_offset, scale)
    else:
        biases = tuple(_heads_first(bias) for bias in position_bias(q, by_offset))
    q, k, v = _heads_first(q * scale), _heads_first(k), _heads_first(v)
    together = max(_SCORES_AT_ONCE // tokens**2, 1)
    queries = max(min(_SCORES_AT_ONCE // tokens, tokens), 1)
    out, keys = torch.empty_like(v), k.transpose(1, 2)
    for first in range(0, batch * heads, together):
        some = slice(first, first + together)
        for start in range(0, tokens, queries):
            part = some, slice(start, start + queries)
            scores = torch.bmm(q[part], keys[some])
            for bias, axis in zip(biases, (3, 2), strict=False):
                grid = scores.view(*scores.shape[:2], rows, columns)
                grid += bias[part].unsqueeze(axis)
            out[part] = torch.bmm(torch.softmax(scores, dim=-1), v[some])
    return out.view(batch, heads, tokens, -1).transpose(1, 2)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, by_offset: ByOffset, scale: float) -> Tensor:
    """The same by torch's fused kernels, which take no such bias; arguments and result as for `attend_in_pieces`."""
    q, k = lengthened(q, k, by_offset, scale)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


def lengthened(q: Tensor, k: Tensor, by_offset: ByOffset, scale: float) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, S, heads, D) whose scaled products are the scores; arguments as for `attend_in_pieces`.

    A query is lengthened by its bias for every row and column, a key by a 1 at its own row and at its own column, and
    both by noughts up to a width that kernels like.
    """
    rows, columns = _grid_shape(by_offset)
    spare = q.new_zeros((1, 1, 1, -(q.shape[3] + rows + columns) % _WIDTH_STEP))
    own_row = torch.eye(rows, dtype=q.dtype, device=q.device).repeat_interleave(columns, dim=0)
    own_column = torch.eye(columns, dtype=q.dtype, device=q.device).repeat(rows, 1)
    place = torch.cat([own_row, own_column], dim=1)[None, :, None]
    wide = q.shape[:3]
    biases = position_bias(q, (by_offset[0] / scale, by_offset[1] / scale))
    return (
        torch.cat([q, *biases, spare.expand(*wide, -1)], dim=3),
        torch.cat([k, place.expand(*wide, -1), spare.expand(*wide, -1)], dim=3),
    )


def position_bias(q: Tensor, by_offset: ByOffset) -> tuple[Tensor, Tensor]:
    """What queries (B, S, heads, d) add for a key's row (B, S, heads, h) and for its column (B, S, heads, w).

    One product gives what each query adds for every offset; those that occur for a query are neighbours in memory, and
    begin one further for each row, or column, that it lies higher, or further left.
    """
    rows, columns = _grid_shape(by_offset)
    batch, _, heads, _ = q.shape
    down, right = (functional.linear(q, one) for one in by_offset)  # (B, S, heads, 2h − 1), (B, S, heads, 2w − 1)
    shape, steps = (batch, rows, columns, heads), (rows * columns, columns, 1)
    biases = []
    for added, length, moving in ((down, rows, 1), (right, columns, 2)):
        strides = [step * heads * (2 * length - 1) for step in steps]
        strides[moving] -= 1
        view = added.contiguous().as_strided((*shape, length), (*strides, 2 * length - 1, 1), length - 1)
        biases.append(view.flatten(1, 2))
    return biases[0], biases[1]


def _grid_shape(by_offset: ByOffset) -> tuple[int, int]:
    return (len(by_offset[0]) + 1) // 2, (len(by_offset[1]) + 1) // 2


def _heads_first(values: Tensor) -> Tensor:
    """(B · heads, S, d) of (B, S, heads, d)."""
    return values.transpose(1, 2).flatten(0, 1).contiguous()


def _add_mlp(block: Any, x: Tensor) -> None:
    """Add a block's perceptron to tokens (B, H, W, C) in place; some of them at a time, whose hidden layer is small."""
    tokens = x.view(-1, x.shape[-1])
    step = _TOKENS_AT_ONCE if x.device.type == "cpu" else len(tokens)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        part += block.mlp(block.norm2(part))
