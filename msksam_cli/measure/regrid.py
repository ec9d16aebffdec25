"""Labels taken to another grid by nearest neighbour."""

from __future__ import annotations

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap


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
