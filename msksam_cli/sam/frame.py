"""The model frame: where a slice's pixels lie in the square a network sees.

A slice of (rows, columns) is resized so that its longest side becomes the model's, and padded at the bottom and the
right. Sizes, interpolation and coordinates are those of segment-anything's `ResizeLongestSide`, whose weights expect
them: a coordinate is scaled by the ratio of the sizes, pixel centres counting from 0 on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

FRAME_VERSION = "longest-side-bilinear-v1"

_BESIDE_PX = 2


Window = tuple[slice, slice]
"""Rows and columns of a part of a plane."""


@dataclass(frozen=True)
class Frame:
    """How one slice lies in a model's input.

    Attributes:
        slice_shape: (rows, columns) of the slice.
        side_px: side of the model's square input.
    """

    slice_shape: tuple[int, int]
    side_px: int

    @property
    def resized_shape(self) -> tuple[int, int]:
        """(rows, columns) of the slice inside the square, before padding.

        >>> Frame((320, 511), 1024).resized_shape
        (641, 1024)
        """
        rows, columns = self.slice_shape
        scale = self.side_px * 1.0 / max(rows, columns)
        return max(int(rows * scale + 0.5), 1), max(int(columns * scale + 0.5), 1)

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Model pixels per slice pixel along x (columns) and y (rows)."""
        (rows, columns), (new_rows, new_columns) = self.slice_shape, self.resized_shape
        return new_columns / columns, new_rows / rows

    def to_model_xy(self, xy_px: ArrayLike) -> NDArray[np.float64]:
        """Model coordinates (…, 2) of slice coordinates (…, 2), both in pixels of their frame."""
        return np.asarray(np.asarray(xy_px, dtype=np.float64) * np.array(self.scale_xy))

    def to_slice_xy(self, xy_px: ArrayLike) -> NDArray[np.float64]:
        """Slice coordinates (…, 2) of model coordinates (…, 2)."""
        return np.asarray(np.asarray(xy_px, dtype=np.float64) / np.array(self.scale_xy))

    def to_model_xyxy(self, boxes_xyxy_px: ArrayLike) -> NDArray[np.float64]:
        """Boxes (N, 4) in the model frame of boxes (N, 4) on the slice."""
        boxes = np.asarray(boxes_xyxy_px, dtype=np.float64).reshape(-1, 2, 2)
        return self.to_model_xy(boxes).reshape(-1, 4)

    def windows_round(self, first_rc: tuple[int, int], last_rc: tuple[int, int]) -> tuple[Window, Window]:
        """A part of the model frame, and the part of the slice that its pixels alone are resized to.

        It holds some pixels of the frame and at least two round them, and begins and ends where pixels of frame and
        slice begin together.

        Args:
            first_rc: row and column of the first of these pixels.
            last_rc: row and column behind the last.

        >>> Frame((512, 512), 384).windows_round((30, 0), (40, 9))
        ((slice(27, 42, None), slice(0, 12, None)), (slice(36, 56, None), slice(0, 16, None)))
        """
        in_frame, in_slice = [], []
        for first, last, inside, wanted in zip(first_rc, last_rc, self.resized_shape, self.slice_shape, strict=True):
            periods = math.gcd(inside, wanted)
            period = inside // periods
            start = min(max((first - _BESIDE_PX) // period, 0), periods - 1)
            stop = min(max(-(-(last + _BESIDE_PX) // period), start + 1), periods)
            in_frame.append(slice(start * period, stop * period))
            in_slice.append(slice(start * wanted // periods, stop * wanted // periods))
        return (in_frame[0], in_frame[1]), (in_slice[0], in_slice[1])

    def resize(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Grey levels (rows, columns) of the slice at `resized_shape`; antialiased bilinear, as Pillow does it.

        Raises:
            ValueError: the pixels are not uint8 or not of this slice's shape.
        """
        if pixels.dtype != np.uint8 or pixels.shape != self.slice_shape:
            raise ValueError(f"expected uint8 pixels of shape {self.slice_shape}, got {pixels.dtype} {pixels.shape}")
        rows, columns = self.resized_shape
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
