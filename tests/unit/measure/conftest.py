"""Measurements printed in papers, typed as facts, and grids that lie askew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from msksam_cli.core.geometry import Grid


@dataclass(frozen=True)
class PeakFlow:
    """Peak expiratory flow in l/min of 17 subjects, twice by each of two meters."""

    wright: NDArray[np.float64]
    wright_again: NDArray[np.float64]
    mini: NDArray[np.float64]
    mini_again: NDArray[np.float64]


@pytest.fixture
def peak_flow() -> PeakFlow:
    """Bland and Altman, Lancet 1986; 327: 307-310, table I."""
    return PeakFlow(
        np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427.0]),
        np.array([490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421.0]),
        np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451.0]),
        np.array([525, 415, 508, 444, 500, 625, 460, 390, 642, 432, 420, 605, 227, 467, 268, 370, 443.0]),
    )


@pytest.fixture
def ratings() -> NDArray[np.float64]:
    """Six targets by four judges: Shrout and Fleiss, Psychological Bulletin 1979; 86: 420-428, table 2."""
    return np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])


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
