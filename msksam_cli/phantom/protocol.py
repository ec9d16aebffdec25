"""Where a scanner puts its slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import UsageError

_FINEST_SLICE_MM = 0.9
_AXES_RAS = {
    "sagittal": ((0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
    "coronal": ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0)),
    "axial": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
}


@dataclass(frozen=True)
class Protocol:
    """Where slices lie.

    Attributes:
        orientation: "sagittal", "coronal" or "axial".
        in_plane_mm: pixel spacing.
        slice_spacing_mm: between slice centres.
        slice_thickness_mm: of one slice; at most the spacing.
        slices: how many.
        field_of_view_mm: width and height of the image.
        centre_mm: world position of the middle of the stack.
        tilt_deg: turns of the stack about the world's x, y and z axes, for oblique slices of any direction.
        phase_axis: axis of the image along which phase is encoded, 0 for columns and 1 for rows.
        motion_mm: amplitude of the subject's sway along the phase axis while slices are read.
        wrap_mm: how far the subject is seen beyond either end of the phase axis, where it folds into the image.
    """

    orientation: str = "sagittal"
    in_plane_mm: float = 0.5
    slice_spacing_mm: float = 3.0
    slice_thickness_mm: float = 3.0
    slices: int = 30
    field_of_view_mm: tuple[float, float] = (150.0, 150.0)
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 8.0)
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    phase_axis: int = 1
    motion_mm: float = 0.0
    wrap_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.orientation not in _AXES_RAS:
            raise UsageError(f"unknown orientation {self.orientation!r}", f"Use {', '.join(_AXES_RAS)}")
        if not 0 < self.slice_thickness_mm <= self.slice_spacing_mm + 1e-6 or self.in_plane_mm <= 0 or self.slices < 1:
            raise ValueError("a protocol needs positive spacings, 0 < thickness <= spacing, and a slice")
        longest_mm = min(self.field_of_view_mm) / 2
        if self.phase_axis not in (0, 1) or self.motion_mm < 0 or not 0 <= self.wrap_mm <= longest_mm:
            raise ValueError(f"a protocol needs phase axis 0 or 1, motion >= 0 and wrap of 0 to {longest_mm} mm")

    @property
    def grid(self) -> Grid:
        """Voxels in order (column, row, slice), as a scanner stores them."""
        axes = _rotation(self.tilt_deg) @ np.array(_AXES_RAS[self.orientation]).T
        spacing = np.array([self.in_plane_mm, self.in_plane_mm, self.slice_spacing_mm])
        columns, rows = (max(1, round(length / self.in_plane_mm)) for length in self.field_of_view_mm)
        affine = np.eye(4)
        affine[:3, :3] = axes * spacing
        middle = (np.array([columns, rows, self.slices]) - 1) / 2
        affine[:3, 3] = np.array(self.centre_mm) - affine[:3, :3] @ middle
        return Grid((columns, rows, self.slices), affine)


def thin_slices(protocol: Protocol) -> tuple[Grid, NDArray[np.float32], int]:
    """What must be known of the subject to show what a protocol shows.

    Returns:
        A grid of thin slices, an odd number per slice, as long as the field of view and its margins; each thin slice's
        weight in its thick one; and the margin in voxels that folds in at either end of the phase axis.
    """
    count = 2 * max(0, round((protocol.slice_spacing_mm / _FINEST_SLICE_MM - 1) / 2)) + 1
    thin = protocol.slice_spacing_mm / count
    margin_px = round(protocol.wrap_mm / protocol.in_plane_mm)
    grid = protocol.grid
    shape = [grid.shape[0], grid.shape[1], grid.shape[2] * count]
    shape[protocol.phase_axis] += 2 * margin_px
    affine = grid.affine.copy()
    step = affine[:3, 2] / count
    affine[:3, 2] = step
    affine[:3, 3] -= step * (count // 2) + affine[:3, protocol.phase_axis] * margin_px
    offsets = (np.arange(count) - count // 2) * thin
    inside = np.clip((protocol.slice_thickness_mm / 2 - np.abs(offsets)) / thin + 0.5, 0, 1)
    weights = (inside / inside.sum()).astype(np.float32)
    return Grid((shape[0], shape[1], shape[2]), affine), weights, margin_px


def _rotation(angles_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3): turns about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        turn = np.eye(3)
        first, second = [(1, 2), (2, 0), (0, 1)][axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
