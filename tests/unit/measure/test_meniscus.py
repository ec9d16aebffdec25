import numpy as np
import pytest

from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.meniscus import extrusion

SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def knee(grid, places, beyond_mm, side="medial", lateral=1.0, *, leave_out=()):
    """A tibia 70 mm wide under two plates, and a bar as meniscus that reaches beyond its edge on one side."""
    x, y, z = np.moveaxis(places, -1, 0)
    out = x * (lateral if side == "lateral" else -lateral)
    parts = {
        "tibia": (np.abs(x) < 35) & (np.abs(y) < 22) & (z < 0),
        f"{side}-tibial-cartilage": (out > 8) & (out < 32) & (np.abs(y) < 20) & (z >= 0) & (z < 3),
        f"{side}-meniscus": (out > 24) & (out < 35 + beyond_mm) & (np.abs(y) < 18) & (z >= 3) & (z < 9),
    }
    values = np.zeros(grid.shape, np.uint8)
    for name, mask in parts.items():
        if name not in leave_out:
            values[mask] = TISSUES.by_name(name).index
    return LabelMap(values, grid, TISSUES)


@pytest.mark.parametrize(("side", "lateral"), [("medial", 1.0), ("medial", -1.0), ("lateral", 1.0), ("lateral", -1.0)])
@pytest.mark.parametrize("beyond", [3.4, -2.1])
def test_extrusion_is_how_far_the_meniscus_reaches_beyond_the_plateau(side, lateral, beyond, turned_grid, places_mm):
    grid = turned_grid((1.0, 1.0, 0.35), 90.0, SAGITTAL)
    found, reason = extrusion(knee(grid, places_mm(grid), beyond, side, lateral), side, lateral)
    assert reason == ""
    assert found.central_mm == pytest.approx(beyond, abs=0.35)  # two edges, each known to half a slice
    assert found.largest_mm == pytest.approx(beyond, abs=0.35)


def test_extrusion_is_unknown_without_a_side_or_a_label(turned_grid, places_mm):
    grid = turned_grid((1.0, 1.0, 3.0), 90.0, SAGITTAL)
    labels = knee(grid, places_mm(grid), 2.0, leave_out=("tibia",))
    assert extrusion(labels, "medial", None) == (None, "which side is lateral is not known")
    assert extrusion(labels, "medial", 1.0) == (None, "no label for tibia")
    assert extrusion(labels, "lateral", 1.0)[1] == "no label for lateral-meniscus, tibia, lateral-tibial-cartilage"


def test_the_largest_extrusion_is_that_of_the_body_not_of_the_horns(turned_grid, places_mm):
    grid = turned_grid((1.0, 1.0, 0.35), 90.0, SAGITTAL)
    places = places_mm(grid)
    labels = knee(grid, places, 1.0)
    values = labels.values.copy()
    bulge = (np.abs(places[..., 1] - 7) < 3) & (places[..., 0] < -30) & (places[..., 0] > -38)
    values[bulge & (places[..., 2] > 3) & (places[..., 2] < 9)] = TISSUES.by_name("medial-meniscus").index
    values[(places[..., 1] > 14) & (np.abs(places[..., 0]) > 20) & (values == TISSUES.by_name("tibia").index)] = 0
    found, _ = extrusion(LabelMap(values, grid, TISSUES), "medial", 1.0)
    assert found.central_mm == pytest.approx(1.0, abs=0.35)
    assert found.largest_mm == pytest.approx(3.0, abs=0.35)


def test_a_meniscus_that_ends_before_the_middle_of_the_plateau_has_no_extrusion(turned_grid, places_mm):
    grid = turned_grid((1.0, 1.0, 0.7), 90.0, SAGITTAL)
    labels = knee(grid, places_mm(grid), 1.0)
    cut = (labels.values == TISSUES.by_name("medial-meniscus").index) & (places_mm(grid)[..., 1] < 13)
    found, _ = extrusion(LabelMap(np.where(cut, 0, labels.values), grid, TISSUES), "medial", 1.0)
    assert (found.central_mm, found.largest_mm) == (None, None)
