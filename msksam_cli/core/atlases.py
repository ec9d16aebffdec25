"""Where tissues may be: an `Atlas` in its own space, and a `PlacedAtlas` on a volume's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.boxed import Boxed
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import TissueTable

_LEAST_SIMILARITY = 1e-6


@dataclass(frozen=True, eq=False)
class Population:
    """How large a tissue was in the cases an atlas was built from.

    Attributes:
        volume_mean_mm3: mean volume of complete tissues.
        volume_sd_mm3: standard deviation of the volume.
        cases: number of cases counted.
    """

    volume_mean_mm3: float
    volume_sd_mm3: float
    cases: int


@dataclass(frozen=True, eq=False)
class Atlas:
    """Per-tissue probability, and the images it can be registered by, on one grid.

    Attributes:
        name: such as "knee-v1".
        body_part: lower case, such as "knee".
        side: the side its anatomy shows, "left", "right" or "" when it has none.
        grid: the atlas's own grid, RAS+ world in mm.
        templates: contrast name → (I, J, K) float32 mean image; at least one.
        probabilities: label value → (I, J, K) float32 in 0…1.
        tissues: names of the label values.
        populations: label value → size in the building cases.
        provenance: what it was built from and how, as plain values for atlas.toml.
        sha256: hash over its files, "" before it is written.
        support: (I, J, K) bool, where enough building cases had image; None means everywhere.
    """

    name: str
    body_part: str
    side: str
    grid: Grid
    templates: Mapping[str, NDArray[np.float32]]
    probabilities: Mapping[int, NDArray[np.float32]]
    tissues: TissueTable
    populations: Mapping[int, Population] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)
    sha256: str = ""
    support: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for key, array in (*self.templates.items(), *self.probabilities.items()):
            if array.shape != self.grid.shape:
                raise ValueError(f"{key!r} has shape {array.shape}, the atlas {self.grid.shape}")
        if set(self.probabilities) != set(self.tissues.indices):
            raise ValueError(f"probabilities of {sorted(self.probabilities)}, tissues {self.tissues.indices}")


@dataclass(frozen=True)
class Fit:
    """How well an atlas lies on a volume.

    Attributes:
        similarity: normalised measure of agreement of the intensities, larger is better.
        inside_fraction: share of the atlas's tissue that lies inside the field of view, 0…1.
        mirrored: whether the atlas was mirrored left to right.
        mirror_margin: nats per voxel near the skeleton by which the chosen side explains the grey levels better than
            the other; small or negative means the side is doubtful; None when the atlas has no side.
        reliable: whether the placement is trusted.
        reason: why not, "" when reliable.
        shift_margin: similarity of the chosen position minus that of the best one clearly elsewhere, such as one
            vertebra higher; small means the level is doubtful; None when nowhere else was possible.
        template: which of the atlas's templates, or "tissues", was compared with the volume.
    """

    similarity: float
    inside_fraction: float
    mirrored: bool
    mirror_margin: float | None
    reliable: bool
    reason: str = ""
    shift_margin: float | None = None
    template: str = ""

    @property
    def shift_share(self) -> float | None:
        """`shift_margin` as a share of the similarity."""
        return self._share(self.shift_margin)

    @property
    def mirror_share(self) -> float | None:
        """`mirror_margin` as a share of the similarity."""
        return self._share(self.mirror_margin)

    def _share(self, margin: float | None) -> float | None:
        return None if margin is None else margin / max(abs(self.similarity), _LEAST_SIMILARITY)


@runtime_checkable
class BoxedMapping(Protocol):
    """Arrays that are had for less without the zeros round them."""

    def boxed(self, index: int) -> Boxed:
        """One of them."""
        ...


@dataclass(frozen=True, eq=False)
class PlacedAtlas:
    """An atlas on a volume's grid.

    Attributes:
        grid: the volume's grid.
        probabilities: label value → (I, J, K) float32 in 0…1 on that grid; may be computed at each access, so take
            each array once.
        visible_fraction: label value → share of the tissue's atlas volume that fell inside the grid, 0…1.
        tissues: names of the label values.
        fit: how well it lies.
        side: "left", "right" or "" as placed.
        atlas_name: which atlas.
        atlas_sha256: hash of its files.
        populations: label value → size in the building cases.
    """

    grid: Grid
    probabilities: Mapping[int, NDArray[np.float32]]
    visible_fraction: Mapping[int, float]
    tissues: TissueTable
    fit: Fit
    side: str
    atlas_name: str
    atlas_sha256: str
    populations: Mapping[int, Population] = field(default_factory=dict)

    def boxed(self, index: int) -> Boxed:
        """Where a tissue may be, P (I, J, K) as float32, without the voxels round it where it cannot."""
        known = self.probabilities
        return known.boxed(index) if isinstance(known, BoxedMapping) else Boxed.of(known[index])
