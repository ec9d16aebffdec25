"""Signed distances against scipy's, which are exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.atlas.distance import signed_distance_mm

SPACING_MM = (1.0, 1.2, 2.4)


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_between_voxel_centres_in_mm(seed: int) -> None:
    blobs = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 33, 17)), (4, 4, 2)) > 0.02 * seed
    outer, inner = (ndimage.distance_transform_edt(mask, sampling=SPACING_MM) for mask in (~blobs, blobs))
    found = signed_distance_mm(blobs, SPACING_MM)
    np.testing.assert_allclose(found, outer - inner, atol=1e-4)
    assert ((found < 0) == blobs).all()
    assert found.dtype == np.float32


def test_a_ball_on_coarse_voxels_has_its_radius() -> None:
    x, y, z = (np.indices((66, 56, 28)) - np.array([33, 28, 14])[:, None, None, None]) * np.array(SPACING_MM)[
        :, None, None, None
    ]
    radius = np.sqrt(x**2 + y**2 + z**2)
    off = signed_distance_mm(radius < 15.0, SPACING_MM) - (radius - 15.0)
    assert np.abs(off).max() < 2.5
    assert np.abs(off).mean() < 0.8


@pytest.mark.parametrize(("value", "distance"), [(True, -np.inf), (False, np.inf)])
def test_without_another_side_it_is_infinitely_far(value: bool, distance: float) -> None:
    assert (signed_distance_mm(np.full((3, 4, 5), value), SPACING_MM) == distance).all()
