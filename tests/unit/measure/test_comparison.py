import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.measure.comparison import (
    PER_CASE_COLUMNS,
    SUMMARIZED,
    SUMMARY_COLUMNS,
    compare_labels,
    summarize_tissues,
    with_empty_comparisons,
)

SHAPE = (12, 10, 6)
GRID = Grid(SHAPE, np.diag([0.5, 0.7, 3.0, 1.0]))
VOXEL_MM3 = 0.5 * 0.7 * 3.0


def labels(**boxes):
    values = np.zeros(SHAPE, np.uint8)
    for name, where in boxes.items():
        values[where] = int(name.removeprefix("label"))
    return values


ONE, SMALLER, OTHER = np.s_[2:8, 2:8, 1:4], np.s_[2:8, 2:8, 1:3], np.s_[9:11, 2:8, 1:4]


def test_a_prediction_one_slice_short_has_these_numbers():
    (row,) = compare_labels("a", labels(label1=SMALLER), labels(label1=ONE), GRID, {1: "femur"})
    assert (row.case, row.label, row.tissue, row.status) == ("a", 1, "femur", "compared")
    assert row.dice == pytest.approx(2 * 72 / (72 + 108))
    assert row.iou == pytest.approx(72 / 108)
    assert row.hd95_mm == 3.0
    assert row.volume_pred_mm3 == pytest.approx(72 * VOXEL_MM3)
    assert row.volume_error_percent == pytest.approx(-100 / 3)


def test_a_tissue_only_in_the_reference_is_missing_with_overlap_0_and_no_distance():
    (row,) = compare_labels("a", labels(), labels(label1=ONE), GRID, {})
    assert (row.status, row.tissue) == ("missing", "label-1")
    assert (row.dice, row.iou, row.surface_dice_1mm, row.hd95_mm, row.assd_mm) == (0.0, 0.0, 0.0, None, None)
    assert row.volume_error_percent == pytest.approx(-100)


def test_a_tissue_only_in_the_prediction_is_spurious_and_has_no_volume_error():
    (row,) = compare_labels("a", labels(label1=ONE), labels(), GRID, {})
    assert (row.status, row.dice, row.hd95_mm, row.volume_error_percent) == ("spurious", 0.0, None, None)


def test_labels_of_other_cases_are_added_as_both_empty_without_a_number():
    rows = compare_labels("a", labels(label1=ONE), labels(label1=ONE), GRID, {1: "femur"})
    rows += compare_labels("b", labels(label4=ONE), labels(label4=ONE), GRID, {})
    filled = with_empty_comparisons(rows, ["a", "b", "c"], {1: "femur", 3: "patella"})
    assert [(row.case, row.label, row.tissue, row.status) for row in filled] == [
        ("a", 1, "femur", "compared"),
        ("a", 3, "patella", "both_empty"),
        ("a", 4, "label-4", "both_empty"),
        ("b", 1, "femur", "both_empty"),
        ("b", 3, "patella", "both_empty"),
        ("b", 4, "label-4", "compared"),
        ("c", 1, "femur", "both_empty"),
        ("c", 3, "patella", "both_empty"),
        ("c", 4, "label-4", "both_empty"),
    ]
    empty = filled[1]
    assert [getattr(empty, name) for name in SUMMARIZED] == [None] * len(SUMMARIZED)


def test_means_leave_out_both_empty_count_missing_as_0_and_distances_only_where_they_exist():
    rows = compare_labels("a", labels(label1=ONE), labels(label1=ONE), GRID, {})
    rows += compare_labels("b", labels(), labels(label1=ONE), GRID, {})
    rows += compare_labels("c", labels(label1=ONE), labels(), GRID, {})
    (summary,) = summarize_tissues(with_empty_comparisons(rows, ["a", "b", "c", "d"], {}))
    assert (summary.measures["dice"].cases, summary.measures["dice"].mean) == (3, pytest.approx(1 / 3))
    assert (summary.measures["hd95_mm"].cases, summary.measures["hd95_mm"].mean) == (1, 0.0)
    counts = summary.rows()[0]
    assert (counts["missing"], counts["spurious"], counts["both_empty"]) == (1, 1, 1)


def test_the_summary_of_all_tissues_takes_the_mean_of_each_case_first():
    truth = labels(label1=ONE, label2=OTHER)
    rows = compare_labels("a", labels(label1=ONE), truth, GRID, {})
    rows += compare_labels("b", truth, truth, GRID, {})
    one, two, both = summarize_tissues(rows)
    assert [one.measures["dice"].mean, two.measures["dice"].mean] == [1.0, 0.5]
    assert (both.tissue, both.label, both.measures["dice"].cases) == ("all", None, 2)
    assert both.measures["dice"].mean == pytest.approx(0.75)
    assert both.measures["dice"].median == pytest.approx(0.75)
    assert both.statuses == {"compared": 3, "missing": 1}


def test_rows_fill_the_columns_of_the_contract():
    rows = compare_labels("a", labels(label1=ONE), labels(label1=ONE), GRID, {})
    assert ", ".join(PER_CASE_COLUMNS) == (
        "case, label, tissue, status, dice, iou, hd95_mm, assd_mm, surface_dice_1mm, volume_pred_mm3, volume_ref_mm3, "
        "volume_error_percent"
    )
    assert tuple(rows[0].row()) == PER_CASE_COLUMNS
    assert {name for summary in summarize_tissues(rows) for row in summary.rows() for name in row} == set(
        SUMMARY_COLUMNS
    )
