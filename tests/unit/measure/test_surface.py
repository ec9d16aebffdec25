import numpy as np
import pytest
import surface_distance
from surface_distance import lookup_tables

from msksam_cli.measure.surface import assd_mm, hausdorff_mm, hd95_mm, surface_dice, surface_distances
from msksam_cli.measure.surface_elements import CORNERS, FULL_CODE, element_areas_mm2, neighbourhood_codes

SPACINGS = [(1.0, 1.0, 1.0), (0.5, 0.7, 3.0), (3.0, 0.7, 0.5), (0.351, 0.352, 0.704)]
SHAPE = (23, 17, 11)


def ellipsoid(centre, radii):
    i, j, k = np.indices(SHAPE)
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip((i, j, k), centre, radii, strict=True)) <= 1


def box(first, last):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
    return mask


def noisy(mask, seed):
    return mask ^ (np.random.default_rng(seed).random(SHAPE) < 0.05)


MASKS = {
    "shifted ellipsoids": (ellipsoid((11, 8, 5), (7, 5, 3)), ellipsoid((12, 7, 6), (6, 6, 2))),
    "one inside the other": (ellipsoid((11, 8, 5), (9, 7, 4)), ellipsoid((11, 8, 5), (3, 2, 1))),
    "far apart": (box((0, 0, 0), (2, 3, 1)), box((18, 12, 8), (22, 16, 10))),
    "single voxels": (box((4, 4, 4), (4, 4, 4)), box((6, 5, 4), (6, 5, 4))),
    "ragged": (noisy(ellipsoid((11, 8, 5), (7, 5, 3)), 1), noisy(ellipsoid((11, 8, 5), (7, 5, 3)), 2)),
    "at the border": (box((0, 0, 0), (22, 16, 4)), box((0, 0, 0), (22, 14, 6))),
}


def package_distances(mask_a, mask_b, spacing_mm):
    return surface_distance.compute_surface_distances(mask_a, mask_b, spacing_mm)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_areas_of_all_256_neighbourhoods_equal_those_of_the_surface_distance_package(spacing_mm):
    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    kernel = np.array(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL)
    their_code = [sum(int(kernel[c]) for n, c in enumerate(CORNERS) if code >> n & 1) for code in range(256)]
    np.testing.assert_allclose(element_areas_mm2(spacing_mm), theirs[their_code], rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("name", MASKS)
def test_every_measure_equals_that_of_the_surface_distance_package(name, spacing_mm):
    a, b = MASKS[name]
    ours, theirs = surface_distances(a, b, spacing_mm), package_distances(a, b, spacing_mm)
    for percent in (50, 95, 100):
        expected = surface_distance.compute_robust_hausdorff(theirs, percent)
        assert hausdorff_mm(ours, percent) == pytest.approx(expected, abs=1e-9)
    for tolerance_mm in (0.4, 1.0, 2.5):
        expected = surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance_mm)
        assert surface_dice(ours, tolerance_mm) == pytest.approx(expected, abs=1e-9)
    area_a, area_b = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
    mean_a, mean_b = surface_distance.compute_average_surface_distance(theirs)
    assert assd_mm(ours) == pytest.approx((mean_a * area_a + mean_b * area_b) / (area_a + area_b), abs=1e-9)


def test_two_single_voxels_are_as_far_apart_as_their_centres_in_mm():
    spacing_mm = (0.5, 0.7, 3.0)
    distances = surface_distances(box((4, 4, 4), (4, 4, 4)), box((4, 4, 6), (4, 4, 6)), spacing_mm)
    # The element at a voxel's corner next to the other voxel is one slice from it, the one on the far side two.
    assert set(distances.a_to_b_mm.tolist()) == {3.0, 6.0}
    assert hd95_mm(distances) == 6.0
    assert assd_mm(distances) == pytest.approx(4.5)
    assert surface_dice(distances, 3.0) == pytest.approx(0.5)


def test_a_slab_has_the_area_of_its_two_faces_and_rounded_rim():
    slab = np.zeros((12, 14, 5), dtype=bool)
    slab[1:11, 1:13, 2] = True
    spacing_mm = (0.5, 0.7, 3.0)
    distances = surface_distances(slab, slab, spacing_mm)
    flat = 2 * (9 * 0.5) * (11 * 0.7)
    rim = distances.areas_a_mm2.sum() - flat
    assert 0 < rim < (2 * 10 * 0.5 + 2 * 12 * 0.7) * 3.0


def test_identical_masks_have_no_distance_and_full_surface_dice():
    mask = MASKS["ragged"][0]
    distances = surface_distances(mask, mask.copy(), (0.5, 0.7, 3.0))
    assert (hd95_mm(distances), assd_mm(distances), surface_dice(distances, 0.0)) == (0.0, 0.0, 1.0)


def test_one_empty_mask_gives_no_distance_and_surface_dice_0_whichever_side_is_empty():
    mask, nothing = MASKS["ragged"][0], np.zeros(SHAPE, dtype=bool)
    for a, b in ((mask, nothing), (nothing, mask)):
        distances = surface_distances(a, b, (0.5, 0.7, 3.0))
        assert (hd95_mm(distances), assd_mm(distances), surface_dice(distances, 1e9)) == (None, None, 0.0)


def test_two_empty_masks_have_no_measure_at_all():
    nothing = np.zeros(SHAPE, dtype=bool)
    distances = surface_distances(nothing, nothing, (0.5, 0.7, 3.0))
    assert (hd95_mm(distances), assd_mm(distances), surface_dice(distances, 1.0)) == (None, None, None)


def test_full_masks_end_at_the_border_of_the_array():
    full = np.ones((3, 4, 5), dtype=bool)
    smaller = full.copy()
    smaller[:, :, -1] = False
    distances = surface_distances(full, smaller, (0.5, 0.7, 3.0))
    assert hausdorff_mm(distances) == 3.0


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) and \(2, 3, 5\)"):
        surface_distances(np.ones((2, 3, 4), bool), np.ones((2, 3, 5), bool), (1, 1, 1))
    with pytest.raises(ValueError, match="cannot be compared"):
        surface_distances(np.ones((2, 3), bool), np.ones((2, 3), bool), (1, 1, 1))


def test_codes_number_the_corners_in_order():
    for bit, corner in enumerate(CORNERS):
        mask = np.zeros((2, 2, 2), dtype=bool)
        mask[corner] = True
        assert neighbourhood_codes(mask).tolist() == [[[1 << bit]]]
    assert neighbourhood_codes(np.ones((2, 2, 2), dtype=bool)).item() == FULL_CODE
