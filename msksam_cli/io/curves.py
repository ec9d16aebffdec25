"""Charts as PNG: training curves, learning curves, and dots between horizontal levels.

Drawn with Pillow at twice the size and reduced, so that lines and letters are smooth; equal input gives equal bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from msksam_cli.io.atomic import write_atomic

Point = tuple[float, float]

_SCALE = 2
_WIDTH_PX, _HEIGHT_PX = 560, 380
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 66, 28, 40, 58
_FONT_PX, _TICKS, _DOT_PX = 14, 6, 3
_PAPER, _INK, _GRID = (255, 255, 255), (40, 44, 52), (224, 227, 231)


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: for the legend, "" for none.
        color: "#rrggbb".
        points: (x, y), in order of x.
        intervals: (low, high) of y at each point, drawn as bars; empty for none.
        dots: whether each point is marked.
        line: whether points are joined.
        labels: a text beside each point, "" for none; empty for none at all.
    """

    name: str
    color: str
    points: tuple[Point, ...]
    intervals: tuple[Point, ...] = ()
    dots: bool = False
    line: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line across a chart.

    Attributes:
        value: where, in units of y.
        color: "#rrggbb".
        text: written at its right end, "" for none.
        text_below: whether the text stands below the line and not above it.
        band: (low, high) shaded around it, None for none; what lies beyond the axes is cut off.
        dashed: whether the line has gaps.
    """

    value: float
    color: str
    text: str = ""
    text_below: bool = False
    band: Point | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves and levels over one pair of axes; axes are cut to what they span.

    Bands widen the axes by half of what everything else spans at most.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class _Axes:
    """From values to pixels of the enlarged drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, point: Point) -> Point:
        left, right = _LEFT_PX * _SCALE, (_WIDTH_PX - _RIGHT_PX) * _SCALE
        top, bottom = _TOP_PX * _SCALE, (_HEIGHT_PX - _BOTTOM_PX) * _SCALE
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return left + across * (right - left), bottom - up * (bottom - top)


def write_charts(path: Path, charts: Sequence[Chart]) -> None:
    """Write `charts_png` as a file.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    content = charts_png(charts)
    write_atomic(path, lambda stream: stream.write(content))


def charts_png(charts: Sequence[Chart]) -> bytes:
    """Charts side by side as PNG bytes.

    Raises:
        ValueError: a chart has no point, or a value is not finite.
    """
    sheet = Image.new("RGB", (_WIDTH_PX * len(charts), _HEIGHT_PX), _PAPER)
    for number, chart in enumerate(charts):
        drawn = _chart(chart).resize((_WIDTH_PX, _HEIGHT_PX), Image.Resampling.LANCZOS)
        sheet.paste(drawn, (_WIDTH_PX * number, 0))
    stream = io.BytesIO()
    sheet.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """Round values that span low … high in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(0.87, 0.93)
    [0.86, 0.88, 0.9, 0.92, 0.94]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / (most - 1)))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * (most - 1) >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def _chart(chart: Chart) -> Any:
    xs = [x for curve in chart.curves for x, _ in curve.points]
    ys = [y for curve in chart.curves for _, y in curve.points]
    ys += [y for curve in chart.curves for interval in curve.intervals for y in interval]
    ys += [level.value for level in chart.levels]
    if not xs or not all(math.isfinite(value) for value in xs + ys):
        raise ValueError(f"chart {chart.title!r} needs finite points")
    ends = [end for level in chart.levels for end in level.band or ()]
    low, high, room = min(ys), max(ys), (max(ys) - min(ys)) / 2
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(low, high)
    axes = _Axes((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    picture = Image.new("RGB", (_WIDTH_PX * _SCALE, _HEIGHT_PX * _SCALE), _PAPER)
    draw = ImageDraw.Draw(picture)
    for level in chart.levels:
        _draw_band(draw, axes, level)
    _draw_axes(draw, axes, x_ticks, y_ticks)
    for level in chart.levels:
        _draw_level(draw, axes, level)
    for curve in chart.curves:
        _draw_curve(draw, axes, curve)
    middle = (_LEFT_PX + _WIDTH_PX - _RIGHT_PX) / 2 * _SCALE
    _text(draw, (_LEFT_PX * _SCALE, 20 * _SCALE), f"{chart.title}  ({chart.y_label})", "lm")
    _text(draw, (middle, (_HEIGHT_PX - _BOTTOM_PX + 32) * _SCALE), chart.x_label, "mm")
    _draw_legend(draw, chart.curves)
    return picture


def _draw_axes(draw: Any, axes: _Axes, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> None:
    for value in x_ticks:
        x, bottom = axes.place((value, axes.y[0]))
        draw.line([x, bottom, x, axes.place((value, axes.y[1]))[1]], fill=_GRID, width=_SCALE)
        _text(draw, (x, bottom + 12 * _SCALE), f"{value:g}", "mm")
    for value in y_ticks:
        left, y = axes.place((axes.x[0], value))
        draw.line([left, y, axes.place((axes.x[1], value))[0], y], fill=_GRID, width=_SCALE)
        _text(draw, (left - 6 * _SCALE, y), f"{value:g}", "rm")


def _draw_curve(draw: Any, axes: _Axes, curve: Curve) -> None:
    places = [axes.place(point) for point in curve.points]
    for (x, _), (low, high) in zip(curve.points, curve.intervals, strict=bool(curve.intervals)):
        draw.line([axes.place((x, low)), axes.place((x, high))], fill=curve.color, width=2 * _SCALE)
    if curve.line and len(places) > 1:
        draw.line(places, fill=curve.color, width=2 * _SCALE, joint="curve")
    if curve.dots or len(places) == 1:
        for x, y in places:
            reach = _DOT_PX * _SCALE
            draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=curve.color)
    for (x, y), label in zip(places, curve.labels, strict=bool(curve.labels)):
        right = x < (_LEFT_PX + _WIDTH_PX) / 2 * _SCALE
        _text(draw, (x + (7 if right else -7) * _SCALE, y), label, "lm" if right else "rm")


def _draw_band(draw: Any, axes: _Axes, level: Level) -> None:
    if level.band is None:
        return
    low, high = (min(max(end, axes.y[0]), axes.y[1]) for end in level.band)
    (left, top), (right, bottom) = axes.place((axes.x[0], high)), axes.place((axes.x[1], low))
    red, green, blue = (int(level.color[start : start + 2], 16) for start in (1, 3, 5))
    draw.rectangle(
        [left, top, right, bottom], fill=((red + 6 * 255) // 7, (green + 6 * 255) // 7, (blue + 6 * 255) // 7)
    )


def _draw_level(draw: Any, axes: _Axes, level: Level) -> None:
    (left, y), (right, _) = axes.place((axes.x[0], level.value)), axes.place((axes.x[1], level.value))
    step = 8 * _SCALE if level.dashed else right - left
    for start in range(int(left), int(right), int(step * 1.6)):
        draw.line([start, y, min(start + step, right), y], fill=level.color, width=2 * _SCALE)
    _text(draw, (right - 4 * _SCALE, y + (10 if level.text_below else -9) * _SCALE), level.text, "rm")


def _draw_legend(draw: Any, curves: Sequence[Curve]) -> None:
    """Names in a line below the x axis, each behind a stroke of its colour."""
    x, y = float(_LEFT_PX * _SCALE), (_HEIGHT_PX - 10) * _SCALE
    for curve in curves:
        if curve.name:
            draw.line([x, y, x + 18 * _SCALE, y], fill=curve.color, width=3 * _SCALE)
            _text(draw, (x + 24 * _SCALE, y), curve.name, "lm")
            x += 24 * _SCALE + float(_font().getlength(curve.name)) + 18 * _SCALE


def _text(draw: Any, place: Point, text: str, anchor: str) -> None:
    draw.text(place, text, fill=_INK, font=_font(), anchor=anchor)


@cache
def _font() -> Any:
    return ImageFont.load_default(size=_FONT_PX * _SCALE)
