"""Files and texts of a comparison: three tables, a figure, a page, and the table for the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.comparison_figure import Band, Mark, Style, comparison_png
from msksam_cli.io.report_page import Page, Picture, Section, Table, write_page
from msksam_cli.io.tables import aligned_text, write_csv
from msksam_cli.measure.summary import Summary
from msksam_cli.pipeline.compare_case import COLUMNS, COMPARED_COLUMNS, Way
from msksam_cli.pipeline.compare_result import ModelComparison
from msksam_cli.pipeline.compare_tables import PAIRED_COLUMNS, SUMMARY_COLUMNS, Pool, WaySummary, ways
from msksam_cli.pipeline.fit_fusion import FIT_COLUMNS

FIGURE_NAME = "compare.png"

_SHAPES = dict(zip(COLUMNS, ("square", "cross", "circle", "diamond"), strict=True))
_TEXTS = dict(
    zip(COLUMNS, ("atlas alone", "ellipse in true box", "SAM, atlas prompts", "SAM, true prompts"), strict=True)
)
_NEUTRAL, _COLORS = "#7b8794", ("#2166ac", "#c2571a", "#2e8b57", "#8e44ad", "#b5942b", "#c0396b")
_HEADINGS = {"dice": "Dice", "assd_mm": "ASSD mm", "hd95_mm": "HD95 mm", "surface_dice_1mm": "surface Dice 1 mm"}
_DIGITS = {"dice": 3, "assd_mm": 2, "hd95_mm": 2, "surface_dice_1mm": 3}


_LEAD = (
    "A labelled set by the atlas alone and by SAM, asked by the atlas and by the truth. "
    "The ellipse is what a box is worth without a network."
)


def write_comparison(folder: Path, result: ModelComparison) -> None:
    """Write compare.csv, compare_summary.csv, paired.csv, compare.png, report.html and, if fitted, fusion_fit.csv.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    write_csv(folder / "compare.csv", COMPARED_COLUMNS, (one.row() for one in result.compared))
    write_csv(folder / "compare_summary.csv", SUMMARY_COLUMNS, (row for s in result.summaries for row in s.rows()))
    write_csv(folder / "paired.csv", PAIRED_COLUMNS, (one.row() for one in result.differences))
    if result.fits:
        write_csv(folder / "fusion_fit.csv", FIT_COLUMNS, (row for fit in result.fits for row in fit.rows()))
    picture = figure(result)
    write_atomic(folder / FIGURE_NAME, lambda stream: stream.write(picture))
    write_page(folder / "report.html", page(result, picture))


def comparison_text(result: ModelComparison) -> str:
    """Mean Dice ± sd per tissue and way in aligned columns, for a terminal."""
    found = ways(result.compared)
    rows = [
        (pool.name, str(by_way[found[0]].measures["dice"].cases), *(_mean_sd(by_way[way], "dice") for way in found))
        for pool, by_way in _by_pool(result).items()
    ]
    lines = aligned_text(("Dice", "n", *(_way_text(way) for way in found)), rows)
    fits = [
        f"{fit.model}: λ of {g.group} {g.in_use:g} → {g.weight:g}, Dice {g.dice[g.in_use]:.3f} → {g.left_out_dice:.3f}"
        " (each case's λ chosen from the others)"
        for fit in result.fits
        for g in fit.groups
    ]
    return "\n".join((lines, *fits))


def comparison_json(result: ModelComparison) -> str:
    """Summaries, differences and what was left out, for machines."""
    content = {
        "atlas": result.atlas,
        "models": list(result.models),
        "summary": [row for summary in result.summaries for row in summary.rows()],
        "paired": [difference.row() for difference in result.differences],
        "fusion_fit": [row for fit in result.fits for row in fit.rows()],
        "refused": {one.case: one.reason for one in result.refused},
        "notes": list(result.notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def figure(result: ModelComparison) -> bytes:
    """Dice per tissue and way as PNG bytes: means, their 95 % intervals and single cases."""
    found = ways(result.compared)
    counted = {(one.way, one.comparison.label, one.comparison.case): one.comparison.dice for one in result.compared}
    bands = []
    for pool, by_way in _by_pool(result).items():
        marks = []
        for way in found:
            summary = by_way[way].measures["dice"]
            label = next(iter(pool.labels)) if pool.level == "tissue" else None
            cases = tuple(v for (w, n, _), v in counted.items() if w == way and n == label and v is not None)
            marks.append(Mark(_way_text(way), summary.mean, _interval(summary), cases))
        bands.append(Band(pool.name, tuple(marks)))
    colors = {model: _COLORS[number % len(_COLORS)] for number, model in enumerate(result.models)}
    styles = [Style(_way_text(way), colors.get(way.model, _NEUTRAL), _SHAPES[way.column]) for way in found]
    return comparison_png(bands, styles, "Dice: mean, 95 % interval of the mean, single cases")


def page(result: ModelComparison, picture: bytes) -> Page:
    """The report."""
    doubts = (*(f"{one.case}: {one.reason}" for one in result.refused), *result.notes)
    doubtful = sorted({one.comparison.case for one in result.compared if one.placement == "doubtful"})
    doubts += tuple(f"{case}: the atlas's placement is doubtful" for case in doubtful)
    shown = Picture(picture, "Dice of every way on every tissue, as in the table below.", "Dice by tissue.")
    sections = [
        Section("Means", pictures=(shown,), tables=tuple(_mean_table(result, measure) for measure in _HEADINGS)),
        Section("Paired differences", tables=(_paired_table(result),)),
    ]
    if result.fits:
        sections.append(Section("Weight of the prior", tables=(_fit_table(result),)))
    if doubts:
        sections.insert(0, Section("To know", doubts=doubts))
    cases = {one.comparison.case for one in result.compared}
    facts = (("cases", str(len(cases))), ("atlas", result.atlas), ("models", ", ".join(result.models)))
    return Page("Comparison", _LEAD, facts, tuple(sections))


def _by_pool(result: ModelComparison) -> dict[Pool, dict[Way, WaySummary]]:
    pools: dict[Pool, dict[Way, WaySummary]] = {}
    for summary in result.summaries:
        pools.setdefault(summary.pool, {})[summary.way] = summary
    return pools


def _mean_table(result: ModelComparison, measure: str) -> Table:
    found = ways(result.compared)
    rows = tuple(
        (pool.name, str(by_way[found[0]].measures["dice"].cases), *(_mean_sd(by_way[way], measure) for way in found))
        for pool, by_way in _by_pool(result).items()
    )
    missing = "; a missing tissue counts as 0" if "dice" in measure else "; a missing tissue has none"
    return Table(
        ("tissue", "cases", *(_way_text(w) for w in found)), rows, f"{_HEADINGS[measure]}: mean ± sd{missing}."
    )


def _paired_table(result: ModelComparison) -> Table:
    rows = []
    for one in result.differences:
        d, digits = one.difference, _DIGITS[one.measure]
        interval = (
            "" if d.ci95_low is None or d.ci95_high is None else f"{d.ci95_low:+.{digits}f} … {d.ci95_high:+.{digits}f}"
        )
        mean = "" if d.mean is None else f"{d.mean:+.{digits}f}"
        p = "" if d.wilcoxon_p is None else f"{d.wilcoxon_p:.3g}"
        names = (one.pool.name, _HEADINGS[one.measure], _way_text(one.way), _way_text(one.than))
        rows.append((*names, str(d.cases), mean, interval, p))
    columns = ("tissue", "measure", "way", "minus", "cases", "difference", "95 % interval", "Wilcoxon p")
    return Table(columns, tuple(rows), "Differences case by case; bootstrap intervals of the mean, p not corrected.")


def _fit_table(result: ModelComparison) -> Table:
    rows = tuple(
        (
            fit.model,
            g.group,
            f"{weight:g}",
            f"{dice:.3f}",
            "chosen" if weight == g.weight else "before" if weight == g.in_use else "",
        )
        for fit in result.fits
        for g in fit.groups
        for weight, dice in sorted(g.dice.items())
    )
    return Table(("model", "group", "λ", "Dice", ""), rows, "Mean Dice of atlas prompts by the weight λ of logit(P).")


def _mean_sd(summary: WaySummary, measure: str) -> str:
    found = summary.measures[measure]
    if found.mean is None:
        return "-"
    spread = "" if found.sd is None else f" ± {found.sd:.{_DIGITS[measure]}f}"
    return f"{found.mean:.{_DIGITS[measure]}f}{spread}"


def _interval(summary: Summary) -> tuple[float, float] | None:
    if summary.ci95_low is None or summary.ci95_high is None:
        return None
    return summary.ci95_low, summary.ci95_high


def _way_text(way: Way) -> str:
    text = _TEXTS[way.column]
    return f"{text}, {way.model}" if way.model else text
