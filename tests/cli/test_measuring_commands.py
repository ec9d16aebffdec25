import subprocess
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from msksam_cli.commands.evaluate import evaluate
from msksam_cli.commands.measure import measure
from msksam_cli.commands.report import report
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import read_csv

GRID = Grid((12, 10, 6), np.diag([-0.5, -0.7, 3.0, 1.0]))


@pytest.fixture
def folders(tmp_path):
    values = np.zeros(GRID.shape, np.uint8)
    values[2:6, 2:7, 1:4] = 1
    for name in ("p/a.nii.gz", "r/a_seg.nii.gz"):
        write_label_map(tmp_path / name, LabelMap(values, GRID, default_table([1])), form_from_grid(GRID))
    return tmp_path


@pytest.fixture
def run():
    app = typer.Typer()
    for command in (evaluate, measure, report):
        app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_evaluate_prints_a_row_per_tissue_and_exits_0_when_all_cases_were_compared(folders, run):
    options = ("--map", "1=femur", "--map-pred", "1=femur", "-o", folders / "out")
    result = run("evaluate", folders / "p", folders / "r", *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == [
        "femur",
        "1",
        "1.000",
        "1.000",
        "1.000",
        "0.00",
        "0.00",
        "0.0",
        "0",
        "0",
    ]
    assert (folders / "out" / "per_case.csv").is_file()


def test_evaluate_names_the_case_that_carries_the_result_on_stderr(tmp_path, run):
    for number, (predicted, reference) in enumerate([(3, 3), (4, 4), (5, 5), (6, 6), (3, 3), (9, 4)]):
        for side, length in (("p", predicted), ("r", reference)):
            values = np.zeros(GRID.shape, np.uint8)
            values[:length, 2:7, 1:4] = 1
            form = form_from_grid(GRID)
            write_label_map(tmp_path / side / f"case-{number}.nii.gz", LabelMap(values, GRID, default_table([1])), form)
    result = run("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "label-1, volume_mm3: case-5 carries bias and limits: without it bias 0" in result.stderr


def test_evaluate_exits_3_and_names_the_case_that_has_no_partner(folders, run):
    (folders / "p" / "b.nii.gz").write_bytes((folders / "p" / "a.nii.gz").read_bytes())
    result = run("evaluate", folders / "p", folders / "r", "-o", folders / "out")
    assert result.exit_code == 3
    assert "b: no reference has this name" in result.stderr


def test_measure_prints_volumes_and_report_writes_the_page(folders, run):
    measured = run("measure", folders / "p", "--map", "1=femur", "-o", folders / "out")
    assert measured.stdout.splitlines()[1].split() == ["a", "femur", "complete", "63.0"]
    assert run("report", folders / "out").exit_code == 0
    assert (folders / "out" / "report.html").is_file()


def test_measure_takes_quantitative_maps_beside_the_names_of_labels(folders, run):
    level = Volume(np.full(GRID.shape, 0.036, np.float32), GRID)
    write_volume(folders / "maps" / "a_T2map.nii.gz", level, form_from_grid(GRID))
    options = ("--map", "1=femur", "--maps", folders / "maps", "--map-unit", "s", "-o", folders / "out")
    assert run("measure", folders / "p", *options).exit_code == 0
    (row,) = read_csv(folders / "out" / "metrics.csv")
    assert (row["tissue"], row["map_unit"]) == ("femur", "s")
    assert float(row["map_mean"]) == pytest.approx(0.036)


def test_measuring_imports_neither_torch_nor_simpleitk():
    code = (
        "import sys; import msksam_cli.pipeline.measure, msksam_cli.pipeline.evaluate, msksam_cli.pipeline.report; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'SimpleITK', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
