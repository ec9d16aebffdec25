"""A number from a sample with its 95 % interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

FEWEST_CASES = 3
"""Below this many cases nothing is said about agreement: two differences always lie on a line."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval.

    Attributes:
        value: None when the sample cannot give it.
        low: lower end of the interval, None when there is none.
        high: upper end.
        reason: why the value, or else its interval, is None; "" when nothing needs explaining.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, None when there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def shown(value: float) -> str:
    """A number for readers: four significant digits, none lost before the decimal point.

    >>> shown(36512.3), shown(-0.0123456), shown(1.0)
    ('36512', '-0.01235', '1')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def unknown(reason: str) -> Estimate:
    """An estimate that does not exist."""
    return Estimate(None, reason=reason)


def vary(values: Values, scale: Values) -> bool:
    """Whether values differ by more than rounding does on numbers as large as those of `scale`.

    >>> vary(np.array([0.1, 0.3 - 0.2]), np.array([0.3]))
    False
    """
    return bool(np.ptp(values) > _ROUNDING * np.abs(scale).max())
