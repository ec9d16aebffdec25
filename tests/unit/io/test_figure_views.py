from itertools import permutations, product

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import take_slice
from msksam_cli.io.figure_views import view_across

SHAPE = (4, 5, 6)
LETTERS = {"axial": ("R", "A", "L", "P"), "coronal": ("R", "S", "L", "I"), "sagittal": ("A", "S", "P", "I")}
TO_WORLD = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}


def grids():
    for order in permutations(range(3)):
        for signs in product((-1, 1), repeat=3):
            affine = np.zeros((4, 4))
            for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
                affine[world, axis] = sign * (0.5, 0.7, 3.0)[axis]
            affine[:, 3] = (3, -8, 11, 1)
            yield Grid(SHAPE, affine)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_pictures_of_all_48_orientations_run_to_the_patients_left_or_back_and_down(slice_axis):
    for grid in grids():
        world = grid.to_world_mm(np.stack(np.indices(SHAPE), axis=-1))
        view = view_across(grid, slice_axis)
        assert view.letters == LETTERS[view.plane]
        shown = np.stack([view.picture(world[..., axis], 2) for axis in range(3)], axis=-1)
        for letter, step_mm, pixel_mm in (
            (view.letters[2], shown[0, 1] - shown[0, 0], view.pixel_mm[0]),
            (view.letters[3], shown[1, 0] - shown[0, 0], view.pixel_mm[1]),
        ):
            axis, sign = TO_WORLD[letter]
            expected = np.zeros(3)
            expected[axis] = sign * pixel_mm
            np.testing.assert_allclose(step_mm, expected, atol=1e-12)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_points_of_a_slice_land_on_their_pixel_of_the_picture(slice_axis):
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for grid in grids():
        view = view_across(grid, slice_axis)
        plane, picture = take_slice(voxels, slice_axis, 1), view.picture(voxels, 1)
        for row, column in ((0, 0), (1, 2), (plane.shape[0] - 1, 0)):
            x, y = view.picture_xy((float(column), float(row)), picture.shape)
            assert picture[int(y), int(x)] == plane[row, column]


def test_an_oblique_grid_is_shown_along_its_nearest_directions():
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    view = view_across(Grid(SHAPE, affine), 2)
    assert (view.plane, view.letters, view.mirrored, view.upended) == ("axial", ("R", "A", "L", "P"), True, True)
