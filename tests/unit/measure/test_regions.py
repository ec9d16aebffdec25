import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.regions import cartilage_regions, fitted_circle, lateral_direction


def labels(**places):
    """A label map with one voxel per tissue at a place along RAS x, on a grid whose first axis runs to the left."""
    grid = Grid((20, 4, 4), np.diag([-2.0, 1.0, 1.0, 1.0]))
    values = np.zeros(grid.shape, np.uint8)
    for name, x_mm in places.items():
        values[int(-x_mm / 2), 1, 1] = TISSUES.by_name(name.replace("_", "-")).index
    return LabelMap(values, grid, TISSUES)


def test_medial_and_lateral_labels_say_where_lateral_is():
    assert lateral_direction(labels(medial_tibial_cartilage=-30, lateral_tibial_cartilage=-4)) == 1
    assert lateral_direction(labels(medial_meniscus=-4, lateral_meniscus=-30)) == -1
    assert lateral_direction(labels(tibia=-20, fibula=-4)) == 1


def test_labels_go_before_the_named_side_and_the_side_serves_without_them():
    assert lateral_direction(labels(tibia=-20, fibula=-4), "left") == 1
    assert lateral_direction(labels(tibia=-20), "left") == -1
    assert lateral_direction(labels(tibia=-20), "right") == 1
    assert lateral_direction(labels(tibia=-20)) is None


def cylinder():
    """Points round an axis along x, from straight up in front (90°) over down to 60° behind, with equal areas."""
    from_down, x = np.meshgrid(np.radians(np.arange(-119.5, 100)), np.arange(-20.5, 20))
    points = np.stack([x, 5 + 30 * np.sin(from_down), 7 - 30 * np.cos(from_down)], axis=-1).reshape(-1, 3)
    return points, np.ones(len(points)), np.degrees(from_down).ravel()


def test_the_femur_is_cut_by_the_angle_round_its_axis_and_by_its_middle():
    points, areas, from_down = cylinder()
    regions = cartilage_regions("femoral-cartilage", points, areas, lateral=-1.0)
    np.testing.assert_array_equal(regions["anterior"], from_down > 15)
    np.testing.assert_array_equal(regions["central"], np.abs(from_down) < 15)
    np.testing.assert_array_equal(regions["posterior"], from_down < -15)
    np.testing.assert_array_equal(regions["lateral"], points[:, 0] < -0.5)
    parts = [
        regions[f"{side}-{place}"] for side in ("medial", "lateral") for place in ("anterior", "central", "posterior")
    ]
    np.testing.assert_array_equal(np.sum(parts, axis=0), 1)


def test_without_a_known_side_the_femur_has_no_medial_and_lateral():
    points, areas, _ = cylinder()
    assert set(cartilage_regions("femoral-cartilage", points, areas, None)) == {"anterior", "central", "posterior"}
    assert cartilage_regions("patellar-cartilage", points, areas, None) == {}


def test_the_tibia_is_cut_into_thirds_from_front_to_back():
    points = np.stack([np.zeros(91), np.linspace(-45, 45, 91), np.zeros(91)], axis=1)
    regions = cartilage_regions("medial-tibial-cartilage", points, np.ones(91), None)
    assert [(name, int(chosen.sum())) for name, chosen in regions.items()] == [
        ("anterior", 31),
        ("central", 30),
        ("posterior", 30),
    ]
    assert points[regions["anterior"], 1].min() == 15


def test_the_patella_is_cut_at_its_centre_of_area():
    points = np.array([[-10.0, 0, 0], [0, 0, 0], [10, 0, 0]])
    regions = cartilage_regions("patellar-cartilage", points, np.array([1.0, 1.0, 8.0]), 1.0)
    assert regions["lateral"].tolist() == [False, False, True]


@pytest.mark.parametrize("name", ["acetabular-cartilage", "humeral-cartilage"])
def test_other_cartilages_have_no_regions(name):
    assert cartilage_regions(name, np.zeros((3, 3)), np.ones(3), 1.0) == {}


def test_a_circle_is_found_from_an_arc_far_from_the_origin():
    angle = np.linspace(0.3, 1.6, 40)
    assert fitted_circle(500 + 25 * np.cos(angle), -300 + 25 * np.sin(angle)) == pytest.approx((500, -300, 25))
