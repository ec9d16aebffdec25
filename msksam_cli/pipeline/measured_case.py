"""What is measured of a segmented case: the rows of every table about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError
from msksam_cli.io.thickness_figure import Surface
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.measure.morphometry import Provenance, TissueMeasure, cut_notes, measure_tissues
from msksam_cli.measure.qc import Flag, PriorAgreement, prior_agreement, quality_flags
from msksam_cli.measure.shapes import Images, ShapeMeasure, measure_shapes, thicknesses_of
from msksam_cli.pipeline.maps import CaseMap
from msksam_cli.pipeline.quality import slice_rows
from msksam_cli.pipeline.segment_case import Segmentation

_STRICT_FLAGS = ("atlas_fit_low", "laterality_doubtful", "level_doubtful", "position_doubtful")


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything measured of a case.

    Attributes:
        tissues: rows of metrics.csv.
        shapes: rows of morphometry.csv.
        flags: rows of qc.csv.
        slices: rows of slices.csv.
        surfaces: where cartilage was measured, for its figure.
    """

    tissues: tuple[TissueMeasure, ...]
    shapes: tuple[ShapeMeasure, ...]
    flags: tuple[Flag, ...]
    slices: Sequence[Mapping[str, object]]
    surfaces: tuple[Surface, ...]


def measured_case(
    case: str,
    volume: Volume,
    done: Segmentation,
    wanted: TissueTable,
    *,
    quality: QualityModel | None,
    on_map: CaseMap,
) -> Measured:
    """Measure labels, shapes and doubts of a case.

    Args:
        case: its name.
        volume: what was segmented.
        done: how.
        wanted: the tissues that were asked for.
        quality: what the Dice of slices is foretold by, None to foretell nothing.
        on_map: the quantitative map of the case.
    """
    labels, placed = done.labels, done.placed
    side = volume.side or (placed.side if placed else "")
    agreement = prior_agreement(labels, placed, wanted.indices) if placed else {}
    slices, expected = slice_rows(case, done.signals, quality)
    flags = quality_flags(
        labels, placed, agreement, volume_side=volume.side, wanted=wanted.indices, expected_dice=expected
    )
    thicknesses = thicknesses_of(labels)
    known = _provenance(done, wanted, agreement, expected)
    visible = placed.visible_fraction if placed else None
    tissues = measure_tissues(labels, volume, visible, known, side, thicknesses=thicknesses)
    values = on_map.values(labels)
    tissues = tuple(replace(one, on_map=values.get(one.label, one.on_map)) for one in tissues)
    shapes = measure_shapes(labels, thicknesses, Images(volume), side, cut_notes(tissues))
    surfaces = tuple(
        Surface(tissue.name, found.points_mm, found.values_mm)
        for tissue in labels.tissues
        if tissue.group == "cartilage" and (found := thicknesses.get(tissue.index)) and len(found.points_mm)
    )
    return Measured(tissues, shapes, flags, slices, surfaces)


def refuse_doubts(flags: Sequence[Flag]) -> None:
    """What --strict does.

    Raises:
        AtlasError: side, level or position are doubtful.
    """
    doubts = [flag.text for flag in flags if flag.flag in _STRICT_FLAGS]
    if doubts:
        raise AtlasError(f"refused by --strict: {'; '.join(doubts)}", "Look at the case without --strict")


def _provenance(
    done: Segmentation, tissues: TissueTable, agreement: Mapping[int, PriorAgreement], expected: Mapping[int, float]
) -> dict[int, Provenance]:
    seconds = sum(done.tally.seconds.values()) / max(len(tissues), 1)
    return {
        tissue.index: Provenance(
            iou_prediction_mean=done.mean_iou_prediction(tissue.index),
            prior_dice=agreement[tissue.index].dice if tissue.index in agreement else None,
            expected_dice=expected.get(tissue.index),
            seconds=round(seconds, 3),
        )
        for tissue in tissues
    }
