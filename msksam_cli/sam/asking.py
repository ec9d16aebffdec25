"""How prompts are put to the mask decoder: with every cell of an embedding, or closely round a box and coarsely beyond.

The decoder's cost grows with the cells it looks at, and what is far from a box says little of its answer. Where an
architecture wants it, the decoder is given each cell near the box and, of the rest, the mean of each block of cells,
which counts in its attention as often as it has cells. Every runtime and the training ask alike; numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.sam.frame import Frame

EMBEDDING_CHANNELS = 256
LOW_RES_PER_EMBEDDING = 4
OUTSIDE_LOGIT = -20.0

_BOX_LOGIT = 4.0
_BESIDE_CELLS = 2.0


@dataclass(frozen=True)
class Asking:
    """How prompts are put to a mask decoder.

    Attributes:
        box_as_mask: whether a box is also given as a dense mask, see `box_mask_prompt`.
        block_cells: side of the square blocks of cells that are seen as their mean away from a box, see `focus_for`;
            None shows the decoder every cell for every prompt, as its weights were trained elsewhere.
    """

    box_as_mask: bool = False
    block_cells: int | None = None

    def block_in(self, cells: int) -> int | None:
        """Side of a block in an embedding with `cells` a side: the greatest common divisor.

        >>> Asking(block_cells=8).block_in(96), Asking(block_cells=8).block_in(84), Asking().block_in(96)
        (8, 4, None)
        """
        return None if self.block_cells is None else math.gcd(self.block_cells, cells)


@dataclass(frozen=True)
class Focus:
    """The part of an embedding that is looked at cell by cell.

    Attributes:
        top: first row.
        left: first column.
        rows: number of rows.
        columns: number of columns.
    """

    top: int
    left: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """How many cells it has."""
        return self.rows * self.columns

    def cells(self, side: int, every: int = 1) -> NDArray[np.int64]:
        """Numbers of its cells in an embedding of `side` a row, counted row by row; of every so many of them.

        >>> Focus(top=1, left=2, rows=2, columns=2).cells(side=10).tolist()
        [12, 13, 22, 23]
        """
        rows = np.arange(self.top, self.top + self.rows, every) // every
        columns = np.arange(self.left, self.left + self.columns, every) // every
        return (rows[:, None] * (side // every) + columns).ravel().astype(np.int64)


@dataclass(frozen=True)
class Layout:
    """How an embedding lies in the model's input.

    Attributes:
        side_px: side of the square input.
        cells: rows and columns of the embedding.
    """

    side_px: int
    cells: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the embedding."""
        return EMBEDDING_CHANNELS, self.cells, self.cells

    @property
    def stride_px(self) -> int:
        """Pixels of the model frame along each side of a cell."""
        return self.side_px // self.cells


def focus_for(
    box_xyxy_px: ArrayLike | None, points_xy_px: ArrayLike | None, layout: Layout, block_cells: int | None
) -> Focus:
    """What is looked at cell by cell for a prompt: whole blocks that hold its box and points and two cells round them.

    Args:
        box_xyxy_px: (4,) centres of its first and last pixels in the model frame; without a box nothing says how large
            the answer is, so that the whole embedding is looked at.
        points_xy_px: (K, 2) in the model frame.
        layout: of the embedding.
        block_cells: side of a block, a divisor of the embedding's; None to look at all.
    """
    cells = layout.cells
    if box_xyxy_px is None or block_cells is None:
        return Focus(0, 0, cells, cells)
    points = np.reshape(() if points_xy_px is None else points_xy_px, (-1, 2))
    pixels = np.vstack([np.asarray(box_xyxy_px, dtype=np.float64).reshape(2, 2), points])
    low = pixels.min(axis=0) / layout.stride_px - _BESIDE_CELLS
    high = (pixels.max(axis=0) + 1) / layout.stride_px + _BESIDE_CELLS
    left, top = np.clip(np.floor(low / block_cells) * block_cells, 0, cells - block_cells).astype(int)
    right, bottom = np.clip(np.ceil(high / block_cells) * block_cells, block_cells, cells).astype(int)
    return Focus(int(top), int(left), int(bottom - top), int(right - left))


@dataclass(frozen=True, eq=False)
class Seen:
    """Which cells and blocks of their embeddings N prompts see, in equal numbers.

    Attributes:
        near: (N, n) int64 numbers of cells, row by row.
        far: (N, f) int64 numbers of blocks, row by row; f may be 0.
        log_counts: (N, n + f) float32 logarithm of how many cells each stands for; −∞ where it only fills up.
    """

    near: NDArray[np.int64]
    far: NDArray[np.int64]
    log_counts: NDArray[np.float32]


def seen_by(focuses: Sequence[Focus], cells: int, block_cells: int) -> Seen:
    """What prompts see whose embeddings have `cells` a side.

    >>> seen = seen_by([Focus(0, 0, 2, 2)], cells=4, block_cells=2)
    >>> seen.near.tolist(), seen.far.tolist(), np.exp(seen.log_counts).round().tolist()
    ([[0, 1, 4, 5]], [[1, 2, 3]], [[1.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.0]])
    """
    near = [focus.cells(cells) for focus in focuses]
    blocks = np.arange((cells // block_cells) ** 2)
    far = [np.setdiff1d(blocks, focus.cells(cells, block_cells)) for focus in focuses]
    parts = [_filled_up(near, 0.0), _filled_up(far, 2 * np.log(block_cells))]
    return Seen(parts[0][0], parts[1][0], np.hstack([log_counts for _, log_counts in parts]))


def _filled_up(rows: Sequence[NDArray[np.int64]], log_count: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers as one array (N, width), the first again behind shorter rows, and what each stands for, −∞ for these."""
    width = max(len(row) for row in rows)
    numbers, log_counts = np.zeros((len(rows), width), np.int64), np.full((len(rows), width), -np.inf, np.float32)
    for row, own, counts in zip(rows, numbers, log_counts, strict=True):
        own[:] = row[0] if len(row) else 0
        own[: len(row)] = row
        counts[: len(row)] = log_count
    return numbers, log_counts


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt in the model frame, and where it is answered.

    Attributes:
        prompt: as it was asked.
        slice_number: which of the slices asked about.
        slice_shape: (rows, columns) of that slice.
        box_xyxy: (4,) pixels of the model frame, or None.
        points_xy: (K, 2) pixels of the model frame, K may be 0.
        focus: part of the embedding that is looked at closely.
    """

    prompt: Prompt
    slice_number: int
    slice_shape: tuple[int, int]
    box_xyxy: NDArray[np.float64] | None
    points_xy: NDArray[np.float64]
    focus: Focus


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts that go through the decoder together: equal parts, slices of one shape, much the same number of cells.

    Attributes:
        prompts: as they were asked.
        slice_numbers: which of the slices asked about each belongs to.
        slice_shape: (rows, columns) of these slices.
        focuses: what each looks at closely.
        boxes_xyxy: (N, 4) float32 in pixels of the model frame, or None.
        points_xy: (N, K, 2) float32, counted alike, K may be 0.
        is_foreground: (N, K) bool.
    """

    prompts: tuple[Prompt, ...]
    slice_numbers: tuple[int, ...]
    slice_shape: tuple[int, int]
    focuses: tuple[Focus, ...]
    boxes_xyxy: NDArray[np.float32] | None
    points_xy: NDArray[np.float32]
    is_foreground: NDArray[np.bool_]


def box_as_logits(boxes_xyxy_px: Any, starts_px: Any, low_res_px: float) -> Any:
    """Boxes as mask prompts: +4 inside, −4 outside, in between where a low-res pixel is partly covered.

    Args:
        boxes_xyxy_px: (N, 4) float32 boxes in the model frame, pixel centres counted from 0; a box covers half a pixel
            beyond its corner centres. numpy or torch.
        starts_px: (h,) where each low-res pixel begins, of the same kind.
        low_res_px: side of a low-res pixel.

    Returns:
        (N, 1, h, h) logits of the same kind.
    """

    def covered(first_px: Any, last_px: Any) -> Any:
        end = (last_px[:, None] + 1.0).clip(max=starts_px + low_res_px)
        start = first_px[:, None].clip(min=starts_px)
        return (end - start).clip(min=0.0) / low_res_px

    columns = covered(boxes_xyxy_px[:, 0], boxes_xyxy_px[:, 2])
    rows = covered(boxes_xyxy_px[:, 1], boxes_xyxy_px[:, 3])
    coverage = rows[:, None, :, None] * columns[:, None, None, :]
    return (2.0 * coverage - 1.0) * _BOX_LOGIT


def answer_prompts(
    asked: Sequence[tuple[Embedding, Sequence[Prompt]]],
    layout: Layout,
    asking: Asking,
    *,
    together: int,
    cells_together: float = math.inf,
    answer_all: Callable[[Sequence[Questions]], list[list[MaskPrediction]]],
) -> list[list[MaskPrediction]]:
    """Answers to all prompts of some slices, in their order.

    Prompts with the same kinds and number of parts go through the decoder together where they look at much the same
    number of cells. What fills up the shorter counts for nothing, so that an answer depends on what else was asked by
    rounding alone.

    Args:
        asked: slices with their prompts, boxes and points in pixels of the slice.
        layout: of the embeddings.
        asking: how prompts are put to the decoder.
        together: prompts at once at most.
        cells_together: cells that these look at closely between them at most, where there is more than one.
        answer_all: what runs the decoder: batches of questions to the answers of each.

    Raises:
        ValueError: a prompt lies outside its slice, or an embedding has another side than the network's.
    """
    questions = [
        _question(number, embedding.slice_shape, prompt, layout, asking.block_in(layout.cells))
        for number, (embedding, prompts) in enumerate(asked)
        for prompt in prompts
    ]
    for embedding, _ in asked:
        if embedding.features.shape != layout.shape:
            raise ValueError(f"embedding of shape {embedding.features.shape}, the network makes {layout.shape}")
    batches = _batches(questions, together, cells_together)
    answered = answer_all([_together([questions[n] for n in batch]) for batch in batches])
    by_position = dict(zip(chain(*batches), chain(*answered), strict=True))
    answers: list[list[MaskPrediction]] = [[] for _ in asked]
    for position, question in enumerate(questions):
        answers[question.slice_number].append(by_position[position])
    return answers


def _question(
    number: int, slice_shape: tuple[int, int], prompt: Prompt, layout: Layout, block_cells: int | None
) -> Question:
    prompt.check_inside(slice_shape)
    frame = Frame(slice_shape, layout.side_px)
    box = frame.to_model_xyxy([prompt.box.xyxy])[0] if prompt.box else None
    points = frame.to_model_xy(np.reshape(prompt.points.xy if prompt.points else (), (-1, 2)))
    return Question(prompt, number, slice_shape, box, points, focus_for(box, points, layout, block_cells))


def _batches(questions: Sequence[Question], most: int, most_cells: float) -> list[list[int]]:
    """Positions of questions that can share a forward pass, see `Questions`: at most so many, with so many cells."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for position, question in enumerate(questions):
        size_class = question.focus.size.bit_length()
        key = question.box_xyxy is not None, len(question.points_xy), size_class, question.slice_shape
        alike.setdefault(key, []).append(position)
    batches: list[list[int]] = []
    for group in alike.values():
        batch: list[int] = []
        for position in group:
            largest = max(questions[n].focus.size for n in (*batch, position))
            if not batch or len(batch) == most or largest * (len(batch) + 1) > most_cells:
                batch = []
                batches.append(batch)
            batch.append(position)
    return batches


def _together(questions: Sequence[Question]) -> Questions:
    boxes = [question.box_xyxy for question in questions if question.box_xyxy is not None]
    points = np.stack([question.points_xy for question in questions])
    labels = [question.prompt.points.is_foreground if question.prompt.points else () for question in questions]
    return Questions(
        prompts=tuple(question.prompt for question in questions),
        slice_numbers=tuple(question.slice_number for question in questions),
        slice_shape=questions[0].slice_shape,
        focuses=tuple(question.focus for question in questions),
        boxes_xyxy=np.stack(boxes).astype(np.float32) if boxes else None,
        points_xy=points.astype(np.float32),
        is_foreground=np.array(labels, dtype=bool).reshape(points.shape[:2]),
    )
