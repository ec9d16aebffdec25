"""A placement made sharper by what tissues look like in this very volume.

A placed atlas is right within a few millimetres, which is as much as a cartilage is thick. But where it is sure it
shows what each tissue looks like here, and what a voxel looks like then says which of the tissues expected nearby it
is. Expectation maximisation alternates the two (Van Leemput et al., IEEE TMI 1999): the intensities of each group of
tissues from the present memberships, the memberships by Bayes' rule from prior and intensities. No contrast is
assumed; tissues of one group share their intensities, so that a small one learns from its kin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.evidence import normalised
from msksam_cli.atlas.placed import WorkingProbabilities, quantised, spread
from msksam_cli.atlas.resampling import resample
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.volume import Volume

_BACKGROUND = "nothing"
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
        near_mm: only voxels this near to the atlas's tissues teach what surrounds them.
    """

    spacing_mm: float = 0.75
    most_voxels: int = 4_000_000
    blur_mm: float = 1.0
    bins: int = 48
    rounds: int = 6
    near_mm: float = 12.0


@dataclass(frozen=True, eq=False)
class _Sample:
    """What the intensities are learnt from: N voxels.

    Attributes:
        levels: (N,) grey level.
        priors: (K, N) membership by the prior; the last row is what no tissue claims.
        groups: (K,) name of the group each row belongs to.
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
    image = resample(normalised(volume.intensities, intensity_window(volume.intensities)), volume.grid, fine)
    levels = np.minimum((image * rules.bins).astype(np.intp), rules.bins - 1)
    priors = _widened(placed.probabilities, rules.blur_mm)
    groups = {tissue.index: tissue.group or tissue.name for tissue in placed.tissues}
    learnt = _learnt(_sample(priors, groups, levels, fine.spacing_mm, rules), rules)
    return replace(placed, probabilities=_memberships(priors, groups, levels, learnt, (fine, volume.grid)))


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


def _widened(probabilities: WorkingProbabilities, blur_mm: float) -> dict[int, NDArray[np.float32]]:
    """Label value → probability on the placement's own grid, as wide as the placement is uncertain."""
    sigma = [blur_mm / step for step in probabilities.work.spacing_mm]
    return {index: ndimage.gaussian_filter(probabilities.on_work(index), sigma) for index in probabilities}


def _sample(
    priors: Mapping[int, NDArray[np.float32]],
    groups: Mapping[int, str],
    levels: NDArray[np.intp],
    spacing_mm: tuple[float, float, float],
    rules: SharpeningRules,
) -> _Sample:
    """Voxels near the atlas's tissues, every other one along axes that are fine."""
    steps = [
        2 if 2 * spacing < _COARSE_MM and n > 1 else 1 for spacing, n in zip(spacing_mm, levels.shape, strict=True)
    ]
    part = tuple(slice(None, None, step) for step in steps)
    rows = [spread(prior, levels.shape)[part] for prior in priors.values()]
    total = np.sum(rows, axis=0)
    reach = [2 * round(rules.near_mm / (step * mm)) + 1 for step, mm in zip(steps, spacing_mm, strict=True)]
    near = ndimage.maximum_filter(total > 0.5, reach)
    rows.append(np.clip(1.0 - total, 0.0, 1.0))
    members = np.stack([np.maximum(row[near], _LEAST_MEMBERSHIP) for row in rows])
    names = (*(groups[index] for index in priors), _BACKGROUND)
    return _Sample(levels[part][near], members / members.sum(axis=0), names)


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
    priors: Mapping[int, NDArray[np.float32]],
    groups: Mapping[int, str],
    levels: NDArray[np.intp],
    learnt: Mapping[str, NDArray[np.float32]],
    grids: tuple[Grid, Grid],
) -> WorkingProbabilities:
    """Bayes' rule at every voxel, tissue by tissue so that only sums are held at once."""
    claimed = np.zeros(levels.shape, dtype=np.float32)
    total = np.zeros(levels.shape, dtype=np.float32)
    for index, prior in priors.items():
        wide = spread(prior, levels.shape)
        claimed += wide
        total += wide * learnt[groups[index]][levels]
    total += np.maximum(1.0 - claimed, _LEAST_MEMBERSHIP) * learnt[_BACKGROUND][levels]
    values = {
        index: quantised(spread(prior, levels.shape) * learnt[groups[index]][levels] / total)
        for index, prior in priors.items()
    }
    return WorkingProbabilities(*grids, values)
