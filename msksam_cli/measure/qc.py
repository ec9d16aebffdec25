"""Signs that a segmentation may be wrong, each with the number that raised it: the rows of qc.csv."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.atlases import PlacedAtlas, Population
from msksam_cli.core.boxed import Boxed, bounding_box
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.tissues import Tissue
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.expected_dice import BAD_DICE
from msksam_cli.measure.morphometry import COMPLETE_VISIBLE_FRACTION, TissueExtent, cut_reason, tissue_extents
from msksam_cli.measure.overlap import Overlap

QC_COLUMNS = ("case", "tissue", "flag", "value", "threshold", "text")
"""Columns of qc.csv."""

WHOLE_CASE = "all"
"""Stands in the tissue column of a flag that concerns the whole case."""

PRIOR_LEVEL = 0.5
"""The prior's own mask is where its probability is above this."""

_IN_ONE_PIECE = ("bone", "meniscus", "vertebra", "disc")


@dataclass(frozen=True)
class Thresholds:
    """When a number becomes a flag.

    Attributes:
        visible_fraction: share of a tissue's atlas volume inside the field of view, flagged below.
        prior_dice: Dice of mask and prior, flagged below, for groups not named in `prior_dice_by_group`.
        prior_dice_by_group: the same for groups that are compact enough to agree better.
        population_sd: distance of a volume from the atlas's population in standard deviations, flagged above.
        population_cases: a population of fewer cases raises no flag.
        fragment_share: share of voxels outside the largest piece, beyond what the prior shows, flagged above.
        mirror_share: advantage of the chosen side over the other as a share of its similarity, flagged below.
        shift_share: advantage of the chosen position over the best one elsewhere, likewise.
        expected_dice: Dice to expect of a tissue, flagged below.
    """

    visible_fraction: float = COMPLETE_VISIBLE_FRACTION
    prior_dice: float = 0.4
    prior_dice_by_group: Mapping[str, float] = field(
        default_factory=lambda: {"bone": 0.6, "vertebra": 0.6, "muscle": 0.6, "disc": 0.5}
    )
    population_sd: float = 3.0
    population_cases: int = 5
    fragment_share: float = 0.1
    mirror_share: float = 0.05
    shift_share: float = 0.12
    expected_dice: float = BAD_DICE


@dataclass(frozen=True)
class Flag:
    """One sign of doubt.

    Attributes:
        tissue: name, or `WHOLE_CASE`.
        flag: its kind, such as "prior_disagreement".
        value: the number that raised it, None when a fact without a number did.
        threshold: what the number was held against, None likewise.
        text: the same in words.
    """

    tissue: str
    flag: str
    value: float | None
    threshold: float | None
    text: str

    def row(self, case: str) -> dict[str, object]:
        """Cells by column of `QC_COLUMNS`."""
        return {
            "case": case,
            "tissue": self.tissue,
            "flag": self.flag,
            "value": self.value,
            "threshold": self.threshold,
            "text": self.text,
        }


@dataclass(frozen=True)
class PriorAgreement:
    """How a tissue's mask and its prior above `PRIOR_LEVEL` agree.

    Attributes:
        dice: Dice of both, None when both are empty.
        prior_fragment_share: share of the prior's voxels outside its largest piece.
    """

    dice: float | None
    prior_fragment_share: float


def prior_agreement(
    label_map: LabelMap, placed: PlacedAtlas, wanted: Collection[int] | None = None
) -> dict[int, PriorAgreement]:
    """Agreement of each wanted label that the placed atlas has a prior for; takes each prior once.

    Raises:
        GridMismatchError: labels and atlas lie on different grids.
    """
    if not label_map.grid.matches(placed.grid):
        raise GridMismatchError("labels and placed atlas lie on different grids")
    extents = tissue_extents(label_map)
    indices = [index for index in placed.probabilities if wanted is None or index in wanted]
    found = spread_over_cores(lambda index: _agreement(placed.boxed(index), extents.get(index)), indices, few_cores())
    return dict(zip(indices, found, strict=True))


def quality_flags(
    label_map: LabelMap,
    placed: PlacedAtlas | None = None,
    agreement: Mapping[int, PriorAgreement] | None = None,
    *,
    volume_side: str = "",
    wanted: Collection[int] | None = None,
    expected_dice: Mapping[int, float] | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[Flag, ...]:
    """Every flag of a case: first those of the whole case, then by label value.

    Args:
        label_map: the finished labels.
        placed: the atlas that was used, None when there was none; then only flags that need no atlas are raised.
        agreement: what `prior_agreement` says of the same labels and atlas.
        volume_side: side according to the input, "" when it does not say.
        wanted: label values that were asked for, None for the whole table.
        expected_dice: label value → Dice to expect, see `measure.expected_dice`.
        thresholds: None for the defaults.
    """
    limits = thresholds or Thresholds()
    extents, agreements = tissue_extents(label_map), agreement or {}
    flags: list[Flag] = []
    if placed is not None:
        flags += [*fit_flags(placed, limits), *laterality_flags(placed, volume_side, limits)]
    for tissue in label_map.tissues:
        if wanted is None or tissue.index in wanted:
            extent, agreed = extents.get(tissue.index), agreements.get(tissue.index)
            visible = placed.visible_fraction.get(tissue.index) if placed else None
            population = placed.populations.get(tissue.index) if placed else None
            flags += extent_flags(tissue, extent, visible, limits)
            flags += prior_flags(tissue, extent, agreed, limits)
            flags += expectation_flags(tissue, (expected_dice or {}).get(tissue.index), limits)
            if extent is not None and population is not None and not cut_reason(extent, visible):
                volume_mm3 = np.count_nonzero(extent.mask) * label_map.grid.voxel_volume_mm3
                flags += population_flags(tissue, volume_mm3, population, limits)
    return tuple(flags)


def fit_flags(placed: PlacedAtlas, limits: Thresholds) -> Iterator[Flag]:
    """atlas_fit_low when the placement is not trusted; level_doubtful when it fits nearly as well elsewhere.

    Without vertebrae or discs there is no level to miss, and the second is called position_doubtful.
    """
    fit = placed.fit
    if not fit.reliable:
        yield Flag(WHOLE_CASE, "atlas_fit_low", fit.similarity, None, fit.reason or "the atlas does not fit the volume")
    share = fit.shift_share
    if share is not None and share < limits.shift_share:
        flag = "level_doubtful" if {"vertebra", "disc"} & set(placed.tissues.groups) else "position_doubtful"
        text = f"the atlas fits only {share:.1%} better here than at its best other position"
        yield Flag(WHOLE_CASE, flag, share, limits.shift_share, text)


def laterality_flags(placed: PlacedAtlas, volume_side: str, limits: Thresholds) -> Iterator[Flag]:
    """laterality_doubtful when the mirrored atlas fits nearly as well, or better than the side the input names."""
    share = placed.fit.mirror_share
    if not placed.side or share is None:
        return
    least = 0.0 if volume_side == placed.side else limits.mirror_share
    if volume_side and volume_side != placed.side:
        text = f"the input says {volume_side}, the atlas fits as {placed.side}"
        yield Flag(WHOLE_CASE, "laterality_doubtful", share, least, text)
    elif share < least:
        told = "the input says" if volume_side else "it was placed as"
        text = f"{told} {placed.side}, where the atlas fits {share:+.1%} against its mirror image"
        yield Flag(WHOLE_CASE, "laterality_doubtful", share, least, text)


def extent_flags(
    tissue: Tissue, extent: TissueExtent | None, visible_fraction: float | None, limits: Thresholds
) -> Iterator[Flag]:
    """empty, cut_by_field_of_view and touches_border."""
    if visible_fraction is not None and visible_fraction < limits.visible_fraction:
        text = f"{visible_fraction:.0%} of the tissue's atlas volume lies inside the field of view"
        yield Flag(tissue.name, "cut_by_field_of_view", visible_fraction, limits.visible_fraction, text)
    if extent is None:
        yield Flag(tissue.name, "empty", 0, 1, "no voxel carries this label")
    elif extent.border_voxels:
        text = f"{extent.border_voxels} voxels lie on the border of the volume"
        yield Flag(tissue.name, "touches_border", extent.border_voxels, 1, text)


def prior_flags(
    tissue: Tissue, extent: TissueExtent | None, agreement: PriorAgreement | None, limits: Thresholds
) -> Iterator[Flag]:
    """prior_disagreement and fragmented; a missing mask is already flagged as empty."""
    if extent is None:
        return
    low = limits.prior_dice_by_group.get(tissue.group, limits.prior_dice)
    if agreement is not None and agreement.dice is not None and agreement.dice < low:
        text = f"mask and atlas prior overlap with Dice {agreement.dice:.2f}"
        yield Flag(tissue.name, "prior_disagreement", agreement.dice, low, text)
    share, most = fragment_share(extent.mask), limits.fragment_share
    if agreement is not None:
        most += agreement.prior_fragment_share
    if share > most and (agreement is not None or tissue.group in _IN_ONE_PIECE):
        text = f"{share:.0%} of the voxels lie outside the largest piece"
        yield Flag(tissue.name, "fragmented", share, most, text)


def expectation_flags(tissue: Tissue, expected_dice: float | None, limits: Thresholds) -> Iterator[Flag]:
    """expected_dice_low when slices like these had a low Dice where somebody had labelled them."""
    if expected_dice is not None and expected_dice < limits.expected_dice:
        text = f"slices like these have a Dice of {expected_dice:.2f} on average"
        yield Flag(tissue.name, "expected_dice_low", expected_dice, limits.expected_dice, text)


def population_flags(tissue: Tissue, volume_mm3: float, population: Population, limits: Thresholds) -> Iterator[Flag]:
    """volume_unusual when a complete tissue is far from the sizes the atlas was built from."""
    if population.cases < limits.population_cases or population.volume_sd_mm3 <= 0:
        return
    deviation = (volume_mm3 - population.volume_mean_mm3) / population.volume_sd_mm3
    if abs(deviation) > limits.population_sd:
        text = (
            f"{volume_mm3:.0f} mm³ is {deviation:+.1f} standard deviations from the "
            f"{population.volume_mean_mm3:.0f} mm³ of the atlas's {population.cases} cases"
        )
        yield Flag(tissue.name, "volume_unusual", deviation, limits.population_sd, text)


def fragment_share(mask: NDArray[np.bool_]) -> float:
    """Share of a mask's voxels outside its largest piece (26 neighbours); 0 for an empty mask."""
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count < 2:
        return 0.0
    sizes = np.bincount(pieces[mask])
    return float(1 - sizes.max() / sizes.sum())


def _agreement(probability: Boxed, extent: TissueExtent | None) -> PriorAgreement:
    prior = replace(probability, part=probability.part > PRIOR_LEVEL)
    in_mask = int(np.count_nonzero(extent.mask)) if extent else 0
    in_both = int(np.count_nonzero(prior.within(extent.box) & extent.mask)) if extent else 0
    dice = Overlap(in_mask, int(np.count_nonzero(prior.part)), in_both).dice
    box = bounding_box(prior.part)
    return PriorAgreement(dice, fragment_share(prior.part[box]) if box else 0.0)
