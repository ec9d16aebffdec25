"""The crafted series beside the project: each ends as its own table says, and every accepted voxel is its truth."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT.parent / "shared" / "tools" / "dicom_zoo.py"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "robustness")
    return importlib.import_module("crafted_series")


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the crafted series beside the project (../shared/tools) are absent")
def test_every_crafted_series_ends_as_expected_with_exact_voxels(benchmark, tmp_path):
    rows = list(benchmark.zoo_rows(SCRIPT, tmp_path / "zoo"))
    assert len(rows) == 41
    assert [row for row in rows if not row.agrees] == []
    assert sum(row.voxels == "exact" for row in rows) == sum(row.expected.startswith("accept") for row in rows)
