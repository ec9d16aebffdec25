"""A placement made sharper by what tissues look like in this very volume.

A placed atlas is right within a few millimetres, which is as much as a cartilage is thick. But where it is sure it
shows what each tissue looks like here, and what a voxel looks like then says which of the tissues expected nearby it
is. Expectation maximisation alternates the two (Van Leemput et al., IEEE TMI 1999): the intensities of each group of
tissues from the present memberships, the memberships by Bayes' rule from prior and intensities. No contrast is
assumed; tissues of one group share their intensities, so that a small one learns from its kin. Bones have two: marrow
fills them, and their cortex, which looks like anything but marrow, makes their rim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.distance import signed_distance_mm
from msksam_cli.atlas.evidence import normalised
from msksam_cli.atlas.placed import WorkingProbabilities, spread_boxed
from msksam_cli.atlas.resampling import blurred, resample
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.boxed import Boxed, bounding_box, grown, quantised
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue
from msksam_cli.core.volume import Volume

_BACKGROUND = "nothing"
_CORTICAL_GROUPS = ("bone", "vertebra")
_RIM_BLUR_MM = 1.5
_LEAST_MEMBERSHIP = 1e-4
_SURE_SHARE = 0.5
_COARSE_MM = 2.5


@dataclass(frozen=True)
class SharpeningRules:
    """How intensities and prior are weighed.

    Attributes:
        spacing_mm: finest spacing memberships are computed on.
        most_voxels: the grid is made coarser until it has no more.
        blur_mm: how far the placement may be off; standard deviation that widens the prior.
        bins: grey levels of the histograms.
        rounds: of expectation maximisation.
        rim_mm: depth of the rim in which a bone is cortex rather than marrow, as far as the placement can tell.
        near_mm: only voxels this near to the atlas's tissues teach what surrounds them.
    """

    spacing_mm: float = 0.75
    most_voxels: int = 4_000_000
    blur_mm: float = 1.0
    bins: int = 48
    rounds: int = 6
    rim_mm: float = 1.5
    near_mm: float = 12.0


@dataclass(frozen=True, eq=False)
class _Part:
    """A tissue, or a part of one, that looks alike throughout.

    Attributes:
        index: label value of the tissue.
        look: name of what it shares its intensities with.
        prior: probability on the grid memberships are computed on.
    """

    index: int
    look: str
    prior: Boxed


@dataclass(frozen=True, eq=False)
class _Sample:
    """What the intensities are learnt from: N voxels.

    Attributes:
        levels: (N,) grey level.
        priors: (K, N) membership by the prior; the last row is what no tissue claims.
        groups: (K,) look of each row.
    """

    levels: NDArray[np.intp]
    priors: NDArray[np.float32]
    groups: tuple[str, ...]


def sharpen_placement(placed: PlacedAtlas, volume: Volume, rules: SharpeningRules | None = None) -> PlacedAtlas:
    """The placement with each tissue's probability given the volume's intensities as well.

    Raises:
        ValueError: the placement does not belong to the volume.
    """
    rules = rules or SharpeningRules()
    if not placed.grid.matches(volume.grid) or not isinstance(placed.probabilities, WorkingProbabilities):
        raise ValueError(f"placement of {placed.atlas_name!r} does not belong to this volume")
    fine = _fine_grid(volume.grid, rules)
    image = resample(normalised(volume.intensities, volume.window), volume.grid, fine)
    levels = grey_levels(image, rules.bins)
    parts = _parts(placed, placed.probabilities, fine.shape, rules)
    learnt = _learnt(_sample(parts, levels, fine.spacing_mm, rules), rules)
    return replace(placed, probabilities=_memberships(parts, levels, learnt, (fine, volume.grid)))


def grey_levels(image: NDArray[np.float32], bins: int) -> NDArray[np.intp]:
    """Intensities 0…1 as whole grey levels."""
    return np.minimum((image * bins).astype(np.intp), bins - 1)


def explained_nats(
    priors: NDArray[np.float32], levels: NDArray[np.intp], rules: SharpeningRules | None = None
) -> float:
    """Nats per voxel by which placed classes, each with grey levels of its own, foretell the grey levels of N voxels.

    Their histogram as a whole foretells 0. Of two placements seen on the same voxels, the one that explains more is
    the likelier; over different voxels the numbers cannot be compared.

    Args:
        priors: (C, N) membership of each class, sum at most 1; what is missing is a class more.
        levels: (N,) grey level.
        rules: bins and rounds.
    """
    rules = rules or SharpeningRules()
    rows = np.vstack([priors, np.clip(1.0 - priors.sum(axis=0), 0.0, 1.0)[None]])
    members = np.maximum(rows, _LEAST_MEMBERSHIP)
    members /= members.sum(axis=0)
    names = tuple(str(number) for number in range(len(members)))
    learnt = _learnt(_Sample(levels, members, names), rules)
    likelihood = np.sum([row * learnt[name][levels] for row, name in zip(members, names, strict=True)], axis=0)
    anyhow = _density(levels, np.ones(levels.shape, dtype=np.float32), rules.bins)
    return float(np.mean(np.log(likelihood) - np.log(anyhow[levels])))


def _fine_grid(grid: Grid, rules: SharpeningRules) -> Grid:
    """The volume's grid with its fine axes thinned to the wanted spacing, more where it would have too many voxels."""
    spacing = np.array(grid.spacing_mm)
    wanted_mm = rules.spacing_mm
    while True:
        shape = np.maximum(1, np.round(np.array(grid.shape) * np.minimum(1.0, spacing / wanted_mm))).astype(int)
        if shape.prod() <= rules.most_voxels:
            break
        wanted_mm *= 1.1
    ratio = np.array(grid.shape) / shape
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * ratio
    affine[:3, 3] = grid.to_world_mm((ratio - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _parts(
    placed: PlacedAtlas, probabilities: WorkingProbabilities, shape: tuple[int, int, int], rules: SharpeningRules
) -> list[_Part]:
    """Every tissue's prior, as wide as the placement is uncertain, bones split into marrow and rim."""
    spacing_mm = probabilities.work.spacing_mm

    def parts_of(tissue: Tissue) -> list[_Part]:
        prior = blurred(probabilities.on_work(tissue.index), [rules.blur_mm / step for step in spacing_mm])
        look = tissue.group or tissue.name
        if tissue.group not in _CORTICAL_GROUPS:
            return [_Part(tissue.index, look, spread_boxed(prior, shape))]
        rim = prior * _rim(prior, spacing_mm, rules.rim_mm)
        marrow = spread_boxed(prior - rim, shape)
        return [_Part(tissue.index, look, marrow), _Part(tissue.index, f"{look} rim", spread_boxed(rim, shape))]

    return list(chain.from_iterable(spread_over_cores(parts_of, tuple(placed.tissues), few_cores())))


def _rim(prior: NDArray[np.float32], spacing_mm: tuple[float, float, float], depth_mm: float) -> NDArray[np.float32]:
    """Share 0…1 of a bone's prior that belongs to its rim: 1 outside the surface P = 0.5, 0 well below it."""
    inside = prior > 0.5
    rim = np.ones(prior.shape, dtype=np.float32)
    if box := bounding_box(inside):  # beyond its voxels all is rim
        near = grown(box, (1, 1, 1), prior.shape)
        distance_mm = signed_distance_mm(inside[near], spacing_mm)
        rim[near] = np.clip((depth_mm + distance_mm) / _RIM_BLUR_MM + 0.5, 0.0, 1.0)
    return rim


def _sample(
    parts: Sequence[_Part],
    levels: NDArray[np.intp],
    spacing_mm: tuple[float, float, float],
    rules: SharpeningRules,
) -> _Sample:
    """Voxels near the atlas's tissues, every other one along axes that are fine."""
    i, j, k = (2 if 2 * mm < _COARSE_MM and n > 1 else 1 for mm, n in zip(spacing_mm, levels.shape, strict=True))
    rows = [part.prior.thinned((i, j, k)) for part in parts]
    total = np.sum(rows, axis=0)
    reach = [2 * round(rules.near_mm / (step * mm)) + 1 for step, mm in zip((i, j, k), spacing_mm, strict=True)]
    near = ndimage.maximum_filter(total > 0.5, reach)
    rows.append(np.clip(1.0 - total, 0.0, 1.0))
    members = np.stack([np.maximum(row[near], _LEAST_MEMBERSHIP) for row in rows])
    names = (*(part.look for part in parts), _BACKGROUND)
    return _Sample(levels[::i, ::j, ::k][near], members / members.sum(axis=0), names)


def _learnt(sample: _Sample, rules: SharpeningRules) -> dict[str, NDArray[np.float32]]:
    """Group → (bins,) density of its grey levels."""
    members = sample.priors
    names = dict.fromkeys(sample.groups)
    densities: dict[str, NDArray[np.float32]] = {}
    for round_number in range(rules.rounds):
        for name in names:
            rows = [row for row, group in enumerate(sample.groups) if group == name]
            weight = members[rows].sum(axis=0)
            if round_number == 0:
                weight = weight * (weight > _SURE_SHARE * float(weight.max()))
            densities[name] = _density(sample.levels, weight, rules.bins)
        members = sample.priors * np.stack([densities[name][sample.levels] for name in sample.groups])
        members /= members.sum(axis=0)
    return densities


def _density(levels: NDArray[np.intp], weight: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    counts = ndimage.gaussian_filter1d(np.bincount(levels, weight, bins), 1.0, mode="nearest")
    counts += 1e-3 * counts.mean() + 1e-9
    return np.asarray(counts / counts.sum(), dtype=np.float32)


def _memberships(
    parts: Sequence[_Part],
    levels: NDArray[np.intp],
    learnt: Mapping[str, NDArray[np.float32]],
    grids: tuple[Grid, Grid],
) -> WorkingProbabilities:
    """Bayes' rule at every voxel, each part where it may be."""

    def likely_of(part: _Part) -> Boxed:
        return replace(part.prior, part=part.prior.part * learnt[part.look][levels[part.prior.box]])

    likely = spread_over_cores(likely_of, parts, few_cores())
    claimed, total = (np.zeros(levels.shape, dtype=np.float32) for _ in range(2))
    for part, own in zip(parts, likely, strict=True):
        claimed[own.box] += part.prior.part
        total[own.box] += own.part
    total += np.maximum(1.0 - claimed, _LEAST_MEMBERSHIP) * learnt[_BACKGROUND][levels]

    def membership_of(index: int) -> NDArray[np.uint8]:
        member = np.zeros(levels.shape, dtype=np.float32)
        for part, own in zip(parts, likely, strict=True):
            if part.index == index:
                member[own.box] += own.part / total[own.box]
        return quantised(member)

    indices = list(dict.fromkeys(part.index for part in parts))
    values = dict(zip(indices, spread_over_cores(membership_of, indices, few_cores()), strict=True))
    return WorkingProbabilities(*grids, values)
