"""Agreement in the report of an evaluation: figures, tables and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msksam_cli.io.curves import Chart, Curve, Level, charts_png
from msksam_cli.io.report_page import Picture, Section, Table
from msksam_cli.measure.agreement import Agreement, Pair
from msksam_cli.measure.estimate import Estimate, shown
from msksam_cli.measure.influence import Influence

_DOTS, _BIAS, _LIMIT, _ZERO = "#2166ac", "#1b1f24", "#c2571a", "#9aa3ad"
_MOST_LABELS = 5
_PLAIN_NUMBERS = ("slope", "slope_p", "icc_2_1", "icc_3_1", "ccc", "rank_icc", "passing_bablok_slope")
_LEAST_P = 0.001

_LIMITS_CAPTION = (
    "Prediction minus reference, in the biomarker's unit. Intervals are 95 %: of the bias by Student's t, of the "
    "limits exact for normal differences (Carkeet 2015). Slope: change of the difference per unit of size."
)
_RELIABILITY_CAPTION = (
    "How well cases are told apart: ICC by two-way analysis of variance with F intervals (McGraw and Wong 1996), CCC "
    "by Lin. ICC(3,1) ignores a constant bias."
)
_ERROR_CAPTION = (
    "Error of one measurement: RMS-CV, standard error of measurement (SEM) and smallest detectable change (SDC), with "
    "the bias in them and, for one way of measuring used twice, without."
)
_ROBUST_CAPTION = (
    "The same by medians and ranks. Limits: median ± 1.96 sd from the median absolute deviation. Line: prediction on "
    "reference by Passing and Bablok; 1 means no proportional bias."
)
_INFLUENCE_CAPTION = "The case without which a number changes most, and the number without it."


def agreement_section(agreements: Sequence[Agreement]) -> Section:
    """Warnings, a Bland-Altman figure for each tissue and biomarker that has one, and the numbers."""
    return Section(
        "Agreement",
        doubts=tuple(agreement_warning_lines(agreements)),
        pictures=tuple(_picture(agreement) for agreement in agreements if agreement.estimates["sd"].value is not None),
        tables=(
            _limits_table(agreements),
            _reliability_table(agreements),
            _error_table(agreements),
            _robust_table(agreements),
            *_influence_tables(agreements),
        ),
    )


def agreement_warning_lines(agreements: Sequence[Agreement]) -> list[str]:
    """Every warning behind its tissue and biomarker."""
    return [f"{one.tissue}, {one.biomarker}: {warning}" for one in agreements for warning in one.warnings]


def bland_altman_chart(agreement: Agreement) -> Chart:
    """Differences over means of both sides, with bias, limits and their intervals; cases beyond a limit are named.

    Raises:
        ValueError: the agreement has no limits.
    """
    bias, low, high = (agreement.estimates[name] for name in ("bias", "limit_low", "limit_high"))
    if low.value is None or high.value is None:
        raise ValueError(f"{agreement.tissue} has no limits of agreement")
    points = tuple((pair.mean, pair.difference) for pair in agreement.pairs)
    outside = _outside(agreement.pairs, low.value, high.value)
    dots = Curve(
        "", _DOTS, points, dots=True, line=False, labels=tuple(outside.get(pair.case, "") for pair in agreement.pairs)
    )
    levels = (
        Level(0.0, _ZERO),
        _level(bias, "bias", _BIAS, (bias.value or 0.0) < 0, dashed=False),
        _level(high, "+1.96 sd", _LIMIT, below=False),
        _level(low, "-1.96 sd", _LIMIT, below=True),
    )
    title = f"{agreement.tissue}, {agreement.biomarker}"
    return Chart(title, "mean of prediction and reference", "prediction - reference", (dots,), levels)


def _picture(agreement: Agreement) -> Picture:
    bias, low, high = (_text(agreement, name) for name in ("bias", "limit_low", "limit_high"))
    what = f"{agreement.biomarker} of {agreement.tissue}, {len(agreement.pairs)} cases"
    description = f"Bland-Altman plot of {what}: bias {bias}, 95 % limits of agreement {low} and {high}."
    return Picture(charts_png([bland_altman_chart(agreement)]), description, f"{what}; bands are 95 % intervals.")


def _level(estimate: Estimate, name: str, color: str, below: bool, dashed: bool = True) -> Level:
    value = estimate.value or 0.0
    return Level(value, color, f"{name}  {shown(value)}", below, estimate.interval, dashed)


def _outside(pairs: Sequence[Pair], low: float, high: float) -> Mapping[str, str]:
    """Names of the cases beyond a limit, the furthest first, few enough to be read."""
    beyond = [pair for pair in pairs if not low <= pair.difference <= high]
    beyond.sort(key=lambda pair: -abs(pair.difference - (low + high) / 2))
    return {pair.case: pair.case for pair in beyond[:_MOST_LABELS]}


def _limits_table(agreements: Sequence[Agreement]) -> Table:
    columns = ("bias", "limit_low", "limit_high", "slope", "slope_p")
    names = ("bias", "lower limit", "upper limit", "slope", "p")
    return _table(agreements, columns, names, _LIMITS_CAPTION, with_left_out=True)


def _reliability_table(agreements: Sequence[Agreement]) -> Table:
    return _table(agreements, ("icc_2_1", "icc_3_1", "ccc"), ("ICC(2,1)", "ICC(3,1)", "CCC"), _RELIABILITY_CAPTION)


def _error_table(agreements: Sequence[Agreement]) -> Table:
    columns = ("rms_cv_percent", "sem", "sdc", "sem_consistency", "sdc_consistency")
    names = ("RMS-CV %", "SEM", "SDC", "SEM without bias", "SDC without bias")
    return _table(agreements, columns, names, _ERROR_CAPTION)


def _robust_table(agreements: Sequence[Agreement]) -> Table:
    spread = ("median_difference", "mad_limit_low", "mad_limit_high", "rank_icc")
    columns = (*spread, "passing_bablok_slope", "passing_bablok_intercept")
    names = ("median difference", "lower limit", "upper limit", "rank ICC", "slope of the line", "its intercept")
    return _table(agreements, columns, names, _ROBUST_CAPTION)


def _table(
    agreements: Sequence[Agreement],
    columns: Sequence[str],
    names: Sequence[str],
    caption: str,
    with_left_out: bool = False,
) -> Table:
    counts = ("cases", "left out") if with_left_out else ()
    rows = tuple(
        (
            one.tissue,
            one.biomarker,
            *((str(len(one.pairs)), str(sum(one.left_out.values()))) if with_left_out else ()),
            *(_text(one, column) for column in columns),
        )
        for one in agreements
    )
    return Table(("tissue", "biomarker", *counts, *names), rows, caption)


def _influence_tables(agreements: Sequence[Agreement]) -> tuple[Table, ...]:
    columns = ("tissue", "biomarker", "number", "with all cases", "case", "without it")
    rows = tuple(
        (one.tissue, one.biomarker, name, *_with_and_without(one, name, found))
        for one in agreements
        for name, found in one.influences.items()
    )
    return (Table(columns, rows, _INFLUENCE_CAPTION),) if rows else ()


def _with_and_without(agreement: Agreement, name: str, influence: Influence) -> tuple[str, str, str]:
    whole = agreement.estimates[name].value
    without = _number(name, influence.without)
    return "" if whole is None else _number(name, whole), influence.case, without


def _text(agreement: Agreement, name: str) -> str:
    """An estimate and its interval, which no line break divides."""
    estimate = agreement.estimates[name]
    if estimate.value is None:
        return ""
    if estimate.interval is None:
        return _number(name, estimate.value)
    low, high = (_number(name, end) for end in estimate.interval)
    return f"{_number(name, estimate.value)} ({low}\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}{high})"


def _number(name: str, value: float) -> str:
    if name == "slope_p" and value < _LEAST_P:
        return f"<{_LEAST_P}"
    return f"{value:.3f}" if name in _PLAIN_NUMBERS else shown(value)
