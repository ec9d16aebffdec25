"""The functions of the package do what the commands do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import msksam_cli as msksam
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, write_label_map


def test_evaluate_compares_two_files_from_python(tmp_path: Path) -> None:
    grid = Grid((6, 7, 8), np.diag([0.5, 0.7, 3.0, 1.0]))
    values = np.zeros(grid.shape, np.uint8)
    values[1:5, 2:6, 2:6] = 1
    shifted = np.roll(values, 1, axis=0)
    for name, labels in (("a", values), ("b", shifted)):
        write_label_map(tmp_path / f"{name}.nii.gz", LabelMap(labels, grid, default_table([1])), form_from_grid(grid))
    result = msksam.evaluate(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path / "out")
    assert result.comparisons[0].dice == pytest.approx(0.75)
    assert (tmp_path / "out" / "summary.csv").is_file()


def test_segment_refuses_from_python_as_the_command_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study"):
        msksam.segment(tmp_path / "nothing", ["bone"])
    with pytest.raises(UsageError, match="no tissue"):
        msksam.segment(tmp_path, [])
