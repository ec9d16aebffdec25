"""How well an atlas explains a volume, whatever the contrast of either.

An atlas is seen as soft classes that sum to 1 where it knows anything: its tissues, or the grey levels of one of its
templates. Laid on a volume, each class has a mean intensity there; the share of the volume's variance those means
explain is the correlation ratio (Roche et al., MICCAI 1998), and with Gaussian residuals ``-0.5 log(1 - ratio)`` is
the information in nats per voxel that the atlas gives about the volume. Multiplied by the share of the atlas that
lies inside the field of view it rewards agreement and overlap together, so that a good match of a corner never beats
a fair match of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.resampling import resample, world_aligned_grid
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid

VARIANCE_FLOOR = 1e-3
_LEVELS = 8
SKELETON_GROUPS = ("bone", "cartilage", "meniscus", "vertebra", "disc")


@dataclass(frozen=True, eq=False)
class Classes:
    """Soft classes of an atlas on one grid.

    Attributes:
        name: the template's name, or "tissues".
        weights: (C, I, J, K) float32 that sum to 1 inside the atlas's support and to 0 outside.
        grid: the grid.
    """

    name: str
    weights: NDArray[np.float32]
    grid: Grid

    @property
    def support(self) -> NDArray[np.float32]:
        """(I, J, K): 1 where the atlas knows anything."""
        return np.asarray(self.weights.sum(axis=0))


def normalised(intensities: NDArray[np.float32], low_high: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities clipped to a window and scaled to 0…1."""
    low, high = low_high
    scaled = np.asarray(intensities - low, dtype=np.float32)
    scaled /= high - low
    return np.clip(scaled, 0.0, 1.0, out=scaled)


def template_classes(
    name: str, template: NDArray[np.float32], support: NDArray[np.bool_], grid: Grid, levels: int = _LEVELS
) -> Classes:
    """Grey levels of a template as soft classes: linear weights to the nearest two of its quantiles."""
    inside = template[support]
    knots = np.unique(np.quantile(inside, np.linspace(0.02, 0.98, levels))) if inside.size else np.zeros(1)
    weights = np.zeros((len(knots), *grid.shape), dtype=np.float32)
    position = np.interp(template, knots, np.arange(len(knots)))
    for level in range(len(knots)):
        weights[level] = np.clip(1.0 - np.abs(position - level), 0.0, 1.0) * support
    return Classes(name, weights, grid)


def tissue_classes(probabilities: list[NDArray[np.float32]], support: NDArray[np.bool_], grid: Grid) -> Classes:
    """Tissues as soft classes, with what no tissue claims as one class more."""
    weights = np.stack([*probabilities, np.zeros(grid.shape, dtype=np.float32)]).astype(np.float32)
    total = weights.sum(axis=0)
    weights[-1] = np.clip(1.0 - total, 0.0, 1.0)
    weights /= np.maximum(weights.sum(axis=0), 1e-6)
    return Classes("tissues", weights * support, grid)


def class_means(
    weights: NDArray[np.float32], values: NDArray[np.float32], inside: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean value (C,) of each class over the voxels `inside`; a class seen nowhere gets the overall mean."""
    counts = np.tensordot(weights, inside, axes=3)
    sums = np.tensordot(weights, values * inside, axes=3)
    overall = float((values * inside).sum() / max(float(inside.sum()), 1e-6))
    return np.where(counts > 1e-3, sums / np.maximum(counts, 1e-3), overall).astype(np.float32)


def information(
    counts: NDArray[np.float64], sums: NDArray[np.float64], squares: NDArray[np.float64], support_size: float
) -> NDArray[np.float64]:
    """Nats per voxel of the atlas's support that its classes tell of the volume.

    Args:
        counts: (C, …) weight of each class inside the field of view.
        sums: (C, …) weighted sums of intensities.
        squares: (…) sum of squared intensities over all classes.
        support_size: weight of all classes with nothing cut away.
    """
    total = counts.sum(axis=0)
    safe = np.maximum(total, 1.0)
    overall = sums.sum(axis=0)
    variance = np.maximum(squares / safe - (overall / safe) ** 2, 0.0)
    explained = (sums**2 / np.maximum(counts, 1e-2)).sum(axis=0)
    within = np.maximum((squares - explained) / safe, 0.0)
    ratio = np.log((variance + VARIANCE_FLOOR) / (np.minimum(within, variance) + VARIANCE_FLOOR))
    return np.asarray(0.5 * ratio * total / support_size)


def atlas_classes(atlas: Atlas) -> list[Classes]:
    """The ways an atlas can be compared with a volume: by groups of tissues, and by each of its templates."""
    support = np.ones(atlas.grid.shape, dtype=bool) if atlas.support is None else atlas.support
    groups = [
        np.minimum(sum(atlas.probabilities[t.index] for t in atlas.tissues if t.group == group), 1.0)
        for group in atlas.tissues.groups
    ]
    sets = [tissue_classes(groups, support, atlas.grid)]
    return sets + [template_classes(name, image, support, atlas.grid) for name, image in atlas.templates.items()]


def total_probability(atlas: Atlas) -> NDArray[np.float32]:
    """(I, J, K): the sum of all tissues' probabilities."""
    total = np.zeros(atlas.grid.shape, dtype=np.float32)
    for probability in atlas.probabilities.values():
        total += probability
    return total


def local_paint(
    weights: NDArray[np.float32],
    image: NDArray[np.float32],
    inside: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    reach_mm: float = 25.0,
) -> NDArray[np.float32]:
    """The image an atlas predicts: each class in the mean intensity it has nearby, which follows a bias field.

    Args:
        weights: (C, I, J, K) soft classes placed on the image's grid.
        image: (I, J, K) intensities.
        inside: (I, J, K) 1 where the image may be learnt from.
        spacing_mm: the grid's spacing.
        reach_mm: standard deviation of the neighbourhood.
    """
    coarse = tuple(slice(None, None, max(1, round(0.25 * reach_mm / step))) for step in spacing_mm)
    sigma = [reach_mm / (step * part.step) for step, part in zip(spacing_mm, coarse, strict=True)]
    overall = class_means(weights, image, inside)
    painted = np.zeros_like(image)
    block = tuple(part.step for part in coarse)
    for weight, mean in zip(weights, overall, strict=True):
        blurred = ndimage.uniform_filter(weight * inside, block)[coarse]
        product = ndimage.uniform_filter(weight * inside * (image - mean), block)[coarse]
        amount = ndimage.gaussian_filter(blurred, sigma, mode="constant")
        shift = ndimage.gaussian_filter(product, sigma, mode="constant") / (amount + 0.02)
        zoomed = ndimage.affine_transform(
            shift, 1.0 / np.array(block, dtype=float), output_shape=image.shape, order=1, mode="nearest"
        )
        painted += weight * (mean + zoomed)
    return painted


def focused(classes: Classes, atlas: Atlas, reach_mm: float) -> Classes:
    """The classes near the atlas's skeleton alone, or near all its tissues where it has none.

    Limbs differ in girth more than in bone, so the skin must not decide how large the bones are taken to be.
    """
    skeleton = [t.index for t in atlas.tissues if t.group in SKELETON_GROUPS] or list(atlas.tissues.indices)
    here = np.max([atlas.probabilities[index] for index in skeleton], axis=0) > 0.3
    if not here.any():
        return classes
    near = ndimage.distance_transform_edt(~here, sampling=atlas.grid.spacing_mm) < reach_mm
    return Classes(classes.name, classes.weights * near, classes.grid)


def trimmed(classes: Classes) -> Classes:
    """The classes on the smallest part of their grid that holds their support."""
    inside = classes.support > 0
    if not inside.any():
        return classes
    (part,) = ndimage.find_objects(inside.astype(np.uint8))
    affine = classes.grid.affine.copy()
    affine[:3, 3] = classes.grid.to_world_mm([along.start for along in part])
    weights = np.ascontiguousarray(classes.weights[(slice(None), *part)])
    return Classes(classes.name, weights, Grid(weights.shape[1:], affine))


def extended(classes: Classes, margin_mm: float) -> Classes:
    """The classes on a grid wider by a margin, those at the edge of the support continued outwards."""
    wide = [round(margin_mm / step) for step in classes.grid.spacing_mm]
    affine = classes.grid.affine.copy()
    affine[:3, 3] = classes.grid.to_world_mm([-n for n in wide])
    weights = np.pad(classes.weights, [(0, 0), *((n, n) for n in wide)])
    grid = Grid(weights.shape[1:], affine)
    known = weights.sum(axis=0) > 0.5
    if not known.any():
        return Classes(classes.name, weights, grid)
    nearest = ndimage.distance_transform_edt(
        ~known, sampling=grid.spacing_mm, return_distances=False, return_indices=True
    )
    filled = weights[:, nearest[0], nearest[1], nearest[2]]
    return Classes(classes.name, filled / np.maximum(filled.sum(axis=0), 1e-6), grid)


def on_spacing(classes: Classes, spacing_mm: float) -> Classes:
    """The classes on a coarser RAS+ grid."""
    grid = world_aligned_grid(classes.grid.corners_mm(), spacing_mm)
    return Classes(classes.name, np.stack([resample(w, classes.grid, grid) for w in classes.weights]), grid)
