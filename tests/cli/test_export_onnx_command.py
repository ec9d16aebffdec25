"""`msksam export-onnx` and `segment --runtime onnx` as a user runs them; the second where torch cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from msksam_cli.app import app
from msksam_cli.errors import ModelError, UsageError
from msksam_cli.io.nifti import read_label_map

PROGRAM = [sys.executable, "-c", "from msksam_cli.app import main; main()", "segment"]
BLOCKER = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise RuntimeError("torch was imported")

sys.meta_path.insert(0, NoTorch())
"""


@pytest.fixture
def arguments(small_study, small_checkpoint):
    """What to type to segment the small study with prompts from its labels."""
    return [
        str(small_study.images), "--tissue", "bone", "--model", str(small_checkpoint),
        "--prompts", f"labels:{small_study.labels}", "--device", "cpu", "--no-cache",
    ]  # fmt: skip


@pytest.fixture
def without_torch(small_export, tmp_path) -> dict[str, str]:
    """An environment in which every Python fails that imports torch, with the export in its folder of models."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKER)
    return {
        **os.environ, "PYTHONPATH": str(tmp_path / "blocked"), "MSKSAM_MODELS": str(small_export.models),
        "MSKSAM_OFFLINE": "1",
    }  # fmt: skip


def dice(one: np.ndarray, other: np.ndarray, value: int) -> float:
    return 2 * float(((one == value) & (other == value)).sum()) / float((one == value).sum() + (other == value).sum())


def test_the_command_tells_what_was_exported_and_found(small_export, small_checkpoint):
    told = small_export.told
    assert told["model"] == small_checkpoint.stem
    assert told["files"] == {path.name: path.stat().st_size for path in small_export.folder.iterdir()}
    assert {one["device"] for one in told["parity"]} >= {"cpu"}
    assert len(told["parity"][0]["found"]) == 24


def test_errors_of_the_command_are_those_of_the_pipeline(tmp_path):
    done = CliRunner().invoke(app, ["export-onnx", "--model", "nobody", "-o", str(tmp_path / "x")])
    assert isinstance(done.exception, UsageError)
    done = CliRunner().invoke(app, ["export-onnx", "--model", str(tmp_path / "no.pth"), "-o", str(tmp_path / "x")])
    assert isinstance(done.exception, ModelError)
    assert not (tmp_path / "x").exists()


def test_the_blocker_blocks(without_torch):
    code = [sys.executable, "-c", "import torch"]
    done = subprocess.run(code, capture_output=True, text=True, check=False, env=without_torch)
    assert "torch was imported" in done.stderr


def test_a_study_segmented_without_torch_has_the_labels_of_torch(small_study, arguments, without_torch, tmp_path):
    for number, name in enumerate("ab"):
        small_study.add(name, shift_px=number)
    done = subprocess.run(
        [*PROGRAM, *arguments, "--runtime", "onnx", "-o", str(tmp_path / "onnx"), "--json"],
        capture_output=True, text=True, check=False, timeout=300, env=without_torch,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [case["state"] for case in json.loads(done.stdout)["cases"]] == ["segmented", "segmented"]
    run = json.loads((tmp_path / "onnx" / "run.json").read_text())
    assert (run["options"]["runtime"], run["options"]["precision"]) == ("onnx", "fp32")
    by_torch = CliRunner().invoke(app, ["segment", *arguments, "-o", str(tmp_path / "torch")])
    assert by_torch.exit_code == 0, by_torch.output
    for name in "ab":
        one, other = (read_label_map(tmp_path / run / "labels" / f"{name}.nii.gz").values for run in ("onnx", "torch"))
        assert set(np.unique(other)) >= {2, 5}
        assert min(dice(one, other, value) for value in (2, 5)) >= 0.999


def test_an_atlas_prompts_without_torch_and_an_export_is_named_by_its_folder(
    small_study, small_atlas, small_export, without_torch, tmp_path
):
    small_study.add("a")
    done = subprocess.run(
        [*PROGRAM, str(small_study.images), "--tissue", "femur", "--atlas", str(small_atlas), "--no-cache",
         "--runtime", "onnx", "--model", str(small_export.folder), "-o", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, timeout=300, env=without_torch,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def test_what_a_runtime_cannot_do_is_refused_before_anything_is_written(
    small_study, arguments, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    small_study.add("a")
    monkeypatch.setenv("MSKSAM_MODELS", str(tmp_path / "models"))
    run = [*arguments, "--runtime", "onnx", "-o", str(tmp_path / "out")]
    rough = CliRunner().invoke(app, ["segment", *run, "--precision", "bf16"])
    assert isinstance(rough.exception, UsageError)
    assert "exported models run in fp32, not 'bf16'" in str(rough.exception)
    missing = CliRunner().invoke(app, ["segment", *run])
    assert isinstance(missing.exception, ModelError)
    assert "Run `msksam export-onnx --model random.safetensors`" in str(missing.exception)
    assert not Path(tmp_path / "out").exists()
