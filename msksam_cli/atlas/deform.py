"""Displacement fields that share a grid's axes.

A field (3, I, J, K) holds, for every voxel, how far to look along each of the grid's own axes, in mm, to find what
belongs there. Measured in mm, it means the same on every grid with those axes and outer edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.placed import spread
from msksam_cli.core.geometry import Grid

Field = NDArray[np.float32]


def no_displacement(grid: Grid) -> Field:
    """The field that looks nowhere else."""
    return np.zeros((3, *grid.shape), dtype=np.float32)


def looked_up_voxels(grid: Grid, field: Field) -> NDArray[np.float32]:
    """(3, I, J, K) voxel coordinates a field looks at."""
    spacing = np.array(grid.spacing_mm, dtype=np.float32)[:, None, None, None]
    return np.asarray(np.indices(grid.shape, dtype=np.float32) + field / spacing)


def looked_up(values: NDArray[np.float32], grid: Grid, field: Field, *, extend: bool = False) -> NDArray[np.float32]:
    """Values on `grid` as the field sees them; beyond the grid 0, or the nearest value with `extend`."""
    mode = "nearest" if extend else "constant"
    return np.asarray(
        ndimage.map_coordinates(values, looked_up_voxels(grid, field), order=1, mode=mode), dtype=np.float32
    )


def composed(first: Field, then: Field, grid: Grid) -> Field:
    """The field that looks along `then` and from there along `first`."""
    return np.asarray(then + np.stack([looked_up(part, grid, then, extend=True) for part in first]))


def on_grid(field: Field, grid: Grid) -> Field:
    """The field on another grid with the same axes and outer edges."""
    if field.shape[1:] == grid.shape:
        return field
    finer = all(mine <= wanted for mine, wanted in zip(field.shape[1:], grid.shape, strict=True))
    if finer:
        return np.stack([spread(part, grid.shape) for part in field])
    steps = [mine / wanted for mine, wanted in zip(field.shape[1:], grid.shape, strict=True)]
    places = np.meshgrid(
        *[(np.arange(n) + 0.5) * step - 0.5 for n, step in zip(grid.shape, steps, strict=True)], indexing="ij"
    )
    return np.stack([ndimage.map_coordinates(part, places, order=1, mode="nearest") for part in field])
