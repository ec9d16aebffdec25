"""Slices in geometric order, from their own positions and nothing else.

Frame: DICOM's LPS+ in mm until `stack_slices` returns a `Grid`, which is RAS+. The affine follows DICOM PS3.3
C.7.6.2.1.1: the first index runs along the row (columns apart by the second pixel spacing), the second down the column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FrameHeader

FloatArray = NDArray[np.float64]

ORIENTATION_TOLERANCE = 5e-3
SPACING_TOLERANCE, SPACING_TOLERANCE_MM = 0.05, 0.01
_SHEAR_TOLERANCE = 0.01
_IN_PLANE_TOLERANCE_PX = 0.25
_DRIFT_TOLERANCE = 0.2
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel, evenly spaced slices.

    Attributes:
        order: indices of the frames given, along the slice normal (row direction × column direction).
        orientation: six direction cosines, the mean over slices.
        positions_mm: (n, 3) float64 LPS+, the regular lattice the slices lie on.
        grid: (columns, rows, slices) in RAS+.
    """

    order: tuple[int, ...]
    orientation: FloatArray
    positions_mm: FloatArray
    grid: Grid


def check_frame(frame: FrameHeader) -> str:
    """What is wrong with the geometry one image claims, "" when nothing is."""
    if frame.orientation is None:
        return "image orientation is missing or not six numbers"
    row, column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        return "image orientation is not two perpendicular unit vectors"
    if frame.position_mm is None:
        return "image position is missing or not three numbers"
    if frame.spacing_mm is None:
        return "pixel spacing is missing or not two numbers"
    if min(frame.spacing_mm) <= 0:
        return f"pixel spacing is {frame.spacing_mm[0]:g} × {frame.spacing_mm[1]:g} mm"
    return ""


def stack_slices(frames: Sequence[FrameHeader]) -> Stack:
    """Order frames of one orientation, matrix and spacing, and find the grid they make.

    Raises:
        SeriesError: duplicate positions, a gap, uneven spacing or a sheared stack, with its numbers.
    """
    orientation = np.mean(np.array([frame.orientation for frame in frames], dtype=np.float64), axis=0)
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    normal /= np.linalg.norm(normal)
    along_mm = positions @ normal
    order = np.argsort(along_mm, kind="stable")
    positions, along_mm = positions[order], along_mm[order]
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    _check_spacing(along_mm)
    _check_shear(step, normal)
    lattice = positions[0] + np.arange(len(frames))[:, None] * step
    _check_lattice(positions - lattice, normal, float(step @ normal), min(frames[0].spacing_mm or (0.0,)))
    affine = np.eye(4)
    row_spacing, column_spacing = frames[0].spacing_mm or (0.0, 0.0)
    columns = (orientation[:3] * column_spacing, orientation[3:] * row_spacing, step, lattice[0])
    affine[:3] = (np.stack(columns) * _LPS_TO_RAS).T
    grid = Grid((frames[0].columns, frames[0].rows, len(frames)), affine)
    return Stack(tuple(int(i) for i in order), orientation, lattice, grid)


def _check_spacing(along_mm: FloatArray) -> None:
    increments = np.diff(along_mm)
    usual = float(np.median(increments))
    tolerance = max(SPACING_TOLERANCE * usual, SPACING_TOLERANCE_MM)
    repeated = np.flatnonzero(increments < max(SPACING_TOLERANCE_MM, SPACING_TOLERANCE * usual))
    if repeated.size:
        at_mm = ", ".join(f"{along_mm[i]:.2f}" for i in repeated[:3]) + (", …" if repeated.size > 3 else "")
        raise SeriesError(
            f"{repeated.size} of {len(along_mm)} slices repeat another's position (at {at_mm} mm along the normal)",
            "Export each volume as its own series",
        )
    odd = np.flatnonzero(np.abs(increments - usual) > tolerance)
    if odd.size:
        worst = int(odd[np.abs(increments[odd] - usual).argmax()])
        kind = "gap" if increments[worst] > 1.5 * usual else "spacing"
        raise SeriesError(
            f"{kind} of {increments[worst]:.2f} mm between slices {worst + 1} and {worst + 2}, elsewhere {usual:.2f} mm"
            + (f" ({odd.size} such places)" if odd.size > 1 else ""),
            "Export the series again with all its slices" if kind == "gap" else "",
        )


def _check_shear(step: FloatArray, normal: FloatArray) -> None:
    cosine = float(step @ normal / np.linalg.norm(step))
    if np.sqrt(max(0.0, 1 - cosine**2)) > _SHEAR_TOLERANCE:
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        raise SeriesError(f"stack is sheared: slices are stacked {degrees:.1f}° off their normal")


def _check_lattice(residuals_mm: FloatArray, normal: FloatArray, spacing_mm: float, pixel_mm: float) -> None:
    """Refuse positions whose errors add up: beyond a fifth of the slice spacing or a quarter of a pixel."""
    along = np.abs(residuals_mm @ normal)
    if along.max() > max(_DRIFT_TOLERANCE * spacing_mm, SPACING_TOLERANCE_MM):
        slice_number = int(along.argmax()) + 1
        raise SeriesError(f"slice {slice_number} lies {along.max():.2f} mm off a regular stack of {spacing_mm:.2f} mm")
    across = np.linalg.norm(residuals_mm - np.outer(residuals_mm @ normal, normal), axis=1)
    if across.max() > max(_IN_PLANE_TOLERANCE_PX * pixel_mm, SPACING_TOLERANCE_MM):
        slice_number = int(across.argmax()) + 1
        raise SeriesError(f"slice {slice_number} is shifted {across.max():.2f} mm sideways in its stack")
