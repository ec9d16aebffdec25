"""What goes wrong while a scanner reads an image: the subject moves, or reaches beyond the field of view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]

_CYCLES_PER_IMAGE = (1.5, 9.0)
_DRIFT_SHARE = 0.3


def moved(image: FloatImage, shift_px: float, axis: int, rng: np.random.Generator) -> FloatImage:
    """Ghosts along the phase-encoding axis, as a subject leaves who sways while the lines of k-space are read.

    Each line is read at another moment, with the subject displaced along the axis; a displacement is a linear phase of
    its line (Zaitsev et al. 2015, JMRI 42:887). The sway is a sine of random rate with a slow drift, the same for all
    slices of one call.

    Args:
        image: (I, J, K), 0 or more.
        shift_px: amplitude of the sway in voxels; 0 leaves the image as it is.
        axis: of phase encoding.
        rng: draws rate, phase and drift.
    """
    lines = image.shape[axis]
    moment = np.arange(lines) / lines
    rate, start, drift = rng.uniform(*_CYCLES_PER_IMAGE), rng.uniform(0, 2 * np.pi), rng.standard_normal()
    displacement_px = shift_px * (np.sin(2 * np.pi * rate * moment + start) + _DRIFT_SHARE * drift * (moment - 0.5))
    if shift_px == 0 or lines == 1:
        return image
    # Lines are read from one edge of k-space to the other; the FFT's own order starts in its middle.
    frequency = np.fft.fftfreq(lines)
    phase = np.exp(-2j * np.pi * frequency * np.fft.ifftshift(displacement_px)).astype(np.complex64)
    shape = [1, 1, 1]
    shape[axis] = lines
    spectrum = np.fft.fft(image, axis=axis) * phase.reshape(shape)
    return np.asarray(np.abs(np.fft.ifft(spectrum, axis=axis)), dtype=np.float32)


def folded(image: FloatImage, margin_px: int, axis: int) -> FloatImage:
    """Cut the margins off an image and add them at the opposite ends, where a scanner shows what it did not sample.

    Args:
        image: (I, J, K), longer than the field of view by the margin at both ends of the axis.
        margin_px: length of one margin, at most that of the field of view.
        axis: of phase encoding.

    Raises:
        ValueError: the margins are longer than the field of view.
    """
    if margin_px == 0:
        return image
    along = np.moveaxis(image, axis, 0)
    inner = along[margin_px : along.shape[0] - margin_px].copy()
    if margin_px > len(inner):
        raise ValueError(f"margins of {margin_px} voxels fold into a field of view of {max(len(inner), 0)}")
    inner[-margin_px:] += along[:margin_px]
    inner[:margin_px] += along[-margin_px:]
    return np.asarray(np.moveaxis(inner, 0, axis), dtype=np.float32)
