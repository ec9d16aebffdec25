"""From a label plane to a grey image: random contrast, or contrast given per label; then the scanner's faults.

Networks trained on fully random contrast carry over to scans they have not seen (Billot et al., SynthSeg, Med Image
Anal 2023); the published signal of real sequences is mixed in by passing `levels`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.training.planes import Plane, smooth_noise

Image = NDArray[np.float32]

_CORTEX_MM = (0.4, 2.2)
_WEAK_SHARE = 0.2
_WEAK_CONTRAST = (0.15, 0.6)


def render_plane(
    plane: Plane, rng: np.random.Generator, levels: Mapping[int, float] | None = None
) -> NDArray[np.uint8]:
    """Grey levels (S, S) uint8 of a plane.

    Args:
        plane: labels to draw.
        rng: source of all randomness.
        levels: label → intensity (0 is black, about 1 is bright); random per label where missing or None.
    """
    side_px = plane.truth.shape[0]
    table = _level_table(levels, rng)
    texture = rng.uniform(0.0, 0.12) * smooth_noise(side_px, rng.uniform(0.01, 0.05), rng)
    texture += rng.uniform(0.0, 0.15) * smooth_noise(side_px, rng.uniform(0.05, 0.3), rng)
    roughness = rng.uniform(0.0, 1.0, 256).astype(np.float32)
    cortex_mm, cortex_level = rng.uniform(*_CORTEX_MM), float(rng.uniform(0, 0.25)) if rng.random() < 0.8 else None
    drawn = []
    for labels in plane.slabs:
        image = table[labels] * (1 + roughness[labels] * texture)
        if cortex_level is not None and plane.shelled:
            image = np.where(_shell(labels, plane, cortex_mm), cortex_level, image)
        drawn.append(image)
    return degrade(np.mean(drawn, axis=0, dtype=np.float32), rng)


def _level_table(levels: Mapping[int, float] | None, rng: np.random.Generator) -> Image:
    table = rng.uniform(0.05, 1.0, 256).astype(np.float32)
    table[0] = rng.uniform(0, 0.1) if rng.random() < 0.8 else rng.uniform(0, 1)
    for label, level in (levels or {}).items():
        table[label] = level * float(rng.normal(1.0, 0.08))
    if rng.random() < _WEAK_SHARE:
        table[1:] = table[1:].mean() + rng.uniform(*_WEAK_CONTRAST) * (table[1:] - table[1:].mean())
    return table


def _shell(labels: NDArray[np.uint8], plane: Plane, cortex_mm: float) -> NDArray[np.bool_]:
    solid = np.isin(labels, list(plane.shelled))
    edge = (ndimage.grey_dilation(labels, 3) != labels) | (ndimage.grey_erosion(labels, 3) != labels)
    reach = max(0, round(cortex_mm / plane.pixel_mm) - 1)
    return np.asarray(solid & (ndimage.binary_dilation(edge, iterations=reach) if reach else edge))


def degrade(image: Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, bias field, noise, contrast curve and window, as a scanner and a viewer would."""
    side_px = image.shape[0]
    blurred = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.1, 2))
    if rng.random() < 0.25:
        blurred = _coarsen(blurred, int(rng.integers(2, 4)))
    bias = np.exp(rng.uniform(0, 0.35) * smooth_noise(side_px, rng.uniform(0.4, 0.9), rng))
    noise = rng.uniform(0.0, 0.05) if rng.random() < 0.8 else rng.uniform(0.04, 0.13)
    real, imaginary = (rng.normal(0, noise, (2, side_px, side_px))).astype(np.float32)
    magnitude = np.sqrt((blurred * bias + real) ** 2 + imaginary**2)
    curved = magnitude ** np.exp(rng.normal(0, 0.25))
    low, high = np.percentile(curved, [rng.uniform(0, 2), rng.uniform(97.5, 100)])
    return np.asarray(np.clip((curved - low) / max(high - low, 1e-6) * 255, 0, 255), dtype=np.uint8)


def _coarsen(image: Image, factor: int) -> Image:
    """The image as acquired at a `factor` coarser matrix and interpolated."""
    side_px = image.shape[0]
    small = ndimage.zoom(image, 1 / factor, order=1)
    return np.asarray(ndimage.zoom(small, side_px / small.shape[0], order=1)[:side_px, :side_px], dtype=np.float32)
