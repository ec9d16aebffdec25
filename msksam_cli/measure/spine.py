"""Heights of vertebral bodies and discs, along each one's own axis.

The axis of a body starts as the direction between its neighbours in the spine, or straight up without any, and is then
turned to the mean direction of its two end faces. Height is the distance along it between the lower and the upper
face. Anterior, middle and posterior heights are those of Genant et al. 1993 (J Bone Miner Res 8:1137), taken over a
part of the body instead of at six points: its middle half from left to right, from front to back between 5 and 25 %,
40 and 60 %, and 75 and 95 % of its depth. The outermost 5 % are left out because corners are round. Mean height is the
mean over the whole lower face.

The label must be the body alone; arches and processes would be measured with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from msksam_cli.core.geometry import FloatArray
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.isosurface import Elements, box_around, surface_of
from msksam_cli.measure.thickness import Thickness, no_thickness

SPINE_GROUPS = ("vertebra", "disc")
"""Groups that have heights."""

ZONES = {"posterior": (0.05, 0.25), "middle": (0.4, 0.6), "anterior": (0.75, 0.95)}
"""Parts of the depth, from back to front, that heights are taken over."""

_UP, _FRONT = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
_TURNS = 5
_FACE_COSINE = 0.7
_EXTENT_PERCENT = (0.5, 99.5)


def spine_heights(label_map: LabelMap) -> dict[int, Thickness]:
    """Height over the lower face of every vertebral body and disc that has voxels."""
    surfaces, centres = {}, {}
    for tissue in label_map.tissues:
        index = tissue.index
        if tissue.group not in SPINE_GROUPS or index not in label_map.boxes:
            continue
        box = box_around(label_map.boxes[index], label_map.grid.shape)
        mask = label_map.values[box] == index
        surfaces[index] = surface_of(mask, label_map.grid, box)
        middle = np.argwhere(mask).mean(axis=0) + [part.start for part in box]
        centres[index] = label_map.grid.to_world_mm(middle)
    return {index: heights(surface, _up_the_spine(index, centres)) for index, surface in surfaces.items()}


def heights(surface: Elements, start: FloatArray = _UP) -> Thickness:
    """Height of a body over each element of its lower face, weighted by the area it projects onto.

    Args:
        surface: the body's surface.
        start: unit vector that points roughly up.
    """
    axis = _axis(surface, start)
    upper, lower = _faces(surface, axis)
    if not (upper.any() and lower.any()):
        return no_thickness("the body has no two end faces")
    across = _across(axis)
    flat = surface.points_mm @ across.T
    _, above = KDTree(flat[upper]).query(flat[lower])
    along = surface.points_mm @ axis
    values = np.maximum(along[upper][above] - along[lower], 0.0)
    projected = surface.areas_mm2[lower] * -(surface.normals[lower] @ axis)
    everywhere = np.ones(len(values), dtype=bool)
    return Thickness(surface.points_mm[lower], values, projected, everywhere, on_bone=False, axis=axis)


def zones(height: Thickness) -> dict[str, NDArray[np.bool_]]:
    """Zone of `ZONES` → which of the samples of a height lie in it."""
    if height.axis is None or not len(height.points_mm):
        return {}
    across = _across(height.axis)
    side, depth = (_fraction(height.points_mm @ direction) for direction in across)
    middle = (side >= 0.25) & (side <= 0.75)
    return {name: middle & (depth >= low) & (depth <= high) for name, (low, high) in ZONES.items()}


def _axis(surface: Elements, start: FloatArray) -> FloatArray:
    """Mean direction of the upper face and, reversed, of the lower one; `start` when there are no faces."""
    axis = start
    for _ in range(_TURNS):
        upper, lower = _faces(surface, axis)
        if not (upper.any() and lower.any()):
            break
        vectors = surface.normals * surface.areas_mm2[:, None]
        mean = _unit(vectors[upper].sum(axis=0)) - _unit(vectors[lower].sum(axis=0))
        axis = _unit(mean)
    return axis


def _faces(surface: Elements, axis: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    facing = surface.normals @ axis
    return facing > _FACE_COSINE, facing < -_FACE_COSINE


def _across(axis: FloatArray) -> FloatArray:
    """Unit vectors (2, 3) to the side and to the front, perpendicular to an axis."""
    front = _unit(_FRONT - (_FRONT @ axis) * axis)
    return np.stack([np.cross(front, axis), front])


def _fraction(places: FloatArray) -> FloatArray:
    """Place of each between the lowest (0) and the highest (1), a few outliers aside."""
    low, high = np.percentile(places, _EXTENT_PERCENT)
    return np.asarray((places - low) / max(high - low, 1e-9))


def _up_the_spine(index: int, centres: Mapping[int, FloatArray]) -> FloatArray:
    """Direction up the spine at a body: between its nearest neighbours above and below, straight up without any."""
    others = [centre for other, centre in centres.items() if other != index]
    offsets = np.array(others).reshape(-1, 3) - centres[index]
    chosen = [
        min(side, key=np.linalg.norm) for side in (offsets[offsets[:, 2] > 0], offsets[offsets[:, 2] <= 0]) if len(side)
    ]
    if not chosen:
        return _UP
    return _unit(sum((_unit(offset) * np.sign(offset[2] or 1.0) for offset in chosen), start=np.zeros(3)))


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))
