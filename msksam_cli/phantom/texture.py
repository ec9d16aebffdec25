"""What varies inside a tissue, as factors on its signal: trabeculae, streaks, septa, shells, layers, growth plates.

Everything is told from the tissues' groups and names, so that it holds for any region and for any label map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap

FloatImage = NDArray[np.float32]
Mask = NDArray[np.bool_]

_EDGE_BLUR_MM, _EDGE_TAIL = 1.6, 1e-3
_FAR_MM = 1e3
_SEPTUM_LOSS = 0.30
_DEEP_LAYER_LOSS, _DEEP_LAYER_MM = 0.30, 1.6
_ANNULUS_LOSS, _ANNULUS_MM = 0.60, 3.0
_INFILTRATION_STREAKS = 0.35
_THIN_PLATE_MM, _THICK_SHAFT_MM, _FLAT_BONE_MM = 0.7, 4.2, 1.0
_SHAFT_BEGINS_MM, _SHAFT_GROWS_MM = 14.0, 70.0
_COARSE_MM = 4.0
_SCAR_LOSS = 0.35
_LONG_BONES = ("femur", "tibia", "fibula", "humerus")
_SCARS: Mapping[str, tuple[tuple[str, ...], float]] = {
    "femur": (("femoral-cartilage", "femoral-head-cartilage"), 22.0),
    "tibia": (("medial-tibial-cartilage", "lateral-tibial-cartilage"), 18.0),
    "humerus": (("humeral-cartilage",), 22.0),
}
# Weights of fine grain, broad variation and streaks along the body, by group.
_GRAIN: Mapping[str, tuple[float, float, float]] = {
    "cartilage": (0.05, 0.08, 0.0),
    "meniscus": (0.10, 0.12, 0.06),
    "ligament": (0.10, 0.12, 0.06),
    "muscle": (0.03, 0.05, 0.07),
    "fat": (0.05, 0.07, 0.04),
    "skin": (0.05, 0.08, 0.0),
    "fluid": (0.05, 0.08, 0.0),
    "disc": (0.06, 0.10, 0.0),
    "other": (0.05, 0.08, 0.0),
}
_BONES = ("bone", "vertebra")


def texture(
    labels: LabelMap, rng: np.random.Generator, trabecular: float, infiltration: Mapping[int, float]
) -> FloatImage:
    """Multiplicative texture (I, J, K) with mean about 1: trabeculae in bone, streaks in muscle, septa in fat.

    Args:
        labels: any label map.
        rng: equal states give equal textures.
        trabecular: contrast of the trabeculae, greater in gradient echoes.
        infiltration: fat fraction by label value; fat in muscle lies in streaks.
    """
    grid, values = labels.grid, labels.values
    fine = smooth_noise(grid, (0.6, 0.6, 0.6), rng)
    broad = smooth_noise(grid, (7.0, 7.0, 7.0), rng)
    streaks = smooth_noise(grid, (0.8, 0.8, 6.0), rng)
    weights = np.zeros((max(labels.tissues.indices, default=0) + 1, 3), dtype=np.float32)
    for tissue in labels.tissues:
        weights[tissue.index] = (trabecular, 0.07, 0.03) if tissue.group in _BONES else _GRAIN[tissue.group]
        if tissue.group == "muscle":
            weights[tissue.index, 2] += _INFILTRATION_STREAKS * infiltration.get(tissue.index, 0.0)
    factor = 1 + weights[:, 0][values] * fine + weights[:, 1][values] * broad + weights[:, 2][values] * streaks
    septa = np.exp(-((smooth_noise(grid, (2.6, 2.6, 4.0), rng) / np.float32(0.10)) ** 2)) * of_groups(labels, ("fat",))
    return np.asarray(np.maximum(factor - np.float32(_SEPTUM_LOSS) * septa, 0.05), dtype=np.float32)


def of_groups(labels: LabelMap, groups: Iterable[str]) -> Mask:
    """Where a label map holds tissues of some groups."""
    wanted = np.zeros(max(labels.tissues.indices, default=0) + 1, dtype=bool)
    for tissue in labels.tissues:
        wanted[tissue.index] = tissue.group in groups
    return np.asarray(wanted[labels.values])


def of_names(labels: LabelMap, names: Iterable[str]) -> Mask:
    """Where a label map holds tissues of some names."""
    wanted = np.zeros(max(labels.tissues.indices, default=0) + 1, dtype=bool)
    for name in names:
        tissue = labels.tissues.by_name(name)
        if tissue is not None:
            wanted[tissue.index] = True
    return np.asarray(wanted[labels.values]) if wanted.any() else np.zeros(labels.grid.shape, dtype=bool)


def layers(labels: LabelMap, depth_in_bone_mm: FloatImage) -> FloatImage:
    """Factor (I, J, K) that darkens cartilage towards its bone and discs towards their annulus."""
    cartilage = of_groups(labels, ("cartilage",))
    near_bone = np.clip(1 + depth_in_bone_mm / np.float32(_DEEP_LAYER_MM), 0, 1)
    factor = 1 - np.float32(_DEEP_LAYER_LOSS) * near_bone * cartilage
    disc = of_groups(labels, ("disc",))
    if disc.any():
        depth = depth_mm(disc, labels.grid)
        factor *= 1 - np.float32(_ANNULUS_LOSS) * np.clip(1 - depth / np.float32(_ANNULUS_MM), 0, 1) * disc
    return np.asarray(factor, dtype=np.float32)


def depth_mm(mask: Mask, grid: Grid) -> FloatImage:
    """Signed depth below a mask's surface in mm, true to about 4.9 mm and far beyond: the inverse of a blurred edge."""
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), _EDGE_BLUR_MM / np.array(grid.spacing_mm), truncate=4)
    depth = special.ndtri(np.clip(blurred, _EDGE_TAIL, 1 - _EDGE_TAIL)) * _EDGE_BLUR_MM
    depth[blurred <= _EDGE_TAIL] = -_FAR_MM
    depth[blurred >= 1 - _EDGE_TAIL] = _FAR_MM
    return np.asarray(depth, dtype=np.float32)


def cortical_part(labels: LabelMap, depth_in_bone_mm: FloatImage) -> FloatImage:
    """Part of a voxel that is cortical bone: thin in flat bones and under cartilage, thick in shafts of long bones."""
    grid = labels.grid
    thickness = np.full(grid.shape, _FLAT_BONE_MM, dtype=np.float32)
    shafts = of_names(labels, _LONG_BONES)
    if shafts.any():
        away = _distance_mm(of_groups(labels, ("cartilage",)), grid)
        grown = np.clip((away - _SHAFT_BEGINS_MM) / _SHAFT_GROWS_MM, 0, 1)
        thickness = np.where(shafts, _THIN_PLATE_MM + (_THICK_SHAFT_MM - _THIN_PLATE_MM) * grown, thickness)
    edge = max(0.4, 0.5 * min(grid.spacing_mm))
    part = np.clip((thickness - depth_in_bone_mm) / (2 * edge) + 0.5, 0, 1)
    return np.asarray(part * of_groups(labels, _BONES), dtype=np.float32)


def growth_plate_scars(labels: LabelMap, rng: np.random.Generator) -> FloatImage:
    """Darkening, 0 to 1, along the thin wavy lines that closed growth plates leave across long bones near a joint.

    A plate lies across the line from a joint's cartilage to the middle of its bone.
    """
    grid = labels.grid
    waves = np.float32(2.2) * smooth_noise(grid, (7.0, 7.0, 30.0), rng)
    width = np.float32(max(0.6, 0.5 * min(grid.spacing_mm)))
    loss = np.zeros(grid.shape, dtype=np.float32)
    for name, (cartilages, offset_mm) in _SCARS.items():
        depth, strength = rng.normal(0, 2), rng.uniform(0.2, 1.0)
        bone, joint = of_names(labels, (name,)), of_names(labels, cartilages)
        if not bone.any() or not joint.any():
            continue
        distance = (_along(grid, _centre_mm(joint, grid), _centre_mm(bone, grid)) + waves) - (offset_mm + depth)
        loss += np.float32(_SCAR_LOSS * strength) * np.exp(-((distance / width) ** 2)) * bone
    return np.asarray(loss, dtype=np.float32)


def distance_to_metal_mm(labels: LabelMap) -> FloatImage | None:
    """Distance (I, J, K) to implants in mm, None where there are none."""
    metal = of_names(labels, ("implant",))
    if not metal.any():
        return None
    return np.asarray(ndimage.distance_transform_edt(~metal, sampling=labels.grid.spacing_mm), dtype=np.float32)


def void(distance_mm: FloatImage, bloom_mm: float) -> FloatImage:
    """Factor (I, J, K), 0 in metal, that rises to 1 over the width by which metal's void blooms beyond it."""
    return np.asarray(1 - np.exp(-((distance_mm / np.float32(bloom_mm)) ** 4)), dtype=np.float32)


def _distance_mm(mask: Mask, grid: Grid) -> FloatImage:
    """Distance to a mask measured on a coarse copy of the grid; everywhere far when the mask is empty."""
    steps = np.maximum(1, np.floor(_COARSE_MM / np.array(grid.spacing_mm))).astype(int)
    coarse = mask
    for axis, step in enumerate(steps):
        coarse = np.logical_or.reduceat(coarse, np.arange(0, coarse.shape[axis], step), axis=axis)
    if not coarse.any():
        return np.full(grid.shape, _FAR_MM, dtype=np.float32)
    away = ndimage.distance_transform_edt(~coarse, sampling=steps * np.array(grid.spacing_mm)).astype(np.float32)
    for axis, step in enumerate(steps):
        away = np.take(away, np.arange(grid.shape[axis]) // step, axis=axis)
    return np.asarray(away)


def _centre_mm(mask: Mask, grid: Grid) -> NDArray[np.float64]:
    sums = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    middle = [float((np.arange(len(counts)) * counts).sum() / counts.sum()) for counts in sums]
    return np.asarray(grid.affine[:3, :3] @ np.array(middle) + grid.affine[:3, 3])


def _along(grid: Grid, start_mm: NDArray[np.float64], end_mm: NDArray[np.float64]) -> FloatImage:
    """Position in mm of every voxel along the line from a start to an end."""
    direction = end_mm - start_mm
    direction = direction / max(float(np.linalg.norm(direction)), 1e-6)
    row = direction @ grid.affine[:3, :3]
    i, j, k = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid.shape), indexing="ij", sparse=True)
    constant = float(direction @ (grid.affine[:3, 3] - start_mm))
    return np.asarray(row[0] * i + row[1] * j + row[2] * k + constant, dtype=np.float32)


def smooth_noise(grid: Grid, sigma_xyz_mm: tuple[float, float, float], rng: np.random.Generator) -> FloatImage:
    """Smooth noise of unit variance whose correlation lengths are given along the world's axes.

    Long correlations are drawn on a coarser lattice and interpolated.
    """
    directions = np.abs(grid.affine[:3, :3]) / np.array(grid.spacing_mm)
    sigma = (np.array(sigma_xyz_mm) @ directions) / directions.sum(axis=0) / np.array(grid.spacing_mm)
    steps = np.maximum(1, np.floor(sigma / 1.5)).astype(int)
    shape = [-(-n // step) + 1 for n, step in zip(grid.shape, steps, strict=True)]
    drawn = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(drawn, sigma / steps, mode="wrap", truncate=3)
    smooth = (smooth - smooth.mean()) / max(float(smooth.std()), 1e-6)
    for axis, step in enumerate(steps):
        if step > 1:
            smooth = stretched(smooth, axis, int(step), grid.shape[axis])
    return np.asarray(smooth[: grid.shape[0], : grid.shape[1], : grid.shape[2]], dtype=np.float32)


def stretched(coarse: FloatImage, axis: int, step: int, length: int) -> FloatImage:
    """Linear interpolation along one axis from every `step`-th sample."""
    positions = np.arange(length) / step
    below = np.minimum(positions.astype(int), coarse.shape[axis] - 2)
    part = np.moveaxis(coarse, axis, -1)
    rest = (positions - below).astype(np.float32)
    return np.asarray(np.moveaxis(part[..., below] * (1 - rest) + part[..., below + 1] * rest, -1, axis))
