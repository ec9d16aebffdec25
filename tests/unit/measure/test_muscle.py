import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.muscle import cross_section, dixon_fat_fraction, layer_axis, limb_axis, two_class_fat_share

TISSUES = TissueTable((Tissue(1, "femur", group="bone"), Tissue(2, "vastus", group="muscle")))


def cylinder(places, axis, radius, half_length):
    along = places @ axis
    return (np.linalg.norm(places - along[..., None] * axis, axis=-1) < radius) & (np.abs(along) < half_length)


def test_slices_across_a_cylinder_give_its_area(places_mm, turned_grid):
    grid = turned_grid((0.7, 0.7, 5.0), 100.0, np.eye(3))
    mask = cylinder(places_mm(grid), np.array([0, 0, 1.0]), 22, 40)
    area = cross_section(np.argwhere(mask), grid, np.array([0, 0, 1.0]))
    assert area.mean_mm2 == pytest.approx(np.pi * 22**2, rel=0.01)
    assert area.max_mm2 == pytest.approx(np.pi * 22**2, rel=0.01)
    assert area.length_mm == pytest.approx(80.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.9, 3.0)])
def test_an_oblique_cylinder_has_its_area_across_its_own_axis(spacing, places_mm, turned_grid):
    grid = turned_grid(spacing, 110.0)
    axis = np.array([0.5, -0.3, 0.81])
    axis /= np.linalg.norm(axis)
    area = cross_section(np.argwhere(cylinder(places_mm(grid), axis, 18, 35)), grid, axis)
    assert area.mean_mm2 == pytest.approx(np.pi * 18**2, rel=0.04)
    assert area.max_mm2 == pytest.approx(np.pi * 18**2, rel=0.08)


def test_the_largest_area_is_that_of_the_belly():
    grid = Grid((60, 60, 20), np.diag([1.0, 1.0, 4.0, 1.0]))
    i, j, k = np.indices(grid.shape)
    radius = 10 + 10 * np.sin(np.pi * (k + 0.5) / 20)
    area = cross_section(np.argwhere(np.hypot(i - 29.5, j - 29.5) < radius), grid, np.array([0, 0, 1.0]))
    assert area.max_mm2 == pytest.approx(np.pi * 20**2, rel=0.02)
    assert area.mean_mm2 < 0.8 * area.max_mm2


def test_an_empty_muscle_has_no_area():
    assert cross_section(np.empty((0, 3), np.int64), Grid((3, 4, 5), np.eye(4)), np.array([0, 0, 1.0])) is None


def test_the_limb_runs_along_its_longest_bone_and_up_without_one(places_mm, turned_grid):
    grid = turned_grid((1.0, 1.0, 2.0), 100.0)
    axis = np.array([0.35, 0.1, -0.9])
    axis /= np.linalg.norm(axis)
    values = cylinder(places_mm(grid), axis, 8, 45).astype(np.uint8)
    assert limb_axis(LabelMap(values, grid, TISSUES)) == pytest.approx(-axis, abs=0.02)
    ball = (np.linalg.norm(places_mm(grid), axis=-1) < 12).astype(np.uint8)
    assert limb_axis(LabelMap(ball, grid, TISSUES)) == pytest.approx((0, 0, 1))


def test_slices_nearly_across_the_limb_are_its_layers():
    grid = Grid((40, 40, 9), np.diag([0.7, 0.7, 6.0, 1.0]))
    near, far = (np.array([np.sin(angle), 0, np.cos(angle)]) for angle in np.radians((15, 30)))
    assert layer_axis(grid, near) == pytest.approx((0, 0, 1))
    assert layer_axis(grid, far) == pytest.approx(far)


def test_dixon_fraction_is_that_of_the_signals_and_refuses_what_cannot_be():
    fat = np.array([0.0, 10.0, 50.0])
    assert dixon_fat_fraction(fat, 100 - fat)[0] == pytest.approx(0.2)
    assert dixon_fat_fraction(fat - 1, fat) == (None, "the fat or water image holds values below 0")
    assert dixon_fat_fraction(0 * fat, 0 * fat) == (None, "the fat and water images are 0 in this muscle")


def test_two_classes_count_the_streaks_of_fat_in_a_noisy_muscle():
    rng = np.random.default_rng(0)
    muscle = np.concatenate([rng.normal(100, 15, 8500), rng.normal(300, 25, 1500)])
    value, reason = two_class_fat_share(muscle, rng.normal(300, 25, 5000))
    assert (value, reason) == (pytest.approx(0.15, abs=0.005), "")


def test_two_classes_need_fat_that_is_bright():
    muscle = np.full(10, 100.0)
    assert two_class_fat_share(muscle, np.empty(0)) == (None, "no fat label to learn the intensity of fat from")
    value, reason = two_class_fat_share(muscle, np.full(5, 40.0))
    assert value is None
    assert reason == "fat is not brighter than muscle here (medians 40 and 100)"
