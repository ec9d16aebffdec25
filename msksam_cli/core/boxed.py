"""Arrays of a whole volume that are 0 nearly everywhere, held as the box that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.slicing import take_slice

Box3D = tuple[slice, slice, slice]

NOWHERE: Box3D = (slice(0, 0), slice(0, 0), slice(0, 0))
"""The box that holds nothing."""


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
        box = bounding_box(values) or NOWHERE
        return cls((i, j, k), box, values[box])

    def whole(self) -> NDArray[Any]:
        """The array."""
        i, j, k = (slice(0, size) for size in self.shape)
        return self.within((i, j, k))

    def within(self, box: Box3D) -> NDArray[Any]:
        """What lies in another box."""
        found = np.zeros([side.stop - side.start for side in box], dtype=self.part.dtype)
        shared = [
            slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
            for a, b in zip(box, self.box, strict=True)
        ]
        found[_moved(shared, _start(box), -1)] = self.part[_moved(shared, _start(self.box), -1)]
        return found

    def plane(self, slice_axis: int, index: int) -> NDArray[Any]:
        """One slice (rows, columns) of it."""
        i, j, k = (slice(index, index + 1) if axis == slice_axis else slice(0, n) for axis, n in enumerate(self.shape))
        return take_slice(self.within((i, j, k)), slice_axis, 0)

    def voxels(self) -> NDArray[np.int64]:
        """Indices (N, 3) in the whole of all that is not 0, the last axis fastest."""
        found = np.argwhere(self.part)
        found += _start(self.box)
        return found

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


def grown(box: Box3D, margins: Sequence[int], shape: tuple[int, ...]) -> Box3D:
    """A box with a margin of so many voxels on both sides of each axis, as far as an array of a shape reaches.

    >>> grown((slice(1, 2), slice(5, 7), slice(0, 9)), (2, 1, 0), (10, 7, 9))
    (slice(0, 4, None), slice(4, 7, None), slice(0, 9, None))
    """
    i, j, k = (
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, margin, size in zip(box, margins, shape, strict=True)
    )
    return i, j, k


def label_boxes(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[int, Box3D]:
    """Label above 0 → slices of the smallest box that holds it, for all that occur in an array (I, J, K)."""
    from scipy import ndimage  # slow to load, and most of core has no use for it

    somewhere = bounding_box(labels)
    if somewhere is None:
        return {}
    part = labels[somewhere]
    is_turned = part.strides[0] < part.strides[2]  # against the order in which ndimage walks it, six times slower
    found = ndimage.find_objects(part.T if is_turned else part)
    return {
        label: _moved(box[::-1] if is_turned else box, _start(somewhere))
        for label, box in enumerate(found, start=1)
        if box is not None
    }


def _start(box: Sequence[slice]) -> list[int]:
    return [side.start for side in box]


def _moved(box: Sequence[slice], start: Sequence[int], sign: int = 1) -> Box3D:
    """A box whose places count from elsewhere."""
    i, j, k = (slice(side.start + sign * n, side.stop + sign * n) for side, n in zip(box, start, strict=True))
    return i, j, k
