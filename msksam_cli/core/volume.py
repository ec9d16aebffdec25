"""Voxels on a grid: intensities (`Volume`) and integer labels (`LabelMap`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.boxed import NOWHERE, Box3D, Boxed, label_boxes
from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import InputError


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Attributes:
        intensities: (I, J, K) float32, read-only; as stored after the rescale slope, no unit unless a map.
        grid: where the voxels lie.
        side: "left", "right" or "" when the input does not say.
        body_part: lower-case body part from the input, "" when unknown.
    """

    intensities: NDArray[np.float32]
    grid: Grid
    side: str = ""
    body_part: str = ""

    def __post_init__(self) -> None:
        intensities = np.asarray(self.intensities, dtype=np.float32).view()
        if intensities.shape != self.grid.shape:
            raise ValueError(f"intensities of shape {intensities.shape} on a grid of shape {self.grid.shape}")
        intensities.setflags(write=False)
        object.__setattr__(self, "intensities", intensities)

    @cached_property
    def window(self) -> tuple[float, float]:
        """Intensities that are shown as black and white, see `intensity_window`."""
        return intensity_window(self.intensities)

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 over intensities, grid and side."""
        digest = hashlib.sha256(f"{self.grid.shape} {self.side}".encode())
        digest.update(np.ascontiguousarray(self.grid.affine, dtype=np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.intensities).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels on a grid, each known to a tissue table.

    Attributes:
        values: (I, J, K) uint8 or uint16, read-only; 0 is background.
        grid: where the voxels lie.
        tissues: names of the values.

    Raises:
        InputError: a value is neither 0 nor in the table.
    """

    values: NDArray[np.uint8] | NDArray[np.uint16]
    grid: Grid
    tissues: TissueTable

    def __post_init__(self) -> None:
        values = np.asarray(self.values).view()
        if values.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"labels must be uint8 or uint16, got {values.dtype}")
        if values.shape != self.grid.shape:
            raise ValueError(f"labels of shape {values.shape} on a grid of shape {self.grid.shape}")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        if unknown := sorted(set(self.boxes) - set(self.tissues.indices)):
            raise InputError(
                f"label values {unknown} are not in the tissue table, which knows {list(self.tissues.indices)}",
                "Give a table that names them",
            )

    @cached_property
    def boxes(self) -> Mapping[int, Box3D]:
        """Label value → smallest box that holds its voxels, for every tissue that has any; ascending."""
        return label_boxes(self.values)

    def mask(self, tissue_index: int) -> NDArray[np.bool_]:
        """Boolean mask (I, J, K) of one tissue."""
        return np.asarray(self.values == tissue_index)

    def boxed(self, tissue_index: int) -> Boxed:
        """The same mask of which only the box is held."""
        box = self.boxes.get(tissue_index, NOWHERE)
        return Boxed(self.grid.shape, box, self.values[box] == tissue_index)
