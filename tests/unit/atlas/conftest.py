"""A toy joint: two large bones, a small one on the right, a thin shell between them, in a body with fat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from msksam_cli.atlas.build import AtlasCase, Naming, atlas_case, build_atlas
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume

TISSUES = TissueTable(
    (
        Tissue(1, "upper", group="bone"),
        Tissue(2, "lower", group="bone"),
        Tissue(3, "small", group="bone"),
        Tissue(4, "shell", group="cartilage"),
        Tissue(5, "meat", group="muscle"),
    )
)
INTENSITIES = np.array([0.0, 90.0, 95.0, 100.0, 60.0, 40.0], dtype=np.float32)

Scanner = Callable[..., tuple[Volume, LabelMap]]


def _labels(points: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0)

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), centre, radii, strict=True))

    values = np.zeros(points.shape[:-1], dtype=np.uint8)
    values[(x / 42) ** 2 + ((y + 4) / 44) ** 2 < 1] = 5
    values[ball((0, 0, 22), (25, 19, 23)) < 1] = 4
    values[ball((0, 0, 24), (23, 17, 21)) < 1] = 1
    values[ball((-2, -3, -24), (20, 15, 20)) < 1] = 2
    values[ball((17, 25, 6), (9, 7, 11)) < 1] = 3
    return values


@pytest.fixture(scope="session")
def scan_toy() -> Scanner:
    def scan(
        grid: Grid, world_to_toy: np.ndarray | None = None, *, inverted: bool = False, side: str = "", seed: int = 0
    ) -> tuple[Volume, LabelMap]:
        rng = np.random.default_rng(seed)
        index = np.moveaxis(np.indices(grid.shape), 0, -1)
        points = grid.to_world_mm(index)
        if world_to_toy is not None:
            points = points @ world_to_toy[:3, :3].T + world_to_toy[:3, 3]
        values = _labels(points)
        image = INTENSITIES[values]
        image = (100 - image) if inverted else image
        noisy = image + rng.normal(0, 3, grid.shape)
        return Volume(noisy.astype(np.float32), grid, side), LabelMap(values, grid, TISSUES)

    return scan


@pytest.fixture(scope="session")
def toy_grid() -> Grid:
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = (-52, -55, -56)
    return Grid((53, 45, 38), affine)


@pytest.fixture(scope="session")
def toy_cases(scan_toy: Scanner, toy_grid: Grid) -> list[AtlasCase]:
    cases = []
    rng = np.random.default_rng(3)
    for number in range(4):
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(rng.uniform(0.93, 1.07, 3))
        matrix[:3, 3] = rng.uniform(-5, 5, 3)
        volume, labels = scan_toy(toy_grid, matrix, side="right", seed=number)
        cases.append(atlas_case(volume, labels, 2.5))
    return cases


@pytest.fixture(scope="session")
def toy_atlas(toy_cases: list[AtlasCase]) -> Atlas:
    return build_atlas(toy_cases, Naming("toy", "toy", "right"), spacing_mm=2.5, deformable=False)
