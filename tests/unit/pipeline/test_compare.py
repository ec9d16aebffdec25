"""A labelled set compared from end to end with a real, if random, network and an atlas msksam built itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import msksam_cli as msksam
from msksam_cli.atlas.placement import place_atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import read_csv, write_tissue_table
from msksam_cli.pipeline import kept
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, build_atlas
from msksam_cli.pipeline.compare import CompareOptions, compare
from msksam_cli.pipeline.compare_page import comparison_json, comparison_text
from msksam_cli.pipeline.compare_set import labelled_set, read_case
from msksam_cli.pipeline.fusion_weights import fitted_path
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.model import build_sam

GRID = Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0]))
OWN = TissueTable((Tissue(7, "femur", group="bone"), Tissue(9, "tibia", group="bone"), Tissue(11, "toe")))


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for all tests here, so that the atlas is placed on each volume once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSKSAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cases(tmp_path: Path, make_bones) -> Path:
    """Three labelled volumes under numbers of their own."""
    folder = tmp_path / "cases"
    for number in range(3):
        volume, labels = make_bones(GRID, shift_px=number * 0.7)
        values = np.where(labels.values == 2, 7, np.where(labels.values == 5, 9, 0)).astype(np.uint8)
        write_volume(folder / "images" / f"c{number}.nii.gz", volume, form_from_grid(GRID))
        write_label_map(folder / "labels" / f"c{number}.nii.gz", LabelMap(values, GRID, OWN), form_from_grid(GRID))
    write_tissue_table(folder / "labels.tsv", OWN)
    return folder


@pytest.fixture
def second_checkpoint(small_checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "fine-tuned.safetensors"
    path.write_bytes(small_checkpoint.read_bytes())
    return path


@pytest.fixture
def loud_checkpoint(tmp_path: Path) -> Path:
    """A random network as sure of its masks as a trained one: logits far beyond the limit fusion clips them to."""
    torch.set_num_threads(1)
    torch.manual_seed(5)
    sam = build_sam("msksam_small", 64)
    for mlp in sam.mask_decoder.output_hypernetworks_mlps:
        for values in mlp.layers[-1].parameters():
            values.data *= 200
    path = tmp_path / "loud.safetensors"
    path.write_bytes(dump_checkpoint(sam, "msksam_small", name="loud", preprocessing=PREPROCESSING_VERSION))
    return path


def options(cases, atlas, *models, **more) -> CompareOptions:
    return CompareOptions(cases, models=tuple(map(str, models)), atlas=str(atlas), device="cpu", **more)


def test_every_case_is_labelled_every_way_by_every_model_and_all_is_written(
    cases, small_atlas, small_checkpoint, second_checkpoint, tmp_path
):
    out = tmp_path / "out"
    result = compare(options(cases, small_atlas, small_checkpoint, second_checkpoint, output=out))
    assert result.exit_code == 0
    assert result.models == ("random", "fine-tuned")
    rows = read_csv(out / "compare.csv")
    assert len(rows) == 3 * 2 * 6  # cases × tissues × (atlas, ellipse, two columns of two models)
    assert {(row["tissue"], row["label"]) for row in rows} == {("femur", "2"), ("tibia", "5")}
    by_way = {(row["case"], row["tissue"], row["column"], row["model"]): row["dice"] for row in rows}
    assert float(by_way["c1", "femur", "atlas", ""]) > 0.8
    assert float(by_way["c1", "femur", "ellipse", ""]) > 0.8
    for (case, tissue, column, model), dice in by_way.items():
        if model == "fine-tuned":  # the same weights under another name
            assert dice == by_way[case, tissue, column, "random"]
    summary = read_csv(out / "compare_summary.csv")
    mean = next(r for r in summary if (r["tissue"], r["column"], r["measure"]) == ("femur", "atlas", "dice"))
    assert float(mean["mean"]) == pytest.approx(
        np.mean([float(by_way[f"c{n}", "femur", "atlas", ""]) for n in range(3)])
    )
    same = [r for r in read_csv(out / "paired.csv") if r["than_model"] == "random" and r["model"] == "fine-tuned"]
    assert {float(row["mean_difference"]) for row in same if row["mean_difference"]} == {0.0}
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "SAM, true prompts, fine-tuned" in (out / "report.html").read_text()
    assert "femur" in comparison_text(result)
    assert json.loads(comparison_json(result))["models"] == ["random", "fine-tuned"]


def test_a_case_the_atlas_was_built_from_is_marked_and_left_out_of_every_mean(
    cases, small_checkpoint, make_bones, tmp_path
):
    built = build_atlas(BuildAtlasOptions(cases, tmp_path / "own-atlas", spacing_mm=4.0, left_out=0))
    with pytest.raises(UsageError, match="built from all 3 cases"):
        compare(options(cases, built.folder, small_checkpoint))
    volume, labels = make_bones(GRID, shift_px=0.4)
    values = np.where(labels.values == 2, 7, np.where(labels.values == 5, 9, 0)).astype(np.uint8)
    write_volume(cases / "images" / "new.nii.gz", volume, form_from_grid(GRID))
    write_label_map(cases / "labels" / "new.nii.gz", LabelMap(values, GRID, OWN), form_from_grid(GRID))
    result = compare(options(cases, built.folder, small_checkpoint))
    marked = {one.comparison.case: one.in_atlas for one in result.compared}
    assert marked == {"c0": True, "c1": True, "c2": True, "new": False}
    assert {summary.measures["dice"].cases for summary in result.summaries} == {1}
    assert any("built from them: c0, c1, c2" in note for note in result.notes)


def test_the_fusion_weight_is_fitted_stored_with_the_checkpoint_and_used_from_then_on(
    cases, small_atlas, loud_checkpoint
):
    result = compare(options(cases, small_atlas, loud_checkpoint, fit_fusion=True))
    (fit,) = result.fits
    (bone,) = fit.groups
    assert (bone.group, bone.in_use, bone.cases) == ("bone", 1.0, 3)
    assert bone.dice[bone.weight] == max(bone.dice.values())
    # The network is sure and knows nothing, so that the prior must outweigh it to be heard: the heavier, the better.
    assert bone.weight > 1.0
    assert bone.dice[0.0] < bone.dice[0.5] < bone.dice[1.0] < bone.dice[2.0] - 0.05
    column = [s for s in result.summaries if s.pool.name == "all" and s.way.column == "atlas-prompts"]
    assert column[0].measures["dice"].mean == pytest.approx(bone.dice[1.0], abs=0.005)
    assert fitted_path(str(loud_checkpoint)).is_file()
    again = compare(options(cases, small_atlas, loud_checkpoint))
    column = [s for s in again.summaries if s.pool.name == "all" and s.way.column == "atlas-prompts"]
    assert column[0].measures["dice"].mean == pytest.approx(bone.dice[bone.weight], abs=0.005)


def test_two_cases_are_too_few_for_a_fit_and_said_before_any_work(cases, small_atlas, small_checkpoint):
    for folder in ("images", "labels"):
        (cases / folder / "c2.nii.gz").unlink()
    with pytest.raises(UsageError, match="fusion weights need 3 cases"):
        compare(options(cases, small_atlas, small_checkpoint, fit_fusion=True))


def test_a_damaged_case_is_refused_by_name_and_the_others_go_on(cases, small_atlas, small_checkpoint):
    (cases / "images" / "c1.nii.gz").write_bytes(b"no volume")
    result = compare(options(cases, small_atlas, small_checkpoint, tissues=("tibia",)))
    assert [one.case for one in result.refused] == ["c1"]
    assert result.exit_code == 3
    assert {one.comparison.case for one in result.compared} == {"c0", "c2"}
    assert {one.comparison.tissue for one in result.compared} == {"tibia"}


def test_truth_comes_under_the_atlas_numbers_and_without_what_the_atlas_does_not_know(cases, small_atlas):
    found = labelled_set(cases, atlas=str(small_atlas))
    assert found.tissues.indices == (2, 5)
    _, truth = read_case(found.cases[0], found)
    assert set(np.unique(truth.values)) == {0, 2, 5}
    named = labelled_set(cases, atlas=str(small_atlas), names="7=tibia,9=toe")
    assert [tissue.name for tissue in named.tissues] == ["tibia"]
    assert any("does not know: toe" in note for note in named.notes)


def test_values_without_names_are_a_named_atlass_own_or_refused(cases, small_atlas):
    (cases / "labels.tsv").unlink()
    with pytest.raises(UsageError, match="nothing names the label values"):
        labelled_set(cases)
    with pytest.raises(InputError, match="atlas two-bones knows femur, tibia"):
        labelled_set(cases, atlas=str(small_atlas))


def test_two_models_of_one_name_are_refused(cases, small_atlas, small_checkpoint):
    with pytest.raises(UsageError, match="two models are called random"):
        compare(options(cases, small_atlas, small_checkpoint, small_checkpoint))


def test_python_offers_what_the_command_does(tmp_path):
    with pytest.raises(InputError, match="neither images"):
        msksam.compare(tmp_path)
    with pytest.raises(UsageError, match="no model"):
        msksam.compare(tmp_path, models=())


def test_an_atlas_is_placed_on_a_case_once_and_found_again_in_the_cache(
    cases, small_atlas, small_checkpoint, tmp_path, monkeypatch
):
    placed = []

    def counted(*args, **kwargs):
        placed.append(args)
        return place_atlas(*args, **kwargs)

    for name in ("c1", "c2"):
        (cases / "images" / f"{name}.nii.gz").unlink()
        (cases / "labels" / f"{name}.nii.gz").unlink()
    monkeypatch.setattr(kept, "place_atlas", counted)
    cached = dataclasses.replace(options(cases, small_atlas, small_checkpoint), cache=tmp_path / "kept")
    first, second = compare(cached), compare(cached)
    assert len(placed) == 1
    assert [one.row() for one in first.compared] == [one.row() for one in second.compared]
    assert {one.comparison.case for one in second.compared} == {"c0"}
