"""Laws of a mass that pushes its surroundings aside."""

from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.phantom.fields import Points
from msksam_cli.phantom.mass import Mass

GRID = np.meshgrid(*(np.arange(-40, 41, step, dtype=np.float32) for step in (1.0, 1.5, 2.0)), indexing="ij")
POINTS = Points(*GRID)
CENTRE = (4.0, -3.0, 2.0)


def volume_ml(mass: Mass) -> float:
    return float((mass.field(POINTS) < 0).sum() * 3.0 / 1000)


@pytest.mark.parametrize("stretch", [1.0, 1.5])
@pytest.mark.parametrize("lobulation", [0.0, 0.1])
def test_a_mass_has_the_volume_of_its_radius(stretch: float, lobulation: float) -> None:
    mass = Mass(CENTRE, 18.0, stretch, lobulation, seed=5)
    assert volume_ml(mass) == pytest.approx(4 / 3 * np.pi * 18**3 / 1000, rel=0.12)


def test_a_plain_mass_is_a_ball_with_distances_as_field() -> None:
    field = Mass(CENTRE, 18.0, lobulation=0.0).field(POINTS)
    distance = np.sqrt(sum((c - m) ** 2 for c, m in zip(POINTS, CENTRE, strict=True)))
    np.testing.assert_allclose(field[distance > 2], distance[distance > 2] - 18, atol=0.02)


def test_tissue_comes_from_nearer_the_centre_and_far_tissue_stays() -> None:
    parted = Mass(CENTRE, 8.0).parted(POINTS)
    before = np.sqrt(sum((c - m) ** 2 for c, m in zip(POINTS, CENTRE, strict=True)))
    after = np.sqrt(sum((c - m) ** 2 for c, m in zip(parted, CENTRE, strict=True)))
    assert (after <= before + 1e-3).all()
    assert (after[(before > 9) & (before < 11)] < before[(before > 9) & (before < 11)] - 0.5).all()
    far = before > 8.0 * 1.2 * 4
    for moved, still in zip(parted, POINTS, strict=True):
        np.testing.assert_allclose(moved[far], still[far], atol=1e-4)


def test_order_along_a_ray_is_kept() -> None:
    u = np.linspace(0.5, 60, 400, dtype=np.float32)
    parted = Mass((0.0, 0.0, 0.0), 15.0, lobulation=0.0).parted(Points(u, 0 * u, 0 * u))
    assert (np.diff(parted.u) > -1e-4).all()


def test_lobes_depend_on_the_seed() -> None:
    first, second = (Mass(CENTRE, 18.0, lobulation=0.1, seed=seed).field(POINTS) for seed in (1, 2))
    assert ((first < 0) != (second < 0)).sum() > 200
