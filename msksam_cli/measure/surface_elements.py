"""Area of the surface inside each 2×2×2 neighbourhood of a mask.

The surface of a mask crosses every cube of eight neighbouring voxel centres that are not all inside or all outside.
Inside a cube it is the polygon through the middles of the cube's cut edges, as in marching cubes (Lorensen and
Cline 1987); its area is the weight of the cube's centre when distances are averaged over a surface (Nikolov et al.
2018, "Deep learning to achieve clinically applicable segmentation of head and neck anatomy").
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import FloatArray

Corner = tuple[int, int, int]
Triangle = tuple[FloatArray, FloatArray, FloatArray]

CORNERS: tuple[Corner, ...] = tuple((i, j, k) for i, j, k in product((0, 1), repeat=3))
"""The cube's corners; corner number n is bit n of a neighbourhood's code."""

FULL_CODE = 255


def neighbourhood_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Code (I-1, J-1, K-1) of each cube of eight voxels: bit n is set where corner n of `CORNERS` is inside."""
    codes = np.zeros(tuple(n - 1 for n in mask.shape), dtype=np.uint8)
    voxels = mask.view(np.uint8)
    for bit, corner in enumerate(CORNERS):
        window = tuple(slice(start, start + n) for start, n in zip(corner, codes.shape, strict=True))
        codes |= voxels[window] << np.uint8(bit)
    return codes


def element_areas_mm2(spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Area (256,) in mm² of the surface in a cube of each code, on voxels of this spacing.

    A single corner of a unit cube is cut off by an equilateral triangle with sides of √½:

    >>> round(float(element_areas_mm2((1.0, 1.0, 1.0))[1]), 6)
    0.216506
    """
    i, j, k = spacing_mm
    face_mm2 = np.array((j * k, i * k, i * j))
    return np.array([np.linalg.norm(vectors * face_mm2, axis=1).sum() for vectors in _unit_area_vectors()])


@lru_cache(maxsize=1)
def _unit_area_vectors() -> tuple[FloatArray, ...]:
    """For each code the area vectors (T, 3) of its triangles in a unit cube; scaling an axis scales the other two."""
    table = []
    for code in range(FULL_CODE + 1):
        inside = [corner for bit, corner in enumerate(CORNERS) if code >> bit & 1]
        outside = [corner for corner in CORNERS if corner not in inside]
        fewer = inside if len(inside) <= len(outside) else outside
        triangles = [triangle for part in _edge_connected(fewer) for triangle in _flattest_triangles(_cut_loop(part))]
        table.append(np.array([_area_vector(triangle) for triangle in triangles]).reshape(-1, 3))
    return tuple(table)


def _edge_connected(corners: list[Corner]) -> list[set[Corner]]:
    """Corners grouped so that those joined by an edge of the cube are together; diagonal neighbours stay apart."""
    groups: list[set[Corner]] = []
    for corner in corners:
        touching = [group for group in groups if any(_differ(corner, other) == 1 for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append({corner}.union(*touching))
    return groups


def _differ(one: Corner, other: Corner) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _cut_loop(part: set[Corner]) -> list[FloatArray]:
    """Middles of the edges that leave `part`, in the order in which the surface runs round it.

    At most four connected corners leave no face of the cube with more than two cut edges, so each middle has exactly
    one successor on each of its two faces.
    """
    middles = [
        np.add(one, other) / 2
        for one, other in product(part, CORNERS)
        if other not in part and _differ(one, other) == 1
    ]
    if not middles:
        return []
    loop, left = [middles[0]], middles[1:]
    while left:
        following = next(index for index, point in enumerate(left) if _share_a_face(loop[-1], point))
        loop.append(left.pop(following))
    return loop


def _share_a_face(one: FloatArray, other: FloatArray) -> bool:
    return bool(((one == other) & (one != 0.5)).any())


def _flattest_triangles(loop: list[FloatArray]) -> list[Triangle]:
    """The triangulation of largest area, which keeps the flat parts of a bent loop flat."""
    return max(
        _triangulations(loop), key=lambda triangles: sum(float(np.linalg.norm(_area_vector(t))) for t in triangles)
    )


def _triangulations(loop: list[FloatArray]) -> list[list[Triangle]]:
    if len(loop) < 3:
        return [[]]
    return [
        [*before, (loop[0], loop[apex], loop[-1]), *after]
        for apex in range(1, len(loop) - 1)
        for before, after in product(_triangulations(loop[: apex + 1]), _triangulations(loop[apex:]))
    ]


def _area_vector(triangle: Triangle) -> FloatArray:
    a, b, c = triangle
    return np.asarray(np.cross(b - a, c - a) / 2)
