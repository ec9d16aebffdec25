"""The regions of the body that can be drawn, each with the field of view that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError
from msksam_cli.phantom.hip import hip_label_map, sample_hip_shape
from msksam_cli.phantom.knee import knee_label_map, sample_knee_shape
from msksam_cli.phantom.lumbar import lumbar_label_map, sample_lumbar_shape
from msksam_cli.phantom.shoulder import sample_shoulder_shape, shoulder_label_map
from msksam_cli.phantom.thigh import sample_thigh_shape, thigh_label_map

Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        name: such as "knee".
        sample: draws the dimensions of a person.
        label_map: labels of these dimensions on a grid; the world's origin is the region's own.
        first_mm: RAS+ corner (left, posterior, inferior) of the usual field of view.
        last_mm: the opposite corner.
    """

    name: str
    sample: Callable[[np.random.Generator], Any]
    label_map: Callable[[Any, Grid], LabelMap]
    first_mm: Millimetres
    last_mm: Millimetres

    def grid(self, spacing_mm: float) -> Grid:
        """An isotropic grid over the field of view, axes along RAS+."""
        first, last = np.array(self.first_mm), np.array(self.last_mm)
        shape = np.maximum(np.round((last - first) / spacing_mm).astype(int), 1)
        affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        affine[:3, 3] = (first + last) / 2 - spacing_mm * (shape - 1) / 2
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def draw(self, rng: np.random.Generator, spacing_mm: float) -> LabelMap:
        """The labels of a person drawn at random, over the usual field of view."""
        return self.label_map(self.sample(rng), self.grid(spacing_mm))


REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        region.name: region
        for region in (
            Region("knee", sample_knee_shape, knee_label_map, (-76, -76, -88), (76, 76, 88)),
            Region("hip", sample_hip_shape, hip_label_map, (-125, -115, -120), (125, 115, 120)),
            Region("lumbar", sample_lumbar_shape, lumbar_label_map, (-110, -120, -135), (110, 110, 135)),
            Region("shoulder", sample_shoulder_shape, shoulder_label_map, (-115, -95, -105), (115, 95, 95)),
            Region("thigh", sample_thigh_shape, thigh_label_map, (-110, -110, -150), (110, 110, 150)),
        )
    }
)
"""Regions by name."""


def region_named(name: str) -> Region:
    """The region with this name.

    Raises:
        UsageError: there is none.
    """
    if name not in REGIONS:
        raise UsageError(f"unknown region {name!r}", f"Use one of {', '.join(REGIONS)}")
    return REGIONS[name]
