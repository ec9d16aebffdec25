"""Maps of a measured quantity: a number with a unit in every voxel where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid

Quantity = Literal["", "T2map", "T2starmap", "T1rhomap"]
"""What a map or a decay is of, in the suffixes of BIDS; "" when unknown."""

QUANTITIES: tuple[Quantity, ...] = ("T2map", "T2starmap", "T1rhomap")

TIME_UNITS = ("ms", "s")


@dataclass(frozen=True, eq=False)
class QuantityMap:
    """Values of a quantity on a grid.

    Attributes:
        values: (I, J, K) float32 in `unit`, read-only; NaN where the quantity is not known.
        grid: where the voxels lie.
        unit: "ms", "s" or another, as it stands in `metrics.csv`.
        quantity: what it is, "" when that is not known.
        r2: (I, J, K) float32 coefficient of determination of the fit that made it, None when another program did.
    """

    values: NDArray[np.float32]
    grid: Grid
    unit: str
    quantity: Quantity = ""
    r2: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float32).view()
        if values.shape != self.grid.shape:
            raise ValueError(f"a map of shape {values.shape} on a grid of shape {self.grid.shape}")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Boolean (I, J, K): finite, and above 0 where the quantity is a time, of which programs write 0 for none."""
        finite = np.isfinite(self.values)
        return finite & (self.values > 0) if self.unit in TIME_UNITS else finite
