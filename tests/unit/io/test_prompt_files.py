from __future__ import annotations

import json

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import InputError
from msksam_cli.io.prompt_files import read_prompts, write_prompts

AFFINE = np.array([[0.0, 0, -3.0, 10], [0.5, 0, 0, 20], [0, 0.7, 0, 30], [0, 0, 0, 1]])
GRID = Grid((9, 14, 6), AFFINE)
TISSUES = TissueTable((Tissue(2, "femur"), Tissue(7, "tibia")))
PROMPTS = (
    Prompt(2, 1, Box((1 / 3, 2.0, 12.123456789, 8.0)), None, "atlas:knee"),
    Prompt(7, 1, None, Points(((3.0, 1.0), (0.1 + 0.2, 4.0)), (True, False)), "labels"),
    Prompt(2, 5, Box((0.0, 0.0, 13.0, 8.0)), Points(((13.0, 8.0),), (True,)), "labels"),
)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.json"
    write_prompts(path, PROMPTS, [0.5, 1.25, 0.1], grid=GRID, tissues=TISSUES, provenance={"model": "m", "case": "a"})
    return path


def _edited(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_prompts_come_back_equal_to_the_last_bit(written):
    assert read_prompts(written, GRID, TISSUES) == PROMPTS


def test_millimetres_are_those_of_the_voxel_at_row_y_and_column_x(written):
    content = json.loads(written.read_text())
    assert content["model"] == "m"
    point = content["prompts"][2]["points_mm"][0]
    assert point == pytest.approx([10 - 3 * 5, 20 + 0.5 * 8, 30 + 0.7 * 13])
    corners = content["prompts"][2]["box_corners_mm"]
    assert corners[0] == pytest.approx([-5, 20, 30])
    assert corners[1] == pytest.approx(point)
    assert content["prompts"][1]["iou_prediction"] == 1.25


def test_only_wanted_tissues_are_read_and_they_are_matched_by_name(written):
    renumbered = TissueTable((Tissue(40, "tibia"),))
    assert [(p.tissue_index, p.points) for p in read_prompts(written, GRID, renumbered)] == [(40, PROMPTS[1].points)]


def test_a_case_without_prompts_can_be_written_and_read(tmp_path):
    write_prompts(tmp_path / "a.json", [], [], grid=GRID, tissues=TISSUES, provenance={})
    assert read_prompts(tmp_path / "a.json", GRID, TISSUES) == ()


def test_prompts_of_another_grid_are_refused(written):
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    for grid in (Grid((14, 9, 6), AFFINE), Grid(GRID.shape, moved)):
        with pytest.raises(InputError, match=r"a\.json was made for a grid of \(9, 14, 6\)"):
            read_prompts(written, grid, TISSUES)


@pytest.mark.parametrize("text", ["[]", '{"format": "other"}', "not json", ""], ids=str)
def test_a_file_of_another_kind_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_prompts(tmp_path / "a.json", GRID, TISSUES)
    with pytest.raises(InputError, match=r"b\.json"):
        read_prompts(tmp_path / "b.json", GRID, TISSUES)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.pop("grid"),
        lambda c: c.pop("prompts"),
        lambda c: c["grid"].update(shape=7),
        lambda c: c["grid"].update(affine=[[1]]),
        lambda c: c["prompts"].append("x"),
        lambda c: c["prompts"][0].update(box_xyxy_px=[1, 2, 3]),
        lambda c: c["prompts"][0].update(box_xyxy_px=[9, 0, 1, 1]),
        lambda c: c["prompts"][0].update(box_xyxy_px=["a", 0, 1, 1]),
        lambda c: c["prompts"][0].pop("box_xyxy_px"),
        lambda c: c["prompts"][0].update(slice=float("inf")),
        lambda c: c["prompts"][0].update(slice=None),
        lambda c: c["prompts"][0].pop("tissue"),
        lambda c: c["prompts"][1].update(is_foreground=[True]),
        lambda c: c["prompts"][1].update(points_xy_px=[1, 2]),
    ],
)
def test_a_file_with_a_damaged_entry_is_refused_in_one_line(edit, written):
    with pytest.raises(InputError, match="damaged"):
        read_prompts(_edited(written, edit), GRID, TISSUES)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["prompts"][0].update(slice=6), "asks about slice 6 of 6"),
        (lambda c: c["prompts"][0].update(slice=-1), "asks about slice -1 of 6"),
        (lambda c: c["prompts"][0].update(box_xyxy_px=[0, 0, 14, 8]), "outside a slice of 9 rows and 14 columns"),
        (lambda c: c["prompts"][1].update(points_xy_px=[[3, 9], [0, 0]]), "outside a slice of 9 rows"),
    ],
    ids=["slice", "negative slice", "box", "point"],
)
def test_prompts_outside_the_volume_are_refused(edit, message, written):
    with pytest.raises(InputError, match=message):
        read_prompts(_edited(written, edit), GRID, TISSUES)
