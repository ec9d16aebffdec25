"""Arrays of a whole volume that are 0 nearly everywhere, held as the box that is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.slicing import plane_axes, take_slice

Box3D = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Boxed:
    """An array (I, J, K) that is 0 outside a box, of which only the box is held.

    Attributes:
        shape: (I, J, K) of the whole.
        box: where `part` lies.
        part: what the box holds.
    """

    shape: tuple[int, int, int]
    box: Box3D
    part: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Boxed:
        """The smallest box of an array that holds all that is not 0."""
        i, j, k = values.shape
        box = bounding_box(values) or (slice(0, 0),) * 3
        return cls((i, j, k), box, values[box])

    def whole(self) -> NDArray[Any]:
        """The array."""
        values = np.zeros(self.shape, dtype=self.part.dtype)
        values[self.box] = self.part
        return values

    def plane(self, slice_axis: int, index: int) -> NDArray[Any]:
        """One slice (rows, columns) of it."""
        rows, columns = plane_axes(slice_axis)
        plane = np.zeros((self.shape[rows], self.shape[columns]), dtype=self.part.dtype)
        along = self.box[slice_axis]
        if along.start <= index < along.stop:
            plane[self.box[rows], self.box[columns]] = take_slice(self.part, slice_axis, index - along.start)
        return plane

    def thinned(self, steps: tuple[int, int, int]) -> NDArray[np.float32]:
        """The whole array at every so many voxels along each axis, from the first on.

        >>> Boxed.of(np.array([[[0, 7, 8, 9, 0]]])).thinned((1, 1, 2)).tolist()
        [[[0, 8, 0]]]
        """
        values = np.zeros([-(-size // step) for size, step in zip(self.shape, steps, strict=True)], self.part.dtype)
        first = [-(-along.start // step) for along, step in zip(self.box, steps, strict=True)]
        part = self.part[
            tuple(
                slice(one * step - along.start, None, step)
                for one, step, along in zip(first, steps, self.box, strict=True)
            )
        ]
        values[tuple(slice(one, one + size) for one, size in zip(first, part.shape, strict=True))] = part
        return values

    def quantised(self) -> Boxed:
        """The same with 8 bits, see `quantised`."""
        return replace(self, part=quantised(self.part))


def quantised(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A probability 0…1 with 8 bits.

    >>> quantised(np.array([0.0, 0.5, 1.0], dtype=np.float32)).tolist()
    [0, 128, 255]
    """
    return np.asarray(np.clip(np.rint(probability * 255.0), 0, 255), dtype=np.uint8)


def bounding_box(values: NDArray[Any]) -> Box3D | None:
    """Slices of the smallest box that holds all of an array (I, J, K) that is not 0, None when all of it is."""
    planes: NDArray[np.bool_] = np.any(values, axis=2)
    i, j = np.flatnonzero(planes.any(axis=1)), np.flatnonzero(planes.any(axis=0))
    if i.size == 0:
        return None
    k = np.flatnonzero(values[i[0] : i[-1] + 1, j[0] : j[-1] + 1].any(axis=(0, 1)))
    first, last = (int(i[0]), int(j[0]), int(k[0])), (int(i[-1]), int(j[-1]), int(k[-1]))
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1), slice(first[2], last[2] + 1)
