"""A quantity inside each tissue: mean and spread over its own voxels, and none of anything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.core.quantity import QuantityMap
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import GridMismatchError


@dataclass(frozen=True)
class MapValues:
    """What a map says of a tissue.

    Attributes:
        mean: over the tissue's voxels in which the map is known, None without one.
        sd: sample standard deviation over them (n - 1), None below two.
        unit: of both, "" when there is no map.
        reason: how many voxels were left out, or why there is no mean; "" when nothing was.
    """

    mean: float | None = None
    sd: float | None = None
    unit: str = ""
    reason: str = ""

    def cells(self) -> dict[str, object]:
        """Cells by column of metrics.csv."""
        return {"map_mean": self.mean, "map_sd": self.sd, "map_unit": self.unit or None}


def map_values(label_map: LabelMap, quantity_map: QuantityMap) -> dict[int, MapValues]:
    """Label value → what the map says, for every label that has voxels.

    Raises:
        GridMismatchError: labels and map lie on different grids.
    """
    if not label_map.grid.matches(quantity_map.grid):
        raise GridMismatchError("labels and map lie on different grids", "Give a map on the grid of the labels")
    labelled = label_map.values > 0
    labels = label_map.values[labelled]
    values = quantity_map.values[labelled].astype(np.float64)
    known = quantity_map.known[labelled]
    return {
        int(index): _of_tissue(values[own & known], int(own.sum()), quantity_map.unit)
        for index in np.unique(labels)
        for own in (labels == index,)
    }


def _of_tissue(values: np.ndarray[tuple[int], np.dtype[np.float64]], voxels: int, unit: str) -> MapValues:
    if not values.size:
        return MapValues(reason="the map has no value in any of its voxels")
    left_out = voxels - values.size
    return MapValues(
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        unit=unit,
        reason=f"map_mean leaves out {left_out} of {voxels} voxels without a value" if left_out else "",
    )
