"""Label maps from outside, dressed for the scanner: what lies between and round the bones that somebody outlined.

Outlines of bones and cartilage stand in the air. A scanner would show them among joint fluid, capsule, fat pads,
muscle, fat and skin; `dressed` draws these by distance alone, plausible rather than true, so that a rendered image does
not give the outlines away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import Tissue, TissueTable, distinct_color
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError
from msksam_cli.phantom.texture import depth_mm, of_groups, smooth_noise, stretched

FloatImage = NDArray[np.float32]
Mask = NDArray[np.bool_]

_COARSE_MM = 3.0
_CLOSING_MM = 16.0
_HULL_MM = 45.0
_FLUID_MM, _CAPSULE_MM, _SHEATH_MM = 0.9, 0.7, 1.2
_LEAST_VOXELS = 0.7
_SKIN_MM = 1.8
_THINNEST_MUSCLE_MM = 2.5
_JOINT_MM, _SHAFT_MM = 12.0, 55.0
_PLANE_WIDTH = 0.07
_BULK_MM, _BEHIND_MM = 28.0, 24.0
_JOINT_PARTS = ("cartilage", "meniscus")
_ADDED = (
    ("joint-fluid", "fluid"),
    ("joint-capsule", "ligament"),
    ("muscle", "muscle"),
    ("fat", "fat"),
    ("skin", "skin"),
)


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """Distances that tell where soft tissue goes, (I, J, K) float32 in mm.

    Attributes:
        outside: from the outlines with the gaps between them filled; negative inside.
        hull: the same with wide bays filled too, over which skin and fat stretch.
        joint: from cartilage and meniscus, far where there are none.
        behind: part, 0 to 1, by which a place lies behind the bones rather than in front.
    """

    outside: FloatImage
    hull: FloatImage
    joint: FloatImage
    behind: FloatImage


def dressed(labels: LabelMap, seed: int = 0) -> LabelMap:
    """The same outlines among soft tissue: every labelled voxel stays, background near them gets tissues.

    Joint fluid and capsule wrap cartilage and meniscus; fat pads and capsule fill the gaps between bones; muscle lies
    round the shafts and behind the joint, thin in front of it; fat and skin close the limb. Beyond the skin is air.
    Outlines that touch the border of the grid are taken to go on beyond it.

    Args:
        labels: outlines whose tissues have groups, bones at least; the grid's world is RAS+.
        seed: of the fat planes between muscles and of the limb's thickness.

    Returns:
        A label map on the same grid. Its table has the given tissues, then those of `joint-fluid`, `joint-capsule`,
        `muscle`, `fat` and `skin` that it lacked, under the next free values.

    Raises:
        InputError: the map is empty, or has no room for the added values.
    """
    if not labels.values.any():
        raise InputError("the label map is empty: there is nothing to dress", "Give outlines of bones")
    rng = np.random.default_rng([seed, 5])
    table, index = _extended(labels.tissues)
    around = _surroundings(labels)
    values = _envelope(labels.grid, around, index, rng)
    close = depth_mm(of_groups(labels, _JOINT_PARTS), labels.grid)
    gap = around.outside < _SHEATH_MM
    fluid_mm = _resolved_mm(_FLUID_MM, labels.grid)
    values[gap & (close > -fluid_mm - _CAPSULE_MM)] = index["joint-capsule"]
    values[gap & (close > -fluid_mm)] = index["joint-fluid"]
    values = np.where(labels.values > 0, labels.values, values)
    return LabelMap(values, labels.grid, table)


def _extended(tissues: TissueTable) -> tuple[TissueTable, dict[str, int]]:
    """The table with what dressing needs, and the label value of each such tissue."""
    index = {}
    added = []
    free = max(tissues.indices) + 1
    for name, group in _ADDED:
        own = tissues.by_name(name)
        if own is None:
            known = TISSUES.by_name(name)
            own = Tissue(free, name, name[:3].title(), distinct_color(free), "", group)
            own = own if known is None else replace(known, index=free)
            added.append(own)
            free += 1
        index[name] = own.index
    return TissueTable((*tissues.tissues, *added)), index


def _surroundings(labels: LabelMap) -> _Surroundings:
    """Distances measured on a coarse copy of the grid that goes on beyond its border, and interpolated back."""
    grid = labels.grid
    spacing = np.array(grid.spacing_mm)
    steps = np.maximum(1, np.floor(_COARSE_MM / spacing)).astype(int)
    size = spacing * steps
    margin = [(int(np.ceil(_HULL_MM / length)),) * 2 for length in size]
    coarse = tuple(slice(None, None, step) for step in steps)
    outlines = np.pad((labels.values > 0)[coarse], margin, mode="edge")
    away = _distance_mm(outlines, size)
    filled, hull = (_distance_mm(away > radius, size) > radius for radius in (_CLOSING_MM, _HULL_MM))
    outside = _distance_mm(filled, size) - _distance_mm(~filled, size)
    beyond = _distance_mm(hull, size)
    joint = _distance_mm(np.pad(of_groups(labels, _JOINT_PARTS)[coarse], margin, mode="edge"), size)
    front = _anterior_mm(grid)[coarse]
    inner = tuple(slice(before, -after) for before, after in margin)
    middle = float(front[filled[inner]].mean())
    behind = np.clip(0.5 - (front - middle) / 70.0, 0, 1).astype(np.float32)
    found = (outside[inner], beyond[inner], joint[inner], behind)
    return _Surroundings(*(_fine(image, steps, grid) for image in found))


def _envelope(
    grid: Grid, around: _Surroundings, index: dict[str, int], rng: np.random.Generator
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Soft tissue everywhere, as if there were no outlines: pads, sheath, muscle with planes of fat, fat, skin, air."""
    thick, planes, pads = (smooth_noise(grid, (size,) * 3, rng) for size in (22.0, 9.0, 4.0))
    shaft = np.clip((around.joint - _JOINT_MM) / _SHAFT_MM, 0, 1)
    muscle_mm = _BULK_MM * shaft * (0.35 + 0.65 * around.behind) + _BEHIND_MM * around.behind**2
    muscle_mm = muscle_mm * (1 + 0.12 * thick) - _THINNEST_MUSCLE_MM
    fat_mm = np.maximum(6.5 + 2.0 * thick, 2.0)
    depth = around.outside - _SHEATH_MM
    cover = np.minimum(depth - np.maximum(muscle_mm, 0) - fat_mm, around.hull - 0.6 * fat_mm)
    highest = max(index.values())
    values = np.zeros(grid.shape, dtype=np.uint8 if highest < 256 else np.uint16)
    values[cover < _resolved_mm(_SKIN_MM, grid)] = index["skin"]
    values[cover < 0] = index["fat"]
    values[(depth < muscle_mm) & (np.abs(planes) > _PLANE_WIDTH)] = index["muscle"]
    inside = around.outside < 0
    values[inside] = index["fat"]
    values[inside & (pads > 1.1)] = index["joint-capsule"]
    return values


def _resolved_mm(thickness_mm: float, grid: Grid) -> float:
    """A layer's thickness, at least what voxels of the grid can show."""
    return max(thickness_mm, _LEAST_VOXELS * max(grid.spacing_mm))


def _distance_mm(mask: Mask, spacing_mm: NDArray[np.float64]) -> FloatImage:
    """Distance to a mask, far everywhere when it is empty."""
    if not mask.any():
        return np.full(mask.shape, 1e3, dtype=np.float32)
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing_mm), dtype=np.float32)


def _anterior_mm(grid: Grid) -> FloatImage:
    """World position of every voxel from back to front."""
    i, j, k = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid.shape), indexing="ij", sparse=True)
    row = grid.affine[1]
    return np.asarray(row[0] * i + row[1] * j + row[2] * k + row[3], dtype=np.float32)


def _fine(coarse: FloatImage, steps: NDArray[np.int_], grid: Grid) -> FloatImage:
    for axis, step in enumerate(steps):
        if step > 1 and coarse.shape[axis] > 1:
            coarse = stretched(coarse, axis, int(step), grid.shape[axis])
    return np.asarray(coarse, dtype=np.float32)
