from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import pytest

from msksam_cli.errors import UsageError
from msksam_cli.phantom.knee_shape import KneeShape, sample_knee_shape, with_disease


def draws(count: int) -> list[KneeShape]:
    rng = np.random.default_rng(11)
    return [sample_knee_shape(rng) for _ in range(count)]


def test_equal_seeds_give_equal_knees_and_the_next_draw_differs() -> None:
    rng = np.random.default_rng(3)
    first, second = sample_knee_shape(rng), sample_knee_shape(rng)
    assert first == sample_knee_shape(np.random.default_rng(3))
    assert first.epicondylar_width_mm != second.epicondylar_width_mm
    assert first.bending_seed != second.bending_seed


def test_both_sides_occur_and_a_wanted_side_is_kept_without_changing_the_rest() -> None:
    assert {shape.side for shape in draws(20)} == {"left", "right"}
    left = sample_knee_shape(np.random.default_rng(3), "left")
    right = sample_knee_shape(np.random.default_rng(3), "right")
    assert (left.side, right.side) == ("left", "right")
    assert asdict(left) | {"side": "right"} == asdict(right)


def test_a_population_has_the_published_mean_and_spread_of_its_widest_bone() -> None:
    widths = np.array([shape.epicondylar_width_mm for shape in draws(600)])
    assert widths.mean() == pytest.approx(81, abs=1)
    assert widths.std() == pytest.approx(5.5, abs=0.8)
    assert 64 < widths.min() < 72
    assert 90 < widths.max() < 100


def test_bones_of_one_knee_grow_together() -> None:
    shapes = draws(300)
    femur = [shape.epicondylar_width_mm for shape in shapes]
    tibia = [shape.tibial_width_mm for shape in shapes]
    assert np.corrcoef(femur, tibia)[0, 1] > 0.6


def test_every_drawn_length_is_positive_and_flexion_never_bends_backwards() -> None:
    for shape in draws(200):
        lengths = [f.name for f in fields(shape) if f.name.endswith("_mm") and f.name not in FINDINGS]
        assert all(getattr(shape, name) > 0 for name in lengths)
        assert shape.flexion_deg >= 0


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="'both'"):
        KneeShape(side="both")
    with pytest.raises(ValueError, match="notch_width_mm must be 0 or more"):
        KneeShape(notch_width_mm=-1.0)
    with pytest.raises(ValueError, match="tibial_width_mm"):
        KneeShape(tibial_width_mm=float("nan"))


FINDINGS = {
    "medial_loss": 0.0,
    "lateral_loss": 0.0,
    "patellar_loss": 0.0,
    "osteophyte_mm": 0.0,
    "effusion_mm": 0.0,
    "fatty_infiltration": 0.0,
    "implant": "none",
}


def test_a_drawn_knee_is_healthy_and_disease_changes_only_findings() -> None:
    rng = np.random.default_rng(4)
    for shape in draws(60):
        assert {name: getattr(shape, name) for name in FINDINGS} == FINDINGS
        assert asdict(with_disease(shape, rng)) | FINDINGS == asdict(shape)


def test_every_finding_occurs_and_none_is_the_rule() -> None:
    rng = np.random.default_rng(4)
    shapes = [with_disease(KneeShape(), rng) for _ in range(400)]
    for name, absent in FINDINGS.items():
        present = np.mean([getattr(shape, name) != absent for shape in shapes])
        assert 0.02 < present < 0.6, name
    assert {shape.implant for shape in shapes} == {"none", "screws", "prosthesis"}


def test_medial_wear_is_more_common_and_osteophytes_come_with_wear() -> None:
    rng = np.random.default_rng(5)
    shapes = [with_disease(KneeShape(), rng) for _ in range(400)]
    worn = [shape for shape in shapes if shape.medial_loss + shape.lateral_loss > 0]
    assert np.mean([shape.medial_loss > shape.lateral_loss for shape in worn]) > 0.55
    assert all(shape.osteophyte_mm > 0 for shape in worn)
    assert all(shape.osteophyte_mm == 0 for shape in shapes if shape not in worn)


def test_impossible_findings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"medial_loss must lie between 0 and 1, got 1\.5"):
        KneeShape(medial_loss=1.5)
    with pytest.raises(UsageError, match="no implant 'nail'"):
        KneeShape(implant="nail")
