import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.thickness import (
    WITHOUT_BONE,
    Thickness,
    cartilage_thicknesses,
    thickness_map,
    thickness_over_bone,
)

TISSUES = TissueTable(
    (
        Tissue(2, "femur", group="bone"),
        Tissue(3, "tibia", group="bone"),
        Tissue(5, "meniscus", group="meniscus"),
        Tissue(7, "femoral-cartilage", group="cartilage"),
    )
)
CENTRE = np.array([0.11, -0.23, 0.17])
ANISOTROPIC = (0.5, 0.7, 1.5)


def ball_and_shell(grid, places, thick, radius=14.0):
    distance = np.linalg.norm(places - CENTRE, axis=-1)
    return distance < radius, (distance >= radius) & (distance < radius + thick)


def plate(grid, places, thick, normal, side=26.0):
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    one = np.cross(normal, (0.3, 1.0, 0.2))
    one /= np.linalg.norm(one)
    height = places @ normal - 0.13
    inside = (np.abs(places @ one) < side / 2) & (np.abs(places @ np.cross(normal, one)) < side / 2)
    return height < 0, (height >= 0) & (height < thick) & inside


def off_by_little(measured, true):
    return abs(measured - true) <= max(0.1, 0.03 * true)


@pytest.mark.parametrize(
    ("spacing", "thick"),
    [((0.365, 0.365, 0.7), 2.0), (ANISOTROPIC, 1.5), (ANISOTROPIC, 4.0), ((1, 1, 1), 2.5), ((0.5, 0.7, 3.0), 4.0)],
)
def test_a_spherical_shell_is_as_thick_as_it_is(spacing, thick, turned_grid, places_mm):
    grid = turned_grid(spacing, 2 * (14 + thick) + 12 * max(spacing))
    thickness = thickness_over_bone(*ball_and_shell(grid, places_mm(grid), thick), grid)
    assert off_by_little(thickness.mean_mm, thick)
    assert off_by_little(thickness.percentile_mm(50), thick)
    assert thickness.sd_mm < max(0.2, 0.15 * thick)
    assert thickness.covered_mm2 == pytest.approx(4 * np.pi * 14**2, rel=0.08)
    assert thickness.articular_mm2 == pytest.approx(4 * np.pi * (14 + thick) ** 2, rel=0.08)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0.3, 0.5, 0.81), (-0.6, 0.2, -0.4), (0.1, -1.0, 0.15)])
@pytest.mark.parametrize(("spacing", "thick"), [((0.5, 0.5, 0.5), 1.5), ((0.6, 0.6, 1.2), 3.0), ((1, 1, 1), 2.5)])
def test_an_oblique_plate_is_as_thick_at_its_rim_as_inside(normal, spacing, thick, turned_grid, places_mm):
    grid = turned_grid(spacing, 40.0)
    thickness = thickness_over_bone(*plate(grid, places_mm(grid), thick, normal), grid)
    assert off_by_little(thickness.mean_mm, thick)
    assert thickness.percentile_mm(5) > 0.8 * thick
    assert thickness.covered_mm2 == pytest.approx(26**2, rel=0.08)


def test_slices_of_3_mm_measure_a_plate_that_they_cut_across(places_mm, turned_grid):
    grid = turned_grid((0.5, 0.7, 3.0), 48.0)
    across = grid.affine[:3, 0] / 0.5 * 0.8 + grid.affine[:3, 1] / 0.7 * 0.6
    thickness = thickness_over_bone(*plate(grid, places_mm(grid), 2.0, across), grid)
    assert off_by_little(thickness.mean_mm, 2.0)


def test_a_wedge_has_the_mean_and_the_spread_of_its_thickness(turned_grid, places_mm):
    grid = turned_grid((0.5, 0.5, 0.5), 40.0)
    places = places_mm(grid)
    top = 2.5 + 0.06 * places[..., 0]
    inside = (np.abs(places[..., 0]) < 13) & (np.abs(places[..., 1]) < 13)
    height = places[..., 2]
    thickness = thickness_over_bone(height < 0, (height >= 0) & (height < top) & inside, grid)
    assert off_by_little(thickness.mean_mm, 2.5)
    assert thickness.sd_mm == pytest.approx(0.06 * 26 / np.sqrt(12), rel=0.15)
    assert thickness.percentile_mm(95) - thickness.percentile_mm(5) == pytest.approx(0.9 * 0.06 * 26, rel=0.15)


def test_a_hole_in_the_plate_is_bare_bone_and_a_notch_in_its_edge_is_not_counted(turned_grid, places_mm):
    grid = turned_grid((0.5, 0.5, 0.5), 44.0)
    places = places_mm(grid)
    bone, cartilage = plate(grid, places, 2.5, (0, 0, 1), side=32)
    across = places[..., :2]
    hole = np.linalg.norm(across - (3.0, 2.0), axis=-1) < 4
    notch = np.linalg.norm(across - (-16.0, 0.0), axis=-1) < 4
    whole, holed = (thickness_over_bone(bone, mask, grid) for mask in (cartilage, cartilage & ~hole))
    assert whole.bare_mm2 == pytest.approx(0, abs=1)
    assert holed.bare_mm2 == pytest.approx(np.pi * 16, rel=0.2)
    assert off_by_little(holed.mean_mm, 2.5)
    covered = holed.covered_mm2
    assert holed.mean_with_bare_mm == pytest.approx(holed.mean_mm * covered / (covered + holed.bare_mm2))
    assert thickness_over_bone(bone, cartilage & ~notch, grid).bare_mm2 == pytest.approx(0, abs=1)


def test_bone_and_cartilage_on_the_border_of_the_grid_have_no_walls_there(turned_grid):
    grid = Grid((30, 31, 12), np.diag([0.5, 0.7, 3.0, 1.0]))
    bone, cartilage = np.zeros((2, *grid.shape), bool)
    bone[:, :12], cartilage[:, 12:16] = True, True
    thickness = thickness_over_bone(bone, cartilage, grid)
    np.testing.assert_allclose(thickness.values_mm, 4 * 0.7, atol=0.01)


def shell_labels(turned_grid, places_mm, bones=(2,)):
    grid = turned_grid((0.7, 0.7, 1.0), 46.0)
    bone, cartilage = ball_and_shell(grid, places_mm(grid), 3.0, radius=12.0)
    values = np.zeros(grid.shape, np.uint8)
    values[cartilage] = 7
    if 2 in bones:
        values[bone] = 2
    if 3 in bones:  # a bone that the cartilage only grazes
        values[np.linalg.norm(places_mm(grid) - CENTRE - (0, 0, 21.0), axis=-1) < 6] = 3
    return LabelMap(values, grid, TISSUES)


def test_the_bone_is_the_one_the_cartilage_lies_on(turned_grid, places_mm):
    thickness = cartilage_thicknesses(shell_labels(turned_grid, places_mm, bones=(2, 3)))[7]
    assert thickness.on_bone
    assert thickness.covered_mm2 == pytest.approx(4 * np.pi * 144, rel=0.05)
    assert off_by_little(thickness.mean_mm, 3.0)


def test_without_a_bone_thickness_is_from_face_to_face_and_says_so(turned_grid, places_mm):
    thickness = cartilage_thicknesses(shell_labels(turned_grid, places_mm, bones=()))[7]
    assert off_by_little(thickness.mean_mm, 3.0)
    assert thickness.sd_mm < 0.3
    assert (thickness.covered_mm2, thickness.bare_mm2, thickness.articular_mm2) == (None, None, None)
    assert thickness.mean_with_bare_mm is None
    assert thickness.reason == WITHOUT_BONE


def test_a_label_of_one_voxel_has_no_thickness_and_no_number():
    values = np.zeros((9, 10, 11), np.uint8)
    values[4, 4, 4] = 7
    thickness = cartilage_thicknesses(LabelMap(values, Grid(values.shape, np.eye(4)), TISSUES))[7]
    assert (thickness.mean_mm, thickness.sd_mm, thickness.percentile_mm(50)) == (None, None, None)
    assert thickness.reason == "too few voxels for a surface"


def test_only_cartilages_with_voxels_are_measured(turned_grid, places_mm):
    labels = shell_labels(turned_grid, places_mm)
    assert list(cartilage_thicknesses(labels)) == [7]
    values = np.where(labels.values == 7, 0, labels.values)
    assert cartilage_thicknesses(LabelMap(values, labels.grid, TISSUES)) == {}


def test_the_map_holds_millimetres_in_the_cartilage_and_0_elsewhere(turned_grid, places_mm):
    labels = shell_labels(turned_grid, places_mm)
    made = thickness_map(labels, cartilage_thicknesses(labels))
    assert (made.shape, made.dtype) == (labels.values.shape, np.float32)
    np.testing.assert_array_equal(made > 0, labels.values == 7)
    np.testing.assert_allclose(made[made > 0], 3.0, atol=0.6)


def test_percentiles_and_means_weigh_by_area():
    values = np.array([1.0, 2.0, 3.0, 0.0])
    covered = np.array([True, True, True, False])
    thickness = Thickness(np.zeros((4, 3)), values, np.array([1.0, 1.0, 2.0, 4.0]), covered)
    assert thickness.mean_mm == pytest.approx(9 / 4)
    assert thickness.sd_mm == pytest.approx(np.sqrt((1.25**2 + 0.25**2 + 2 * 0.75**2) / 4))
    assert thickness.percentile_mm(50) == pytest.approx(7 / 3)
    assert thickness.mean_with_bare_mm == pytest.approx(9 / 8)
    assert (thickness.covered_mm2, thickness.bare_mm2) == (4.0, 4.0)


def test_a_seam_of_one_voxel_between_bone_and_cartilage_counts_as_cartilage(turned_grid, places_mm):
    grid = turned_grid((0.5, 0.5, 0.5), 40.0)
    bone, cartilage = plate(grid, places_mm(grid), 3.0, (0.3, 0.5, 0.81))
    seam = cartilage & ndimage.binary_dilation(bone)
    thickness = thickness_over_bone(bone, cartilage & ~seam, grid)
    assert off_by_little(thickness.mean_mm, 3.0)
    assert thickness.covered_mm2 == pytest.approx(26**2, rel=0.08)
    assert thickness.bare_mm2 == pytest.approx(0, abs=1)
