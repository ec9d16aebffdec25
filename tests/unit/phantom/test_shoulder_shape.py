from __future__ import annotations

from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from msksam_cli.errors import UsageError
from msksam_cli.phantom.shoulder_shape import ShoulderShape, sample_shoulder_shape, with_disease

FINDINGS = (
    "cartilage_loss",
    "osteophyte_mm",
    "effusion_mm",
    "tendon_tear_mm",
    "fatty_infiltration",
    "implant_mm",
)


def draws(count: int) -> list[ShoulderShape]:
    rng = np.random.default_rng(11)
    return [sample_shoulder_shape(rng) for _ in range(count)]


def test_equal_seeds_give_equal_shoulders_and_the_next_draw_differs() -> None:
    rng = np.random.default_rng(3)
    first, second = sample_shoulder_shape(rng), sample_shoulder_shape(rng)
    assert first == sample_shoulder_shape(np.random.default_rng(3))
    assert first.head_diameter_mm != second.head_diameter_mm
    assert first.bending_seed != second.bending_seed


def test_both_sides_occur_and_a_wanted_side_is_kept_without_changing_the_rest() -> None:
    assert {shape.side for shape in draws(20)} == {"left", "right"}
    left = sample_shoulder_shape(np.random.default_rng(3), "left")
    right = sample_shoulder_shape(np.random.default_rng(3), "right")
    assert (left.side, right.side) == ("left", "right")
    assert asdict(left) | {"side": "right"} == asdict(right)


def test_a_population_has_the_published_means_and_spreads() -> None:
    shapes = draws(600)
    for name, mean, sd in (
        ("head_diameter_mm", 46, 3.9),
        ("glenoid_height_mm", 36, 2.8),
        ("scapula_width_mm", 102, 6.8),
        ("neck_shaft_deg", 135, 4.8),
        ("retroversion_deg", 28, 8.7),
        ("humeral_cartilage_mm", 1.4, 0.19),
    ):
        values = np.array([getattr(shape, name) for shape in shapes])
        assert values.mean() == pytest.approx(mean, abs=sd / 6), name
        assert values.std() == pytest.approx(sd, rel=0.15), name


def test_bones_of_one_shoulder_grow_together() -> None:
    shapes = draws(300)
    head = [shape.head_diameter_mm for shape in shapes]
    assert np.corrcoef(head, [shape.glenoid_height_mm for shape in shapes])[0, 1] > 0.4


def test_every_finding_is_absent_in_some_shoulders_and_present_in_others() -> None:
    shapes = draws(300)
    for name in FINDINGS:
        present = np.mean([getattr(shape, name) > 0 for shape in shapes])
        assert 0.02 < present < 0.6, name


def test_disease_changes_only_findings_and_a_torn_tendon_comes_with_fluid_and_fat() -> None:
    rng = np.random.default_rng(4)
    shapes = [with_disease(ShoulderShape(side="left"), rng) for _ in range(80)]
    healthy = dict.fromkeys(FINDINGS, 0.0)
    assert all(replace(shape, **healthy) == ShoulderShape(side="left") for shape in shapes)
    torn = [shape for shape in shapes if shape.tendon_tear_mm > 0]
    assert len(torn) > 5
    assert all(shape.effusion_mm > 0 and shape.fatty_infiltration > 0 for shape in torn)


def test_every_drawn_length_can_be_built() -> None:
    for shape in draws(200):
        assert all(getattr(shape, f.name) >= 0 for f in fields(shape) if f.name.endswith("_mm"))
        assert shape.abduction_deg >= 0
        assert 0 <= shape.fatty_infiltration <= 1
        assert shape.tuberosity_drop_mm < shape.head_diameter_mm / 2


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="'both'"):
        ShoulderShape(side="both")
    with pytest.raises(ValueError, match="head_diameter_mm must be 0 or more"):
        ShoulderShape(head_diameter_mm=-1.0)
    with pytest.raises(ValueError, match="effusion_mm"):
        ShoulderShape(effusion_mm=float("nan"))
    with pytest.raises(ValueError, match=r"fatty_infiltration must lie between 0 and 1, got 1\.2"):
        ShoulderShape(fatty_infiltration=1.2)
