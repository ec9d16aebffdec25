from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.core.atlases import Fit, PlacedAtlas, Population
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import GridMismatchError
from msksam_cli.measure.overlap import dice
from msksam_cli.measure.qc import QC_COLUMNS, Flag, Thresholds, fragment_share, prior_agreement, quality_flags

SHAPE = (20, 16, 9)
GRID = Grid(SHAPE, np.diag([0.5, 0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(1, "femur", group="bone"), Tissue(2, "femoral-cartilage", group="cartilage")))
FEMUR, CARTILAGE = np.s_[3:12, 3:9, 2:6], np.s_[13:15, 3:9, 2:6]
GOOD_FIT = Fit(0.8, 1.0, False, 0.2, True, shift_margin=0.2)


def labels(femur=FEMUR, cartilage=CARTILAGE):
    values = np.zeros(SHAPE, np.uint8)
    values[femur] = 1
    values[cartilage] = 2
    return LabelMap(values, GRID, TISSUES)


def placed(**changes):
    probabilities = {1: np.zeros(SHAPE, np.float32), 2: np.zeros(SHAPE, np.float32)}
    probabilities[1][FEMUR], probabilities[2][CARTILAGE] = 0.9, 0.8
    atlas = PlacedAtlas(GRID, probabilities, {1: 1.0, 2: 1.0}, TISSUES, GOOD_FIT, "left", "knee-v1", "")
    return replace(atlas, **changes)


def flags_of(label_map, atlas, **options):
    return quality_flags(label_map, atlas, prior_agreement(label_map, atlas), **options)


def test_a_good_case_raises_no_flag():
    assert flags_of(labels(), placed(), volume_side="left") == ()


def test_a_placement_that_is_not_trusted_is_flagged_with_its_similarity_and_reason():
    fit = replace(GOOD_FIT, similarity=0.11, reliable=False, reason="the atlas lies mostly outside")
    (flag,) = flags_of(labels(), placed(fit=fit))
    assert flag == Flag("all", "atlas_fit_low", 0.11, None, "the atlas lies mostly outside")


def test_a_spine_that_fits_as_well_one_level_away_is_flagged_and_a_knee_by_another_name():
    doubtful = replace(GOOD_FIT, similarity=0.5, shift_margin=0.02)
    (flag,) = flags_of(labels(), placed(fit=doubtful))
    assert (flag.tissue, flag.flag, flag.value) == ("all", "position_doubtful", pytest.approx(0.04))
    spine = TissueTable((Tissue(1, "l4", group="vertebra"), Tissue(2, "l4-5", group="disc")))
    (flag,) = flags_of(labels(), placed(fit=doubtful, tissues=spine))
    assert flag.flag == "level_doubtful"
    assert flags_of(labels(), placed(fit=replace(GOOD_FIT, shift_margin=None))) == ()


def test_an_input_that_names_the_other_side_is_flagged_whatever_the_margin():
    (flag,) = flags_of(labels(), placed(), volume_side="right")
    assert flag.flag == "laterality_doubtful"
    assert flag.text == "the input says right, the atlas fits as left"


def test_a_side_that_the_input_names_is_doubted_only_when_the_mirrored_atlas_fits_better():
    close, worse = (replace(GOOD_FIT, similarity=0.5, mirror_margin=margin) for margin in (0.005, -0.1))
    assert flags_of(labels(), placed(fit=close), volume_side="left") == ()
    (flag,) = flags_of(labels(), placed(fit=worse), volume_side="left")
    assert (flag.flag, flag.value, flag.threshold) == ("laterality_doubtful", pytest.approx(-0.2), 0.0)


def test_a_side_that_nobody_named_is_doubted_when_the_mirrored_atlas_fits_nearly_as_well():
    close = replace(GOOD_FIT, similarity=0.5, mirror_margin=0.005)
    (flag,) = flags_of(labels(), placed(fit=close))
    assert (flag.flag, flag.value) == ("laterality_doubtful", pytest.approx(0.01))
    assert flag.threshold == Thresholds().mirror_share
    assert flags_of(labels(), placed(fit=replace(GOOD_FIT, mirror_margin=None), side="")) == ()


def test_an_empty_tissue_is_flagged_once_and_only_when_it_was_asked_for():
    without = labels(cartilage=np.s_[0:0])
    (flag,) = flags_of(without, placed())
    assert (flag.tissue, flag.flag) == ("femoral-cartilage", "empty")
    assert flags_of(without, placed(), wanted=[1]) == ()


def test_a_mask_that_leaves_its_prior_is_flagged_with_the_dice():
    elsewhere = labels(femur=np.s_[3:12, 10:14, 2:6])
    found = [flag for flag in flags_of(elsewhere, placed()) if flag.flag == "prior_disagreement"]
    assert [(flag.tissue, flag.value) for flag in found] == [("femur", 0.0)]


def test_bones_must_agree_better_with_their_prior_than_cartilage():
    half_femur, half_cartilage = np.s_[3:7, 3:9, 2:6], np.s_[13:15, 3:6, 2:6]
    agreement = prior_agreement(labels(half_femur, half_cartilage), placed())
    assert agreement[1].dice == pytest.approx(2 * 4 / (4 + 9))
    assert agreement[2].dice == pytest.approx(2 * 3 / (3 + 6))
    found = [flag.tissue for flag in flags_of(labels(half_femur), placed(), thresholds=Thresholds(prior_dice=0.65))]
    assert found == []
    strict = Thresholds(prior_dice_by_group={"bone": 0.7})
    assert [flag.tissue for flag in flags_of(labels(half_femur), placed(), thresholds=strict)] == ["femur"]


def test_a_tissue_the_field_of_view_cuts_is_flagged_with_the_visible_share():
    (flag,) = flags_of(labels(), placed(visible_fraction={1: 0.5, 2: 1.0}))
    assert (flag.tissue, flag.flag, flag.value, flag.threshold) == ("femur", "cut_by_field_of_view", 0.5, 0.98)


def test_a_tissue_on_the_border_is_flagged_with_its_voxels():
    touching = labels(femur=np.s_[0:12, 3:9, 2:6])
    found = [flag for flag in flags_of(touching, placed()) if flag.flag == "touches_border"]
    assert [(flag.tissue, flag.value) for flag in found] == [("femur", 24)]


def test_a_volume_far_from_the_population_is_flagged_with_its_deviation_unless_cut_or_too_few_cases():
    volume_mm3 = 9 * 6 * 4 * 0.5 * 0.7 * 3.0
    population = Population(volume_mm3 - 40, 10.0, 12)
    (flag,) = flags_of(labels(), placed(populations={1: population}))
    assert (flag.flag, flag.value, flag.threshold) == ("volume_unusual", pytest.approx(4.0), 3.0)
    (flag,) = flags_of(labels(), placed(populations={1: replace(population, volume_mean_mm3=volume_mm3 + 40)}))
    assert flag.value == pytest.approx(-4.0)
    assert flags_of(labels(), placed(populations={1: replace(population, cases=4)})) == ()
    assert flags_of(labels(), placed(populations={1: replace(population, volume_sd_mm3=0.0)})) == ()
    cut = flags_of(labels(), placed(populations={1: population}, visible_fraction={1: 0.5, 2: 1.0}))
    assert [flag.flag for flag in cut] == ["cut_by_field_of_view"]


def test_pieces_beyond_those_of_the_prior_are_flagged():
    values = labels().values.copy()
    values[15:18, 11:15, 2:6] = 1
    scattered = LabelMap(values, GRID, TISSUES)
    (flag,) = flags_of(scattered, placed())
    assert (flag.flag, flag.value) == ("fragmented", pytest.approx(48 / (216 + 48)))
    probabilities = {1: (values == 1).astype(np.float32), 2: (values == 2).astype(np.float32)}
    assert flags_of(scattered, placed(probabilities=probabilities)) == ()


def test_voxels_that_touch_by_a_corner_are_one_piece():
    mask = np.zeros((3, 3, 3), dtype=bool)
    assert fragment_share(mask) == 0.0
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert fragment_share(mask) == 0.0
    mask[1, 1, 1], mask[2, 2, 2], mask[2, 2, 1] = False, True, True
    assert fragment_share(mask) == pytest.approx(1 / 3)


def test_without_an_atlas_only_what_the_labels_show_is_flagged():
    flags = quality_flags(labels(femur=np.s_[0:12, 3:9, 2:6], cartilage=np.s_[0:0]))
    assert [(flag.tissue, flag.flag) for flag in flags] == [("femur", "touches_border"), ("femoral-cartilage", "empty")]


def test_each_prior_is_asked_for_once():
    class Counting(dict):
        asked = 0

        def __getitem__(self, key):
            Counting.asked += 1
            return super().__getitem__(key)

    atlas = placed()
    prior_agreement(labels(), replace(atlas, probabilities=Counting(atlas.probabilities)))
    assert Counting.asked == 2


def test_an_atlas_on_another_grid_is_refused():
    with pytest.raises(GridMismatchError, match="different grids"):
        prior_agreement(labels(), placed(grid=Grid(SHAPE, np.diag([0.5, 0.7, 2.5, 1.0]))))


def test_rows_fill_the_columns_of_qc_csv():
    row = Flag("femur", "empty", 0, 1, "no voxel carries this label").row("knee")
    assert tuple(row) == QC_COLUMNS == ("case", "tissue", "flag", "value", "threshold", "text")


@pytest.mark.parametrize("femur", [FEMUR, np.s_[0:20, 0:16, 0:9], np.s_[19:20, 15:16, 8:9], np.s_[0:0, 0:1, 0:1]])
def test_a_prior_kept_on_a_coarse_grid_agrees_as_the_whole_array_does(femur):
    work = Grid((10, 8, 9), np.diag([1.0, 1.4, 3.0, 1.0]))
    values = {index: np.random.default_rng(index).random(work.shape).astype(np.float32) for index in (1, 2)}
    values[1][:, :, 4:], values[2][:4] = 0, 0
    known = WorkingProbabilities(work, GRID, values)
    found = prior_agreement(labels(femur, np.s_[0:0]), placed(probabilities=known))
    assert found == prior_agreement(labels(femur, np.s_[0:0]), placed(probabilities=dict(known)))
    mask, prior = labels(femur, np.s_[0:0]).mask(1), known[1] > 0.5
    assert found[1].dice == dice(mask, prior)
    assert found[1].prior_fragment_share == fragment_share(prior)
