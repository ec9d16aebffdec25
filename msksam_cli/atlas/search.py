"""Every shift of an atlas over a volume at once.

The evidence of a placement (see `evidence`) needs, for each class of the atlas, three sums over the volume below it.
As functions of the shift these are cross-correlations, so a fast Fourier transform gives them for all shifts; only
turns, sizes and sides are left to be tried one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from msksam_cli.atlas.evidence import Classes, information
from msksam_cli.atlas.resampling import inverse, mirror_about_x, resample, world_aligned_grid
from msksam_cli.core.geometry import FloatArray, Grid

LEAST_OVERLAP = 0.6  # of the largest overlap any shift has

ShiftScores = Callable[[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]
"""Posed classes, a volume and its field of view → the score of every shift; index 0 puts the classes' last voxel on the
volume's first, -inf marks shifts that are out of the question."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A turn, size and side of the atlas about its own centre.

    Attributes:
        matrix_mm: (4, 4) atlas world to turned atlas world.
        mirrored: whether left and right were swapped.
    """

    matrix_mm: FloatArray
    mirrored: bool


@dataclass(frozen=True, eq=False)
class Start:
    """A coarse placement.

    Attributes:
        atlas_to_volume_mm: (4, 4) atlas world to volume world.
        mirrored: whether left and right were swapped.
        score: nats per voxel, as in `evidence.information`.
    """

    atlas_to_volume_mm: FloatArray
    mirrored: bool
    score: float


def poses(
    centre_mm: FloatArray, mirrors: tuple[bool, ...], turns_deg: float, scales: tuple[float, ...]
) -> Iterator[Pose]:
    """The atlas as it is, turned by ±`turns_deg` about each axis, and in other sizes, on each side."""
    turns = [np.eye(3)] + [_rotation(axis, sign * turns_deg) for axis in range(3) for sign in (1, -1) if turns_deg]
    linear = turns + [np.eye(3) * scale for scale in scales]
    for mirrored in mirrors:
        flip = mirror_about_x(centre_mm) if mirrored else np.eye(4)
        for matrix in linear:
            yield Pose(_about(centre_mm, matrix) @ flip, mirrored)


def flexed_poses(
    centre_mm: FloatArray, mirrored: bool, turns_deg: tuple[float, ...], scales: tuple[float, ...]
) -> Iterator[Pose]:
    """The atlas on one side in every size and every turn about the left-right axis."""
    flip = mirror_about_x(centre_mm) if mirrored else np.eye(4)
    for scale in scales:
        for turn in turns_deg:
            yield Pose(_about(centre_mm, _rotation(0, turn) * scale) @ flip, mirrored)


def best_shifts(
    classes: Classes,
    pose: Pose,
    volume: NDArray[np.float32],
    inside: NDArray[np.float32],
    grid: Grid,
    *,
    how_many: int,
    apart_mm: float,
    scores: ShiftScores | None = None,
) -> list[Start]:
    """The best shifts of a posed atlas over a volume, none within `apart_mm` of a better one.

    Args:
        classes: the atlas's classes on its own grid.
        pose: how it is turned.
        volume: (I, J, K) intensities 0…1 on `grid`, 0 outside the field of view.
        inside: (I, J, K) 1 inside the field of view.
        grid: a RAS+ grid with isotropic spacing.
        how_many: starts wanted.
        apart_mm: smallest distance between two starts.
        scores: what makes a shift good; nats per voxel when None.
    """
    spacing = grid.spacing_mm[0]
    corners = classes.grid.corners_mm() @ pose.matrix_mm[:3, :3].T + pose.matrix_mm[:3, 3]
    posed_grid = world_aligned_grid(corners, spacing)
    back = inverse(pose.matrix_mm)
    posed = [resample(weight, classes.grid, posed_grid, back) for weight in classes.weights]
    score = (scores or _score_of_shifts)(posed, volume, inside)
    starts = []
    reach = max(1, round(apart_mm / spacing))
    for _ in range(how_many):
        peak = np.unravel_index(int(score.argmax()), score.shape)
        if not np.isfinite(score[peak]):
            break
        shift = (np.array(peak) - (np.array(posed_grid.shape) - 1)) * spacing
        move = np.eye(4)
        move[:3, 3] = grid.affine[:3, 3] + shift - posed_grid.affine[:3, 3]
        starts.append(Start(move @ pose.matrix_mm, pose.mirrored, float(score[peak])))
        score[tuple(slice(max(0, p - reach), p + reach + 1) for p in peak)] = -np.inf
    return starts


def _score_of_shifts(
    posed: list[NDArray[np.float32]], volume: NDArray[np.float32], inside: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Evidence in nats per voxel, see `ShiftScores`."""
    full = tuple(a + v - 1 for a, v in zip(posed[0].shape, volume.shape, strict=True))
    fast = [fft.next_fast_len(n, real=True) for n in full]
    crop = tuple(slice(0, n) for n in full)

    def transformed(values: NDArray[np.float32]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfftn(values.astype(np.float32), fast))

    def correlated(spectrum: NDArray[np.complex64], other: NDArray[np.complex64]) -> NDArray[np.float64]:
        return np.asarray(fft.irfftn(spectrum * other, fast)[crop], dtype=np.float32)

    masked = volume * inside
    of_inside, of_volume, of_squares = transformed(inside), transformed(masked), transformed(masked * volume)
    support_size = float(sum(weight.sum() for weight in posed))
    counts, sums = [], []
    total_spectrum = np.zeros_like(of_inside)
    for weight in posed:
        spectrum = transformed(weight[::-1, ::-1, ::-1])
        counts.append(np.maximum(correlated(spectrum, of_inside), 0.0))
        sums.append(correlated(spectrum, of_volume))
        total_spectrum = total_spectrum + spectrum
    squares = correlated(total_spectrum, of_squares)
    stacked = np.stack(counts)
    score = information(stacked, np.stack(sums), squares, support_size)
    overlap = stacked.sum(axis=0)
    score[overlap < LEAST_OVERLAP * overlap.max()] = -np.inf
    return score


def _rotation(axis: int, angle_deg: float) -> FloatArray:
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    matrix = np.eye(3)
    a, b = (other for other in range(3) if other != axis)
    matrix[a, a] = matrix[b, b] = cosine
    matrix[a, b], matrix[b, a] = -sine, sine
    return matrix


def _about(centre_mm: FloatArray, linear: FloatArray) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre_mm - linear @ centre_mm
    return matrix
