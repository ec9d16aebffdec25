"""The cells that prompts see of their embeddings, gathered for the mask decoder, and masks put back in their places.

Tensors alone, so that torch's exporter can follow it with all lengths left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from msksam_cli.sam.asking import LOW_RES_PER_EMBEDDING, OUTSIDE_LOGIT
from msksam_cli.sam.mask_decoder import Cells, planes_of, predict_masks

_LOW_RES_A_CELL = LOW_RES_PER_EMBEDDING**2


class SeenCells(NamedTuple):
    """`asking.Seen` as tensors on the network's device."""

    near: Tensor
    far: Tensor
    log_counts: Tensor


class Planes(NamedTuple):
    """Planes (N, C, h, h) of embeddings or positions, and the means of their blocks (N, C, b, b)."""

    cells: Tensor
    blocks: Tensor

    @classmethod
    def of(cls, cells: Tensor, block_cells: int | None) -> Planes:
        """Planes with the means of blocks of so many cells a side, of none where None."""
        return cls(cells, functional.avg_pool2d(cells, block_cells) if block_cells else cells[..., :0, :0])


def seen_cells(images: Sequence[Planes], positions: Planes, seen: SeenCells | None) -> Cells:
    """What the mask decoder is given of N embeddings, dense prompts yet to be added.

    Args:
        images: N embeddings one by one, of which no copies are made where few of their cells are seen, or one of N
            together.
        positions: of cells and blocks, the same for all.
        seen: which of these; None for every cell.
    """
    if seen is None:
        return Cells(_joined([_rows(image.cells) for image in images]), _rows(positions.cells))
    values = [_gathered(image, some) for image, some in _by_image(images, seen)]
    return Cells(_joined(values), _gathered(positions, seen), seen.log_counts)


def dense_prompts(prompt_encoder: Any, mask_prompts: Tensor, seen: SeenCells | None, blocks: int) -> Tensor:
    """Mask prompts as the prompt encoder embeds them, (N, L, C) for the cells and blocks that are seen.

    Its convolutions have no overlap, so that every cell is embedded by itself; a block is taken for its first cell's.

    Args:
        prompt_encoder: `segment_anything.modeling.PromptEncoder`.
        mask_prompts: (N, 1, 4h, 4h) logits.
        seen: which cells and blocks; None for every cell.
        blocks: along each side.
    """
    if seen is None:
        return _rows(prompt_encoder.mask_downscaling(mask_prompts))
    side = mask_prompts.shape[-1] // LOW_RES_PER_EMBEDDING
    block_cells = side // blocks
    first_cells = (seen.far // blocks) * block_cells * side + (seen.far % blocks) * block_cells
    cells = torch.cat([seen.near, first_cells], dim=1)  # (N, L)
    pieces = mask_prompts.reshape(-1, side, LOW_RES_PER_EMBEDDING, side, LOW_RES_PER_EMBEDDING).transpose(2, 3)
    wanted = cells[..., None].expand(-1, -1, _LOW_RES_A_CELL)
    pieces = pieces.reshape(-1, side * side, _LOW_RES_A_CELL).gather(1, wanted)
    stacked = pieces.reshape(-1, 1, cells.shape[1] * LOW_RES_PER_EMBEDDING, LOW_RES_PER_EMBEDDING)
    dense: Tensor = prompt_encoder.mask_downscaling(stacked)  # (N, C, L, 1)
    return dense.squeeze(3).transpose(1, 2)


def masks_of(
    decoder: Any, images: Sequence[Planes], positions: Planes, *, dense: Tensor, sparse: Tensor, seen: SeenCells | None
) -> tuple[Tensor, Tensor]:
    """Low-res logits (N, 4, 4h, 4h), far below 0 beyond the near cells, and IoU predictions (N, 4).

    Args:
        decoder: `segment_anything.modeling.MaskDecoder`.
        images: N embeddings one by one, or one of N together.
        positions: of cells and blocks, the same for all.
        dense: (N or 1, L or 1, C) embedded mask prompts.
        sparse: (N, T, C) embedded points and boxes.
        seen: which cells and blocks; None for every cell.
    """
    side = images[0].cells.shape[-1]
    masked = side**2 if seen is None else seen.near.shape[1]
    parts, scores = predict_masks(decoder, seen_cells(images, positions, seen), dense, sparse, masked)
    return planes_of(parts, side, side) if seen is None else put_back(parts, seen, side), scores


def put_back(parts: Tensor, seen: SeenCells, side: int) -> Tensor:
    """Masks (N, M, n, 16) of the near cells in planes (N, M, 4h, 4h) far below 0, h = `side`.

    What only fills up is its first cell's again and teaches nothing: a cell that is written twice would learn twice.
    """
    count, masks, near, pixels = parts.shape
    fills_up = seen.log_counts[:, None, :near, None] < 0
    parts = torch.where(fills_up, parts.detach(), parts)
    part = torch.arange(pixels, device=parts.device)
    row, column = 2 * (part // 8) + part // 2 % 2, 2 * (part // 4 % 2) + part % 2  # of halves, and of halves of these
    first = (seen.near // side) * LOW_RES_PER_EMBEDDING * side + seen.near % side
    places = LOW_RES_PER_EMBEDDING * first[..., None] + row * LOW_RES_PER_EMBEDDING * side + column  # (N, n, 16)
    planes = parts.new_full((count, masks, side * side * pixels), OUTSIDE_LOGIT)
    planes = planes.scatter(2, places.reshape(count, 1, -1).expand(-1, masks, -1), parts.reshape(count, masks, -1))
    return planes.reshape(count, masks, LOW_RES_PER_EMBEDDING * side, LOW_RES_PER_EMBEDDING * side)


def _by_image(images: Sequence[Planes], seen: SeenCells) -> Iterator[tuple[Planes, SeenCells]]:
    """Each embedding with what those of the N prompts see that come one after another and share it."""
    if len(images) == 1:
        yield images[0], seen
        return
    for _, numbers in groupby(range(len(images)), lambda n: id(images[n])):
        first, *more = numbers
        yield images[first], SeenCells(*(part[first : first + 1 + len(more)] for part in seen))


def _joined(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(list(values))


def _gathered(planes: Planes, seen: SeenCells) -> Tensor:
    """(N, n + f, C) cells and means of blocks."""
    return torch.cat([_at(planes.cells, seen.near), _at(planes.blocks, seen.far)], dim=2).transpose(1, 2).contiguous()


def _at(planes: Tensor, numbers: Tensor) -> Tensor:
    """Planes (N or 1, C, h, w) at pixels (N, n), counted row by row: (N, C, n)."""
    wanted = numbers[:, None].expand(-1, planes.shape[1], -1)
    return planes.flatten(2).expand(numbers.shape[0], -1, -1).gather(2, wanted)


def _rows(planes: Tensor) -> Tensor:
    """Planes (N, C, h, w) as (N, h · w, C)."""
    return planes.flatten(2).transpose(1, 2).contiguous()
