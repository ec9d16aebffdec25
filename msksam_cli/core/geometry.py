"""Where voxels lie in the patient: the `Grid`.

Frames: *voxel* coordinates (i, j, k) count voxel centres from 0; *world* coordinates are millimetres in RAS+
(x to the patient's right, y anterior, z superior), the convention of NIfTI. DICOM's own LPS+ differs by the sign of
the first two axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msksam_cli.errors import GridMismatchError, InputError

Shape = tuple[int, int, int]
FloatArray = NDArray[np.float64]

_ISOTROPIC_RATIO = 1.2
_FARTHEST_MM = 1e9  # beyond it products overflow
_AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels in the patient.

    Attributes:
        shape: (I, J, K) voxels along each axis.
        affine: (4, 4) float64, voxel to RAS+ world in mm; read-only.

    Raises:
        InputError: the affine is not finite, beyond all measure, singular or has no positive spacing.
    """

    shape: Shape
    affine: FloatArray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if affine.shape != (4, 4) or len(shape) != 3:
            raise ValueError(f"a Grid needs a (4, 4) affine and three axes, got {affine.shape} and {shape}")
        if min(shape) < 1:
            raise InputError(f"grid of shape {shape} holds no voxel")
        if not np.isfinite(affine).all():
            raise InputError("affine holds values that are not finite", "Repair the header of this file")
        if np.abs(affine).max() > _FARTHEST_MM:
            raise InputError(
                f"affine holds {np.abs(affine).max():.3g} mm, which is nowhere", "Repair the header of this file"
            )
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9 or not np.allclose(affine[3], (0, 0, 0, 1)):
            raise InputError("affine is singular or not affine", "Repair the header of this file")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each axis, in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³, true for sheared grids as well."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def slice_axis(self) -> int:
        """The axis slices are stacked on: the coarsest one, else the one with fewest voxels, else the last.

        >>> Grid((256, 256, 30), np.diag([0.5, 0.5, 3.0, 1])).slice_axis
        2
        >>> Grid((60, 224, 224), np.eye(4)).slice_axis
        0
        """
        spacing = np.array(self.spacing_mm)
        coarsest = int(spacing.argmax())
        others = np.delete(spacing, coarsest)
        if spacing[coarsest] > _ISOTROPIC_RATIO * others.max():
            return coarsest
        fewest = min(self.shape)
        return max(axis for axis in range(3) if self.shape[axis] == fewest)

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction each axis points to, such as "LPS"."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        codes = [""] * 3
        left = directions.copy()
        for _ in range(3):
            world, axis = np.unravel_index(np.abs(left).argmax(), left.shape)
            codes[int(axis)] = _AXIS_CODES[int(world)][int(directions[world, axis] > 0)]
            left[world, :] = 0
            left[:, axis] = 0
        return "".join(codes)

    @property
    def centre_mm(self) -> FloatArray:
        """World position of the middle of the grid, (3,) in mm."""
        return self.to_world_mm((np.array(self.shape) - 1) / 2)

    def to_world_mm(self, voxels: ArrayLike) -> FloatArray:
        """World coordinates (…, 3) in mm of voxel coordinates (…, 3)."""
        points = np.asarray(voxels, dtype=np.float64)
        return np.asarray(points @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxel(self, points_mm: ArrayLike) -> FloatArray:
        """Voxel coordinates (…, 3), fractional, of world coordinates (…, 3) in mm."""
        points = np.asarray(points_mm, dtype=np.float64)
        return np.asarray((points - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def corners_mm(self) -> FloatArray:
        """World coordinates (8, 3) in mm of the eight outermost voxel centres."""
        top = np.array(self.shape) - 1
        corners = np.stack(np.meshgrid(*[(0, n) for n in top], indexing="ij"), axis=-1).reshape(-1, 3)
        return self.to_world_mm(corners)

    def corner_offset_voxels(self, other: Grid) -> float:
        """Largest distance between corresponding corners of two equally shaped grids, in voxels of this grid."""
        if self.shape != other.shape:
            raise GridMismatchError(f"grids have shapes {self.shape} and {other.shape}")
        return float(np.abs(self.to_voxel(other.corners_mm()) - self.to_voxel(self.corners_mm())).max())

    def matches(self, other: Grid, tolerance_voxels: float = 0.1) -> bool:
        """Whether both grids have one shape and corners within `tolerance_voxels`."""
        return self.shape == other.shape and self.corner_offset_voxels(other) <= tolerance_voxels

    def resampled(self, spacing_mm: float) -> Grid:
        """The grid with the same axes and outer edges, as nearly isotropic at `spacing_mm` as whole voxels allow."""
        spacing = np.array(self.spacing_mm)
        shape = np.maximum(1, np.round(np.array(self.shape) * spacing / spacing_mm)).astype(int)
        ratio = np.array(self.shape) / shape
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * ratio
        affine[:3, 3] = self.to_world_mm((ratio - 1) / 2)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
