import json

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError
from msksam_cli.io.figures import write_overlay
from msksam_cli.io.tables import write_csv
from msksam_cli.measure.morphometry import METRICS_COLUMNS, measure_tissues
from msksam_cli.measure.qc import QC_COLUMNS, quality_flags
from msksam_cli.pipeline.report import run_page, write_report

GRID = Grid((20, 16, 6), np.diag([-0.5, -0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(1, "femur", group="bone"), Tissue(2, "tibia", group="bone")))


@pytest.fixture
def run_folder(tmp_path):
    values = np.zeros(GRID.shape, np.uint8)
    values[0:9, 3:9, 2:5] = 1
    labels = LabelMap(values, GRID, TISSUES)
    volume = Volume(np.ones(GRID.shape, np.float32), GRID)
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


def test_each_case_has_its_tissues_its_doubts_and_its_figure(run_folder):
    page = run_page(run_folder)
    overview, one, two = page.sections
    assert overview.doubts == ("three: slice missing",)
    assert overview.tables[0].rows[0] == ("one", "2", "0", "1", "1", "0", "2")
    assert overview.tables[0].rows[1][-1] == "0"
    assert (one.title, two.title) == ("one", "two")
    assert [text.split(":")[0] for text in one.doubts] == ["femur", "tibia"]
    assert (len(one.pictures), two.pictures) == (1, ())
    assert one.pictures[0].description == "Slices of one with outlines of femur"
    assert ("tissue", "bone") in page.facts


def test_columns_that_no_tissue_fills_are_left_out(run_folder):
    table = run_page(run_folder).sections[1].tables[0]
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
    assert len(run_page(run_folder).sections) == 3


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no metrics\.csv"):
        write_report(tmp_path)
