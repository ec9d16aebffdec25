"""How prompts are put to the mask decoder: in the whole of an embedding, or in a window of it round a small box.

An encoder that sees no positions embeds a part of an image as it embeds the whole, so that the decoder, whose cost
grows with what it looks at, need only look at the neighbourhood of what is asked for. Every runtime and the training
ask alike; numpy only.
"""

from __future__ import annotations

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
OUTSIDE_LOGIT = -10.0

_BOX_LOGIT = 4.0


@dataclass(frozen=True)
class Asking:
    """How prompts are put to a mask decoder.

    Attributes:
        box_as_mask: whether a box is also given as a dense mask, see `box_mask_prompt`.
        window_cells: side of the part of an embedding in which a small box is answered, see `window_for`; None answers
            every prompt in the whole embedding, as an encoder that sees positions needs it.
    """

    box_as_mask: bool = False
    window_cells: int | None = None


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

    def part(self, per_cell: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the window in planes that have `per_cell` pixels along each cell.

        >>> Window(top=1, left=2, side=3).part(per_cell=4)
        (slice(4, 16, None), slice(8, 20, None))
        """
        first_row, first_column, pixels = per_cell * self.top, per_cell * self.left, per_cell * self.side
        return slice(first_row, first_row + pixels), slice(first_column, first_column + pixels)

    def origin_xy(self, stride_px: int) -> tuple[int, int]:
        """Its first pixel (x, y) in the model frame."""
        return self.left * stride_px, self.top * stride_px


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


def window_for(
    box_xyxy_px: ArrayLike | None, points_xy_px: ArrayLike | None, layout: Layout, window_cells: int | None
) -> Window:
    """Where a prompt is answered: in a window round its box, if that is at most half as wide and holds its points.

    Args:
        box_xyxy_px: (4,) in the model frame; without a box nothing says how large the answer is, so that the whole
            embedding is taken.
        points_xy_px: (K, 2) in the model frame.
        layout: of the embedding.
        window_cells: side of the window; None takes the whole embedding.
    """
    cells, stride_px = layout.cells, layout.stride_px
    whole = Window(0, 0, cells)
    if box_xyxy_px is None or window_cells is None or window_cells >= cells:
        return whole
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


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt in the model frame, and where it is answered.

    Attributes:
        prompt: as it was asked.
        slice_number: which of the slices asked about.
        slice_shape: (rows, columns) of that slice.
        box_xyxy: (4,) pixels of the model frame, or None.
        points_xy: (K, 2) pixels of the model frame, K may be 0.
        window: part of the embedding.
    """

    prompt: Prompt
    slice_number: int
    slice_shape: tuple[int, int]
    box_xyxy: NDArray[np.float64] | None
    points_xy: NDArray[np.float64]
    window: Window


@dataclass(frozen=True, eq=False)
class Questions:
    """Prompts that go through the decoder together: equal parts, windows of one side, slices of one shape.

    Attributes:
        prompts: as they were asked.
        slice_numbers: which of the slices asked about each belongs to.
        slice_shape: (rows, columns) of these slices.
        windows: where each is answered.
        boxes_xyxy: (N, 4) float32 in pixels counted from each window's corner, or None.
        points_xy: (N, K, 2) float32, counted alike, K may be 0.
        is_foreground: (N, K) bool.
    """

    prompts: tuple[Prompt, ...]
    slice_numbers: tuple[int, ...]
    slice_shape: tuple[int, int]
    windows: tuple[Window, ...]
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
    answer_all: Callable[[Sequence[Questions]], list[list[MaskPrediction]]],
) -> list[list[MaskPrediction]]:
    """Answers to all prompts of some slices, in their order.

    Prompts with the same kinds and number of parts and windows of one size go through the decoder together; nothing is
    padded, so that an answer is the same whatever else was asked.

    Args:
        asked: slices with their prompts, boxes and points in pixels of the slice.
        layout: of the embeddings.
        asking: how prompts are put to the decoder.
        together: prompts at once at most.
        answer_all: what runs the decoder: batches of questions to the answers of each.

    Raises:
        ValueError: a prompt lies outside its slice, or an embedding has another side than the network's.
    """
    questions = [
        _question(number, embedding.slice_shape, prompt, layout, asking.window_cells)
        for number, (embedding, prompts) in enumerate(asked)
        for prompt in prompts
    ]
    for embedding, _ in asked:
        if embedding.features.shape != layout.shape:
            raise ValueError(f"embedding of shape {embedding.features.shape}, the network makes {layout.shape}")
    batches = _batches(questions, together)
    answered = answer_all([_together([questions[n] for n in batch], layout.stride_px) for batch in batches])
    by_position = dict(zip(chain(*batches), chain(*answered), strict=True))
    answers: list[list[MaskPrediction]] = [[] for _ in asked]
    for position, question in enumerate(questions):
        answers[question.slice_number].append(by_position[position])
    return answers


def _question(
    number: int, slice_shape: tuple[int, int], prompt: Prompt, layout: Layout, window_cells: int | None
) -> Question:
    prompt.check_inside(slice_shape)
    frame = Frame(slice_shape, layout.side_px)
    box = frame.to_model_xyxy([prompt.box.xyxy])[0] if prompt.box else None
    points = frame.to_model_xy(np.reshape(prompt.points.xy if prompt.points else (), (-1, 2)))
    return Question(prompt, number, slice_shape, box, points, window_for(box, points, layout, window_cells))


def _batches(questions: Sequence[Question], size: int) -> list[list[int]]:
    """Positions of questions that can share a forward pass: equal parts, windows and slices, at most `size` of them."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for position, question in enumerate(questions):
        key = question.box_xyxy is not None, len(question.points_xy), question.window.side, question.slice_shape
        alike.setdefault(key, []).append(position)
    return [group[start : start + size] for group in alike.values() for start in range(0, len(group), size)]


def _together(questions: Sequence[Question], stride_px: int) -> Questions:
    origins = np.array([question.window.origin_xy(stride_px) for question in questions], dtype=np.float64)
    boxes = [question.box_xyxy for question in questions if question.box_xyxy is not None]
    points = np.stack([question.points_xy for question in questions]) - origins[:, None]
    labels = [question.prompt.points.is_foreground if question.prompt.points else () for question in questions]
    return Questions(
        prompts=tuple(question.prompt for question in questions),
        slice_numbers=tuple(question.slice_number for question in questions),
        slice_shape=questions[0].slice_shape,
        windows=tuple(question.window for question in questions),
        boxes_xyxy=(np.stack(boxes) - np.tile(origins, 2)).astype(np.float32) if boxes else None,
        points_xy=points.astype(np.float32),
        is_foreground=np.array(labels, dtype=bool).reshape(points.shape[:2]),
    )
