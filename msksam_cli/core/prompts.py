"""What the mask decoder is asked, and what it answers.

Coordinates are pixel centres of the slice, x along columns and y along rows, counted from 0: the box of a single
pixel at column 3, row 5 is (3, 5, 3, 5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """An axis-aligned box (x0, y0, x1, y1) in pixels, ordered.

    Raises:
        ValueError: the corners are not finite or not in order.
    """

    xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.xyxy
        if not np.isfinite(self.xyxy).all() or x1 < x0 or y1 < y0:
            raise ValueError(f"box corners out of order: {self.xyxy}")

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> Box:
        """The tightest box round the true pixels of a (rows, columns) mask that has some."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            raise ValueError("an empty mask has no box")
        return cls((float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])))

    def moved(self, x_px: float, y_px: float) -> Box:
        """The box shifted by a vector."""
        x0, y0, x1, y1 = self.xyxy
        return Box((x0 + x_px, y0 + y_px, x1 + x_px, y1 + y_px))

    def padded(self, pad_x_px: float, pad_y_px: float, shape: tuple[int, int]) -> Box:
        """The box grown on every side and clipped to a slice of (rows, columns)."""
        x0, y0, x1, y1 = self.xyxy
        rows, columns = shape
        return Box(
            (
                max(x0 - pad_x_px, 0.0),
                max(y0 - pad_y_px, 0.0),
                min(x1 + pad_x_px, columns - 1.0),
                min(y1 + pad_y_px, rows - 1.0),
            )
        )


@dataclass(frozen=True)
class Points:
    """Points in pixels, each inside the wanted tissue or outside.

    Attributes:
        xy: N pairs (x, y).
        is_foreground: N booleans.
    """

    xy: tuple[tuple[float, float], ...]
    is_foreground: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.xy) != len(self.is_foreground) or not self.xy:
            raise ValueError(f"{len(self.xy)} points with {len(self.is_foreground)} labels")


@dataclass(frozen=True)
class Prompt:
    """One question to the decoder: where on this slice is this tissue?

    Attributes:
        tissue_index: label value asked for.
        slice_index: index along the slice axis.
        box: box or None.
        points: points or None; at least one of both is given.
        source: where the prompt came from, such as "atlas:knee-v1" or "labels".
    """

    tissue_index: int
    slice_index: int
    box: Box | None = None
    points: Points | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.box is None and self.points is None:
            raise ValueError("a prompt needs a box or points")

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Raise ValueError unless box and points lie inside a slice of (rows, columns)."""
        rows, columns = shape
        xy = list(self.points.xy) if self.points else []
        if self.box:
            xy += [(self.box.xyxy[0], self.box.xyxy[1]), (self.box.xyxy[2], self.box.xyxy[3])]
        for x, y in xy:
            if not (-0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5):
                raise ValueError(f"prompt at x={x:g}, y={y:g} is outside a slice of {rows} rows and {columns} columns")


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """The decoder's answers to one prompt: its candidate masks.

    Attributes:
        logits: (M, rows, columns) float32 at the slice's own size; above 0 is inside.
        iou_predictions: (M,) float32, the decoder's own guess of each mask's IoU; may exceed 1, not a probability.
        prompt: what was asked.
    """

    logits: NDArray[np.float32]
    iou_predictions: NDArray[np.float32]
    prompt: Prompt
