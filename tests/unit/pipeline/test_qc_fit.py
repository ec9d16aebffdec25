"""Quality learnt from labelled cases with a real, if random, network, and told by the next run of segment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from msksam_cli.app import app
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import read_csv, write_tissue_table
from msksam_cli.measure.slice_signals import DecoderSigns, slice_signals
from msksam_cli.pipeline.judged import JUDGED_COLUMNS, Judged, crossed, judged_slices, worth
from msksam_cli.pipeline.qc_fit import QcFitOptions, qc_fit_text, run_qc_fit
from msksam_cli.pipeline.quality_file import read_quality_file
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

GRID = Grid((40, 36, 24), np.diag([2.0, 2.2, 2.9, 1.0]))
OWN = TissueTable((Tissue(7, "femur", group="bone"), Tissue(9, "tibia", group="bone")))


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for all tests here, so that the atlas is placed on each volume once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSKSAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cases(tmp_path: Path, make_bones) -> Path:
    folder = tmp_path / "cases"
    for number in range(4):
        volume, labels = make_bones(GRID, shift_px=number * 0.9)
        values = np.where(labels.values == 2, 7, np.where(labels.values == 5, 9, 0)).astype(np.uint8)
        write_volume(folder / "images" / f"c{number}.nii.gz", volume, form_from_grid(GRID))
        write_label_map(folder / "labels" / f"c{number}.nii.gz", LabelMap(values, GRID, OWN), form_from_grid(GRID))
    write_tissue_table(folder / "labels.tsv", OWN)
    return folder


@pytest.fixture
def own_checkpoint(small_checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    path.write_bytes(small_checkpoint.read_bytes())
    return path


def options(cases: Path, atlas: Path, model: Path, **more) -> QcFitOptions:
    return QcFitOptions(cases, model=str(model), atlas=str(atlas), device="cpu", **more)


def test_what_was_learnt_is_stored_with_the_model_and_told_by_the_next_run(
    cases, small_atlas, own_checkpoint, tmp_path
):
    fit = run_qc_fit(options(cases, small_atlas, own_checkpoint, output=tmp_path / "out"))
    stored = tmp_path / "own.safetensors.qc.json"
    assert fit.path == stored
    assert read_quality_file(stored) == fit.model
    assert fit.model.fit["cases"] == 4
    assert fit.exit_code == 0

    rows = read_csv(tmp_path / "out" / "slices.csv")
    assert len(rows) == fit.worth.slices
    assert {row["case"] for row in rows} == {"c0", "c1", "c2", "c3"}
    errors = [abs(float(row["expected_dice"]) - float(row["dice"])) for row in rows]
    assert np.mean(errors) == pytest.approx(fit.worth.mean_error, abs=1e-6)
    spread = np.std([float(row["dice"]) for row in rows])
    assert fit.worth.mean_error < spread, "worse than always saying the mean"
    assert (tmp_path / "out" / "calibration.png").read_bytes().startswith(b"\x89PNG")
    assert f"{fit.worth.slices} slices" in qc_fit_text(fit)

    run = run_segment(
        SegmentOptions(
            cases / "images", ("bone",), tmp_path / "run", atlas=str(small_atlas), model=str(own_checkpoint),
            device="cpu",
        )
    )  # fmt: skip
    slices = read_csv(run.folder / "slices.csv")
    assert slices
    assert all(0 <= float(row["expected_dice"]) <= 1 for row in slices)
    for row in read_csv(run.folder / "metrics.csv"):
        own = [s for s in slices if (s["case"], s["tissue"]) == (row["case"], row["tissue"])]
        areas = np.array([float(s["area_mm2"]) for s in own])
        wanted = np.average([float(s["expected_dice"]) for s in own], weights=areas)
        assert float(row["expected_dice"]) == pytest.approx(wanted, abs=1e-6)
        low = [f for f in read_csv(run.folder / "qc.csv") if (f["case"], f["tissue"]) == (row["case"], row["tissue"])]
        assert any(f["flag"] == "expected_dice_low" for f in low) == (wanted < 0.7)


def test_without_a_fit_slices_tell_their_signals_and_nothing_is_expected(cases, small_atlas, own_checkpoint, tmp_path):
    run = run_segment(
        SegmentOptions(
            cases / "images" / "c0.nii.gz", ("bone",), tmp_path / "run", atlas=str(small_atlas),
            model=str(own_checkpoint), device="cpu",
        )
    )  # fmt: skip
    slices = read_csv(run.folder / "slices.csv")
    assert all(row["expected_dice"] == "" and row["iou_prediction"] and row["prior_dice"] for row in slices)
    assert {row["expected_dice"] for row in read_csv(run.folder / "metrics.csv")} == {""}


def test_too_few_cases_are_refused(cases, small_atlas, own_checkpoint):
    (cases / "images" / "c3.nii.gz").unlink()
    (cases / "labels" / "c3.nii.gz").unlink()
    with pytest.raises(UsageError, match="4 cases that are not in the atlas, there are 3"):
        run_qc_fit(options(cases, small_atlas, own_checkpoint))


def test_too_few_slices_are_refused_with_their_numbers(cases, small_atlas, own_checkpoint):
    with pytest.raises(InputError, match="slices in their halves are too few"):
        run_qc_fit(options(cases, small_atlas, own_checkpoint, tissues=("tibia",)))
    assert not own_checkpoint.with_name("own.safetensors.qc.json").exists()


def test_the_command_prints_what_it_is_worth(cases, small_atlas, own_checkpoint, tmp_path):
    arguments = ["qc", "fit", str(cases), "--atlas", str(small_atlas), "--model", str(own_checkpoint)]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "AUROC" in done.stdout
    assert "stored as own.safetensors.qc.json" in done.stdout
    assert json.loads((tmp_path / "own.safetensors.qc.json").read_text())["fit"]["cases"] == 4


def test_slices_are_judged_by_counting(make_bones):
    _, truth = make_bones(GRID)
    values = np.roll(truth.values, 1, axis=0)
    labels = LabelMap(values, GRID, truth.tissues)
    judged = judged_slices("a", labels, slice_signals(labels, {}), truth)
    for one in judged:
        index = truth.tissues.by_name(one.tissue).index
        mask, true = (values[..., one.slice_index] == index), (truth.values[..., one.slice_index] == index)
        assert one.dice == pytest.approx(2 * (mask & true).sum() / (mask.sum() + true.sum()))
        assert one.wrong_mm2 == pytest.approx((mask ^ true).sum() * 2.0 * 2.2)
    assert {one.tissue for one in judged} == {"femur", "tibia"}


def test_a_judged_slice_comes_back_from_its_row(make_bones):
    _, truth = make_bones(GRID)
    signs = {(n, 2): DecoderSigns(0.5, 0.25) for n in range(24)}
    for one in judged_slices("a", truth, slice_signals(truth, signs), truth):
        row = one.row()
        assert tuple(row) == JUDGED_COLUMNS
        text = {name: "" if value is None else repr(value).strip("'") for name, value in row.items()}
        assert Judged.from_row(text) == one


def test_no_half_is_foretold_by_its_own_cases(make_bones):
    """Every slice's signal names its Dice, upside down in one half: a model that saw its own half would be right."""
    _, truth = make_bones(GRID)
    base = judged_slices("a", truth, slice_signals(truth, {}), truth)[:1] * 60
    rng = np.random.default_rng(0)
    judged = []
    for number, case in enumerate("abcd"):
        for one, dice in zip(base, rng.uniform(0.1, 0.9, 60), strict=True):
            told = dice if number % 2 == 0 else 1 - dice
            judged.append(
                replace(one, case=case, dice=float(dice), signals=replace(one.signals, stability=float(told)))
            )
    value = worth(crossed(judged, ("stability",)), judged)
    assert value.area_under_roc < 0.1
