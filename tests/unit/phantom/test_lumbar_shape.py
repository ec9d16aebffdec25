"""Dimensions of the procedural lumbar spine, and the column that they stack."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from msksam_cli.phantom.fields import Points
from msksam_cli.phantom.lumbar_column import Column, Frame
from msksam_cli.phantom.lumbar_shape import DISC_COUNT, LEVELS, LumbarShape, sample_lumbar_shape

L1, L3, L5 = (LEVELS.index(name) for name in ("L1", "L3", "L5"))


@pytest.fixture(scope="module")
def drawn() -> list[LumbarShape]:
    rng = np.random.default_rng(11)
    return [sample_lumbar_shape(rng) for _ in range(400)]


def test_equal_states_of_chance_give_equal_spines() -> None:
    first, second = (sample_lumbar_shape(np.random.default_rng(4)) for _ in range(2))
    assert first == second != sample_lumbar_shape(np.random.default_rng(5))


@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [
        ("body_width_mm", 47.0, 3.5),
        ("body_depth_mm", 34.5, 2.6),
        ("body_height_mm", 28.5, 1.9),
        ("disc_height_mm", 9.6, 1.1),
        ("canal_depth_mm", 17.5, 1.6),
        ("lordosis_deg", 47.0, 9.0),
        ("torso_depth_mm", 78.0, 18.0),
        ("conus_level", 2.35, 0.45),
    ],
)
def test_dimensions_have_the_published_mean_and_spread(
    name: str, mean: float, sd: float, drawn: list[LumbarShape]
) -> None:
    values = np.array([getattr(shape, name) for shape in drawn])
    assert values.mean() == pytest.approx(mean, abs=0.2 * sd)
    assert values.std() == pytest.approx(sd, rel=0.2)


def test_bodies_of_one_spine_are_large_or_small_together(drawn: list[LumbarShape]) -> None:
    sizes = np.array([(shape.body_width_mm, shape.body_height_mm) for shape in drawn])
    assert np.corrcoef(sizes.T)[0, 1] > 0.5


def test_wear_is_spread_over_people_and_goes_together(drawn: list[LumbarShape]) -> None:
    wear = np.array([shape.degeneration for shape in drawn])
    assert 0.25 < wear[:, -1].mean() < 0.65
    assert wear[:, 0].mean() < wear[:, -1].mean()
    fat = np.array([shape.fatty_infiltration for shape in drawn])
    assert np.corrcoef(fat, wear.mean(axis=1))[0, 1] > 0.5
    assert 0.02 < np.mean([shape.fracture_level is not None for shape in drawn]) < 0.15
    assert 0.02 < np.mean([bool(shape.screw_levels) for shape in drawn]) < 0.15
    for shape in drawn:
        assert (shape.fracture_level is None) == (shape.fracture_loss == 0)
        assert not shape.screw_levels or shape.screw_levels[1] == shape.screw_levels[0] + 1


def test_a_healthy_spine_exists_too(drawn: list[LumbarShape]) -> None:
    assert any(max(shape.degeneration[L1:]) < 0.3 and shape.fracture_level is None for shape in drawn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body_width_mm": -1.0}, "body_width_mm must be 0 or more"),
        ({"canal_depth_mm": float("nan")}, "canal_depth_mm must be 0 or more"),
        ({"fatty_infiltration": 1.2}, "fatty_infiltration must lie in 0…1"),
        ({"fracture_loss": -0.1}, "fracture_loss must lie in 0…1"),
        ({"degeneration": (0.5, 0.5)}, "degeneration needs 8 values, got 2"),
        ({"degeneration": (1.5,) * DISC_COUNT}, "degeneration must lie in 0…1"),
        ({"node_level": 8}, "a level must be 0 to 7, got 8"),
        ({"screw_levels": (5, -1)}, "a level must be 0 to 7, got -1"),
    ],
)
def test_impossible_dimensions_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LumbarShape(**change)  # type: ignore[arg-type]  # the point of the test


def test_every_number_of_the_shape_is_explained() -> None:
    assert LumbarShape.__doc__ is not None
    for field in fields(LumbarShape):
        assert f"{field.name}: " in LumbarShape.__doc__


@pytest.mark.parametrize("lordosis_deg", [30.0, 47.0, 60.0])
def test_lordosis_is_the_angle_between_the_end_plates_of_l1_and_s1(lordosis_deg: float) -> None:
    column = Column.of(LumbarShape(lordosis_deg=lordosis_deg))
    first, size = column.bodies[L1]
    assert first.tilt_deg + size.wedge_deg / 2 - column.sacrum[0][0].tilt_deg == pytest.approx(lordosis_deg, abs=1)


def test_neighbours_stand_apart_by_half_their_heights_and_the_disc() -> None:
    column = Column.of(LumbarShape())
    for level in range(len(LEVELS) - 1):
        (upper, above), (lower, below) = column.bodies[level], column.bodies[level + 1]
        apart = np.hypot(upper.y - lower.y, upper.z - lower.z)
        assert apart == pytest.approx((above.height + below.height) / 2 + column.discs[level][1].height, rel=0.01)


def test_a_fracture_bends_the_spine_above_it_forwards() -> None:
    whole = LumbarShape()
    broken = replace(whole, fracture_level=L1, fracture_loss=0.4)
    top, lower = (Column.of(shape).bodies[L1 - 1][0].tilt_deg for shape in (whole, broken))
    assert lower < top - 5
    assert Column.of(broken).bodies[L5][0] == Column.of(whole).bodies[L5][0]


def test_worn_discs_keep_some_height_behind() -> None:
    column = Column.of(LumbarShape(degeneration=(1.0,) * DISC_COUNT, lordosis_deg=65.0))
    for _, disc in column.discs:
        assert disc.height / 2 - np.tan(np.radians(disc.wedge_deg / 2)) * disc.half_depth > 0.5


def test_a_frame_and_its_world_are_inverse() -> None:
    frame = Frame(3.0, -7.0, 25.0)
    y, z = frame.world(11.0, 4.0)
    local = frame.local(Points(*(np.array([value], dtype=np.float32) for value in (2.0, y, z))))
    np.testing.assert_allclose([local.u[0], local.y[0], local.z[0]], [2.0, 11.0, 4.0], atol=1e-4)
    lifted = frame.world(1.0, 0.0)
    assert lifted[1] > frame.z
