"""What the procedural regions share: a label for every voxel of a grid, and the smooth bending of space.

A region is a function from points to labels. `label_map` asks it block by block, so that the memory it needs does not
grow with the grid; since a block's labels depend on its points alone, the blocks leave no seams.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom.fields import Points

_BLOCK = 40
_BENDING_WAVES = 6
_BENDING_WAVELENGTHS_MM = (110.0, 260.0)

Labels = NDArray[np.uint8]
Waves = NDArray[np.float32]
Block = tuple[slice, slice, slice]


def label_map(labels_of: Callable[[Points], Labels], grid: Grid, tissues: TissueTable) -> LabelMap:
    """Label every voxel of a grid by the tissue at its centre.

    Args:
        labels_of: labels (…) uint8 of points (…) in RAS+ mm; called once for each block of voxels.
        grid: any grid.
        tissues: the table that names the labels.
    """
    values = np.empty(grid.shape, dtype=np.uint8)
    for i in range(0, grid.shape[0], _BLOCK):
        for j in range(0, grid.shape[1], _BLOCK):
            for k in range(0, grid.shape[2], _BLOCK):
                block = (slice(i, i + _BLOCK), slice(j, j + _BLOCK), slice(k, k + _BLOCK))
                values[block] = labels_of(world_points(grid, block))
    return LabelMap(values, grid, tissues)


def world_points(grid: Grid, block: Block) -> Points:
    """RAS+ mm of the voxel centres in a block of the grid."""
    ranges = [np.arange(n)[part] for n, part in zip(grid.shape, block, strict=True)]
    i, j, k = np.meshgrid(*ranges, indexing="ij", sparse=True)
    rows = [grid.affine[c, 0] * i + grid.affine[c, 1] * j + grid.affine[c, 2] * k + grid.affine[c, 3] for c in range(3)]
    x, y, z = (np.broadcast_to(row, tuple(len(r) for r in ranges)).astype(np.float32) for row in rows)
    return Points(x, y, z)


def points_from_array(points_mm: NDArray[np.floating]) -> Points:
    """Points of an array (…, 3) in RAS+ mm, each coordinate of shape (…)."""
    x, y, z = (np.ascontiguousarray(points_mm[..., c], dtype=np.float32) for c in range(3))
    return Points(x, y, z)


def bending_waves(seed: int, size_mm: float) -> Waves:
    """Rows (wave vector 3 in rad/mm, phase, displacement 3 in mm) of a smooth deformation of about `size_mm`."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((_BENDING_WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(*_BENDING_WAVELENGTHS_MM, (_BENDING_WAVES, 1))
    phases = rng.uniform(0, 2 * np.pi, (_BENDING_WAVES, 1))
    sizes = rng.standard_normal((_BENDING_WAVES, 3)) * size_mm / np.sqrt(_BENDING_WAVES)
    return np.hstack([directions * 2 * np.pi / lengths, phases, sizes]).astype(np.float32)


def bend(points: Points, waves: Waves) -> Points:
    """Points moved by a smooth deformation; rows that displace nothing are skipped."""
    moved = [points.u, points.y, points.z]
    for wave in waves:
        if not wave[4:].any():
            continue
        swing = np.sin(wave[0] * points.u + wave[1] * points.y + wave[2] * points.z + wave[3])
        moved = [coordinate + size * swing for coordinate, size in zip(moved, wave[4:], strict=True)]
    return Points(moved[0], moved[1], moved[2])
