"""Fatty infiltration: streaks of fat between the fibres of a muscle."""

from __future__ import annotations

import numpy as np
from scipy import special

from msksam_cli.phantom.bundles import streaks
from msksam_cli.phantom.fields import Mask, Points

_PATTERN_SD = 0.5**0.5


def fat_streaks(points: Points, part: float, spacing_mm: float, seed: int) -> Mask:
    """Where fat lies in muscles whose fibres run along z.

    Args:
        points: where.
        part: share of the muscle's volume that is fat, 0 to 1, met to within some per cent: the pattern is about
            normally distributed, and its middle quantile of this share is fat.
        spacing_mm: typical distance between streaks.
        seed: which pattern.
    """
    half_width = _PATTERN_SD * special.ndtri((1 + part) / 2)
    return np.asarray(np.abs(streaks(points, spacing_mm, seed)) < half_width)
