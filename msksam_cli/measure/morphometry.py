"""Size, thickness and brightness of each tissue of a label map: the rows of metrics.csv.

A number that is not known is None and the row's reason says why; it is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.boxed import Box3D, Boxed
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.map_values import MapValues
from msksam_cli.measure.shapes import thicknesses_of
from msksam_cli.measure.thickness import Thickness

METRICS_COLUMNS = (
    "case",
    "tissue",
    "side",
    "label",
    "status",
    "reason",
    "voxels",
    "volume_mm3",
    "slices",
    "mean_intensity",
    "thickness_mean_mm",
    "thickness_sd_mm",
    "map_mean",
    "map_sd",
    "map_unit",
    "iou_prediction_mean",
    "prior_dice",
    "expected_dice",
    "seconds",
)
"""Columns of metrics.csv; those no measure fills stay empty."""

COMPLETE_VISIBLE_FRACTION = 0.98
"""A tissue of whose atlas volume less than this lies inside the field of view counts as cut."""

_HAS_THICKNESS = ("cartilage", "disc")


class Status(StrEnum):
    """What became of a tissue."""

    COMPLETE = "complete"
    CUT = "cut_by_field_of_view"
    EMPTY = "empty"
    FAILED = "failed"


@dataclass(frozen=True)
class TissueExtent:
    """Where a tissue's voxels are.

    Attributes:
        box: smallest box that holds them.
        mask: boolean (i, j, k) inside that box.
        border_voxels: how many lie on the outermost layer of the volume, axes of one voxel aside.
    """

    box: Box3D
    mask: NDArray[np.bool_]
    border_voxels: int


@dataclass(frozen=True)
class Provenance:
    """What the segmentation knows of a tissue beyond its voxels; None where it does not know.

    Attributes:
        iou_prediction_mean: mean of the decoder's own IoU predictions, no probability.
        prior_dice: Dice of the mask against the atlas prior above one half.
        expected_dice: what slices like these have, see `measure.expected_dice`.
        seconds: time spent on the tissue.
        failure: why the tissue could not be segmented, "" when it could.
    """

    iou_prediction_mean: float | None = None
    prior_dice: float | None = None
    expected_dice: float | None = None
    seconds: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class TissueMeasure:
    """One row of metrics.csv without its case.

    Attributes:
        tissue: name.
        side: side of the tissue, else of the body part, else "".
        label: label value.
        status: see `Status`.
        reason: why it is not complete or why a value is not known, "" when there is nothing to explain.
        voxels: count, None when empty or failed.
        volume_mm3: voxels times the volume of one voxel.
        slices: slices of the slice axis that show the tissue.
        mean_intensity: mean of the image inside the mask, in the image's unit.
        thickness_mean_mm: mean thickness of a cartilage or mean height of a disc.
        thickness_sd_mm: its standard deviation over the surface.
        provenance: what the segmentation adds.
        on_map: what a quantitative map says.
    """

    tissue: str
    side: str
    label: int
    status: Status
    reason: str
    voxels: int | None = None
    volume_mm3: float | None = None
    slices: int | None = None
    mean_intensity: float | None = None
    thickness_mean_mm: float | None = None
    thickness_sd_mm: float | None = None
    provenance: Provenance = Provenance()
    on_map: MapValues = field(default_factory=MapValues)

    def row(self, case: str) -> dict[str, object]:
        """Cells by column of `METRICS_COLUMNS`."""
        return {
            "case": case,
            "tissue": self.tissue,
            "side": self.side,
            "label": self.label,
            "status": self.status.value,
            "reason": "; ".join(text for text in (self.reason, self.on_map.reason) if text),
            "voxels": self.voxels,
            "volume_mm3": self.volume_mm3,
            "slices": self.slices,
            "mean_intensity": self.mean_intensity,
            "thickness_mean_mm": self.thickness_mean_mm,
            "thickness_sd_mm": self.thickness_sd_mm,
            **self.on_map.cells(),
            "iou_prediction_mean": self.provenance.iou_prediction_mean,
            "prior_dice": self.provenance.prior_dice,
            "expected_dice": self.provenance.expected_dice,
            "seconds": self.provenance.seconds,
        }


def measure_tissues(
    label_map: LabelMap,
    volume: Volume | None = None,
    placed_visible_fraction: Mapping[int, float] | None = None,
    provenance: Mapping[int, Provenance] | None = None,
    side: str = "",
    *,
    thicknesses: Mapping[int, Thickness] | None = None,
) -> tuple[TissueMeasure, ...]:
    """One measure per tissue of the label map's table, in order of label value.

    Args:
        label_map: labels; tissues of its table without a voxel come back as empty.
        volume: the image on the same grid, None when there is none.
        placed_visible_fraction: label value → share of the tissue's atlas volume inside the field of view.
        provenance: label value → what the segmentation knows.
        side: side of the body part, for tissues that have none of their own.
        thicknesses: from `shapes.thicknesses_of` of the same labels, None to have them measured here.

    Raises:
        GridMismatchError: the image lies on another grid.
    """
    if volume is not None and not label_map.grid.matches(volume.grid):
        raise GridMismatchError("labels and image lie on different grids", "Give the image the labels were drawn on")
    visible, known = placed_visible_fraction or {}, provenance or {}
    extents = tissue_extents(label_map)
    thick = thicknesses_of(label_map) if thicknesses is None else thicknesses
    measures = []
    for tissue in label_map.tissues:
        sided = replace(tissue, side=tissue.side or side)
        extent, origin = extents.get(tissue.index), known.get(tissue.index, Provenance())
        if origin.failure or extent is None:
            measures.append(_absent(sided, origin))
        else:
            cut = cut_reason(extent, visible.get(tissue.index))
            present = _present(sided, extent, label_map.grid, volume, cut)
            measures.append(_with_thickness(replace(present, provenance=origin), tissue, thick.get(tissue.index)))
    return tuple(measures)


def cut_notes(tissues: Sequence[TissueMeasure]) -> dict[int, str]:
    """Label value → what the rows of morphometry.csv say of tissues that the field of view cuts."""
    return {measure.label: "cut by the field of view" for measure in tissues if measure.status is Status.CUT}


def tissue_extents(label_map: LabelMap) -> dict[int, TissueExtent]:
    """Box, mask and border contact of every label that has voxels."""
    masks = {index: label_map.boxed(index) for index in label_map.boxes}
    return {index: TissueExtent(one.box, one.part, _border_voxels(one)) for index, one in masks.items()}


def cut_reason(extent: TissueExtent | None, visible_fraction: float | None) -> str:
    """Why a tissue counts as cut by the field of view, "" when it does not."""
    if visible_fraction is not None and visible_fraction < COMPLETE_VISIBLE_FRACTION:
        return f"{visible_fraction:.0%} of the tissue's atlas volume lies inside the field of view"
    if extent is not None and extent.border_voxels:
        return f"{extent.border_voxels} voxels lie on the border of the volume"
    return ""


def _border_voxels(mask: Boxed) -> int:
    inner = tuple(
        slice(int(part.start == 0 and size > 1), len(range(size)[part]) - int(part.stop == size and size > 1))
        for part, size in zip(mask.box, mask.shape, strict=True)
    )
    return int(np.count_nonzero(mask.part) - np.count_nonzero(mask.part[inner]))


def _absent(tissue: Tissue, provenance: Provenance) -> TissueMeasure:
    status = Status.FAILED if provenance.failure else Status.EMPTY
    reason = provenance.failure or "no voxel carries this label"
    return TissueMeasure(tissue.name, tissue.side, tissue.index, status, reason, provenance=provenance)


def _present(tissue: Tissue, extent: TissueExtent, grid: Grid, volume: Volume | None, cut: str) -> TissueMeasure:
    voxels = int(np.count_nonzero(extent.mask))
    in_slices = extent.mask.any(axis=tuple(axis for axis in range(3) if axis != grid.slice_axis))
    intensity, no_intensity = _mean_intensity(volume, extent)
    return TissueMeasure(
        tissue=tissue.name,
        side=tissue.side,
        label=tissue.index,
        status=Status.CUT if cut else Status.COMPLETE,
        reason="; ".join(text for text in (cut, no_intensity) if text),
        voxels=voxels,
        volume_mm3=voxels * grid.voxel_volume_mm3,
        slices=int(np.count_nonzero(in_slices)),
        mean_intensity=intensity,
    )


def _with_thickness(measure: TissueMeasure, tissue: Tissue, thickness: Thickness | None) -> TissueMeasure:
    if thickness is None or tissue.group not in _HAS_THICKNESS:
        return measure
    return replace(
        measure,
        reason="; ".join(text for text in (measure.reason, thickness.reason) if text),
        thickness_mean_mm=thickness.mean_mm,
        thickness_sd_mm=thickness.sd_mm,
    )


def _mean_intensity(volume: Volume | None, extent: TissueExtent) -> tuple[float | None, str]:
    if volume is None:
        return None, "no image given"
    mean = float(volume.intensities[extent.box][extent.mask].mean(dtype=np.float64))
    return (mean, "") if np.isfinite(mean) else (None, "the image holds values that are not finite")
