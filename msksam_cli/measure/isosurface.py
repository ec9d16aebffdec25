"""The surface of a mask with sub-voxel accuracy: positions, directions and areas of its elements.

The mask is smoothed by a Gaussian of 0.7 voxels along each axis and its surface taken where the smoothed mask is one
half, as dual surface nets (Gibson 1998, "Constrained elastic surface nets"): one vertex in each cube of eight voxel
centres that the surface crosses, at the mean of the crossings on the cube's edges; one quadrilateral for each crossed
edge. A plane keeps its place under smoothing whatever its tilt; a ball's surface moves inwards by σ²/R. All is done in
voxel coordinates and taken to mm by the whole affine, so that anisotropic, oblique and sheared grids are true.

A mask has no surface where the array ends: a tissue cut by the field of view is open there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.boxed import Box3D, grown
from msksam_cli.core.geometry import FloatArray, Grid

LEVEL = 0.5
"""Value of a smoothed mask at its surface."""

SMOOTHING_VOXELS = 0.7
"""Standard deviation of the Gaussian along each axis: averages the steps of an oblique surface, rounds edges little."""

MARGIN_VOXELS = 8
"""What a crop must leave round a mask so that its smoothed surface does not change."""

_AROUND_EDGE = ((0, 0), (-1, 0), (-1, -1), (0, -1))


@dataclass(frozen=True, eq=False)
class Elements:
    """Small quadrilaterals that make up a surface.

    Attributes:
        points_mm: (N, 3) their centres in world mm.
        normals: (N, 3) unit vectors out of the mask, in world directions.
        areas_mm2: (N,).
        corners: (N, 4) numbers of their vertices; elements that share one are neighbours.
    """

    points_mm: FloatArray
    normals: FloatArray
    areas_mm2: FloatArray
    corners: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.areas_mm2)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Elements:
        """The chosen elements only."""
        return Elements(self.points_mm[chosen], self.normals[chosen], self.areas_mm2[chosen], self.corners[chosen])


def box_around(box: Box3D, shape: tuple[int, int, int], margin: int = MARGIN_VOXELS) -> Box3D:
    """The box enlarged by a margin on every side as far as the array goes."""
    return grown(box, (margin, margin, margin), shape)


def smoothed(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A mask (I, J, K) as values from 0 to 1 that pass `LEVEL` at its surface."""
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), SMOOTHING_VOXELS, mode="nearest"))


def surface_of(mask: NDArray[np.bool_], grid: Grid, box: Box3D | None = None) -> Elements:
    """Elements of the smoothed surface of a mask.

    Args:
        mask: boolean (I, J, K), the whole grid or, with a box, the part of it in that box.
        grid: where the voxels lie.
        box: where on the grid the mask was cut out.
    """
    first = np.zeros(3) if box is None else np.array([part.start for part in box], dtype=np.float64)
    vertices, corners = _surface_net(smoothed(mask))
    vertices_mm = grid.to_world_mm(vertices + first)
    across, along = (vertices_mm[corners[:, n + 2]] - vertices_mm[corners[:, n]] for n in (0, 1))
    vectors = np.cross(across, along) / 2 * np.sign(np.linalg.det(grid.affine[:3, :3]))
    areas = np.linalg.norm(vectors, axis=1)
    real = areas > 0
    vectors, areas, corners = vectors[real], areas[real], corners[real]
    return Elements(vertices_mm[corners].mean(axis=1), vectors / areas[:, None], areas, corners)


def _surface_net(field: NDArray[np.float32]) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vertices (V, 3) in voxel coordinates and corners (N, 4) of the surface where a field is at `LEVEL`.

    Corners run anticlockwise seen from where the field is low, in a right-handed grid.
    """
    shape = np.array(field.shape) - 1
    crossings, cubes = [], []
    for axis in range(3):
        edge, place, inside_first = _crossed_edges(field, axis)
        around = np.stack([_neighbour(edge, axis, step) for step in _AROUND_EDGE], axis=1)
        whole = ((around >= 0) & (around < shape)).all(axis=(1, 2))
        turned = np.where(inside_first[whole, None], (0, 1, 2, 3), (3, 2, 1, 0))
        numbers = np.ravel_multi_index(tuple(np.moveaxis(around[whole], 2, 0)), tuple(shape))
        cubes.append(np.take_along_axis(numbers, turned, axis=1))
        crossings.append(place[whole])
    quads, places = np.concatenate(cubes), np.concatenate(crossings)
    used, corners = np.unique(quads, return_inverse=True)
    corners = corners.reshape(-1, 4)
    count = np.bincount(corners.ravel(), minlength=len(used))
    sums = [np.bincount(corners.ravel(), np.repeat(places[:, axis], 4), len(used)) for axis in range(3)]
    return np.stack(sums, axis=1) / np.maximum(count, 1)[:, None], corners.astype(np.int64)


def _crossed_edges(field: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int64], FloatArray, NDArray[np.bool_]]:
    """Edges along an axis that the surface crosses: first voxels (E, 3), crossings (E, 3), is the first one inside."""
    low, high = np.moveaxis(field, axis, 0)[:-1], np.moveaxis(field, axis, 0)[1:]
    crossed = np.moveaxis((low > LEVEL) != (high > LEVEL), 0, axis)
    edge = np.argwhere(crossed)
    first, second = (np.moveaxis(part, 0, axis)[crossed].astype(np.float64) for part in (low, high))
    place = edge.astype(np.float64)
    place[:, axis] += (first - LEVEL) / (first - second)
    return edge, place, first > LEVEL


def _neighbour(edge: NDArray[np.int64], axis: int, step: tuple[int, int]) -> NDArray[np.int64]:
    """The cube (E, 3) at a step along the two axes that follow the edge's own."""
    cube = edge.copy()
    cube[:, (axis + 1) % 3] += step[0]
    cube[:, (axis + 2) % 3] += step[1]
    return cube
