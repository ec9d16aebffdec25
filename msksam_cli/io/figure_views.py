"""Planes of a volume as a radiologist expects to see them.

Axial and coronal planes show the patient's right on the left of the picture; sagittal planes show anterior on the
left. Up is anterior in axial planes and superior in the others. Oblique grids are shown along their own axes, with the
letters of the nearest anatomical directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import plane_axes, take_slice

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
_PLANES = {"L": "sagittal", "R": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}
_RIGHT_AND_DOWN = {"axial": ("L", "P"), "coronal": ("L", "I"), "sagittal": ("P", "I")}


@dataclass(frozen=True)
class View:
    """How planes across one axis of a grid are turned for the eye.

    Attributes:
        slice_axis: the axis that is fixed.
        plane: "axial", "coronal" or "sagittal".
        transposed: whether the plane's first axis runs across the picture.
        mirrored: whether the picture's columns are reversed after that.
        upended: whether its rows are.
        letters: anatomical directions at the left, top, right and bottom edge.
        pixel_mm: width and height of a pixel in mm.
    """

    slice_axis: int
    plane: str
    transposed: bool
    mirrored: bool
    upended: bool
    letters: tuple[str, str, str, str]
    pixel_mm: tuple[float, float]

    def picture(self, voxels: NDArray[Any], index: int) -> NDArray[Any]:
        """The plane at `index` of (I, J, K) voxels as (height, width), a view."""
        plane = take_slice(voxels, self.slice_axis, index)
        plane = plane.T if self.transposed else plane
        plane = plane[:, ::-1] if self.mirrored else plane
        return plane[::-1] if self.upended else plane

    def picture_xy(self, xy: tuple[float, float], shape: tuple[int, int]) -> tuple[float, float]:
        """Where a point of the slice, x along columns and y along rows, lies in the picture of (height, width)."""
        x, y = (xy[1], xy[0]) if self.transposed else xy
        height, width = shape
        return (width - 1 - x if self.mirrored else x), (height - 1 - y if self.upended else y)


def view_across(grid: Grid, slice_axis: int) -> View:
    """The view of planes across an axis of a grid.

    >>> import numpy as np
    >>> view_across(Grid((4, 5, 6), np.diag([-1.0, -1.0, 3.0, 1.0])), 2).letters
    ('R', 'A', 'L', 'P')
    """
    codes = grid.orientation
    plane = _PLANES[codes[slice_axis]]
    right, down = _RIGHT_AND_DOWN[plane]
    rows, columns = plane_axes(slice_axis)
    transposed = codes[rows] in (right, _OPPOSITE[right])
    across, along = (rows, columns) if transposed else (columns, rows)
    return View(
        slice_axis=slice_axis,
        plane=plane,
        transposed=transposed,
        mirrored=codes[across] != right,
        upended=codes[along] != down,
        letters=(_OPPOSITE[right], _OPPOSITE[down], right, down),
        pixel_mm=(grid.spacing_mm[across], grid.spacing_mm[along]),
    )
