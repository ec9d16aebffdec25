"""What a scanner would show of a label map: texture, cortical shells, the coil's shading and noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.sequences import (
    CARTILAGE,
    CORTICAL_BONE,
    RELAXATION,
    SEQUENCES,
    Relaxation,
    Sequence,
    tissue_signal,
)

__all__ = ["SEQUENCES", "Sequence", "ideal_echoes", "ideal_signal", "render", "scanned"]

FloatImage = NDArray[np.float32]

_FULL_SCALE = 1000.0
_SHELL_BLUR_MM = 1.6
_POINT_SPREAD_VOXELS = 0.45
_TRABECULAR_SPIN_ECHO, _TRABECULAR_GRADIENT_ECHO = 0.07, 0.12
_DEEP_LAYER_LOSS, _DEEP_LAYER_MM = 0.30, 1.6
_SEPTUM_LOSS = 0.30
_SCAR_LOSS = 0.35
_SCAR_LEVELS_MM = {tissues.FEMUR: 33.0, tissues.TIBIA: -18.0, tissues.FIBULA: -24.0}


def render(labels: LabelMap, sequence: Sequence, seed: int, echo: int = 0) -> FloatImage:
    """What the scanner would show of a label map, (I, J, K) float32 with fluid or fat near 1000, 0 or more.

    Equal seeds give equal anatomy texture and coil for every echo, and noise of their own.
    """
    signal = ideal_signal(labels, sequence, seed, echo)
    return scanned(signal, labels.grid, sequence, seed, echo)


def ideal_signal(labels: LabelMap, sequence: Sequence, seed: int, echo: int = 0) -> FloatImage:
    """Signal of one echo without coil and noise, (I, J, K) float32; see `ideal_echoes`."""
    return ideal_echoes(labels, replace(sequence, echo_times_ms=(sequence.echo_times_ms[echo],)), seed)[0]


def ideal_echoes(labels: LabelMap, sequence: Sequence, seed: int) -> list[FloatImage]:
    """Signals of all echoes without coil and noise: textured tissues, dark cortical shells, layered cartilage.

    Each tissue's relaxation varies by some per cent with the seed, equally for all echoes.
    """
    rng = np.random.default_rng([seed, 1])
    relaxation = {index: _varied(RELAXATION[index], rng) for index in labels.tissues.indices}
    trabecular = _TRABECULAR_SPIN_ECHO if sequence.kind == "spin-echo" else _TRABECULAR_GRADIENT_ECHO
    values = labels.values
    texture = _texture(values, labels.grid, rng, trabecular)
    bone = (values >= tissues.FEMUR) & (values <= tissues.FIBULA)
    depth = _depth_in_bone_mm(bone, labels.grid)
    shell = _cortical_part(depth, labels.grid) * bone
    cartilage = (values >= tissues.FEMORAL_CARTILAGE) & (values <= tissues.PATELLAR_CARTILAGE)
    texture *= 1 - _growth_plate_scars(values, labels.grid, rng)
    texture *= 1 - np.float32(_DEEP_LAYER_LOSS) * np.clip(1 + depth / np.float32(_DEEP_LAYER_MM), 0, 1) * cartilage
    echoes = []
    for echo_time in sequence.echo_times_ms:
        table = np.zeros(256, dtype=np.float32)
        for index, tissue in relaxation.items():
            table[index] = tissue_signal(tissue, sequence, echo_time)
        cortex = np.float32(tissue_signal(CORTICAL_BONE, sequence, echo_time))
        echoes.append(np.asarray(table[values] * texture * (1 - shell) + cortex * shell, dtype=np.float32))
    return echoes


def scanned(signal: FloatImage, grid: Grid, sequence: Sequence, seed: int, echo: int = 0) -> FloatImage:
    """Add the point spread, the coil's smooth shading and Rician noise to an ideal signal; scale to about 1000."""
    reference = tissue_signal(CARTILAGE, sequence, sequence.echo_times_ms[0])
    blurred = ndimage.gaussian_filter(signal, _POINT_SPREAD_VOXELS * _in_plane(grid))
    shaded = blurred * _coil(grid, np.random.default_rng([seed, 2]))
    noise = np.random.default_rng([seed, 3, echo])
    sigma = np.float32(reference / sequence.snr)
    real = shaded + sigma * noise.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * noise.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary) * np.float32(_FULL_SCALE * 0.45 / reference), dtype=np.float32)


def _varied(tissue: Relaxation, rng: np.random.Generator) -> Relaxation:
    density, t1, t2, star, fat = np.clip(rng.standard_normal(5), -2, 2)
    return Relaxation(
        tissue.proton_density * (1 + 0.03 * density),
        tissue.t1_ms * (1 + 0.05 * t1),
        tissue.t2_ms * (1 + 0.06 * t2),
        tissue.t2_star_ms * (1 + 0.06 * star),
        float(np.clip(tissue.fat_fraction * (1 + 0.03 * fat), 0, 0.99)),
    )


def _in_plane(grid: Grid) -> NDArray[np.float64]:
    """1 along the axes of the image plane, 0 along a much coarser slice axis."""
    spacing = np.array(grid.spacing_mm)
    return np.asarray(np.where(spacing > 1.6 * spacing.min(), 0.0, 1.0))


def _depth_in_bone_mm(bone: NDArray[np.bool_], grid: Grid) -> FloatImage:
    """Signed depth below the bone's surface in mm, true to about 3 mm: the inverse of a blurred edge."""
    blurred = ndimage.gaussian_filter(bone.astype(np.float32), _SHELL_BLUR_MM / np.array(grid.spacing_mm), truncate=3)
    depth = special.ndtri(np.clip(blurred, 1e-3, 1 - 1e-3)) * _SHELL_BLUR_MM
    return np.asarray(depth, dtype=np.float32)


def _cortical_part(depth: FloatImage, grid: Grid) -> FloatImage:
    """Part of a voxel that is cortical bone: a thin plate under cartilage, thick in the shafts."""
    height = _world_z_mm(grid)
    thickness = 0.7 + 2.6 * np.clip((np.abs(height - 5) - 38) / 45, 0, 1)
    edge = max(0.4, 0.5 * min(grid.spacing_mm))
    return np.asarray(np.clip((thickness - depth) / (2 * edge) + 0.5, 0, 1), dtype=np.float32)


def _world_z_mm(grid: Grid) -> FloatImage:
    i, j, k = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid.shape), indexing="ij", sparse=True)
    row = grid.affine[2].astype(np.float32)
    return np.asarray(row[0] * i + row[1] * j + row[2] * k + row[3])


def _texture(
    values: NDArray[np.uint8] | NDArray[np.uint16], grid: Grid, rng: np.random.Generator, trabecular: float
) -> FloatImage:
    """Multiplicative texture with mean about 1: trabeculae in bone, streaks in muscle, septa in fat."""
    fine = _noise(grid, (0.6, 0.6, 0.6), rng)
    broad = _noise(grid, (7.0, 7.0, 7.0), rng)
    streaks = _noise(grid, (0.8, 0.8, 6.0), rng)
    weights = np.zeros((256, 3), dtype=np.float32)
    weights[tissues.FEMUR : tissues.FIBULA + 1] = (trabecular, 0.07, 0.03)
    weights[tissues.FEMORAL_CARTILAGE : tissues.PATELLAR_CARTILAGE + 1] = (0.05, 0.08, 0.0)
    weights[tissues.MEDIAL_MENISCUS : tissues.QUADRICEPS_TENDON + 1] = (0.10, 0.12, 0.06)
    weights[tissues.QUADRICEPS : tissues.LEG_MUSCLES + 1] = (0.03, 0.05, 0.07)
    weights[tissues.FAT] = (0.05, 0.07, 0.04)
    weights[tissues.SKIN : tissues.POPLITEAL_VESSELS + 1] = (0.05, 0.08, 0.0)
    texture = 1 + weights[:, 0][values] * fine + weights[:, 1][values] * broad + weights[:, 2][values] * streaks
    septa = np.exp(-((_noise(grid, (2.6, 2.6, 4.0), rng) / np.float32(0.10)) ** 2)) * (values == tissues.FAT)
    return np.asarray(np.maximum(texture - np.float32(_SEPTUM_LOSS) * septa, 0.05), dtype=np.float32)


def _growth_plate_scars(
    values: NDArray[np.uint8] | NDArray[np.uint16], grid: Grid, rng: np.random.Generator
) -> FloatImage:
    """Darkening, 0 to 1, along the thin wavy lines that closed growth plates leave across femur and tibia."""
    height = _world_z_mm(grid) + np.float32(2.2) * _noise(grid, (7.0, 7.0, 30.0), rng)
    width = np.float32(max(0.6, 0.5 * min(grid.spacing_mm)))
    loss = np.zeros(grid.shape, dtype=np.float32)
    for bone, level in _SCAR_LEVELS_MM.items():
        distance = (height - np.float32(level + rng.normal(0, 2))) / width
        loss += np.float32(_SCAR_LOSS * rng.uniform(0.2, 1.0)) * np.exp(-(distance**2)) * (values == bone)
    return loss


def _noise(grid: Grid, sigma_xyz_mm: tuple[float, float, float], rng: np.random.Generator) -> FloatImage:
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
            smooth = _stretched(smooth, axis, int(step), grid.shape[axis])
    return np.asarray(smooth[: grid.shape[0], : grid.shape[1], : grid.shape[2]], dtype=np.float32)


def _stretched(coarse: FloatImage, axis: int, step: int, length: int) -> FloatImage:
    """Linear interpolation along one axis from every `step`-th sample."""
    positions = np.arange(length) / step
    below = np.minimum(positions.astype(int), coarse.shape[axis] - 2)
    part = np.moveaxis(coarse, axis, -1)
    rest = (positions - below).astype(np.float32)
    return np.asarray(np.moveaxis(part[..., below] * (1 - rest) + part[..., below + 1] * rest, -1, axis))


def _coil(grid: Grid, rng: np.random.Generator) -> FloatImage:
    """Receive shading: a gentle quadratic over the field of view, brighter towards the surface; mean about 1."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape]
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
    tilt = (0.10 * rng.standard_normal(3)).astype(np.float32)
    bowl = rng.uniform(0.0, 0.12, 3).astype(np.float32)
    log = tilt[0] * i + tilt[1] * j + tilt[2] * k + bowl[0] * (i**2 - 0.33) + bowl[1] * (j**2 - 0.33)
    return np.asarray(np.exp(log + bowl[2] * (k**2 - 0.33)), dtype=np.float32)
