"""Labels taken to another grid: exactly where both are one lattice, else by nearest neighbour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap


def reordered_labels(label_map: LabelMap, grid: Grid, tolerance_voxels: float = 0.1) -> LabelMap | None:
    """The label map with its axes permuted and reversed so that it lies on `grid`; None when that cannot be.

    Two programs may store one volume in different axis orders; this undoes it without touching a value.
    """
    steps = np.linalg.inv(grid.affine)[:3, :3] @ label_map.grid.affine[:3, :3]
    sources = np.abs(steps).argmax(axis=1)
    if sorted(sources) != [0, 1, 2]:
        return None
    values: NDArray[Any] = np.transpose(label_map.values, sources)
    affine = label_map.grid.affine[:, [*sources, 3]]
    for axis, source in enumerate(sources):
        if steps[axis, source] < 0:
            values = np.flip(values, axis)
            affine[:, 3] += (values.shape[axis] - 1) * affine[:, axis]
            affine[:, axis] *= -1
    found = Grid((values.shape[0], values.shape[1], values.shape[2]), affine)
    return LabelMap(values, grid, label_map.tissues) if grid.matches(found, tolerance_voxels) else None


def labels_on_grid(label_map: LabelMap, grid: Grid) -> LabelMap:
    """The label map on another grid: each voxel takes the label of the nearest voxel, 0 outside the old grid.

    Works plane by plane, so that memory stays that of one plane of coordinates.
    """
    to_old = np.linalg.inv(label_map.grid.affine) @ grid.affine
    rows, columns = np.arange(grid.shape[1]), np.arange(grid.shape[2])
    plane = rows[:, None, None] * to_old[:3, 1] + columns[None, :, None] * to_old[:3, 2] + to_old[:3, 3]
    last = np.array(label_map.grid.shape) - 1
    values = np.zeros(grid.shape, dtype=label_map.values.dtype)
    for i in range(grid.shape[0]):
        nearest = np.floor(plane + i * to_old[:3, 0] + 0.5).astype(np.intp)
        inside = ((nearest >= 0) & (nearest <= last)).all(axis=-1)
        values[i][inside] = label_map.values[tuple(nearest[inside].T)]
    return LabelMap(values, grid, label_map.tissues)
