import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.morphometry import METRICS_COLUMNS, Provenance, Status, measure_tissues, tissue_extents
from msksam_cli.measure.thickness import no_thickness

SHAPE = (8, 9, 6)
AFFINE = np.diag([0.5, 0.7, 3.0, 1.0])
TISSUES = TissueTable(
    (
        Tissue(2, "femur", group="bone"),
        Tissue(5, "medial-meniscus", side="medial", group="meniscus"),
        Tissue(7, "femoral-cartilage", group="cartilage"),
    )
)


def label_map(**boxes):
    values = np.zeros(SHAPE, np.uint8)
    for name, where in boxes.items():
        values[where] = TISSUES.by_name(name).index
    return LabelMap(values, Grid(SHAPE, AFFINE), TISSUES)


def ramp_volume():
    i, j, k = np.indices(SHAPE)
    return Volume((100 * i + 10 * j + k).astype(np.float32), Grid(SHAPE, AFFINE))


FEMUR = np.s_[2:5, 3:5, 1:3]


def test_a_complete_tissue_has_every_number_in_its_unit():
    femur, *_ = measure_tissues(label_map(femur=FEMUR), ramp_volume())
    assert (femur.status, femur.reason, femur.label) == (Status.COMPLETE, "", 2)
    assert (femur.voxels, femur.slices) == (12, 2)
    assert femur.volume_mm3 == pytest.approx(12 * 0.5 * 0.7 * 3.0)
    assert femur.mean_intensity == pytest.approx(300 + 35 + 1.5)


def test_volume_is_true_on_a_sheared_and_turned_grid():
    affine = AFFINE.copy()
    affine[0, 1] = 0.3
    sheared = LabelMap(label_map(femur=FEMUR).values, Grid(SHAPE, affine), TISSUES)
    assert measure_tissues(sheared)[0].volume_mm3 == pytest.approx(12 * 0.5 * 0.7 * 3.0)


def test_slices_are_counted_along_the_slice_axis_even_with_a_gap():
    values = np.zeros(SHAPE, np.uint8)
    values[2:6, 4, 1] = values[2:6, 4, 4] = 2
    assert measure_tissues(LabelMap(values, Grid(SHAPE, AFFINE), TISSUES))[0].slices == 2


def test_an_empty_tissue_has_no_number_not_even_0():
    _, meniscus, _ = measure_tissues(label_map(femur=FEMUR), ramp_volume())
    row = meniscus.row("case")
    assert (row["status"], row["reason"]) == ("empty", "no voxel carries this label")
    assert [row[name] for name in ("voxels", "volume_mm3", "slices", "mean_intensity")] == [None] * 4


def test_a_failed_tissue_says_why_and_has_no_number():
    made = {2: Provenance(failure="no prompt: the atlas lies outside", seconds=0.5)}
    femur, *_ = measure_tissues(label_map(femur=FEMUR), provenance=made)
    assert (femur.status, femur.reason) == (Status.FAILED, "no prompt: the atlas lies outside")
    assert (femur.voxels, femur.volume_mm3, femur.provenance.seconds) == (None, None, 0.5)


@pytest.mark.parametrize(
    "where",
    [np.s_[0:2, 3:5, 1:3], np.s_[6:8, 3:5, 1:3], np.s_[2:5, 0:2, 1:3], np.s_[2:5, 7:9, 1:3], np.s_[2:5, 3:5, 5:6]],
)
def test_a_tissue_on_any_border_counts_as_cut(where):
    femur, *_ = measure_tissues(label_map(femur=where), ramp_volume())
    assert femur.status is Status.CUT
    assert "voxels lie on the border" in femur.reason
    assert femur.voxels is not None


def test_border_voxels_are_those_of_the_outer_layer_only():
    extents = tissue_extents(label_map(femur=np.s_[0:3, 0:2, 2:4]))
    assert extents[2].border_voxels == 2 * (3 + 2 - 1)


def test_an_axis_of_one_voxel_is_no_border():
    values = np.zeros((6, 7, 1), np.uint8)
    values[2:4, 2:4] = 2
    single = LabelMap(values, Grid(values.shape, AFFINE), TISSUES)
    assert measure_tissues(single)[0].status is Status.COMPLETE


def test_a_tissue_the_atlas_sees_only_in_part_counts_as_cut_with_its_share():
    femur, *_ = measure_tissues(label_map(femur=FEMUR), placed_visible_fraction={2: 0.61})
    assert femur.status is Status.CUT
    assert femur.reason.startswith("61% of the tissue's atlas volume")
    assert measure_tissues(label_map(femur=FEMUR), placed_visible_fraction={2: 0.99})[0].status is Status.COMPLETE


def test_without_an_image_the_intensity_is_unknown_and_the_reason_says_so():
    femur, *_ = measure_tissues(label_map(femur=FEMUR))
    assert (femur.mean_intensity, femur.reason) == (None, "no image given")


def test_cartilage_has_its_thickness_over_the_bone_and_other_tissues_have_none():
    grid = Grid((44, 42, 14), np.diag([0.5, 0.7, 1.5, 1.0]))
    values = np.zeros(grid.shape, np.uint8)
    values[2:42, 2:40, 1:6], values[12:32, 12:30, 6:8] = 2, 7
    femur, _, cartilage = measure_tissues(LabelMap(values, grid, TISSUES))
    assert cartilage.thickness_mean_mm == pytest.approx(3.0, abs=0.1)
    assert cartilage.thickness_sd_mm == pytest.approx(0.0, abs=0.1)
    assert (femur.thickness_mean_mm, femur.reason) == (None, "no image given")
    row = cartilage.row("case")
    assert row["thickness_mean_mm"] == cartilage.thickness_mean_mm
    assert row["thickness_sd_mm"] == cartilage.thickness_sd_mm


def test_cartilage_too_small_for_a_surface_says_why_it_has_no_thickness():
    cartilage = measure_tissues(label_map(**{"femoral-cartilage": np.s_[4:5, 4:5, 2:3]}), ramp_volume())[2]
    assert (cartilage.thickness_mean_mm, cartilage.reason) == (None, "too few voxels for a surface")


def test_a_disc_has_its_height_as_thickness_and_a_vertebra_has_none():
    table = TissueTable((Tissue(2, "l3", group="vertebra"), Tissue(3, "disc", group="disc")))
    grid = Grid((30, 32, 20), np.diag([0.9, 0.9, 1.5, 1.0]))
    values = np.zeros(grid.shape, np.uint8)
    values[4:26, 4:28, 9:17], values[4:26, 4:28, 4:9] = 2, 3
    body, disc = measure_tissues(LabelMap(values, grid, table))
    assert body.thickness_mean_mm is None
    assert disc.thickness_mean_mm == pytest.approx(7.5, rel=0.03)


def test_thicknesses_that_are_given_are_not_measured_again():
    given = no_thickness("given")
    cartilage = measure_tissues(label_map(**{"femoral-cartilage": FEMUR}), ramp_volume(), thicknesses={7: given})[2]
    assert (cartilage.thickness_mean_mm, cartilage.reason) == (None, "given")


def test_the_side_of_a_tissue_goes_before_that_of_the_body_part():
    femur, meniscus, _ = measure_tissues(label_map(femur=FEMUR), side="right")
    assert (femur.side, meniscus.side) == ("right", "medial")


def test_an_image_on_another_grid_is_refused():
    other = Volume(np.zeros(SHAPE, np.float32), Grid(SHAPE, np.diag([0.5, 0.7, 3.2, 1.0])))
    with pytest.raises(GridMismatchError, match="different grids"):
        measure_tissues(label_map(femur=FEMUR), other)


def test_rows_name_only_columns_of_the_contract():
    assert ", ".join(METRICS_COLUMNS) == (
        "case, tissue, side, label, status, reason, voxels, volume_mm3, slices, mean_intensity, thickness_mean_mm, "
        "thickness_sd_mm, map_mean, map_sd, map_unit, iou_prediction_mean, prior_dice, expected_dice, seconds"
    )
    for measure in measure_tissues(label_map(femur=FEMUR)):
        assert set(measure.row("case")) <= set(METRICS_COLUMNS)
