"""Label planes to learn from: cuts through label volumes, and random shapes.

A plane is a square of labels at a known pixel size. Cuts are taken in any of the three anatomical planes, tilted a
little, at any scale; random shapes (superellipses, crescents, noise blobs) keep the network from knowing only the
anatomy it was shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap

Labels = NDArray[np.uint8]

_MAX_TILT_DEG = 12.0
_FIELD_MM = (70.0, 330.0)
_BEYOND = 1.15
_SLAB_MM = (0.0, 8.0)
_STEP_MM = 2.0
_THIN_GROUPS = frozenset({"cartilage", "meniscus", "ligament", "skin"})
_SHELL_GROUPS = frozenset({"bone", "vertebra"})


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice to be rendered.

    Attributes:
        slabs: (D, S, S) uint8 drawn labels of D parallel planes across the slice thickness; the middle one is the
            truth.
        pixel_mm: side of a pixel in mm.
        shelled: labels drawn with a dark cortical shell.
        thin: labels whose prompts are cut into tiles.
        weights: label → relative chance to be asked for.
        whole_of: drawn label → label of the whole it is a part of; a part has its own grey level.
    """

    slabs: NDArray[np.uint8]
    pixel_mm: float
    shelled: frozenset[int]
    thin: frozenset[int]
    weights: dict[int, float]
    whole_of: dict[int, int] = field(default_factory=dict)

    @property
    def truth(self) -> Labels:
        """(S, S) labels of the middle plane, parts counted to their wholes."""
        table = np.arange(256, dtype=np.uint8)
        for part, whole in self.whole_of.items():
            table[part] = whole
        return np.asarray(table[self.slabs[len(self.slabs) // 2]])


_GROUP_WEIGHT = {
    "bone": 2.0,
    "vertebra": 2.0,
    "disc": 2.5,
    "cartilage": 2.5,
    "meniscus": 2.5,
    "ligament": 0.6,
    "muscle": 0.8,
    "fluid": 0.3,
    "fat": 0.2,
    "skin": 0.0,
    "other": 0.4,
}
_FIRST_SHAPE = 160
_REACH = 1.8
_SOFT_PX = 0.6
_MOTTLED_SHARE = 0.35
_FIRST_PART, _LAST_PART = 200, 255


def cut_plane(label_map: LabelMap, side_px: int, rng: np.random.Generator) -> Plane:
    """A random cut of side `side_px` through a label map: any plane, tilt, field of view and thickness.

    Where pixels are finer than voxels, outlines are drawn smooth between them instead of in steps.
    """
    extent_mm = np.array(label_map.grid.shape) * np.array(label_map.grid.spacing_mm)
    widest_mm = float(np.clip(_BEYOND * np.median(extent_mm), 2 * _FIELD_MM[0], _FIELD_MM[1]))
    pixel_mm = float(np.exp(rng.uniform(np.log(_FIELD_MM[0]), np.log(widest_mm)))) / side_px
    axes = _random_axes(rng)
    reach_mm = np.maximum(extent_mm / 2 - 12.0, 0.0) * np.array([0.75, 0.75, 0.85])
    centre_mm = label_map.grid.centre_mm + rng.uniform(-1, 1, 3) * reach_mm * _toward_centre(rng)
    thickness_mm = rng.uniform(*_SLAB_MM)
    depths_mm = np.linspace(-0.5, 0.5, 1 + 2 * round(thickness_mm / _STEP_MM / 2 + 0.25)) * thickness_mm
    cut_px = min(side_px, round(side_px * pixel_mm / min(label_map.grid.spacing_mm)))
    steps_mm = (np.arange(cut_px) - (cut_px - 1) / 2) * pixel_mm * side_px / cut_px
    slabs = _labels_at(label_map, centre_mm, axes, (depths_mm, steps_mm, steps_mm))
    if cut_px < side_px:
        slabs = np.stack([_enlarged(slab, side_px) for slab in slabs])
    return Plane(slabs, pixel_mm, *_roles(label_map.tissues))


def _labels_at(
    label_map: LabelMap,
    centre_mm: NDArray[np.float64],
    axes: NDArray[np.float64],
    steps_mm: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> Labels:
    """Labels (D, R, C) at centre + depth · axes[2] + row · axes[0] + column · axes[1], in world mm; 0 outside.

    A voxel index is a sum of one term per axis, so that each is worked out once.
    """
    origin = label_map.grid.to_voxel(centre_mm)
    along = [(label_map.grid.to_voxel(centre_mm + axes[n]) - origin) for n in (2, 0, 1)]
    terms = [
        (steps[:, None] * one).astype(np.float32).reshape(*(-1 if n == axis else 1 for n in range(3)), 3)
        for axis, (steps, one) in enumerate(zip(steps_mm, along, strict=True))
    ]
    plane = terms[1] + terms[2]  # (1, R, C, 3)
    shape, values = label_map.grid.shape, label_map.values
    inside = np.ones((len(steps_mm[0]), len(steps_mm[1]), len(steps_mm[2])), dtype=bool)
    flat = np.zeros(inside.shape, dtype=np.int64)
    for n in range(3):
        index = np.rint(plane[..., n] + (terms[0][..., n] + np.float32(origin[n]))).astype(np.int32)
        inside &= (index >= 0) & (index < shape[n])
        flat = flat * shape[n] + index
    return np.where(inside, values.reshape(-1)[np.where(inside, flat, 0)], 0).astype(np.uint8)


def _enlarged(labels: Labels, side_px: int) -> Labels:
    """Labels (S, S) of a smaller plane (R, C): the label whose mask, blurred and interpolated, is strongest."""
    enlarged = np.zeros((side_px, side_px), dtype=np.uint8)
    strongest = np.zeros((side_px, side_px), dtype=np.uint8)
    for label in np.flatnonzero(np.bincount(labels.ravel())):
        mask = Image.fromarray((labels == label).astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(_SOFT_PX))
        share = np.asarray(mask.resize((side_px, side_px), Image.Resampling.BILINEAR))
        enlarged[share > strongest] = label
        strongest = np.maximum(strongest, share)
    return enlarged


def _roles(tissues: TissueTable) -> tuple[frozenset[int], frozenset[int], dict[int, float]]:
    return (
        frozenset(t.index for t in tissues if t.group in _SHELL_GROUPS),
        frozenset(t.index for t in tissues if t.group in _THIN_GROUPS),
        {t.index: _GROUP_WEIGHT.get(t.group, 1.0) for t in tissues},
    )


def _toward_centre(rng: np.random.Generator) -> float:
    """A factor that is small as often as large, so that the joint is seen more than the shafts."""
    return float(rng.uniform(0.1, 1.0))


def _random_axes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows (3, 3): the row, column and normal directions of a plane in world mm, anatomical up to a tilt."""
    normal = rng.integers(3)
    tilt = np.deg2rad(rng.normal(0, _MAX_TILT_DEG / 2, 3))
    axes = np.roll(np.eye(3), int(-normal), axis=0)[[1, 2, 0]]
    for axis, angle in enumerate(tilt):
        axes = axes @ _rotation(axis, float(angle)).T
    spin = float(rng.normal(0, 0.2)) if rng.random() < 0.7 else float(rng.uniform(0, 2 * np.pi))
    row, column = axes[0], axes[1]
    turned = np.stack([np.cos(spin) * row + np.sin(spin) * column, np.cos(spin) * column - np.sin(spin) * row, axes[2]])
    if rng.random() < 0.5:
        turned = turned[[1, 0, 2]]
    return np.asarray(turned * np.where(rng.random(3) < 0.5, -1.0, 1.0)[:, None])


def _rotation(axis: int, angle_rad: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def random_shapes(side_px: int, rng: np.random.Generator) -> Plane:
    """A plane of 3 to 14 overlapping random shapes over a background of 1 to 3 noise regions.

    The background is never asked for. Some shapes carry a dark shell, as bones do, some are mottled. No label is one
    of the tissue table's.
    """
    y, x = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / side_px
    regions = int(rng.integers(1, 4))
    noise = smooth_noise(side_px, rng.uniform(0.08, 0.3), rng)
    edges = np.quantile(noise, np.linspace(0, 1, regions + 1)[1:-1])
    labels = (_FIRST_SHAPE - 3 + np.digitize(noise, edges)).astype(np.uint8)
    count = int(rng.integers(3, 15))
    aligned = rng.random() < 0.3
    base = rng.uniform(0, np.pi)
    for shape in range(count):
        angle = base + rng.normal(0, 0.15) if aligned else rng.uniform(0, np.pi)
        mask = _random_mask(x, y, float(angle), rng)
        labels[mask] = _FIRST_SHAPE + shape
    shelled = frozenset(_FIRST_SHAPE + shape for shape in range(count) if rng.random() < 0.35)
    plane = Plane(
        labels[None], 100.0 / side_px, shelled, frozenset(), {_FIRST_SHAPE + shape: 1.0 for shape in range(count)}
    )
    return with_mottles(plane, rng)


def with_mottles(plane: Plane, rng: np.random.Generator) -> Plane:
    """The plane with regions of other grey levels inside a third of what can be asked for, as tissue seldom is even."""
    present = np.flatnonzero(np.bincount(plane.truth.ravel(), minlength=256))
    mottled = [
        int(label) for label in present if plane.weights.get(int(label), 0) > 0 and rng.random() < _MOTTLED_SHARE
    ]
    return _with_parts(plane, mottled, rng)


def with_lesions(plane: Plane, label: int, rng: np.random.Generator) -> Plane:
    """The plane with one or two masses of several grey levels in it, asked for as `label`."""
    side_px = plane.truth.shape[0]
    y, x = np.mgrid[0:side_px, 0:side_px].astype(np.float32) / side_px
    slabs = plane.slabs.copy()
    for _ in range(int(rng.integers(1, 3))):
        mass = _random_mask(x, y, float(rng.uniform(0, np.pi)), rng)
        slabs[:, mass & (plane.slabs[len(slabs) // 2] > 0)] = label
    return _with_parts(replace(plane, slabs=slabs, weights={**plane.weights, label: 1.5}), [label], rng)


def _with_parts(plane: Plane, labels: list[int], rng: np.random.Generator) -> Plane:
    """The plane with regions of other grey levels inside some labels, as in a mass or a worn disc."""
    side_px, slabs, whole_of = plane.truth.shape[0], plane.slabs.copy(), dict(plane.whole_of)
    part = max([_FIRST_PART - 1, *whole_of]) + 1
    for label in labels:
        noise = smooth_noise(side_px, float(np.exp(rng.uniform(np.log(0.02), np.log(0.2)))), rng)
        for threshold in rng.uniform(0.0, 1.2, int(rng.integers(1, 3))):
            if part <= _LAST_PART:
                slabs[(slabs == label) & ((noise if rng.random() < 0.5 else -noise) > threshold)] = part
                whole_of[part] = label
                part += 1
    return replace(plane, slabs=slabs, whole_of=whole_of)


def _random_mask(
    x: NDArray[np.float32], y: NDArray[np.float32], angle: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    side_px = x.shape[0]
    centre_x, centre_y = rng.uniform(0.05, 0.95, 2)
    radius = float(np.exp(rng.uniform(np.log(0.03), np.log(0.3))))
    aspect = float(np.exp(rng.uniform(0, np.log(4))))
    wobble = 0.25 * smooth_noise(side_px, rng.uniform(0.04, 0.15), rng) * np.float32(rng.random())
    power = float(rng.choice([2.0, 2.0, 3.0, 5.0]))
    mask = np.zeros(x.shape, dtype=bool)
    first = [max(0, int((centre - _REACH * radius) * side_px)) for centre in (centre_y, centre_x)]
    last = [int((centre + _REACH * radius) * side_px) + 2 for centre in (centre_y, centre_x)]
    window = slice(first[0], last[0]), slice(first[1], last[1])
    x, y, wobble = x[window], y[window], wobble[window]
    along = (np.cos(angle) * (x - centre_x) + np.sin(angle) * (y - centre_y)) / radius
    across = (np.cos(angle) * (y - centre_y) - np.sin(angle) * (x - centre_x)) / radius * aspect
    inside = _radius(along, across, power) + wobble < 1
    if rng.random() < 0.35:
        shift, shrink = rng.uniform(0.15, 0.7), rng.uniform(0.7, 1.05)
        inside &= ~(_radius(along / 1.1, (across - shift) / shrink, power) + wobble < 1)
    mask[window] = inside
    return mask


def _radius(along: NDArray[np.float32], across: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Superelliptic distance from the centre, 1 on the rim."""
    return np.asarray((np.abs(along) ** power + np.abs(across) ** power) ** (1 / power), dtype=np.float32)


def smooth_noise(side_px: int, scale: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(S, S) float32 noise of zero mean and unit deviation, smooth over `scale` of the side."""
    coarse = max(3, round(1.5 / scale))
    small = Image.fromarray(rng.normal(size=(coarse + 3, coarse + 3)).astype(np.float32))
    fine = np.asarray(small.resize((side_px, side_px), Image.Resampling.BICUBIC, box=(1, 1, coarse + 1, coarse + 1)))
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), dtype=np.float32)
