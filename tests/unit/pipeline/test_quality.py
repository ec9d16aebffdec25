"""Models of quality: stored beside a checkpoint, refused when damaged or of another, and used by the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from msksam_cli.core.tissues import Tissue
from msksam_cli.errors import ModelError
from msksam_cli.measure.expected_dice import QualityModel, fit_quality
from msksam_cli.measure.slice_signals import Signals, SliceSignals
from msksam_cli.pipeline.quality import SLICE_COLUMNS, quality_model, slice_rows
from msksam_cli.pipeline.quality_file import read_quality_file, write_quality_file

FEMUR, PATELLA = Tissue(2, "femur", group="bone"), Tissue(7, "patella", group="bone")


@pytest.fixture
def quality() -> QualityModel:
    rng = np.random.default_rng(0)
    stable = rng.uniform(0.2, 1.0, 200)
    rows = [("bone", Signals(stability=float(s))) for s in stable]
    return replace(fit_quality(rows, stable), weights_sha256="a" * 64, fit={"cases": 4})


def test_a_model_of_quality_comes_back_as_it_was_written(quality: QualityModel, tmp_path: Path) -> None:
    path = tmp_path / "x.qc.json"
    write_quality_file(path, quality)
    assert read_quality_file(path) == quality


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signals": ["luck"]}, "unknown signals"),
        ({"signals": []}, "unknown signals"),
        ({"weights": [1, 2]}, "are not 1 numbers"),
        ({"weights": ["a"]}, "is no number"),
        ({"deviations": [0.0]}, "is none"),
        ({"knots": [[0, 1], [0.9, 0.2]]}, "do not rise"),
        ({"knots": [[0, 1], [0.2, 1.2]]}, "do not rise"),
        ({"knots": [[0, 1]]}, "no pair"),
        ({"groups": 3}, "groups is no table"),
        ({"constant": None}, "is no number"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(
    quality: QualityModel, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "x.qc.json"
    write_quality_file(path, quality)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=said):
        read_quality_file(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.qc.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"x\.qc\.json"):
        read_quality_file(path)


def test_a_model_fitted_for_other_weights_is_refused(quality: QualityModel, tmp_path: Path) -> None:
    checkpoint = tmp_path / "own.safetensors"
    network: Any = SimpleNamespace(name="own", weights_sha256="b" * 64)
    assert quality_model(str(checkpoint), network) is None
    write_quality_file(tmp_path / "own.safetensors.qc.json", quality)
    with pytest.raises(ModelError, match="fitted for weights aaaaaaaaaaaaaaaa…, own has bbbbbbbbbbbbbbbb…"):
        quality_model(str(checkpoint), network)
    network.weights_sha256 = "a" * 64
    assert quality_model(str(checkpoint), network) == quality


def test_slices_and_tissues_get_what_is_expected_of_them(quality: QualityModel) -> None:
    signals = (
        SliceSignals(FEMUR, 3, 30.0, Signals(stability=0.9)),
        SliceSignals(FEMUR, 4, 10.0, Signals(stability=0.4)),
        SliceSignals(PATELLA, 4, 5.0, Signals(stability=0.4)),
    )
    rows, by_tissue = slice_rows("a", signals, quality)
    assert all(set(row) == set(SLICE_COLUMNS) for row in rows)
    first, second, third = (row["expected_dice"] for row in rows)
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert first == pytest.approx(0.9, abs=0.06)
    assert second == third == pytest.approx(0.4, abs=0.06)
    assert by_tissue == pytest.approx({2: (30 * first + 10 * second) / 40, 7: third})


def test_without_a_model_of_quality_nothing_is_expected() -> None:
    rows, by_tissue = slice_rows("a", (SliceSignals(FEMUR, 3, 30.0, Signals(stability=0.9)),), None)
    assert rows[0]["expected_dice"] is None
    assert rows[0]["stability"] == 0.9
    assert by_tissue == {}


def test_the_bundled_model_comes_with_what_was_fitted_for_its_weights() -> None:
    from msksam_cli.pipeline.models import load_model

    network = load_model("msksam-small", device="cpu")
    found = quality_model("msksam-small", network)
    assert found is not None
    assert found.weights_sha256 == network.weights_sha256
    assert {"bone", "cartilage", "muscle"} <= set(found.groups)
    good, bad = found.expected(
        [
            ("bone", Signals(iou_prediction=0.95, stability=0.95, prior_dice=0.9, size_log_mm2=7.0)),
            ("cartilage", Signals(iou_prediction=0.4, stability=0.5, prior_dice=0.1, size_log_mm2=2.5)),
        ]
    )
    assert good > 0.9
    assert bad < 0.3
