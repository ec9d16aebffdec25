from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from msksam_cli.core.geometry import Grid

TURN = Rotation.from_euler("xyz", (17, -26, 38), degrees=True).as_matrix()


def turned_grid(spacing_mm: tuple[float, float, float], field_mm: float, turn: NDArray[np.float64] = TURN) -> Grid:
    shape = tuple(int(np.ceil(field_mm / step)) for step in spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing_mm)
    affine[:3, 3] = (3.0, -40.0, 12.0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def places_mm(grid: Grid) -> NDArray[np.float64]:
    """World position (I, J, K, 3) of every voxel from the middle of the grid."""
    return grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) - (3.0, -40.0, 12.0)


@pytest.fixture(name="turned_grid")
def turned_grid_fixture() -> Callable[..., Grid]:
    return turned_grid


@pytest.fixture(name="places_mm")
def places_fixture() -> Callable[[Grid], NDArray[np.float64]]:
    return places_mm
