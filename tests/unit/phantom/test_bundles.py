"""Laws of tubes that share the space between them."""

from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.phantom import tissues
from msksam_cli.phantom.bundles import Box, bundle, fills, inside_muscle, pack, rippled, streaks
from msksam_cli.phantom.fields import Points

ROUND = bundle(7, [(-20, 3, -2, 6, 6, 0), (20, 3, -2, 6, 6, 0)])
FLAT = bundle(8, [(-20, 0, 0, 10, 2, 30), (20, 0, 0, 10, 2, 30)])


def points_at(*places: tuple[float, float, float]) -> Points:
    u, y, z = (np.array(values, dtype=np.float32) for values in zip(*places, strict=True))
    return Points(u, y, z)


def plane(half_mm: float = 20.0, step_mm: float = 0.5, z: float = 0.0) -> Points:
    steps = np.arange(-half_mm, half_mm, step_mm, dtype=np.float32)
    u, y = np.meshgrid(steps, steps, indexing="ij")
    return Points(u, y, np.full_like(u, z))


def test_a_round_tubes_field_is_the_distance_to_its_side() -> None:
    field = ROUND(points_at((3, -2, 0), (9, -2, 0), (3, 7, 0), (-6, -2, 5)))
    assert field == pytest.approx([-6, 0, 3, 3], abs=0.01)


def test_nothing_lies_beyond_the_ends_of_a_tube() -> None:
    field = ROUND(points_at((3, -2, 19), (3, -2, 24), (3, -2, -27)))
    assert field[0] < 0
    assert field[1:] == pytest.approx([4, 7], abs=0.1)


def test_a_turned_tube_rises_to_the_front_on_its_lateral_side() -> None:
    along, across = np.cos(np.radians(30)), np.sin(np.radians(30))
    field = FLAT(points_at((9 * along, 9 * across, 0), (9 * along, -9 * across, 0)))
    assert field[0] < 0 < field[1]


def test_neighbours_meet_half_way_and_a_septum_stays_between() -> None:
    left, right = (
        bundle(1, [(-9, -8, 0, 9, 9, 0), (9, -8, 0, 9, 9, 0)]),
        bundle(2, [(-9, 8, 0, 9, 9, 0), (9, 8, 0, 9, 9, 0)]),
    )
    points = plane(16)
    packed = pack((left, right), points)
    assert (packed.tissue[(points.u < -0.1) & (packed.field < 0)] == 1).all()
    assert (packed.tissue[(points.u > 0.1) & (packed.field < 0)] == 2).all()
    on_axis = np.abs(points.y) < 0.1
    free = ~inside_muscle(packed, fills(5.0), 2.0) & (packed.field < 0) & on_axis
    assert 1.5 < np.ptp(points.u[free]) + 0.5 < 2.7


def test_order_of_tubes_and_size_of_the_block_do_not_matter() -> None:
    points = plane()
    tubes = (ROUND, FLAT, bundle(9, [(-20, -9, 4, 5, 8, -20), (20, -9, 4, 5, 8, -20)]))
    whole, turned = pack(tubes, points), pack(tubes[::-1], points)
    np.testing.assert_array_equal(whole.tissue, turned.tissue)
    part = points.select(np.asarray((points.u < 2) & (points.y > -5)))
    near = whole.field[(points.u < 2) & (points.y > -5)] < 10
    np.testing.assert_array_equal(pack(tubes, part).tissue[near], whole.tissue[(points.u < 2) & (points.y > -5)][near])


def test_two_tubes_of_one_muscle_have_no_septum_between() -> None:
    first, second = (
        bundle(5, [(-9, -3, 0, 5, 5, 0), (9, -3, 0, 5, 5, 0)]),
        bundle(5, [(-9, 3, 0, 5, 5, 0), (9, 3, 0, 5, 5, 0)]),
    )
    packed = pack((first, second), plane(12))
    assert (packed.margin[packed.field < 0] > 100).all()


def test_no_points_are_packed_into_nothing() -> None:
    empty = np.zeros((0,), dtype=np.float32)
    assert pack((ROUND,), Points(empty, empty, empty)).tissue.shape == (0,)


def test_a_tube_out_of_reach_is_known_from_the_box_alone() -> None:
    near, far = Box.of(plane(4)), Box.of(plane(4, z=200.0))
    assert ROUND.reaches(near)
    assert not ROUND.reaches(far)
    assert near.near([(0, 0, 0), (0, 0, 30)], 2.0)
    assert not near.near([(0, 9, 0)], 2.0)


def test_straps_spread_less_than_other_muscles() -> None:
    assert fills(9.0)[tissues.SARTORIUS] < fills(9.0)[tissues.VASTUS_LATERALIS] == 9.0


def test_ripples_are_small_and_keep_heights() -> None:
    points = plane()
    moved = rippled(points, 0.7, seed=3)
    shift = np.hypot(moved.u - points.u, moved.y - points.y)
    assert 0.1 < shift.max() < 2.9
    np.testing.assert_array_equal(moved.z, points.z)
    np.testing.assert_array_equal(rippled(points, 0.0, seed=3).u, points.u)


def test_streaks_run_along_z_and_change_with_the_seed() -> None:
    pattern = streaks(plane(40), 8.0, seed=1)
    assert np.abs(pattern).max() <= 2
    assert abs(float(pattern.mean())) < 0.2
    along = np.abs(streaks(plane(40, z=2.0), 8.0, seed=1) - pattern).mean()
    across = np.abs(np.diff(pattern, axis=0)[::4]).mean() * 4
    assert along < 0.5 * across
    assert not np.allclose(pattern, streaks(plane(40), 8.0, seed=2))
