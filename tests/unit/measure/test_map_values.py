import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.quantity import QuantityMap
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.map_values import MapValues, map_values

GRID = Grid((5, 4, 3), np.diag([0.5, 0.7, 3.0, 1.0]))
TABLE = TissueTable((Tissue(1, "femoral-cartilage"), Tissue(2, "femur"), Tissue(3, "tibia")))


@pytest.fixture
def labels():
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[0, :, 0], values[1, :, 0] = 1, 2
    return LabelMap(values, GRID, TABLE)


def quantity(values, unit="ms", grid=GRID):
    return QuantityMap(np.asarray(values, dtype=np.float32), grid, unit)


def test_mean_and_sd_are_those_of_the_tissue_s_own_voxels_whatever_surrounds_it(labels):
    values = np.full(GRID.shape, 9999.0)
    values[0, :, 0] = (30, 40, 50, 60)
    values[1, :, 0] = 100
    found = map_values(labels, quantity(values))
    assert found[1] == MapValues(45.0, pytest.approx(np.std([30, 40, 50, 60], ddof=1)), "ms", "")
    assert found[2] == MapValues(100.0, 0.0, "ms", "")
    assert sorted(found) == [1, 2]


def test_failed_fits_are_left_out_and_counted(labels):
    values = np.zeros(GRID.shape)
    values[0, :, 0] = (30, np.nan, 50, np.nan)
    found = map_values(labels, quantity(values))[1]
    assert (found.mean, found.reason) == (40.0, "map_mean leaves out 2 of 4 voxels without a value")


def test_a_time_of_0_is_none_while_a_fraction_of_0_is_one(labels):
    values = np.zeros(GRID.shape)
    values[0, :, 0] = (30, 0, 50, -1)
    assert map_values(labels, quantity(values))[1].mean == 40.0
    assert map_values(labels, quantity(values, "%"))[1].mean == pytest.approx(79 / 4)


def test_a_tissue_whose_fits_all_failed_has_no_mean_but_a_reason(labels):
    found = map_values(labels, quantity(np.full(GRID.shape, np.nan)))[1]
    assert found.cells() == {"map_mean": None, "map_sd": None, "map_unit": None}
    assert found.reason == "the map has no value in any of its voxels"


def test_one_voxel_has_a_mean_and_no_sd(labels):
    values = np.full(GRID.shape, np.nan)
    values[0, 0, 0] = 33
    found = map_values(labels, quantity(values))[1]
    assert (found.mean, found.sd) == (33.0, None)


def test_a_map_on_another_grid_is_refused(labels):
    with pytest.raises(GridMismatchError, match="different grids"):
        map_values(labels, quantity(np.zeros(GRID.shape), grid=Grid(GRID.shape, np.diag([0.5, 0.7, 3.3, 1.0]))))
