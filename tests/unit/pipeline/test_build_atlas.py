from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from msksam_cli.commands.atlas import app
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, UsageError
from msksam_cli.io.atlas_folder import read_atlas, write_atlas
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, build_atlas, check_atlas

GRID = Grid((26, 30, 20), np.array([[2.0, 0, 0, -26], [0, 2.0, 0, -30], [0, 0, 3.0, -30], [0, 0, 0, 1]]))


def _write_case(folder: Path, name: str, shift_mm: float, grid: Grid = GRID) -> None:
    world = GRID.to_world_mm(np.moveaxis(np.indices(GRID.shape), 0, -1)) - (shift_mm, 0, 0)
    x, y, z = np.moveaxis(world, -1, 0)
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[(x / 14) ** 2 + (y / 17) ** 2 + ((z - 10) / 14) ** 2 < 1] = 7
    values[(x / 12) ** 2 + (y / 9) ** 2 + ((z + 15) / 9) ** 2 < 1] = 9
    image = np.array([10.0, 0, 0, 0, 0, 0, 0, 90, 0, 50], dtype=np.float32)[values]
    image += np.random.default_rng(len(name)).normal(0, 2, GRID.shape).astype(np.float32)
    form = form_from_grid(GRID)
    write_volume(folder / "images" / f"{name}.nii.gz", Volume(image, GRID), form)
    labels = LabelMap(values, grid, default_table([7, 9]))
    write_label_map(folder / "labels" / f"{name}.nii.gz", labels, form_from_grid(grid))


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    for number, name in enumerate(("one", "three", "four5")):
        _write_case(folder, name, 2.0 * number)
    (folder / "labels.tsv").write_text("index\tname\tgroup\n7\tbig\tbone\n9\tsmall\tbone\n")
    return folder


def test_a_folder_of_cases_becomes_an_atlas_with_its_own_numbers_names_and_card(cases: Path, tmp_path: Path) -> None:
    built = build_atlas(BuildAtlasOptions(cases, tmp_path / "toy-v1", spacing_mm=3.0, left_out=1))
    atlas = read_atlas(tmp_path / "toy-v1")
    assert atlas.sha256 == built.atlas.sha256
    assert (atlas.name, atlas.tissues.indices, atlas.tissues.by_index(9).name) == ("toy-v1", (7, 9), "small")
    assert atlas.populations[7].cases == 3
    assert built.card.left_out == 1
    assert built.card.tissues[7].dice_mean > 0.85
    assert built.unmatched == ()
    assert check_atlas(str(tmp_path / "toy-v1")) == []


def test_without_a_table_labels_name_themselves(cases: Path, tmp_path: Path) -> None:
    (cases / "labels.tsv").unlink()
    built = build_atlas(BuildAtlasOptions(cases, tmp_path / "plain", spacing_mm=3.0, left_out=0))
    assert [tissue.name for tissue in built.atlas.tissues] == ["label-7", "label-9"]


def test_a_case_on_another_grid_is_named(cases: Path, tmp_path: Path) -> None:
    shifted = Grid(GRID.shape, GRID.affine + np.eye(4, k=3) * 9)
    _write_case(cases, "crooked", 0.0, shifted)
    with pytest.raises(GridMismatchError, match=r"case crooked: .* do not share a grid"):
        build_atlas(BuildAtlasOptions(cases, tmp_path / "never", spacing_mm=3.0))
    assert not (tmp_path / "never").exists()


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown side 'up'"):
        BuildAtlasOptions(Path(), Path(), side="up")
    with pytest.raises(UsageError, match="atlas spacing of 9 mm"):
        BuildAtlasOptions(Path(), Path(), spacing_mm=9)


def test_the_command_builds_shows_and_checks_and_reports_what_has_no_partner(cases: Path, tmp_path: Path) -> None:
    (cases / "labels" / "orphan.nii.gz").touch()
    run = CliRunner()
    out = str(tmp_path / "toy-v2")
    result = run.invoke(app, ["build", str(cases), "-o", out, "--spacing", "3", "--left-out", "0"])
    assert result.exit_code == 3
    assert "orphan" in result.stderr
    shown = run.invoke(app, ["show", out])
    assert shown.exit_code == 0
    assert "toy-v2" in shown.stdout
    assert "small" in shown.stdout
    checked = run.invoke(app, ["check", out])
    assert checked.exit_code == 4
    assert "no leave-one-out quality card" in checked.stderr


def test_checking_finds_probabilities_that_exceed_one(cases: Path, tmp_path: Path) -> None:
    built = build_atlas(BuildAtlasOptions(cases, tmp_path / "a", spacing_mm=3.0, left_out=1))
    doubled = {index: np.ones_like(p) for index, p in built.atlas.probabilities.items()}
    write_atlas(tmp_path / "b", replace(built.atlas, probabilities=doubled))
    assert any("add up to 2.00" in complaint for complaint in check_atlas(str(tmp_path / "b")))


def test_listing_names_the_bundled_knee() -> None:
    listed = CliRunner().invoke(app, ["list"])
    assert listed.exit_code == 0
    assert "knee-v1" in listed.stdout
