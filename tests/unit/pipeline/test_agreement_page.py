import numpy as np
import pytest

from msksam_cli.io.report_page import page_html
from msksam_cli.measure.agreement import tissue_agreements
from msksam_cli.measure.comparison import MISSING, Comparison, summarize_tissues
from msksam_cli.pipeline.agreement_page import agreement_section, agreement_warning_lines, bland_altman_chart
from msksam_cli.pipeline.evaluation_page import dice_strips, evaluation_page

REFERENCE = np.array([41000.0, 52000, 39000, 61000, 47000, 55000, 43000, 59000])
NOISE = np.array([400.0, -250, 100, -600, 350, -150, 200, 60])


def compared(predicted, reference=REFERENCE, dice=0.9):
    return [
        Comparison(f"knee-{n}", 1, "femur", "compared", dice, volume_pred_mm3=float(p), volume_ref_mm3=float(r))
        for n, (p, r) in enumerate(zip(predicted, reference, strict=True))
    ]


def with_outlier():
    predicted = REFERENCE + NOISE
    predicted[6] += 9000
    return compared(predicted)


def test_the_chart_has_differences_over_means_between_bias_and_limits_and_names_who_lies_beyond():
    (agreement,) = tissue_agreements(with_outlier())
    chart = bland_altman_chart(agreement)
    (dots,) = chart.curves
    assert dots.points[6] == (43000 + 4600, 9200)
    assert dots.points[0] == (41200, 400)
    assert dots.labels == ("", "", "", "", "", "", "knee-6", "")
    found = agreement.estimates
    assert [level.value for level in chart.levels] == [
        0.0,
        found["bias"].value,
        found["limit_high"].value,
        found["limit_low"].value,
    ]
    assert [level.band for level in chart.levels[1:]] == [
        found[name].interval for name in ("bias", "limit_high", "limit_low")
    ]


def test_a_picture_says_its_numbers_to_those_who_cannot_see_it():
    (agreement,) = tissue_agreements(compared(REFERENCE + NOISE))
    (picture,) = agreement_section([agreement]).pictures
    bias, low, high = (agreement.estimates[name] for name in ("bias", "limit_low", "limit_high"))
    assert f"bias {bias.value:.4g} ({bias.low:.4g} … {bias.high:.4g})" in picture.description.replace("\xa0", " ")
    assert f"{low.value:.4g}" in picture.description
    assert f"{high.value:.4g}" in picture.description


def test_warnings_stand_above_the_figures_behind_tissue_and_biomarker():
    agreements = tissue_agreements(with_outlier())
    lines = agreement_warning_lines(agreements)
    assert any(line.startswith("femur, volume_mm3: knee-6 carries bias and limits") for line in lines)
    assert agreement_section(agreements).doubts == tuple(lines)


def test_a_tissue_without_limits_has_rows_and_no_picture():
    agreements = tissue_agreements(compared(REFERENCE[:2] + NOISE[:2], REFERENCE[:2]))
    section = agreement_section(agreements)
    assert section.pictures == ()
    limits, *_ = section.tables
    assert limits.rows == (("femur", "volume_mm3", "2", "0", "", "", "", "", ""),)
    with pytest.raises(ValueError, match="femur has no limits"):
        bland_altman_chart(agreements[0])


def test_correlations_have_three_decimals_and_a_tiny_p_is_not_zero():
    agreements = tissue_agreements(compared(1.3 * REFERENCE + NOISE / 10))
    limits, reliability, error, robust, influence = agreement_section(agreements).tables
    assert limits.rows[0][-1] == "<0.001"
    assert float(error.rows[0][3]) == round(agreements[0].estimates["sem"].value)
    icc = agreements[0].estimates["icc_2_1"]
    assert reliability.rows[0][2].replace("\xa0", " ") == f"{icc.value:.3f} ({icc.low:.3f} … {icc.high:.3f})"
    assert robust.rows[0][-2].startswith("1.297 (")
    assert [row[2] for row in influence.rows] == ["bias", "sd", "icc_2_1", "ccc"]


def test_strips_cross_out_absent_tissues_and_name_cases_far_below_the_others():
    dice = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.60, 0.93]
    comparisons = [
        Comparison(f"knee-{n}", 1, "femur", "compared", value, volume_pred_mm3=1.0, volume_ref_mm3=1.0)
        for n, value in enumerate(dice)
    ]
    comparisons.append(Comparison("knee-x", 1, "femur", MISSING, 0.0, volume_ref_mm3=1.0))
    (strip,) = dice_strips(comparisons, summarize_tissues(comparisons))
    assert [dot.value for dot in strip.dots] == [*dice, 0.0]
    assert [(dot.label, dot.crossed) for dot in strip.dots[-3:]] == [("knee-6", False), ("", False), ("knee-x", True)]
    assert strip.quartiles == pytest.approx(np.percentile([*dice, 0.0], (25, 50, 75)))


def test_the_whole_page_reads_as_html_with_agreement_before_the_cases():
    comparisons = with_outlier()
    agreements = tissue_agreements(comparisons)
    html = page_html(evaluation_page(comparisons, summarize_tissues(comparisons), agreements, (), ()))
    assert html.index("ICC(2,1)") < html.index("Every tissue of every case.")
    assert "knee-6 carries bias and limits" in html
