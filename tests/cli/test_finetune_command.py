"""`msksam finetune` as a user runs it, up to a segmentation with what it made."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from msksam_cli.app import app
from msksam_cli.errors import InputError


@pytest.fixture
def cases(small_study, tmp_path):
    """A folder in nnU-Net's layout with four cases of two subjects."""
    torch.set_num_threads(1)
    for name in ("k1_left", "k1_right", "k2_left", "k2_right"):
        small_study.add(name, shift_px=len(list(small_study.images.glob("*"))) if small_study.images.exists() else 0)
    folder = tmp_path / "cases"
    (folder / "imagesTr").mkdir(parents=True)
    for file in small_study.images.iterdir():
        file.rename(folder / "imagesTr" / file.name.replace(".nii", "_0000.nii"))
    small_study.labels.rename(folder / "labelsTr")
    (tmp_path / "truth" / "labels.tsv").rename(folder / "labels.tsv")
    return folder


def _run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_what_was_tuned_is_used_at_once(cases, small_checkpoint, tmp_path):
    made = tmp_path / "site.safetensors"
    done = _run(
        "finetune", cases, "-o", made, "--model", small_checkpoint, "--subject", "^[^_]+", "--steps", 2, "--images", 1,
        "--validate-every", 1, "--slices", 2, "--device", "cpu", "--cache", tmp_path / "cache", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["training_subjects"], told["validation_subjects"], told["steps"]) == (1, 1, 2)
    assert told["tissues"]["femur"]["volumes"] == 2
    used = _run(
        "segment", cases / "imagesTr" / "k1_left_0000.nii.gz", "--tissue", "bone", "--model", made,
        "-o", tmp_path / "out", "--prompts", f"labels:{cases / 'labelsTr'}", "--device", "cpu",
        "--cache", tmp_path / "cache",
    )  # fmt: skip
    assert used.exit_code == 0, used.output
    assert list((tmp_path / "out" / "labels").glob("*.nii.gz"))


def test_cases_that_cannot_be_used_end_it_before_a_file_is_written(cases, small_checkpoint, tmp_path):
    (cases / "labels.tsv").write_text("index\tname\n2\tfemur\n")
    done = _run("finetune", cases, "-o", tmp_path / "site.safetensors", "--model", small_checkpoint, "--device", "cpu")
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 4
    assert "4 problems: k1_left: label values [5]" in done.exception.message
    assert not list(tmp_path.glob("site*"))
