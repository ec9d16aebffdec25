import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.spine import spine_heights, zones

TISSUES = TissueTable(
    (
        Tissue(3, "l3-vertebral-body", group="vertebra"),
        Tissue(4, "disc-l3-l4", group="disc"),
        Tissue(5, "l4-vertebral-body", group="vertebra"),
    )
)
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # voxel axes run front, up and to the right
FRONT, BACK = 30.0, 24.0  # heights of the wedge at the front and back edge
DEPTH, WIDTH, DISC = 34.0, 44.0, 9.0


def spine(grid, places, tilt_deg=0.0, yaw_deg=0.0):
    """A wedge-shaped body on a flat disc on a flat body, tilted about the left-right axis and turned about its own."""
    own = Rotation.from_euler("xz", (tilt_deg, yaw_deg), degrees=True).inv().apply(places.reshape(-1, 3))
    x, y, z = np.moveaxis(own.reshape(places.shape), -1, 0)
    inside = (np.abs(x) < WIDTH / 2) & (np.abs(y) < DEPTH / 2)
    half = (FRONT + BACK) / 4 + (FRONT - BACK) / 2 * y / DEPTH
    values = np.zeros(grid.shape, np.uint8)
    values[inside & (np.abs(z) < half)] = 3
    values[inside & (z <= -half) & (z > -half - DISC)] = 4
    values[inside & (z <= -half - DISC) & (z > -half - DISC - 20)] = 5
    return LabelMap(values, grid, TISSUES)


@pytest.mark.parametrize(
    ("spacing", "angles", "turn"),
    [
        ((1.0, 1.0, 1.0), (0, 0), np.eye(3)),
        ((0.7, 0.7, 4.0), (25, 0), SAGITTAL),
        ((0.6, 0.6, 3.0), (-35, 10), SAGITTAL),
        ((1.0, 1.0, 1.5), (20, 5), Rotation.from_euler("xyz", (10, -8, 15), degrees=True).as_matrix()),
    ],
)
def test_a_wedge_is_higher_in_front_whatever_its_tilt(spacing, angles, turn, turned_grid, places_mm):
    grid = turned_grid(spacing, 110.0, turn)
    found = spine_heights(spine(grid, places_mm(grid), *angles))
    body, disc = found[3], found[4]
    front_face = {"anterior": 0.85, "middle": 0.5, "posterior": 0.15}
    measured = {zone: body.where(chosen).mean_mm for zone, chosen in zones(body).items()}
    for zone, depth in front_face.items():
        assert measured[zone] == pytest.approx(BACK + (FRONT - BACK) * depth, rel=0.03)
    assert body.mean_mm == pytest.approx((FRONT + BACK) / 2, rel=0.03)
    assert disc.mean_mm == pytest.approx(DISC * np.cos(np.arctan((FRONT - BACK) / 2 / DEPTH)), rel=0.03)
    axis = Rotation.from_euler("xz", angles, degrees=True).apply((0, 0, 1))
    assert np.degrees(np.arccos(body.axis @ axis)) < 3


def test_a_body_alone_is_measured_from_straight_up(turned_grid, places_mm):
    grid = turned_grid((0.7, 0.7, 3.0), 80.0, SAGITTAL)
    labels = spine(grid, places_mm(grid), 15)
    alone = LabelMap(np.where(labels.values == 3, 3, 0).astype(np.uint8), grid, TISSUES)
    assert list(spine_heights(alone)) == [3]
    assert spine_heights(alone)[3].mean_mm == pytest.approx((FRONT + BACK) / 2, rel=0.03)


def test_a_few_voxels_have_no_height_and_say_so(turned_grid):
    grid = turned_grid((1.0, 1.0, 1.0), 20.0)
    values = np.zeros(grid.shape, np.uint8)
    values[9, 9, 9] = 4
    height = spine_heights(LabelMap(values, grid, TISSUES))[4]
    assert (height.mean_mm, height.reason) == (None, "the body has no two end faces")
    assert zones(height) == {}


def test_a_label_map_without_spine_has_no_heights(turned_grid):
    grid = turned_grid((1.0, 1.0, 1.0), 8.0)
    assert spine_heights(LabelMap(np.zeros(grid.shape, np.uint8), grid, TISSUES)) == {}
