import math
from dataclasses import dataclass

import numpy as np
import pytest

from msksam_cli.measure.agreement import AGREEMENT_COLUMNS, INFLUENCED, LEFT_OUT, Biomarker, tissue_agreements
from msksam_cli.measure.agreement_estimates import ESTIMATES, agreement_estimates
from msksam_cli.measure.comparison import BOTH_EMPTY, COMPARED, MISSING, SPURIOUS, Comparison

REFERENCE = np.array([4100.0, 5200, 3900, 6100, 4700, 5500, 4300, 5900, 5100, 4600])
NOISE = np.array([40.0, 20, -25, 35, 45, -60, -15, 5, -30, 10])


def comparisons(predicted, reference=REFERENCE, label=1, tissue="femur"):
    return [
        Comparison(f"knee-{n}", label, tissue, COMPARED, volume_pred_mm3=float(p), volume_ref_mm3=float(r))
        for n, (p, r) in enumerate(zip(predicted, reference, strict=True))
    ]


def test_each_tissue_has_a_row_of_its_own_cases_in_order_of_label():
    rows = comparisons(REFERENCE + NOISE, label=3, tissue="patella") + comparisons(REFERENCE + 100 + NOISE)
    femur, patella = tissue_agreements(rows)
    assert [(one.tissue, one.label, one.biomarker, len(one.pairs)) for one in (femur, patella)] == [
        ("femur", 1, "volume_mm3", 10),
        ("patella", 3, "volume_mm3", 10),
    ]
    assert femur.estimates["bias"].value == pytest.approx(100 + NOISE.mean())
    assert patella.estimates["bias"].value == pytest.approx(NOISE.mean())
    assert femur.estimates["sd"].value == pytest.approx(NOISE.std(ddof=1))


def test_absent_tissues_are_left_out_and_counted_by_reason():
    absent = [
        Comparison("knee-a", 1, "femur", MISSING, dice=0.0, volume_ref_mm3=9999.0),
        Comparison("knee-b", 1, "femur", SPURIOUS, dice=0.0, volume_pred_mm3=9999.0),
        Comparison("knee-c", 1, "femur", BOTH_EMPTY),
        Comparison("knee-d", 1, "femur", BOTH_EMPTY),
    ]
    (found,) = tissue_agreements(absent + comparisons(REFERENCE + NOISE))
    row = found.row()
    assert [row[name] for name in ("cases", *LEFT_OUT)] == [10, 1, 1, 2, 0]
    assert row["bias"] == pytest.approx(NOISE.mean())


def test_a_row_has_every_column_and_no_other():
    (found,) = tissue_agreements(comparisons(REFERENCE + NOISE))
    assert set(found.row()) == set(AGREEMENT_COLUMNS)
    assert set(found.estimates) == set(ESTIMATES)
    assert set(found.influences) == set(INFLUENCED)


@dataclass(frozen=True)
class WithThickness(Comparison):
    """A comparison with two more columns, as a further biomarker brings them."""

    thickness_pred_mm: float | None = None
    thickness_ref_mm: float | None = None


def test_another_biomarker_is_added_by_naming_its_columns():
    rows = [
        WithThickness(f"knee-{n}", 11, "cartilage", COMPARED, thickness_pred_mm=p, thickness_ref_mm=r)
        for n, (p, r) in enumerate([(2.1, 2.0), (1.8, 1.9), (2.6, 2.4), (None, 2.2), (2.3, 2.2)])
    ]
    bone = [WithThickness(f"knee-{n}", 1, "femur", COMPARED) for n in range(5)]
    biomarkers = (Biomarker("thickness_mean_mm", "thickness_pred_mm", "thickness_ref_mm"),)
    (found,) = tissue_agreements(bone + rows, biomarkers)  # bone has no thickness, so no row
    assert (found.tissue, found.biomarker, len(found.pairs)) == ("cartilage", "thickness_mean_mm", 4)
    assert found.left_out["unknown"] == 1
    assert found.estimates["bias"].value == pytest.approx((0.1 - 0.1 + 0.2 + 0.1) / 4)


@pytest.mark.parametrize("cases", [0, 1, 2])
def test_below_three_cases_everything_is_unknown_for_one_stated_reason(cases):
    rows = comparisons(REFERENCE[:cases] + NOISE[:cases], REFERENCE[:cases])
    (found,) = tissue_agreements([*rows, Comparison("knee-z", 1, "femur", MISSING, volume_ref_mm3=1.0)])
    assert all(one.value is None and one.interval is None for one in found.estimates.values())
    assert found.row()["reason"] == f"{cases} of at least 3 cases"
    assert (found.influences, found.warnings) == ({}, ())


SAMPLES = {
    "equal sides": (REFERENCE, REFERENCE),
    "a constant shift": (REFERENCE + 0.1, REFERENCE),
    "a constant factor": (1.1 * REFERENCE, REFERENCE),
    "all values equal": (np.full(5, 0.3), np.full(5, 0.3)),
    "two constants": (np.full(5, 0.3), np.full(5, 0.7)),
    "a constant prediction": (np.full(10, 5000.0), REFERENCE),
    "a constant reference": (REFERENCE, np.full(10, 5000.0)),
    "opposite sides": (REFERENCE[::-1].copy(), REFERENCE),
    "mirrored values": (2 * REFERENCE.mean() - REFERENCE, REFERENCE),
    "one of many differs": (REFERENCE + np.eye(10)[3], REFERENCE),
    "three cases": (REFERENCE[:3] + NOISE[:3], REFERENCE[:3]),
    "three cases, two equal": (np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 3.0])),
    "values around zero": (NOISE, NOISE[::-1].copy()),
    "huge values": (1e12 + NOISE, 1e12 + NOISE[::-1].copy()),
    "tiny values": (1e-9 * (REFERENCE + NOISE), 1e-9 * REFERENCE),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_whatever_the_sample_a_number_is_finite_or_has_a_reason(name):
    predicted, reference = SAMPLES[name]
    found = agreement_estimates(predicted, reference)
    for estimate_name, one in found.items():
        known = [value for value in (one.value, one.low, one.high) if value is not None]
        assert all(map(math.isfinite, known)), estimate_name
        assert (one.low is None) == (one.high is None), estimate_name
        assert one.value is not None or one.reason, estimate_name
        if ESTIMATES[estimate_name] and one.interval is None:
            assert one.reason, estimate_name
        if one.interval is not None:
            assert one.low <= one.value <= one.high, estimate_name
    (row,) = tissue_agreements(comparisons(predicted, reference))
    assert all(math.isfinite(value) for value in row.row().values() if isinstance(value, float))


@pytest.mark.parametrize("name", ["equal sides", "a constant shift", "all values equal", "two constants"])
def test_without_spread_nothing_that_rests_on_it_is_zero(name):
    found = agreement_estimates(*SAMPLES[name])
    for spread in ("sd", "limit_low", "limit_high", "sem_consistency", "sdc_consistency", "slope", "mad_limit_low"):
        assert found[spread].value is None
        assert found[spread].reason


def test_predictions_that_grow_too_fast_are_warned_of():
    (found,) = tissue_agreements(comparisons(1.2 * REFERENCE - 900 + NOISE))
    (warning,) = found.warnings
    assert warning.startswith("the difference changes with size: +0.18")  # 0.2 over the mean, 1.1
    (exact,) = tissue_agreements(comparisons(1.2 * REFERENCE))
    assert exact.warnings == ("the difference changes with size: +0.182 per unit (exactly)",)


def test_one_case_that_carries_bias_and_limits_is_named_with_the_result_without_it():
    predicted = REFERENCE + NOISE
    predicted[4] += 1000
    (found,) = tissue_agreements(comparisons(predicted))
    rest = np.delete(NOISE, 4)
    assert any(
        warning.startswith("knee-4 carries bias and limits")
        and warning.endswith(f"without it bias {rest.mean():.4g} and sd {rest.std(ddof=1):.4g}")
        for warning in found.warnings
    )
    assert found.influences["bias"].case == found.influences["sd"].case == "knee-4"
    assert found.influences["sd"].without == pytest.approx(rest.std(ddof=1))


def test_one_large_case_that_carries_the_icc_is_named():
    # Nine cases of one size that disagree, and one ten times as large: without it the ICC is that of noise.
    sizes = np.array([100.0, 101, 99, 100, 102, 98, 101, 100, 99, 1000])
    noise = np.array([3.0, -4, 2, -3, -4, 3, -2, 4, 3, -3])
    (found,) = tissue_agreements(comparisons(sizes + noise, sizes))
    assert found.estimates["icc_2_1"].value > 0.99
    assert found.influences["icc_2_1"].case == "knee-9"
    assert any(warning.startswith("knee-9 carries the ICC: without it") for warning in found.warnings)


def test_ordinary_agreement_has_no_warning():
    (found,) = tissue_agreements(comparisons(REFERENCE + NOISE))
    assert found.warnings == ()
    assert found.reasons == ("quantile_limit_low, quantile_limit_high: needs 39 cases",)
