"""Slices that a scanner made and a person labelled, mixed into what the bundled model learns from.

A slice is cropped, turned, mirrored and its grey levels are changed at random, so that few slices go a long way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from msksam_cli.training.planes import Plane

_SHARE_SHOWN = (0.25, 1.0)
_SIDE_MM = 280.0
_INVERTED_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class ScannedSlice:
    """One labelled slice.

    Attributes:
        pixels: (rows, columns) uint8 grey levels.
        labels: (rows, columns) uint8.
        weights: label → relative chance to be asked for.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    weights: dict[int, float]


def read_coloured_slices(folder: Path) -> list[ScannedSlice]:
    """Slices of `folder`/images with their colour masks of the same names in `folder`/masks, in order of name.

    Every colour but black is a label; labels are numbered in the order of colours over all masks.
    """
    masks = {
        path.name: np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "masks").glob("*.png"))
    }
    packed = {
        name: (mask.astype(np.uint32) * np.array([65536, 256, 1], np.uint32)).sum(-1) for name, mask in masks.items()
    }
    colours = np.unique(np.concatenate([np.unique(codes) for codes in packed.values()]))
    slices = []
    for name, codes in packed.items():
        labels = np.searchsorted(colours, codes).astype(np.uint8)
        pixels = np.asarray(Image.open(folder / "images" / name).convert("L"))
        if pixels.shape == labels.shape:
            slices.append(ScannedSlice(pixels, labels, {label: 1.0 for label in range(1, len(colours))}))
    return slices


def cut_scanned(one: ScannedSlice, side_px: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Plane]:
    """A random cut (S, S) float32 of a slice, 0…1, and its labels as a plane of the same side."""
    rows, columns = one.pixels.shape
    shown_px = max(rows, columns) * float(np.exp(rng.uniform(*np.log(_SHARE_SHOWN))))
    step = shown_px / side_px
    turn = float(rng.normal(0, 0.2)) if rng.random() < 0.8 else float(rng.uniform(0, 2 * np.pi))
    stretch = np.exp(rng.normal(0, 0.08, 2)) * np.where(rng.random(2) < 0.5, -1.0, 1.0)
    centre = np.array([rows, columns]) / 2 + rng.uniform(-0.5, 0.5, 2) * np.maximum(
        np.array([rows, columns]) - shown_px * 0.7, 0
    )
    matrix = step * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag(stretch)
    if rng.random() < 0.3:
        matrix = matrix[:, ::-1]
    offset = centre - matrix @ np.full(2, (side_px - 1) / 2)
    levels = one.pixels.astype(np.float32) / 255
    if step > 1:
        levels = ndimage.gaussian_filter(levels, 0.4 * step)
    shape = (side_px, side_px)
    image = ndimage.affine_transform(levels, matrix, offset, shape, order=1)
    labels = ndimage.affine_transform(one.labels, matrix, offset, shape, order=0)
    if rng.random() < _INVERTED_SHARE:
        image = 1 - image
    plane = Plane(labels[None], _SIDE_MM * step / max(rows, columns), frozenset(), frozenset(), one.weights)
    return np.asarray(image, dtype=np.float32), plane
