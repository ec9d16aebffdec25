from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.phantom.fields import (
    Points,
    band,
    ellipsoid,
    loft,
    ramp,
    smooth_difference,
    smooth_intersection,
    smooth_union,
)


def at(*points: tuple[float, float, float]) -> Points:
    return Points(*(np.array(column, dtype=np.float32) for column in zip(*points, strict=True)))


def test_an_ellipsoid_is_zero_on_its_poles_and_a_distance_nearby() -> None:
    centre, radii = (3.0, -2.0, 5.0), (10.0, 4.0, 7.0)
    poles = at((13, -2, 5), (3, 2, 5), (3, -2, -2), (15, -2, 5), (3, 3, 5), (3, -2, -1))
    field = ellipsoid(poles, centre, radii)
    np.testing.assert_allclose(field[:3], 0, atol=1e-4)
    np.testing.assert_allclose(field[3:], (2.0, 1.0, -1.0), rtol=0.3)


def test_a_tilted_ellipsoid_lifts_its_front() -> None:
    forward_and_up, forward_and_down = at((0, 8.66, 5.0)), at((0, 8.66, -5.0))
    assert abs(ellipsoid(forward_and_up, (0, 0, 0), (3, 10, 3), tilt_deg=30)[0]) < 0.05
    assert ellipsoid(forward_and_down, (0, 0, 0), (3, 10, 3), tilt_deg=30)[0] > 3


def test_a_loft_passes_through_its_knots_and_ends_at_its_floor() -> None:
    tube = loft([(0, 1, 2, 5, 8), (10, 3, 4, 6, 9), (30, 3, 4, 6, 9)], floor_mm=4)
    on_the_side = at((9, 4, 10), (3, 13, 10), (-3, 4, 20))
    np.testing.assert_allclose(tube(on_the_side, 0.1), 0, atol=0.15)
    assert tube(at((2, 3, 5)))[0] < 0 < tube(at((2, 3, 1)))[0]


def test_a_loft_answers_the_same_for_a_point_alone_and_among_far_ones() -> None:
    tube = loft([(0, 0, 0, 5, 5), (30, 0, 0, 5, 5)], floor_mm=0, ceiling_mm=30)
    alone, among = tube(at((0, 0, 200))), tube(at((0, 0, 200), (2, 0, 10)))
    assert alone[0] > 0
    assert among[0] > 0
    assert among[1] < 0


def test_a_band_is_wider_across_than_it_is_thick_and_round_at_corners() -> None:
    path = [(0.0, 0.0, 0.0), (0.0, 0.0, 20.0), (0.0, 10.0, 30.0)]
    field = band(at((7, 0, 10), (0, 2, 10), (7.5, 0, 10), (0, 2.5, 10), (0, 5.5, 25)), path, (2, 0, 0), 7, 2)
    np.testing.assert_allclose(field[:2], 0, atol=1e-3)
    assert (field[2:4] > 0).all()
    assert field[4] < 0


def test_smooth_joins_equal_sharp_ones_away_from_the_seam_and_fill_or_round_it() -> None:
    near, far = np.array([1.0, -2.0], np.float32), np.array([9.0, 8.0], np.float32)
    np.testing.assert_allclose(smooth_union(near, far, 4.0), np.minimum(near, far))
    np.testing.assert_allclose(smooth_intersection(near, far, 4.0), np.maximum(near, far))
    np.testing.assert_allclose(smooth_difference(near, far, 4.0), np.maximum(near, -far))
    seam = np.zeros(1, np.float32)
    assert smooth_union(seam, seam, 4.0)[0] == pytest.approx(-1.0)
    assert smooth_intersection(seam, seam, 4.0)[0] == pytest.approx(1.0)


def test_a_ramp_runs_from_0_to_1_either_way() -> None:
    values = np.array([-1.0, 2.0, 3.0, 4.0, 9.0], np.float32)
    np.testing.assert_allclose(ramp(values, 2, 4), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(ramp(values, 4, 2), [1, 1, 0.5, 0, 0])


def test_select_and_shift_keep_points_together() -> None:
    points = at((1, 2, 3), (4, 5, 6))
    picked = points.select(np.array([False, True])).shifted(u=1, z=-1)
    assert [float(c[0]) for c in picked] == [5, 5, 5]
