"""A lobulated mass in soft tissue that pushes its surroundings aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msksam_cli.phantom.fields import Field, Mask, Points, Vector, ramp

_LOBES = 5
_PUSH_SHARE = 0.75
_REACH_RADII = 4.0


@dataclass(frozen=True)
class Mass:
    """A mass of about an ellipsoid's shape.

    Attributes:
        centre: in mm.
        radius: mean radius in mm.
        stretch: factor on the radius along z; along u and y it is smaller, so that the volume stays.
        lobulation: height of lobes as part of the radius.
        seed: of the lobes.
    """

    centre: Vector
    radius: float
    stretch: float = 1.0
    lobulation: float = 0.1
    seed: int = 0

    @classmethod
    def drawn(cls, centre: Vector, radius: float, seed: int) -> Mass:
        """A mass of a given size whose stretch and lobes follow from the seed."""
        rng = np.random.default_rng(seed)
        return cls(centre, radius, float(rng.uniform(0.95, 1.5)), float(rng.uniform(0.02, 0.16)), seed)

    def field(self, points: Points) -> Field:
        """Negative inside the mass, near a distance in mm."""
        _, distance, relative = self._relative(points)
        return np.asarray((relative - 1) * distance / np.maximum(relative, np.float32(0.05)), dtype=np.float32)

    def parted(self, points: Points, moving: Mask | None = None) -> Points:
        """Where the tissue at these points lay before the mass grew; tissue far away stays.

        The map of an incompressible medium round a growing sphere, `r0 = (r³ - k R³)^(1/3)`, fading out with distance;
        the part `1 - k` of the mass replaces tissue instead of pushing it. Points outside `moving` stay.
        """
        offsets, _, relative = self._relative(points)
        cubed = np.maximum(relative, np.float32(0.05)) ** 3
        shrunk = np.cbrt(np.maximum(1 - np.float32(_PUSH_SHARE) / cubed, np.float32(0.02)))
        near = ramp(relative, _REACH_RADII, 0.6 * _REACH_RADII)
        factor = 1 - near * (1 - shrunk)
        if moving is not None:
            factor = np.where(moving, factor, np.float32(1))
        moved = [np.float32(c) + offset * factor for c, offset in zip(self.centre, offsets, strict=True)]
        return Points(*(np.asarray(coordinate, dtype=np.float32) for coordinate in moved))

    def _relative(self, points: Points) -> tuple[list[Field], Field, Field]:
        """Offsets from the centre, their length in mm and their length as part of the surface's."""
        offsets = [np.asarray(c - np.float32(m)) for c, m in zip(points, self.centre, strict=True)]
        distance = np.sqrt(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2) + np.float32(1e-3)
        tall, wide = np.float32(1 / self.stretch), np.float32(np.sqrt(self.stretch))
        scaled = np.sqrt((offsets[0] * wide) ** 2 + (offsets[1] * wide) ** 2 + (offsets[2] * tall) ** 2)
        return offsets, distance, np.asarray(scaled / (np.float32(self.radius) * self._lobes(offsets, distance)))

    def _lobes(self, offsets: list[Field], distance: Field) -> Field:
        rng = np.random.default_rng(self.seed)
        total = np.zeros(distance.shape, dtype=np.float32)
        for _ in range(_LOBES):
            direction, phase = rng.standard_normal(3) * 2.2, rng.uniform(0, 2 * np.pi)
            along = sum(np.float32(d) * offset for d, offset in zip(direction, offsets, strict=True)) / distance
            total += np.sin(along + np.float32(phase))
        return np.asarray(1 + np.float32(self.lobulation / np.sqrt(_LOBES / 2)) * total, dtype=np.float32)
