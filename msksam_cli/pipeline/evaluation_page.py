"""The report and the terminal table of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from msksam_cli.io.report_page import Page, Picture, Section, Table
from msksam_cli.io.strip_figure import Dot, Strip, strip_png
from msksam_cli.io.tables import aligned_text
from msksam_cli.measure.agreement import Agreement
from msksam_cli.measure.comparison import ALL_TISSUES, BOTH_EMPTY, MISSING, SPURIOUS, Comparison, TissueSummary
from msksam_cli.measure.summary import Summary
from msksam_cli.pipeline.agreement_page import agreement_section
from msksam_cli.pipeline.case_matching import Unusable

_DIGITS = {"dice": 3, "iou": 3, "surface_dice_1mm": 3, "hd95_mm": 2, "assd_mm": 2, "volume_error_percent": 1}
_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "surface_dice_1mm": "surface Dice 1 mm",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
    "volume_error_percent": "volume error %",
}


def evaluation_text(summaries: Sequence[TissueSummary]) -> str:
    """Means per tissue as text in aligned columns, for a terminal."""
    columns = ("tissue", "cases", *_HEADINGS.values(), "missing", "spurious")
    return aligned_text(columns, [_mean_row(summary) for summary in summaries])


def evaluation_page(
    comparisons: Sequence[Comparison],
    summaries: Sequence[TissueSummary],
    agreements: Sequence[Agreement],
    skipped: Sequence[Unusable],
    notes: Sequence[str],
) -> Page:
    """The report: summary, agreement, cases, and what was not evaluated."""
    cases = dict.fromkeys(item.case for item in comparisons)
    doubts = (*(f"{unusable.case}: {unusable.reason}" for unusable in skipped), *notes)
    sections = [
        Section(
            "Summary",
            pictures=_dice_pictures(comparisons, summaries),
            tables=(_mean_table(summaries), _spread_table(summaries)),
        ),
        agreement_section(agreements),
        Section("Cases", tables=(_case_table(comparisons),)),
    ]
    if doubts:
        sections.insert(0, Section("Not evaluated", doubts=doubts))
    facts = (("cases compared", str(len(cases))), ("cases left out", str(len(skipped))))
    lead = "Label volumes against a reference: overlap, surface distances, volume error and agreement."
    return Page("Evaluation", lead, facts, tuple(sections))


def dice_strips(comparisons: Sequence[Comparison], summaries: Sequence[TissueSummary]) -> list[Strip]:
    """Dice of every case by tissue, tissues without one left out; low cases are named, absent tissues are crosses.

    Low is more than 1.5 interquartile ranges below the first quartile (Tukey 1977).
    """
    strips = []
    for summary in summaries:
        dice = summary.measures["dice"]
        if summary.label is None or dice.q25 is None or dice.median is None or dice.q75 is None:
            continue
        fence = dice.q25 - 1.5 * (dice.q75 - dice.q25)
        dots = tuple(
            Dot(item.dice, item.case if item.dice < fence else "", item.status in (MISSING, SPURIOUS))
            for item in comparisons
            if item.label == summary.label and item.dice is not None
        )
        strips.append(Strip(summary.tissue, (dice.q25, dice.median, dice.q75), dots))
    return strips


def _dice_pictures(comparisons: Sequence[Comparison], summaries: Sequence[TissueSummary]) -> tuple[Picture, ...]:
    strips = dice_strips(comparisons, summaries)
    if not strips:
        return ()
    medians = "; ".join(f"{strip.name} {strip.quartiles[1]:.3f}" for strip in strips if strip.quartiles)
    content = strip_png(strips, "Dice: median, quartiles and single cases")
    caption = "A dot is a case, a cross a tissue that one side lacks. Cases far below the quartiles are named."
    return (Picture(content, f"Dice by tissue. Medians: {medians}.", caption),)


def _mean_row(summary: TissueSummary) -> tuple[str, ...]:
    means = (_number(summary.measures[measure].mean, measure) for measure in _HEADINGS)
    counts = (str(summary.statuses.get(status, 0)) for status in (MISSING, SPURIOUS))
    return (_name(summary), str(summary.measures["dice"].cases), *means, *counts)


def _mean_table(summaries: Sequence[TissueSummary]) -> Table:
    columns = ("tissue", "cases", *_HEADINGS.values(), "missing", "spurious", "both empty")
    rows = tuple((*_mean_row(summary), str(summary.statuses.get(BOTH_EMPTY, 0))) for summary in summaries)
    return Table(
        columns, rows, "Means over cases. Missing and spurious tissues count with Dice 0 and have no distance."
    )


def _spread_table(summaries: Sequence[TissueSummary]) -> Table:
    columns = ("tissue", "measure", "mean", "sd", "95 % interval of the mean", "median", "quartiles")
    rows = tuple(
        (_name(summary), heading, *_spread(summary.measures[measure], measure))
        for summary in summaries
        for measure, heading in _HEADINGS.items()
    )
    return Table(columns, rows, "Spread over cases; the interval is a percentile bootstrap of the mean.")


def _spread(summary: Summary, measure: str) -> tuple[str, ...]:
    return (
        _number(summary.mean, measure),
        _number(summary.sd, measure),
        _range(summary.ci95_low, summary.ci95_high, measure),
        _number(summary.median, measure),
        _range(summary.q25, summary.q75, measure),
    )


def _case_table(comparisons: Sequence[Comparison]) -> Table:
    columns = ("case", "tissue", "status", *_HEADINGS.values())
    rows = tuple(
        (item.case, item.tissue, item.status, *(_number(getattr(item, measure), measure) for measure in _HEADINGS))
        for item in comparisons
    )
    return Table(columns, rows, "Every tissue of every case.")


def _name(summary: TissueSummary) -> str:
    return "all tissues" if summary.label is None and summary.tissue == ALL_TISSUES else summary.tissue


def _number(value: float | None, measure: str) -> str:
    return "" if value is None else f"{value:.{_DIGITS[measure]}f}"


def _range(low: float | None, high: float | None, measure: str) -> str:
    return "" if low is None or high is None else f"{_number(low, measure)} … {_number(high, measure)}"
