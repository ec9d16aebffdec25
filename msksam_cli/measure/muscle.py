"""Cross-sectional area of a muscle along its limb, and the share of fat in it.

Area: the muscle's volume in layers perpendicular to the limb's axis, over the layers' thickness (Cavalieri). The axis
is that of the longest bone in the label map, where that is at least twice as long as wide, else straight up; slices
that lie within 20° of perpendicular to it are the layers themselves, as readers do it.

Fat from Dixon images: fat signal over fat and water signal, summed over the muscle (signal fat fraction, Dixon 1984,
Radiology 153:189; no correction for T1, T2*, noise or the fat spectrum, so it is no proton density fat fraction,
Reeder et al. 2012, J Magn Reson Imaging 36:1011).

Fat by two classes: share of the muscle's voxels brighter than the middle between the median of the muscle and that of
the fat label. It says how much of the muscle looks like fat on an image where fat is bright, and no more: voxels that
hold both count as either, bright fluid and vessels count as fat, a coil's fall-off shifts the border, and muscle that
is mostly fat has a median that is no longer muscle's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.volume import LabelMap

_UP = np.array([0.0, 0.0, 1.0])
_LONG = 2.0
_ALIGNED_COSINE = float(np.cos(np.radians(20)))
_LEAST_CONTRAST = 1.3
_LEAST_VOXELS = 20


@dataclass(frozen=True)
class CrossSection:
    """Area of a muscle perpendicular to its limb.

    Attributes:
        mean_mm2: volume over length.
        max_mm2: largest area of a layer.
        length_mm: extent along the axis.
    """

    mean_mm2: float
    max_mm2: float
    length_mm: float


def limb_axis(label_map: LabelMap) -> FloatArray:
    """Unit vector along the limb in world directions, upwards."""
    best, longest = _UP, 0.0
    for tissue in label_map.tissues:
        if tissue.group != "bone" or len(voxels := label_map.boxed(tissue.index).voxels()) < _LEAST_VOXELS:
            continue
        points = label_map.grid.to_world_mm(voxels)
        spread, directions = np.linalg.eigh(np.cov(points.T))
        if np.sqrt(spread[2]) > _LONG * np.sqrt(spread[1]) and np.sqrt(spread[2]) > longest:
            best, longest = directions[:, 2], float(np.sqrt(spread[2]))
    return np.asarray(best * (np.sign(best[2]) or 1.0))


def layer_axis(grid: Grid, axis: FloatArray) -> FloatArray:
    """The normal of the grid's slices where it lies within 20° of the limb's axis, else that axis."""
    in_slice = [grid.affine[:3, other] for other in range(3) if other != grid.slice_axis]
    normal = np.cross(in_slice[0], in_slice[1])
    normal = normal / np.linalg.norm(normal)
    return np.asarray(normal if abs(normal @ axis) >= _ALIGNED_COSINE else axis)


def cross_section(voxels: NDArray[np.int64], grid: Grid, axis: FloatArray) -> CrossSection | None:
    """Areas of the voxels (N, 3) of a muscle in layers perpendicular to a unit vector; None without voxels.

    Layers across slices that are not perpendicular are two voxels thick, so that the grid shows little in them.
    """
    if not len(voxels):
        return None
    steps = np.abs(axis @ grid.affine[:3, :3])
    step = float(steps.max())
    aligned = bool(np.sort(steps)[1] < 1e-3 * step)
    layer = step if aligned else 2 * step
    along = grid.to_world_mm(voxels) @ axis
    low = float(along.min())
    number = np.rint((along - low) / layer) if aligned else np.floor((along - low) / layer)
    counts = np.bincount(number.astype(np.int64))
    length = float(along.max()) - low + step
    return CrossSection(
        mean_mm2=len(voxels) * grid.voxel_volume_mm3 / length,
        max_mm2=float(counts.max()) * grid.voxel_volume_mm3 / layer,
        length_mm=length,
    )


def dixon_fat_fraction(fat: FloatArray, water: FloatArray) -> tuple[float | None, str]:
    """Signal fat fraction of a muscle's voxels (N,), 0…1, or None and the reason.

    >>> dixon_fat_fraction(np.array([10.0, 30.0]), np.array([90.0, 70.0]))
    (0.2, '')
    """
    total = float(fat.sum() + water.sum())
    if fat.min() < 0 or water.min() < 0:
        return None, "the fat or water image holds values below 0"
    if total <= 0:
        return None, "the fat and water images are 0 in this muscle"
    return float(fat.sum()) / total, ""


def two_class_fat_share(muscle: FloatArray, fat: FloatArray) -> tuple[float | None, str]:
    """Share of a muscle's intensities (N,) nearer to fat's median than to its own, or None and the reason.

    >>> two_class_fat_share(np.array([10.0, 11.0, 9.0, 98.0]), np.array([100.0, 102.0, 99.0]))
    (0.25, '')
    """
    if not fat.size:
        return None, "no fat label to learn the intensity of fat from"
    of_muscle, of_fat = float(np.median(muscle)), float(np.median(fat))
    if of_fat < _LEAST_CONTRAST * max(of_muscle, 0.0) or of_fat <= 0:
        return None, f"fat is not brighter than muscle here (medians {of_fat:.4g} and {of_muscle:.4g})"
    return float(np.mean(muscle > (of_muscle + of_fat) / 2)), ""
