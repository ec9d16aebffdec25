"""How much two masks share: Dice, IoU and the counts they come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.boxed import Box3D

LabelArray = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Overlap:
    """Voxels of two masks and of what they share.

    >>> Overlap(voxels_a=4, voxels_b=4, voxels_both=2).dice
    0.5
    """

    voxels_a: int
    voxels_b: int
    voxels_both: int

    @property
    def dice(self) -> float | None:
        """2·|a∩b| / (|a|+|b|) (Dice 1945); None when both are empty, 0 when one is."""
        total = self.voxels_a + self.voxels_b
        return 2 * self.voxels_both / total if total else None

    @property
    def iou(self) -> float | None:
        """|a∩b| / |a∪b| (Jaccard 1912); None when both are empty, 0 when one is."""
        union = self.voxels_a + self.voxels_b - self.voxels_both
        return self.voxels_both / union if union else None


def overlap(mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_]) -> Overlap:
    """Counts of two masks of one shape.

    Raises:
        ValueError: the shapes differ.
    """
    if mask_a.shape != mask_b.shape:
        raise ValueError(f"masks of shape {mask_a.shape} and {mask_b.shape} cannot be compared")
    voxels_a, voxels_b, voxels_both = (int(np.count_nonzero(mask)) for mask in (mask_a, mask_b, mask_a & mask_b))
    return Overlap(voxels_a, voxels_b, voxels_both)


def dice(mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_]) -> float | None:
    """Dice of two masks of one shape; None when both are empty, 0 when one is."""
    return overlap(mask_a, mask_b).dice


def iou(mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_]) -> float | None:
    """Intersection over union of two masks of one shape; None when both are empty, 0 when one is."""
    return overlap(mask_a, mask_b).iou


def overlaps(labels_a: LabelArray, labels_b: LabelArray) -> dict[int, Overlap]:
    """Counts of every label above 0 that occurs in either of two label arrays of one shape, in one pass.

    Raises:
        ValueError: the shapes differ.
    """
    if labels_a.shape != labels_b.shape:
        raise ValueError(f"labels of shape {labels_a.shape} and {labels_b.shape} cannot be compared")
    if labels_a.flags.f_contiguous:
        labels_a, labels_b = labels_a.T, labels_b.T
    in_a, in_b, in_both = (_counts(labels) for labels in (labels_a, labels_b, labels_a[labels_a == labels_b]))
    return {label: Overlap(in_a[label], in_b[label], in_both[label]) for label in sorted(in_a | in_b)}


def _counts(labels: LabelArray) -> Counter[int]:
    counts = np.bincount(labels[labels > 0])
    return Counter({int(label): int(counts[label]) for label in np.flatnonzero(counts)})


def union_box(one: Box3D | None, other: Box3D | None) -> Box3D | None:
    """The smallest box that holds both; None when both are None."""
    if one is None or other is None:
        return one or other
    i, j, k = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return i, j, k
