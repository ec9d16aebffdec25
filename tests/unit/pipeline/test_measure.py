import csv

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, read_volume, write_label_map, write_volume
from msksam_cli.measure.morphometry import METRICS_COLUMNS
from msksam_cli.measure.shapes import MORPHOMETRY_COLUMNS
from msksam_cli.pipeline.measure import MeasureOptions, measurement_text, run_measure

SHAPE = (12, 10, 6)
GRID = Grid(SHAPE, np.diag([-0.5, -0.7, 3.0, 1.0]))
FEMUR = np.s_[2:6, 2:7, 1:4]


def write_labels(path, value=1):
    values = np.zeros(SHAPE, np.uint8)
    values[FEMUR] = value
    write_label_map(path, LabelMap(values, GRID, default_table([value])), form_from_grid(GRID))
    return path


def write_image(path, level=50.0, grid=GRID):
    write_volume(path, Volume(np.full(SHAPE, level, np.float32), grid), form_from_grid(grid))
    return path


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_folder_is_measured_with_its_table_and_images(tmp_path):
    write_labels(tmp_path / "run" / "labels" / "b_seg.nii.gz", 2)
    write_labels(tmp_path / "run" / "labels" / "a_seg.nii.gz")
    (tmp_path / "run" / "labels.tsv").write_text("index\tname\tgroup\n1\tfemur\tbone\n2\ttibia\tbone\n")
    write_image(tmp_path / "images" / "a_0000.nii.gz")
    result = run_measure(MeasureOptions(tmp_path / "run", tmp_path / "images", tmp_path / "out"))
    rows = rows_of(tmp_path / "out" / "metrics.csv")
    assert tuple(rows[0]) == METRICS_COLUMNS
    found = [[row[name] for name in ("case", "tissue", "status", "voxels", "mean_intensity", "reason")] for row in rows]
    assert found == [
        ["a", "femur", "complete", "60", "50", ""],
        ["a", "tibia", "empty", "", "", "no voxel carries this label"],
        ["b", "femur", "empty", "", "", "no voxel carries this label"],
        ["b", "tibia", "complete", "60", "", "no image given"],
    ]
    assert float(rows[0]["volume_mm3"]) == pytest.approx(60 * 1.05)
    assert result.exit_code == 0
    assert measurement_text(result).splitlines()[1].split() == ["a", "femur", "complete", "63.0", "50.0"]


def test_one_file_takes_one_image_whatever_its_name(tmp_path):
    labels, image = write_labels(tmp_path / "x.nii.gz"), write_image(tmp_path / "y.nii.gz", 7.0)
    ((case, measure),) = run_measure(MeasureOptions(labels, image, names="1=femur")).measures
    assert (case, measure.tissue, measure.mean_intensity) == ("x", "femur", 7.0)


def test_cases_that_cannot_be_measured_are_listed_and_the_others_measured(tmp_path):
    write_labels(tmp_path / "l" / "good.nii.gz")
    write_labels(tmp_path / "l" / "moved.nii.gz")
    write_labels(tmp_path / "l" / "unknown.nii.gz", 9)
    write_image(tmp_path / "i" / "good.nii.gz")
    write_image(tmp_path / "i" / "moved.nii.gz", grid=Grid(SHAPE, np.diag([-0.5, -0.7, 2.0, 1.0])))
    result = run_measure(MeasureOptions(tmp_path / "l", tmp_path / "i", names="1=femur"))
    assert [case for case, _ in result.measures] == ["good"]
    assert [unusable.case for unusable in result.refused] == ["moved", "unknown"]
    assert "different grids" in result.refused[0].reason
    assert "[9]" in result.refused[1].reason
    assert result.exit_code == 3


def test_two_files_of_one_case_are_not_guessed(tmp_path):
    write_labels(tmp_path / "a_seg.nii.gz")
    write_labels(tmp_path / "a_pred.nii.gz")
    with pytest.raises(InputError, match=r"no case could be measured; a: several files share the case name 'a'"):
        run_measure(MeasureOptions(tmp_path))


KNEE = Grid((40, 36, 16), np.diag([-0.5, -0.7, 1.5, 1.0]))
CARTILAGE = np.s_[12:28, 11:25, 4:6]


def write_knee(path):
    values = np.zeros(KNEE.shape, np.uint8)
    values[2:38, 2:34, 6:12], values[CARTILAGE], values[5:35, 5:31, 13:15] = 1, 2, 3
    write_label_map(path, LabelMap(values, KNEE, default_table([1, 2, 3])), form_from_grid(KNEE))
    return path


NAMES = "1=femur,2=femoral-cartilage,3=quadriceps"


def test_known_names_are_enough_for_thickness_and_its_map(tmp_path):
    labels = write_knee(tmp_path / "knee.nii.gz")
    run_measure(MeasureOptions(labels, output=tmp_path / "out", names=NAMES, thickness_maps=True))
    _, cartilage, muscle = rows_of(tmp_path / "out" / "metrics.csv")
    assert float(cartilage["thickness_mean_mm"]) == pytest.approx(3.0, abs=0.1)
    assert muscle["thickness_mean_mm"] == ""
    rows = rows_of(tmp_path / "out" / "morphometry.csv")
    assert tuple(rows[0]) == MORPHOMETRY_COLUMNS
    whole = {row["measure"]: row["value"] for row in rows if row["region"] == "all"}
    assert float(whole["thickness_p50"]) == pytest.approx(3.0, abs=0.1)
    assert float(whole["cross_section_max"]) == pytest.approx(30 * 26 * 0.35)
    volume, _ = read_volume(tmp_path / "out" / "thickness" / "knee.nii.gz")
    assert volume.grid.matches(KNEE)
    assert volume.intensities[CARTILAGE] == pytest.approx(3.0, abs=0.3)
    assert np.count_nonzero(volume.intensities) == 16 * 14 * 2


def test_dixon_images_give_muscles_a_fat_fraction(tmp_path):
    labels = write_knee(tmp_path / "l" / "knee.nii.gz")
    for name, level in (("fat", 20.0), ("water", 60.0)):
        (tmp_path / name).mkdir()
        write_volume(
            tmp_path / name / "knee.nii.gz", Volume(np.full(KNEE.shape, level, np.float32), KNEE), form_from_grid(KNEE)
        )
    result = run_measure(MeasureOptions(labels, names=NAMES, fat=tmp_path / "fat", water=tmp_path / "water"))
    (fraction,) = [shape for _, shape in result.shapes if shape.measure == "fat_fraction_dixon"]
    assert (fraction.tissue, fraction.value) == ("quadriceps", pytest.approx(0.25))


def test_rows_of_a_tissue_that_the_field_of_view_cuts_say_so(tmp_path):
    values = np.zeros(KNEE.shape, np.uint8)
    values[5:20, 5:31] = 3
    path = tmp_path / "thigh.nii.gz"
    write_label_map(path, LabelMap(values, KNEE, default_table([3])), form_from_grid(KNEE))
    result = run_measure(MeasureOptions(path, names=NAMES))
    assert {shape.reason for _, shape in result.shapes} == {"cut by the field of view"}


def test_half_of_what_is_needed_is_refused(tmp_path):
    labels = write_labels(tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="needs fat and water images"):
        run_measure(MeasureOptions(labels, fat=labels))
    with pytest.raises(UsageError, match="thickness maps need an output folder"):
        run_measure(MeasureOptions(labels, thickness_maps=True))


def test_maps_fill_their_columns_and_a_case_without_one_is_refused(tmp_path):
    for case in ("a", "b"):
        write_labels(tmp_path / "labels" / f"{case}_seg.nii.gz")
    values = np.full(SHAPE, np.nan, np.float32)
    values[2:5, 2:7, 1:4] = 41.5
    write_volume(tmp_path / "maps" / "a_T2map.nii.gz", Volume(values, GRID), form_from_grid(GRID))
    write_image(tmp_path / "maps" / "a_T2map_rsquared.nii.gz", 1.0)
    options = MeasureOptions(tmp_path / "labels", maps=tmp_path / "maps", output=tmp_path / "out", map_unit="ms")
    result = run_measure(options)
    assert [refused.case for refused in result.refused] == ["b"]
    assert "0 maps have the case's name" in result.refused[0].reason
    (row,) = rows_of(tmp_path / "out" / "metrics.csv")
    assert (row["map_mean"], row["map_sd"], row["map_unit"]) == ("41.5", "0", "ms")
    assert "map_mean leaves out 15 of 60 voxels" in row["reason"]


def test_one_map_file_serves_one_case_and_must_lie_on_its_grid(tmp_path):
    labels = write_labels(tmp_path / "labels" / "a.nii.gz")
    write_image(tmp_path / "t2.nii.gz", 30.0)
    ((_, measure),) = run_measure(MeasureOptions(labels, maps=tmp_path / "t2.nii.gz")).measures
    assert measure.on_map.mean == 30.0
    write_image(tmp_path / "t2.nii.gz", 30.0, Grid(SHAPE, np.diag([-0.5, -0.7, 4.0, 1.0])))
    with pytest.raises(InputError, match="labels and map lie on different grids"):
        run_measure(MeasureOptions(labels, maps=tmp_path / "t2.nii.gz"))
