import io
import json
import shutil
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from PIL import Image

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.io.figures import jpeg_from_png, write_overlay
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.prompt_files import write_prompts
from msksam_cli.io.study import scan_study
from msksam_cli.io.tables import read_csv, write_csv, write_tissue_table
from msksam_cli.io.viewer_bundle import viewer_bundle
from msksam_cli.measure.morphometry import METRICS_COLUMNS, measure_tissues
from msksam_cli.measure.qc import QC_COLUMNS, quality_flags
from msksam_cli.pipeline.report import ReportOptions, run_page, run_report, write_report

GRID = Grid((20, 16, 6), np.diag([-0.5, -0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(1, "femur", group="bone"), Tissue(2, "tibia", group="bone")))


def labels_and_volume():
    values = np.zeros(GRID.shape, np.uint8)
    values[0:9, 3:9, 2:5] = 1
    return LabelMap(values, GRID, TISSUES), Volume(np.ones(GRID.shape, np.float32), GRID)


@pytest.fixture
def run_folder(tmp_path):
    labels, volume = labels_and_volume()
    rows = [measure.row(case) for case in ("one", "two") for measure in measure_tissues(labels, volume)]
    write_csv(tmp_path / "metrics.csv", METRICS_COLUMNS, rows)
    write_csv(tmp_path / "qc.csv", QC_COLUMNS, [flag.row("one") for flag in quality_flags(labels)])
    write_overlay(tmp_path / "figures" / "one.png", volume, labels)
    record = {
        "msksam": "0.1.0",
        "options": {"tissue": "bone"},
        "refused": [{"case": "three", "reason": "slice missing"}],
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    return tmp_path


def by_name(page):
    return {case.name: case for case in page.cases}


def test_each_case_has_its_tissues_its_doubts_and_its_figure(run_folder):
    page = run_page(run_folder)
    one, two = (by_name(page)[name] for name in ("one", "two"))
    assert page.refused == ("three: slice missing",)
    assert page.lead.startswith("2 cases segmented, 1 refused.")
    assert page.columns == ("tissues", "complete", "cut by field of view", "empty", "failed", "doubts",
                            "lowest IoU prediction")  # fmt: skip
    assert one.cells == ("2", "0", "1", "1", "0", "2", "")
    assert two.cells[-2] == "0"
    assert one.doubts == ("tibia: no voxel carries this label (empty)",)
    assert [text.split(":")[0] for text in one.remarks] == ["femur"]
    assert one.overlay.picture.description == "Slices of one with outlines of femur"
    assert two.overlay is None
    assert ("tissue", "bone") in page.facts


def test_the_doubtful_case_stands_first_and_of_sound_ones_that_of_low_expected_dice(run_folder):
    assert [case.name for case in run_page(run_folder).cases] == ["one", "two"]
    rows = read_csv(run_folder / "metrics.csv")
    rated = [{**row, "status": "complete", "expected_dice": {"one": "0.9", "two": "0.5"}[row["case"]]} for row in rows]
    write_csv(run_folder / "metrics.csv", METRICS_COLUMNS, rated)
    page = run_page(run_folder)
    assert [case.name for case in page.cases] == ["two", "one"]
    assert page.columns[0] == "expected Dice"
    assert [case.cells[0] for case in page.cases] == ["0.50", "0.90"]
    assert "expected Dice" in page.cases[0].tables[0].columns


def test_columns_that_no_tissue_fills_are_left_out(run_folder):
    table = by_name(run_page(run_folder))["one"].tables[0]
    assert table.columns == ("tissue", "status", "reason", "volume mm³", "slices", "mean intensity")
    assert table.rows[0][3:] == ("170", "3", "1.0")
    assert table.rows[1][3:] == ("", "", "")


def test_a_report_is_rebuilt_byte_for_byte(run_folder):
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first
    assert first.count(b"data:image/jpeg;base64,") == 1


def test_a_run_without_record_flags_or_figures_still_has_a_report(run_folder):
    for path in (run_folder / "run.json", run_folder / "qc.csv", run_folder / "figures" / "one.png"):
        path.unlink()
    page = run_page(run_folder)
    assert [(case.name, case.overlay, case.doubts) for case in page.cases] == [("one", None, ()), ("two", None, ())]
    assert write_report(run_folder).is_file()


def test_records_of_all_shards_tell_what_was_refused(run_folder):
    record = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").unlink()
    for part in (1, 2):
        record["refused"] = [{"case": f"case-{part}", "reason": "gap"}]
        (run_folder / f"run-{part}-of-2.json").write_text(json.dumps(record))
    assert run_page(run_folder).refused == ("case-1: gap", "case-2: gap")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no metrics\.csv"):
        write_report(tmp_path)


@pytest.fixture
def whole_run(run_folder):
    """The run with labels, prompts and the image of its first case."""
    labels, volume = labels_and_volume()
    write_label_map(run_folder / "labels" / "one.nii.gz", labels, form_from_grid(GRID))
    write_volume(run_folder / "images" / "one.nii.gz", volume, form_from_grid(GRID))
    write_tissue_table(run_folder / "labels.tsv", TISSUES)
    write_overlay(run_folder / "figures" / "one.png", volume, labels, title="one")
    asked = [Prompt(1, 3, Box((3.0, 0.0, 8.0, 8.0)), Points(((5.0, 4.0),), (True,))), Prompt(2, 0, Box((1, 1, 2, 2)))]
    write_prompts(
        run_folder / "prompts" / "one.json", asked, [0.9, 0.2], grid=GRID, tissues=TISSUES, provenance={"case": "one"}
    )
    return run_folder


def test_prompts_of_the_slices_that_are_shown_are_drawn(whole_run):
    (mark,) = by_name(run_page(whole_run))["one"].overlay.marks
    assert mark.tissue_index == 1
    assert mark.box[0] < mark.points[0][0] < mark.box[2]


def test_prompts_are_not_drawn_over_a_figure_of_other_labels(whole_run):
    values = np.zeros(GRID.shape, np.uint8)
    values[0:19, 9:12, 0:6] = 2
    write_label_map(whole_run / "labels" / "one.nii.gz", LabelMap(values, GRID, TISSUES), form_from_grid(GRID))
    page = run_page(whole_run)
    assert by_name(page)["one"].overlay.marks == ()
    assert "one: no prompts are drawn: the labels are not those of the figure any more" in page.notes


def test_maps_are_shown_where_their_figures_are(whole_run):
    shutil.copyfile(whole_run / "figures" / "one.png", whole_run / "figures" / "one-thickness.png")
    maps = by_name(run_page(whole_run))["one"].maps
    assert [picture.description for picture in maps] == ["Thickness map of one"]


def test_a_case_whose_labels_change_gets_another_hash_and_the_run_keeps_its_name(whole_run):
    before = run_page(whole_run)
    values = np.zeros(GRID.shape, np.uint8)
    values[0:9, 3:9, 2:5] = 2
    write_label_map(whole_run / "labels" / "one.nii.gz", LabelMap(values, GRID, TISSUES), form_from_grid(GRID))
    after = run_page(whole_run)
    assert len(by_name(before)["one"].labels_sha256) == 64
    assert by_name(before)["one"].labels_sha256 != by_name(after)["one"].labels_sha256
    assert before.run_id == after.run_id


needs_viewer = pytest.mark.skipif(viewer_bundle() is None, reason="the extra `viewer` (ipyniivue) is not installed")


@needs_viewer
def test_the_viewer_holds_the_volumes_that_are_at_hand(whole_run):
    done = run_report(ReportOptions(whole_run))
    assert (done.cases, done.volumes, done.has_viewer) == (2, 1, True)
    assert done.megabytes < 4
    assert run_report(ReportOptions(whole_run, viewer=False)).volumes == 0
    assert not run_report(ReportOptions(whole_run, viewer_cases=0)).has_viewer


@needs_viewer
def test_another_volume_takes_the_place_of_one_that_cannot_be_read(whole_run):
    for kind in ("images", "labels"):
        shutil.copyfile(whole_run / kind / "one.nii.gz", whole_run / kind / "two.nii.gz")
    assert {case.name: case.preview is not None for case in run_page(whole_run, viewer_cases=1).cases} == {
        "one": True,
        "two": False,
    }
    damaged = whole_run / "images" / "one.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    page = run_page(whole_run, viewer_cases=1)
    assert {case.name: case.preview is not None for case in page.cases} == {"one": False, "two": True}
    assert page.notes[0].startswith("one is not in the viewer: compressed")
    assert page.lead.startswith("2 cases segmented, 1 refused. The viewer holds 1 volume")


@needs_viewer
def test_images_of_nifti_input_come_from_the_study(whole_run, tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    (whole_run / "images" / "one.nii.gz").rename(study / "one.nii.gz")
    assert run_report(ReportOptions(whole_run)).volumes == 0
    with pytest.raises(InputError, match="no case has a volume for the viewer"):
        run_report(ReportOptions(whole_run, viewer=True))
    assert run_report(ReportOptions(whole_run, images=study)).volumes == 1
    moved = Grid(GRID.shape, GRID.affine + np.diag([0, 0, 0.5, 0]))
    write_volume(study / "one.nii.gz", Volume(labels_and_volume()[1].intensities, moved), form_from_grid(moved))
    page = run_page(whole_run, scan_study(study).series)
    assert page.viewer is None
    assert "one is not in the viewer: labels and image lie on different grids" in page.notes


def test_asking_for_a_viewer_that_is_not_installed_is_an_error(run_folder, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("msksam_cli.io.viewer_bundle.distribution", missing)
    with pytest.raises(EnvironmentFault, match=r"viewer is not installed.*msksam\[viewer\]"):
        run_report(ReportOptions(run_folder, viewer=True))
    assert not run_report(ReportOptions(run_folder)).has_viewer


def test_many_cases_share_the_budget_of_pictures():
    noise = np.random.default_rng(1).integers(0, 255, (900, 1400, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((1400, 1800)).save(stream, format="PNG", compress_level=1)
    whole = jpeg_from_png(stream.getvalue())
    small = jpeg_from_png(stream.getvalue(), len(whole) // 3)
    assert len(small) <= len(whole) // 3
    assert Image.open(io.BytesIO(small)).size == (910, 1170)
    assert jpeg_from_png(stream.getvalue(), len(whole)) == whole
