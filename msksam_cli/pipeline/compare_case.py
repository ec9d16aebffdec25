"""One labelled case, labelled in every way that is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from msksam_cli.atlas.priors import prompts_from_labels, strongest_tissue
from msksam_cli.core.atlases import Atlas, PlacedAtlas
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.result_store import ResultStore
from msksam_cli.measure.comparison import BOTH_EMPTY, Comparison, compare_labels, with_empty_comparisons
from msksam_cli.pipeline.baseline import ellipse_labels
from msksam_cli.pipeline.kept import Kept
from msksam_cli.pipeline.segment_case import (
    Setup,
    prompting_placement,
    refined_placement,
    segment_placed,
    segment_with_prompts,
)

ATLAS, ELLIPSE, ATLAS_PROMPTS, TRUE_PROMPTS = "atlas", "ellipse", "atlas-prompts", "true-prompts"
COLUMNS = (ATLAS, ELLIPSE, ATLAS_PROMPTS, TRUE_PROMPTS)
"""Atlas alone; an ellipse in each true box; SAM asked by the atlas; SAM asked by the truth, without any prior."""

COMPARED_COLUMNS = (
    "case",
    "in_atlas",
    "placement",
    "tissue",
    "label",
    "group",
    "column",
    "model",
    "status",
    "dice",
    "assd_mm",
    "hd95_mm",
    "surface_dice_1mm",
    "volume_error_percent",
)
"""Columns of compare.csv."""


@dataclass(frozen=True)
class Way:
    """One way of labelling: a column of the table, and the model where it has one."""

    column: str
    model: str = ""

    def __str__(self) -> str:
        return f"{self.column}, {self.model}" if self.model else self.column


@dataclass(frozen=True)
class Compared:
    """One tissue of one case, labelled one way, against the truth.

    Attributes:
        way: how it was labelled.
        group: the tissue's group.
        in_atlas: whether the atlas was built from this case.
        placement: "reliable" or "doubtful", how the atlas lies on the case.
        comparison: the measures.
    """

    way: Way
    group: str
    in_atlas: bool
    placement: str
    comparison: Comparison

    def row(self) -> dict[str, object]:
        """Cells by column of `COMPARED_COLUMNS`."""
        own = {"in_atlas": self.in_atlas, "placement": self.placement, "group": self.group}
        own |= {"column": self.way.column, "model": self.way.model}
        return {c: own[c] if c in own else getattr(self.comparison, c) for c in COMPARED_COLUMNS}


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """A volume with its truth, whose values are the atlas's, and the atlas on it.

    Attributes:
        name: the case.
        volume: intensities.
        truth: wanted tissues only, on the volume's grid.
        unrefined: the atlas on the volume as placed.
        placed: the same made sharper by the volume: the atlas alone, without any network.
        in_atlas: whether the atlas was built from this case.
        kept: what is known about the volume from before.
    """

    name: str
    volume: Volume
    truth: LabelMap
    unrefined: PlacedAtlas
    placed: PlacedAtlas
    in_atlas: bool
    kept: Kept

    @property
    def placement(self) -> str:
        """How the atlas lies."""
        return "reliable" if self.placed.fit.reliable else "doubtful"


def labelled_case(
    name: str,
    volume: Volume,
    truth: LabelMap,
    atlas: Atlas,
    *,
    results: ResultStore | None = None,
    in_atlas: bool = False,
    threads: int = 1,
) -> LabelledCase:
    """A case with its atlas placed, once for all models; placements are kept in `results`.

    Raises:
        AtlasError: the atlas cannot be placed at all.
    """
    kept = Kept.of(volume, results)
    placed = kept.placement(atlas, volume, threads)
    return LabelledCase(name, volume, truth, placed, refined_placement(volume, placed), in_atlas, kept)


def prompting_placements(case: LabelledCase, setups: Mapping[str, Setup]) -> dict[str, PlacedAtlas]:
    """Name of a model → the placed atlas as it prompts this model."""
    return {
        name: prompting_placement(case.volume, case.unrefined, lambda: case.placed, setup, kept=case.kept)
        for name, setup in setups.items()
    }


def compare_case(
    case: LabelledCase, setups: Mapping[str, Setup], prompting: Mapping[str, PlacedAtlas]
) -> Iterator[Compared]:
    """Every wanted tissue of a case, labelled every way; setups and prompting placements by name of the model."""
    for way, labels in label_every_way(case, setups, prompting):
        yield from _against_truth(case, way, labels)


def label_every_way(
    case: LabelledCase, setups: Mapping[str, Setup], prompting: Mapping[str, PlacedAtlas]
) -> Iterator[tuple[Way, LabelMap]]:
    """Labels of a case for every column and model."""
    truth, axis = case.truth, case.volume.grid.slice_axis
    yield Way(ATLAS), atlas_labels(case.placed, truth.tissues)
    boxes = prompts_from_labels(truth, truth.tissues, axis, "box")
    yield Way(ELLIPSE), ellipse_labels(boxes, truth.grid, truth.tissues)
    for name, setup in setups.items():
        yield Way(ATLAS_PROMPTS, name), segment_placed(case.volume, prompting[name], setup).labels
        prompts = prompts_from_labels(truth, truth.tissues, axis, setup.prompt_kind)
        yield Way(TRUE_PROMPTS, name), segment_with_prompts(case.volume, prompts, setup).labels


def atlas_labels(placed: PlacedAtlas, tissues: TissueTable) -> LabelMap:
    """The strongest tissue of a placed atlas, without any network."""
    chosen = {index: placed.probabilities[index] for index in tissues.indices}
    return LabelMap(strongest_tissue(chosen, placed.grid.shape), placed.grid, tissues)


def _against_truth(case: LabelledCase, way: Way, labels: LabelMap) -> Iterator[Compared]:
    names = {tissue.index: tissue.name for tissue in case.truth.tissues}
    predicted, truth = (np.asarray(m.values, dtype=np.uint16) for m in (labels, case.truth))
    found = compare_labels(case.name, predicted, truth, case.truth.grid, names)
    for comparison in with_empty_comparisons(found, [case.name], names):
        group = case.truth.tissues.by_index(comparison.label).group
        yield Compared(way, group, case.in_atlas, case.placement, comparison)


def unseen(compared: list[Compared]) -> list[Compared]:
    """What counts: cases the atlas was not built from, tissues that the truth or the labels have."""
    return [one for one in compared if not one.in_atlas and one.comparison.status != BOTH_EMPTY]
