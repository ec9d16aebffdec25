import numpy as np
import pytest

from msksam_cli.core.boxed import bounding_box
from msksam_cli.core.geometry import Grid
from msksam_cli.measure.isosurface import box_around, surface_of

CENTRE = np.array([0.11, -0.23, 0.17])


@pytest.mark.parametrize("spacing", [(0.5, 0.7, 1.5), (1.0, 1.0, 1.0), (-0.8, 0.8, 0.8)])
def test_a_ball_has_its_area_radius_and_outward_normals(spacing, turned_grid, places_mm):
    grid = turned_grid(tuple(abs(step) for step in spacing), 36.0)
    if spacing[0] < 0:  # a left-handed grid
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (grid.shape[0] - 1)
        affine[:3, 0] *= -1
        grid = Grid(grid.shape, affine)
    surface = surface_of(np.linalg.norm(places_mm(grid) - CENTRE, axis=-1) < 14, grid)
    offsets = surface.points_mm - (3.0, -40.0, 12.0) - CENTRE
    radii = np.linalg.norm(offsets, axis=1)
    assert surface.areas_mm2.sum() == pytest.approx(4 * np.pi * 14**2, rel=0.02)
    assert np.average(radii, weights=surface.areas_mm2) == pytest.approx(14, abs=0.07)
    assert ((offsets / radii[:, None] * surface.normals).sum(axis=1) > 0.5).all()
    vectors = surface.normals * surface.areas_mm2[:, None]
    assert np.abs(vectors.sum(axis=0)).max() < 1e-6 * surface.areas_mm2.sum()


def test_a_sheared_grid_gives_the_true_area():
    affine = np.diag([0.8, 0.8, 0.8, 1.0])
    affine[0, 2] = 0.4
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 22.0)
    grid = Grid((45, 45, 45), affine)
    places = grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    assert surface_of(np.linalg.norm(places, axis=-1) < 12, grid).areas_mm2.sum() == pytest.approx(
        4 * np.pi * 144, rel=0.02
    )


def test_a_crop_has_the_surface_of_the_whole(turned_grid, places_mm):
    grid = turned_grid((0.5, 0.7, 1.5), 36.0)
    mask = np.linalg.norm(places_mm(grid) - (4.0, 0.0, -3.0), axis=-1) < 8
    box = box_around(bounding_box(mask), grid.shape)
    whole, cropped = surface_of(mask, grid), surface_of(mask[box], grid, box)
    assert len(whole) == len(cropped)
    np.testing.assert_allclose(cropped.points_mm, whole.points_mm, atol=1e-3)


def test_a_mask_is_open_where_the_array_ends():
    grid = Grid((12, 13, 14), np.diag([0.5, 0.7, 3.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[:, :, :7] = True
    surface = surface_of(mask, grid)
    np.testing.assert_allclose(surface.points_mm[:, 2], 6.5 * 3.0, atol=1e-6)
    np.testing.assert_allclose(surface.normals, np.broadcast_to((0, 0, 1), surface.normals.shape), atol=1e-6)


def test_an_empty_mask_has_no_elements():
    assert len(surface_of(np.zeros((4, 5, 6), bool), Grid((4, 5, 6), np.eye(4)))) == 0
