"""What a scanner would show of a label map: tissues with texture, the coil's shading and noise.

Any label map will do: tissues are known by their names, else by their groups (see `relaxation_of`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom.relaxation import CORTICAL_BONE, Relaxation, infiltrated, relaxation_of
from msksam_cli.phantom.sequences import SEQUENCES, Sequence, reference_signal, tissue_signal
from msksam_cli.phantom.texture import (
    cortical_part,
    depth_mm,
    distance_to_metal_mm,
    growth_plate_scars,
    layers,
    of_groups,
    texture,
    void,
)

__all__ = ["SEQUENCES", "Sequence", "ideal_echoes", "ideal_signal", "render", "scanned"]

FloatImage = NDArray[np.float32]

_FULL_SCALE = 1000.0
_POINT_SPREAD_VOXELS = 0.45
_TRABECULAR_SPIN_ECHO, _TRABECULAR_GRADIENT_ECHO = 0.07, 0.12
_REFOCUSED = ("spin-echo", "inversion-recovery")
_BLOOM_REFOCUSED_MM, _BLOOM_MM, _BLOOM_MM_PER_MS, _LARGEST_BLOOM_MM = 1.5, 2.0, 0.6, 10.0

NO_INFILTRATION: Mapping[int, float] = {}
"""Muscles as they are in health."""


def render(
    labels: LabelMap, sequence: Sequence, seed: int, echo: int = 0, infiltration: Mapping[int, float] = NO_INFILTRATION
) -> FloatImage:
    """What the scanner would show of a label map, (I, J, K) float32 with fluid or fat near 1000, 0 or more.

    Equal seeds give equal anatomy texture and coil for every image of a sequence, and noise of their own.
    """
    signal = ideal_signal(labels, sequence, seed, echo, infiltration)
    return scanned(signal, labels.grid, sequence, seed, echo)


def ideal_signal(
    labels: LabelMap, sequence: Sequence, seed: int, echo: int = 0, infiltration: Mapping[int, float] = NO_INFILTRATION
) -> FloatImage:
    """Signal of one image of a sequence without coil and noise, (I, J, K) float32; see `ideal_echoes`."""
    return ideal_echoes(labels, sequence.image(echo), seed, infiltration)[0]


def ideal_echoes(
    labels: LabelMap, sequence: Sequence, seed: int, infiltration: Mapping[int, float] = NO_INFILTRATION
) -> list[FloatImage]:
    """Signals of all images without coil and noise: textured tissues, dark shells of bone, layered cartilage and discs.

    Each tissue's relaxation varies by some per cent with the seed, equally for all images. Metal leaves a void that
    blooms with the echo time unless the echoes are refocused (Hargreaves et al. 2011, AJR 197:547; here its size alone,
    without the shift of what lies round it).

    Args:
        labels: any label map.
        sequence: how tissues are weighed.
        seed: of texture and relaxation.
        infiltration: part of a tissue that has turned into fat, by label value; see `infiltrated`.
    """
    rng = np.random.default_rng([seed, 1])
    relaxation = {
        tissue.index: _varied(infiltrated(relaxation_of(tissue), infiltration.get(tissue.index, 0.0)), rng)
        for tissue in labels.tissues
    }
    is_refocused = sequence.kind in _REFOCUSED
    trabecular = _TRABECULAR_SPIN_ECHO if is_refocused else _TRABECULAR_GRADIENT_ECHO
    factor = texture(labels, rng, trabecular, infiltration)
    depth = depth_mm(of_groups(labels, ("bone", "vertebra")), labels.grid)
    shell = cortical_part(labels, depth)
    factor *= 1 - growth_plate_scars(labels, rng)
    factor *= layers(labels, depth)
    metal_mm = distance_to_metal_mm(labels)
    echoes = []
    for echo_time, spin_lock_time in sequence.timings_ms:
        table = np.zeros(max(relaxation, default=0) + 1, dtype=np.float32)
        for index, tissue in relaxation.items():
            table[index] = tissue_signal(tissue, sequence, echo_time, spin_lock_time)
        cortex = np.float32(tissue_signal(CORTICAL_BONE, sequence, echo_time, spin_lock_time))
        signal = table[labels.values] * factor * (1 - shell) + cortex * shell
        if metal_mm is not None:
            bloom_mm = _BLOOM_REFOCUSED_MM if is_refocused else _BLOOM_MM + _BLOOM_MM_PER_MS * echo_time
            signal = signal * void(metal_mm, min(bloom_mm, _LARGEST_BLOOM_MM))
        echoes.append(np.asarray(signal, dtype=np.float32))
    return echoes


def scanned(signal: FloatImage, grid: Grid, sequence: Sequence, seed: int, echo: int = 0) -> FloatImage:
    """Add the point spread, the coil's smooth shading and Rician noise to an ideal signal; scale to about 1000."""
    reference = reference_signal(sequence)
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
        tissue.spin_lock_decay_ms * (1 + 0.06 * t2),
    )


def _in_plane(grid: Grid) -> NDArray[np.float64]:
    """1 along the axes of the image plane, 0 along a much coarser slice axis."""
    spacing = np.array(grid.spacing_mm)
    return np.asarray(np.where(spacing > 1.6 * spacing.min(), 0.0, 1.0))


def _coil(grid: Grid, rng: np.random.Generator) -> FloatImage:
    """Receive shading: a gentle quadratic over the field of view, brighter towards the surface; mean about 1."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid.shape]
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
    tilt = (0.10 * rng.standard_normal(3)).astype(np.float32)
    bowl = rng.uniform(0.0, 0.12, 3).astype(np.float32)
    log = tilt[0] * i + tilt[1] * j + tilt[2] * k + bowl[0] * (i**2 - 0.33) + bowl[1] * (j**2 - 0.33)
    return np.asarray(np.exp(log + bowl[2] * (k**2 - 0.33)), dtype=np.float32)
