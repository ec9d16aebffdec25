import csv
import time
from pathlib import Path

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, write_label_map
from msksam_cli.measure.agreement import AGREEMENT_COLUMNS
from msksam_cli.measure.comparison import PER_CASE_COLUMNS, SUMMARY_COLUMNS
from msksam_cli.pipeline.evaluate import EvaluateOptions, evaluate

AFFINE = np.diag([-0.5, -0.7, 3.0, 1.0])
SHAPE = (20, 16, 9)
KNEE = Path(__file__).parents[4] / "shared" / "data" / "knee_bones_mr" / "labels.nii.gz"


def write(path, boxes, affine=AFFINE, shape=SHAPE):
    values = np.zeros(shape, np.uint8)
    for value, where in boxes.items():
        values[where] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    label_map = LabelMap(values, Grid(shape, affine), default_table(int(v) for v in np.unique(values) if v))
    write_label_map(path, label_map, form_from_grid(label_map.grid))
    return path


FEMUR, SHORT, PATELLA = np.s_[2:12, 2:12, 1:7], np.s_[2:12, 2:12, 1:6], np.s_[13:18, 4:9, 2:5]


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_folders_give_tables_a_report_and_the_numbers_of_a_hand(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", {1: SHORT, 3: PATELLA})
    write(tmp_path / "p" / "b.nii.gz", {1: FEMUR})
    write(tmp_path / "r" / "a_seg.nii.gz", {1: FEMUR, 3: PATELLA})
    write(tmp_path / "r" / "b_seg.nii.gz", {1: FEMUR})
    result = evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r", tmp_path / "out"))
    assert result.exit_code == 0
    per_case = rows_of(tmp_path / "out" / "per_case.csv")
    assert tuple(per_case[0]) == PER_CASE_COLUMNS
    assert [(row["case"], row["label"], row["status"]) for row in per_case] == [
        ("a", "1", "compared"),
        ("a", "3", "compared"),
        ("b", "1", "compared"),
        ("b", "3", "both_empty"),
    ]
    assert float(per_case[0]["dice"]) == pytest.approx(2 * 500 / 1100)
    assert float(per_case[0]["hd95_mm"]) == 3.0
    assert float(per_case[0]["volume_ref_mm3"]) == pytest.approx(600 * 1.05)
    assert [per_case[3][name] for name in ("dice", "iou", "hd95_mm", "surface_dice_1mm")] == [""] * 4
    summary = rows_of(tmp_path / "out" / "summary.csv")
    assert tuple(summary[0]) == SUMMARY_COLUMNS
    patella = next(row for row in summary if (row["label"], row["measure"]) == ("3", "dice"))
    assert (patella["cases"], patella["mean"], patella["sd"], patella["both_empty"]) == ("1", "1", "", "1")
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "label-3" in report
    written = {"per_case.csv", "summary.csv", "agreement.csv", "report.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


def test_agreement_is_that_of_the_volumes_in_the_table_of_cases(tmp_path):
    for number, (predicted, reference) in enumerate([(10, 11), (8, 8), (12, 9), (6, 7), (9, 12)]):
        for side, length in (("p", predicted), ("r", reference)):
            write(tmp_path / side / f"case-{number}.nii.gz", {1: np.s_[2 : 2 + length, 2:12, 1:7]})
    write(tmp_path / "p" / "lost.nii.gz", {3: PATELLA})
    write(tmp_path / "r" / "lost.nii.gz", {1: FEMUR})
    result = evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r", tmp_path / "out"))
    both = [
        (float(row["volume_pred_mm3"]), float(row["volume_ref_mm3"]))
        for row in rows_of(tmp_path / "out" / "per_case.csv")
        if row["label"] == "1" and row["status"] == "compared"
    ]
    differences = np.array([predicted - reference for predicted, reference in both])
    assert sorted(np.round(differences / (60 * 1.05)).astype(int)) == [-3, -1, -1, 0, 3]
    femur, patella = rows_of(tmp_path / "out" / "agreement.csv")
    assert tuple(femur) == AGREEMENT_COLUMNS
    counts = ("cases", "missing", "spurious", "both_empty", "unknown")
    assert [femur[name] for name in counts] == ["5", "1", "0", "0", "0"]
    assert float(femur["bias"]) == pytest.approx(differences.mean())
    assert float(femur["sd"]) == pytest.approx(differences.std(ddof=1))
    assert float(femur["sem"]) == pytest.approx(np.sqrt((differences**2).mean() / 2))
    assert [patella[name] for name in (*counts, "bias", "icc_2_1")] == ["0", "0", "1", "5", "0", "", ""]
    assert patella["reason"] == "0 of at least 3 cases"
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/png") == 2  # Dice, and the one tissue that has limits
    assert f"bias {result.agreements[0].estimates['bias'].value:.4g}" in report


def test_a_second_run_writes_the_same_bytes(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", {1: SHORT})
    write(tmp_path / "r" / "a.nii.gz", {1: FEMUR})
    for name in ("one", "two"):
        evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r", tmp_path / name))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_labels_of_a_run_folder_and_a_truth_with_other_values_meet_by_name(tmp_path):
    write(tmp_path / "run" / "labels" / "series-1.nii.gz", {11: FEMUR, 14: PATELLA})
    (tmp_path / "run" / "labels.tsv").write_text("index\tname\n11\tfemur\n12\ttibia\n14\tpatella\n15\tfibula\n")
    truth = write(tmp_path / "labels.nii.gz", {1: FEMUR, 3: PATELLA, 9: np.s_[0:1, 0:1, 0:1]})
    names = "1=femur,2=tibia,3=patella"
    result = evaluate(EvaluateOptions(tmp_path / "run" / "labels", truth, reference_names=names))
    assert [(row.tissue, row.label, row.status, row.dice) for row in result.comparisons] == [
        ("femur", 1, "compared", 1.0),
        ("tibia", 2, "both_empty", None),
        ("patella", 3, "compared", 1.0),
    ]
    assert result.notes == (
        "not evaluated, only the predictions know: fibula",
        "not evaluated, reference values without a name: 9",
    )


def test_missing_and_unreadable_cases_are_listed_and_the_others_evaluated(tmp_path):
    for side in ("p", "r"):
        write(tmp_path / side / "good.nii.gz", {1: FEMUR})
        write(tmp_path / side / "damaged.nii.gz", {1: FEMUR})
    write(tmp_path / "p" / "alone.nii.gz", {1: FEMUR})
    damaged = tmp_path / "p" / "damaged.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    result = evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r", tmp_path / "out"))
    assert result.exit_code == 3
    assert [row.case for row in result.comparisons] == ["good"]
    assert [unusable.case for unusable in result.unmatched] == ["alone"]
    assert [unusable.case for unusable in result.refused] == ["damaged"]
    assert result.refused[0].reason.startswith("prediction: ")
    assert "damaged" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_another_grid_is_refused_with_numbers_unless_resampling_is_wanted(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] = 0.9
    write(tmp_path / "p" / "a.nii.gz", {1: FEMUR}, moved)
    write(tmp_path / "r" / "a.nii.gz", {1: FEMUR})
    with pytest.raises(InputError, match=r"corners are up to 0\.30 voxels apart"):
        evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r"))
    result = evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r", resample=True))
    assert result.comparisons[0].dice == 1.0


def test_a_shift_within_a_tenth_of_a_voxel_is_the_same_grid(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] = 0.27
    write(tmp_path / "p" / "a.nii.gz", {1: FEMUR}, moved)
    write(tmp_path / "r" / "a.nii.gz", {1: FEMUR})
    assert evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r")).comparisons[0].dice == 1.0


def test_another_shape_is_refused_with_both_shapes(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", {1: FEMUR}, shape=(20, 16, 8))
    write(tmp_path / "r" / "a.nii.gz", {1: FEMUR})
    with pytest.raises(InputError, match=r"\(20, 16, 8\) voxels LPS, the reference \(20, 16, 9\) LPS"):
        evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r"))


def test_slices_stored_in_the_other_direction_are_the_same_lattice(tmp_path):
    flipped = AFFINE.copy()
    flipped[2] = (0, 0, -3.0, 24.0)
    write(tmp_path / "p" / "a.nii.gz", {1: np.s_[2:12, 2:12, 2:8]}, flipped)
    write(tmp_path / "r" / "a.nii.gz", {1: FEMUR})
    assert evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r")).comparisons[0].dice == 1.0


def test_cases_that_are_empty_on_both_sides_are_kept_as_both_empty(tmp_path):
    for side in ("p", "r"):
        write(tmp_path / side / "a.nii.gz", {1: FEMUR})
        write(tmp_path / side / "b.nii.gz", {})
    result = evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r"))
    assert [(row.case, row.status) for row in result.comparisons] == [("a", "compared"), ("b", "both_empty")]
    assert result.summaries[0].measures["dice"].cases == 1


def test_the_report_of_a_run_is_not_overwritten(tmp_path):
    write(tmp_path / "run" / "labels" / "a.nii.gz", {1: FEMUR})
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="'run' holds a run and its report"):
        evaluate(EvaluateOptions(tmp_path / "run", tmp_path / "run", tmp_path / "run"))


def test_no_pair_at_all_is_an_error_that_names_the_cases(tmp_path):
    write(tmp_path / "p" / "a.nii.gz", {1: FEMUR})
    write(tmp_path / "r" / "b.nii.gz", {1: FEMUR})
    with pytest.raises(InputError, match="share a name: a, b"):
        evaluate(EvaluateOptions(tmp_path / "p", tmp_path / "r"))


@pytest.mark.skipif(not KNEE.is_file(), reason="the real knee labels lie beside the project, not in it")
def test_a_real_knee_against_itself_is_compared_in_seconds(tmp_path):
    started = time.monotonic()
    names = "1=femur,2=tibia,3=patella"
    result = evaluate(EvaluateOptions(KNEE, KNEE, reference_names=names, prediction_names=names))
    assert [row.dice for row in result.comparisons] == [1.0, 1.0, 1.0]
    assert [row.hd95_mm for row in result.comparisons] == [0.0, 0.0, 0.0]
    volumes_cm3 = [round(row.volume_ref_mm3 / 1000, 1) for row in result.comparisons]
    assert volumes_cm3 == [172.7, 98.6, 18.6]
    assert time.monotonic() - started < 30
