"""Probabilities of a placed atlas, kept on a coarse grid and computed on the volume's grid when asked for.

Twenty tissues on a grid of 512 × 512 × 143 voxels would fill three gigabytes; on the working grid they fill a few
megabytes, and linear interpolation between its voxels loses nothing the atlas knew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from msksam_cli.atlas.resampling import interpolated_along
from msksam_cli.core.boxed import NOWHERE, Boxed, quantised
from msksam_cli.core.geometry import Grid


class WorkingProbabilities(Mapping[int, NDArray[np.float32]]):
    """Label value → (I, J, K) float32 on `target`, interpolated at each access from `work`.

    Args:
        work: a grid with the same axes and outer edges as `target`, as `Grid.resampled` gives.
        target: the volume's grid.
        values: label value → array on `work`, 0…1, or with 8 bits already; kept with 8 bits.
    """

    def __init__(
        self, work: Grid, target: Grid, values: Mapping[int, NDArray[np.float32]] | Mapping[int, NDArray[np.uint8]]
    ) -> None:
        self.work = work
        self.target = target
        self._values = {index: _with_8_bits(array) for index, array in values.items()}

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return spread(self.on_work(index), self.target.shape)

    def boxed(self, index: int) -> Boxed:
        """The same array without the voxels round it that are 0."""
        return spread_boxed(self.on_work(index), self.target.shape)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def stored(self) -> Mapping[int, NDArray[np.uint8]]:
        """The probabilities on the working grid, 255 meaning 1."""
        return self._values

    def on_work(self, index: int) -> NDArray[np.float32]:
        """The probability on the working grid."""
        return self._values[index].astype(np.float32) / np.float32(255)


def _with_8_bits(values: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return np.asarray(values, dtype=np.uint8)
    return quantised(np.asarray(values, dtype=np.float32))


def nearest(values: NDArray[np.uint16], shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Labels on one grid seen on another that shares its axes and outer edges.

    >>> nearest(np.array([[[1, 2]]], dtype=np.uint16), (1, 1, 4)).ravel().tolist()
    [1, 1, 2, 2]
    """
    places = [nearest_places(before, after) for before, after in zip(values.shape, shape, strict=True)]
    return values[np.ix_(*places)]


def nearest_places(before: int, after: int) -> NDArray[np.intp]:
    """(after,) which of `before` voxels along an axis each of `after` voxels of the same extent lies in.

    >>> nearest_places(2, 4).tolist()
    [0, 0, 1, 1]
    """
    places = ((np.arange(after) + 0.5) * before / after).astype(np.intp)
    return np.minimum(places, before - 1)


def spread(values: Boxed | NDArray[np.float32], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Values on one grid, linearly interpolated on another that shares its axes and outer edges.

    Where the other grid reaches half a voxel further, the outermost value is repeated.

    >>> spread(np.array([[[0.0, 1.0]]], dtype=np.float32), (1, 1, 4)).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    if not isinstance(values, Boxed) and values.shape == shape:
        return values
    return np.asarray(spread_boxed(values, shape).whole(), dtype=np.float32)


def spread_boxed(values: Boxed | NDArray[np.float32], shape: tuple[int, int, int]) -> Boxed:
    """What `spread` gives, without the voxels round it that are 0."""
    known = values if isinstance(values, Boxed) else Boxed.of(values)
    if known.shape == shape:
        return known
    target_box: list[slice] = []
    source_box: list[slice] = []
    places = []
    for before, after, own in zip(known.shape, shape, known.box, strict=True):
        position = np.clip((np.arange(after) + 0.5) * (before / after) - 0.5, 0, before - 1)
        used = np.flatnonzero((position > own.start - 1) & (position < own.stop))
        if own.start == own.stop or used.size == 0:  # the other grid may be coarser and step over what there is
            return Boxed(shape, NOWHERE, np.zeros((0, 0, 0), dtype=np.float32))
        target_box.append(slice(int(used[0]), int(used[-1]) + 1))
        first, last = int(position[used[0]]), int(position[used[-1]])
        source_box.append(slice(first, min(last + 2, before)))
        places.append(position[used] - first)
    part = known.within((source_box[0], source_box[1], source_box[2])).astype(np.float32, copy=False)
    for axis in sorted(range(3), key=lambda a: shape[a] / known.shape[a]):
        part = interpolated_along(part, axis, places[axis])
    return Boxed(shape, (target_box[0], target_box[1], target_box[2]), part)
