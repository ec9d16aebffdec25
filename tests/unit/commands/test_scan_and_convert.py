"""The two commands as a user calls them."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from msksam_cli.commands.convert import convert
from msksam_cli.commands.scan import scan
from msksam_cli.errors import InputError, UsageError


@pytest.fixture
def call():
    app = typer.Typer()
    app.command()(scan)
    app.command()(convert)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_scan_exits_0_3_or_raises_what_exits_4(call, synthetic, tmp_path):
    synthetic().write(tmp_path / "a")
    assert call("scan", tmp_path / "a").exit_code == 0
    synthetic(series_uid="1.2.3").write(tmp_path / "a" / "gap", indices=[0, 1, 4, 5])
    assert call("scan", tmp_path / "a").exit_code == 3
    nothing = call("scan", tmp_path / "a" / "gap").exception
    assert isinstance(nothing, InputError)
    assert nothing.exit_code == 4


def test_scan_as_json_is_json(call, synthetic, tmp_path):
    synthetic().write(tmp_path)
    result = call("scan", tmp_path, "--json", "--min-slices", "6")
    assert [series["slices"] for series in json.loads(result.stdout)["series"]] == [6]


def test_contradicting_forms_are_a_usage_error(call, tmp_path):
    assert isinstance(call("scan", tmp_path, "--use-sform", "--use-qform").exception, UsageError)


def test_convert_writes_where_it_is_told(call, synthetic, tmp_path):
    synthetic().write(tmp_path / "a")
    result = call("convert", tmp_path / "a", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "1 volumes written; files: 6 used, 0 skipped, 0 refused" in result.stdout
    assert len(list((tmp_path / "out").glob("series-4-*.nii.gz"))) == 1
