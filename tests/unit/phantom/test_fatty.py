from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.phantom.fatty import fat_streaks
from msksam_cli.phantom.fields import Points


def block(step_mm: float = 1.0) -> Points:
    """Points of a muscle of 50 x 40 x 60 mm."""
    axes = (np.arange(0, size, step_mm, dtype=np.float32) for size in (50, 40, 60))
    return Points(*np.meshgrid(*axes, indexing="ij"))


@pytest.mark.parametrize("part", [0.05, 0.2, 0.5])
def test_the_asked_part_of_a_muscle_is_fat(part: float) -> None:
    shares = [fat_streaks(block(), part, 5.0, seed).mean() for seed in range(8)]
    assert np.mean(shares) == pytest.approx(part, rel=0.15)


def test_more_fat_only_widens_the_streaks() -> None:
    little, much = fat_streaks(block(), 0.1, 5.0, 3), fat_streaks(block(), 0.4, 5.0, 3)
    assert not (little & ~much).any()
    assert much.sum() > 3 * little.sum()


def test_streaks_run_along_z() -> None:
    fat = fat_streaks(block(), 0.3, 5.0, 4)
    changes = [np.mean(fat.take(range(1, n), axis) != fat.take(range(n - 1), axis)) for axis, n in enumerate(fat.shape)]
    assert changes[2] < 0.5 * min(changes[:2])


def test_other_seeds_give_other_patterns() -> None:
    assert (fat_streaks(block(), 0.3, 5.0, 1) != fat_streaks(block(), 0.3, 5.0, 2)).mean() > 0.2
