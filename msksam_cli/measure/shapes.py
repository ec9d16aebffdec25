"""What the shape of each tissue measures, place by place: the rows of morphometry.csv.

Cartilage has thickness and areas, vertebral bodies and discs have heights, muscles areas and fat, menisci extrusion. A
value that is not known is None and its row says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msksam_cli.core.boxed import Boxed
from msksam_cli.core.geometry import FloatArray
from msksam_cli.core.tissues import Tissue
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.meniscus import extrusion
from msksam_cli.measure.muscle import cross_section, dixon_fat_fraction, layer_axis, limb_axis, two_class_fat_share
from msksam_cli.measure.regions import cartilage_regions, lateral_direction
from msksam_cli.measure.spine import SPINE_GROUPS, spine_heights, zones
from msksam_cli.measure.thickness import Thickness, cartilage_thicknesses

MORPHOMETRY_COLUMNS = ("case", "tissue", "side", "region", "measure", "value", "unit", "reason")
"""Columns of morphometry.csv."""

WHOLE = "all"
"""Stands in the region column for the whole tissue."""

PERCENTILES = (5, 50, 95)

_MM, _MM2, _SHARE = "mm", "mm2", "1"


@dataclass(frozen=True)
class ShapeMeasure:
    """One row of morphometry.csv without its case.

    Attributes:
        tissue: name.
        side: side of the tissue, else of the body part, else "".
        region: part of the tissue, or `WHOLE`.
        measure: what was measured.
        value: the number, None when it is not known.
        unit: of the value: "mm", "mm2", or "1" for a share.
        reason: why the value is not known or how it was measured, "" when there is nothing to explain.
    """

    tissue: str
    side: str
    region: str
    measure: str
    value: float | None
    unit: str
    reason: str = ""

    def row(self, case: str) -> dict[str, object]:
        """Cells by column of `MORPHOMETRY_COLUMNS`."""
        return {"case": case} | {column: getattr(self, column) for column in MORPHOMETRY_COLUMNS[1:]}


@dataclass(frozen=True, eq=False)
class Images:
    """Images on the grid of the labels; None where there is none.

    Attributes:
        image: what the labels were drawn on.
        fat: fat image of a Dixon scan.
        water: water image of the same scan.
    """

    image: Volume | None = None
    fat: Volume | None = None
    water: Volume | None = None


@dataclass(frozen=True, eq=False)
class _Subject:
    """A label map with what several tissues are measured by."""

    labels: LabelMap
    thicknesses: Mapping[int, Thickness]
    images: Images
    side: str

    @cached_property
    def lateral(self) -> float | None:
        return lateral_direction(self.labels, self.side)

    @cached_property
    def layers(self) -> FloatArray:
        return layer_axis(self.labels.grid, limb_axis(self.labels))

    @cached_property
    def fat_intensities(self) -> FloatArray:
        """Intensities (N,) of all fat labels in the image."""
        fat = [self.labels.boxed(tissue.index) for tissue in self.labels.tissues if tissue.group == "fat"]
        return np.concatenate([np.empty(0), *(_inside(self.images.image, mask) for mask in fat)])


def thicknesses_of(label_map: LabelMap) -> dict[int, Thickness]:
    """Thickness of every cartilage, height of every vertebral body and disc, that has voxels."""
    return {**cartilage_thicknesses(label_map), **spine_heights(label_map)}


def measure_shapes(
    label_map: LabelMap,
    thicknesses: Mapping[int, Thickness],
    images: Images | None = None,
    side: str = "",
    notes: Mapping[int, str] | None = None,
) -> tuple[ShapeMeasure, ...]:
    """The measures of every tissue that has voxels, in order of label value.

    Args:
        label_map: labels with their tissues.
        thicknesses: from `thicknesses_of` of the same labels.
        images: images on the same grid.
        side: side of the body part.
        notes: label value → what its rows should say as well, such as that the field of view cuts it.

    Raises:
        GridMismatchError: an image lies on another grid.
    """
    images = images or Images()
    for name in ("image", "fat", "water"):
        volume = getattr(images, name)
        if volume is not None and not label_map.grid.matches(volume.grid):
            raise GridMismatchError(f"labels and {name} lie on different grids", "Give images the labels were drawn on")
    subject = _Subject(label_map, thicknesses, images, side)
    made = []
    for tissue in label_map.tissues:
        measures = _BY_GROUP.get(tissue.group)
        if measures is None or tissue.index not in label_map.boxes:
            continue
        note = (notes or {}).get(tissue.index, "")
        for region, measure, value, unit, reason in measures(subject, tissue):
            text = "; ".join(part for part in (note, reason) if part)
            made.append(ShapeMeasure(tissue.name, tissue.side or side, region, measure, value, unit, text))
    return tuple(made)


_Cells = tuple[str, str, float | None, str, str]


def _of_cartilage(subject: _Subject, tissue: Tissue) -> Iterator[_Cells]:
    thickness = subject.thicknesses[tissue.index]
    yield from _thickness_cells(WHOLE, thickness)
    if thickness.articular_mm2 is not None:
        yield WHOLE, "articular_area", thickness.articular_mm2, _MM2, thickness.reason
    regions = cartilage_regions(tissue.name, thickness.points_mm, thickness.areas_mm2, subject.lateral)
    for region, chosen in regions.items():
        yield from _thickness_cells(region, thickness.where(chosen))


def _thickness_cells(region: str, thickness: Thickness) -> Iterator[_Cells]:
    reason = thickness.reason or ("" if thickness.covered.any() else "no cartilage in this region")
    yield region, "thickness_mean", thickness.mean_mm, _MM, reason
    yield region, "thickness_sd", thickness.sd_mm, _MM, reason
    for percent in PERCENTILES:
        yield region, f"thickness_p{percent}", thickness.percentile_mm(percent), _MM, reason
    yield region, "thickness_mean_with_bare_bone", thickness.mean_with_bare_mm, _MM, reason
    yield region, "covered_bone_area", thickness.covered_mm2, _MM2, reason
    yield region, "enclosed_bare_bone_area", thickness.bare_mm2, _MM2, reason


def _of_spine(subject: _Subject, tissue: Tissue) -> Iterator[_Cells]:
    height = subject.thicknesses[tissue.index]
    yield WHOLE, "height_mean", height.mean_mm, _MM, height.reason
    for zone, chosen in zones(height).items():
        value = height.where(chosen).mean_mm
        yield zone, "height", value, _MM, height.reason or ("" if value is not None else "no face in this zone")


def _of_muscle(subject: _Subject, tissue: Tissue) -> Iterator[_Cells]:
    mask = subject.labels.boxed(tissue.index)
    area = cross_section(mask.voxels(), subject.labels.grid, subject.layers)
    if area is not None:
        yield WHOLE, "cross_section_mean", area.mean_mm2, _MM2, ""
        yield WHOLE, "cross_section_max", area.max_mm2, _MM2, ""
        yield WHOLE, "length", area.length_mm, _MM, ""
    images = subject.images
    if images.fat is not None and images.water is not None:
        value, reason = dixon_fat_fraction(_inside(images.fat, mask), _inside(images.water, mask))
        yield WHOLE, "fat_fraction_dixon", value, _SHARE, reason
    if images.image is not None:
        value, reason = two_class_fat_share(_inside(images.image, mask), subject.fat_intensities)
        yield WHOLE, "fat_share_two_class", value, _SHARE, reason


def _of_meniscus(subject: _Subject, tissue: Tissue) -> Iterator[_Cells]:
    beyond, reason = extrusion(subject.labels, tissue.name.removesuffix("-meniscus"), subject.lateral)
    for region, measure, value in (
        ("central", "extrusion", beyond.central_mm if beyond else None),
        (WHOLE, "extrusion_largest", beyond.largest_mm if beyond else None),
    ):
        missing = "" if value is not None else "the meniscus is not seen in the middle of the plateau"
        yield region, measure, value, _MM, reason or missing


def _inside(volume: Volume | None, mask: Boxed) -> FloatArray:
    """Intensities (N,) of a volume inside a mask, none without a volume."""
    return np.empty(0) if volume is None else volume.intensities[mask.box][mask.part].astype(np.float64)


_BY_GROUP: Mapping[str, Callable[[_Subject, Tissue], Iterable[_Cells]]] = {
    "cartilage": _of_cartilage,
    **dict.fromkeys(SPINE_GROUPS, _of_spine),
    "muscle": _of_muscle,
    "meniscus": _of_meniscus,
}
