"""Dots and intervals as PNG: what several ways reach on several tissues.

One band per tissue, one line per way: a mark at the mean with its interval, faint dots for single cases. Marks differ
in shape as well as in colour. Drawn with Pillow at twice the size and reduced; equal input gives equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.curves import ticks

SHAPES = ("square", "cross", "circle", "diamond")

_SCALE = 2
_WIDTH_PX, _LINE_PX, _BAND_GAP_PX = 900, 17, 10
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 190, 24, 44, 52
_FONT_PX, _REACH_PX = 14, 5
_PAPER, _INK, _GRID, _BAND = (255, 255, 255), (40, 44, 52), (224, 227, 231), (246, 247, 249)


@dataclass(frozen=True)
class Style:
    """How a way is drawn: its name in the legend, a colour "#rrggbb" and one of `SHAPES`."""

    name: str
    color: str
    shape: str


@dataclass(frozen=True)
class Mark:
    """What one way reached on one tissue.

    Attributes:
        way: name of its style.
        mean: None when nothing is known; then the line stays empty.
        interval: (low, high) of the mean, None for too few cases.
        cases: single values.
    """

    way: str
    mean: float | None
    interval: tuple[float, float] | None = None
    cases: tuple[float, ...] = ()


@dataclass(frozen=True)
class Band:
    """One tissue with a mark for each way."""

    name: str
    marks: tuple[Mark, ...]


def write_comparison_figure(path: Path, bands: Sequence[Band], styles: Sequence[Style], title: str) -> None:
    """Write `comparison_png` as a file.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    content = comparison_png(bands, styles, title)
    write_atomic(path, lambda stream: stream.write(content))


def comparison_png(bands: Sequence[Band], styles: Sequence[Style], title: str) -> bytes:
    """The figure as PNG bytes.

    Args:
        bands: from top to bottom.
        styles: every way, in the order of the legend.
        title: what the axis shows, such as "Dice".

    Raises:
        ValueError: no mark has a mean.
    """
    known = [mark for band in bands for mark in band.marks if mark.mean is not None]
    if not known:
        raise ValueError("a comparison needs at least one mean")
    values = [v for mark in known for v in (mark.mean or 0.0, *(mark.interval or ()), *mark.cases)]
    legend = _legend_rows(styles)
    bottom_px = _BOTTOM_PX + _LINE_PX * (len(legend) - 1)
    heights = [len(band.marks) * _LINE_PX + _BAND_GAP_PX for band in bands]
    size = _WIDTH_PX * _SCALE, (_TOP_PX + sum(heights) + bottom_px) * _SCALE
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    axis = _Axis(tuple(ticks(min(values), max(values))))
    top = _TOP_PX
    for number, height in enumerate(heights):
        if number % 2 == 0:
            draw.rectangle([0, top * _SCALE, size[0], (top + height) * _SCALE], fill=_BAND)
        top += height
    _draw_axis(draw, axis, top)
    top = _TOP_PX
    by_name = {style.name: style for style in styles}
    for band, height in zip(bands, heights, strict=True):
        _text(draw, (10, top + height / 2), band.name, "lm")
        for number, mark in enumerate(band.marks):
            middle = top + _BAND_GAP_PX / 2 + (number + 0.5) * _LINE_PX
            _draw_mark(draw, axis, mark, by_name[mark.way], middle)
        top += height
    _text(draw, (10, _TOP_PX / 2), title, "lm")
    for number, row in enumerate(legend):
        _draw_legend(draw, row, top + 36 + number * _LINE_PX)
    stream = io.BytesIO()
    smooth = picture.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.LANCZOS)
    smooth.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


@dataclass(frozen=True)
class _Axis:
    """Round values along x, and where each lies in pixels."""

    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return _LEFT_PX + share * (_WIDTH_PX - _LEFT_PX - _RIGHT_PX)


def _draw_axis(draw: Any, axis: _Axis, bottom: float) -> None:
    for value in axis.ticks:
        x = axis.x(value) * _SCALE
        draw.line([x, _TOP_PX * _SCALE, x, bottom * _SCALE], fill=_GRID, width=_SCALE)
        _text(draw, (axis.x(value), bottom + 12), f"{value:g}", "mm")


def _draw_mark(draw: Any, axis: _Axis, mark: Mark, style: Style, y: float) -> None:
    if mark.mean is None:
        return
    for value in mark.cases:
        x = axis.x(value)
        dot = [(x - 1.5) * _SCALE, (y - 1.5) * _SCALE, (x + 1.5) * _SCALE, (y + 1.5) * _SCALE]
        draw.ellipse(dot, fill=_pale(style.color))
    if mark.interval is not None:
        low, high = (axis.x(value) * _SCALE for value in mark.interval)
        draw.line([low, y * _SCALE, high, y * _SCALE], fill=style.color, width=2 * _SCALE)
    _draw_shape(draw, (axis.x(mark.mean), y), style)


def _draw_shape(draw: Any, place: tuple[float, float], style: Style) -> None:
    x, y, reach = place[0] * _SCALE, place[1] * _SCALE, _REACH_PX * _SCALE
    if style.shape == "circle":
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=style.color)
    elif style.shape == "square":
        draw.rectangle([x - reach + 2, y - reach + 2, x + reach - 2, y + reach - 2], fill=style.color)
    elif style.shape == "diamond":
        draw.polygon([(x, y - reach - 2), (x + reach + 2, y), (x, y + reach + 2), (x - reach - 2, y)], fill=style.color)
    else:
        draw.line([x - reach, y - reach, x + reach, y + reach], fill=style.color, width=2 * _SCALE)
        draw.line([x - reach, y + reach, x + reach, y - reach], fill=style.color, width=2 * _SCALE)


def _pale(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return (red + 510) // 3, (green + 510) // 3, (blue + 510) // 3


def _legend_rows(styles: Sequence[Style]) -> list[list[Style]]:
    """Styles, as many in a row as fit."""
    rows: list[list[Style]] = [[]]
    for style in styles:
        if rows[-1] and sum(_legend_px(one) for one in (*rows[-1], style)) > _WIDTH_PX - 20:
            rows.append([])
        rows[-1].append(style)
    return rows


def _legend_px(style: Style) -> float:
    return float(_font().getlength(style.name)) / _SCALE + 36


def _draw_legend(draw: Any, styles: Sequence[Style], y: float) -> None:
    x = 16.0
    for style in styles:
        _draw_shape(draw, (x, y), style)
        _text(draw, (x + 11, y), style.name, "lm")
        x += _legend_px(style)


def _text(draw: Any, place: tuple[float, float], text: str, anchor: str) -> None:
    draw.text((place[0] * _SCALE, place[1] * _SCALE), text, fill=_INK, font=_font(), anchor=anchor)


@cache
def _font() -> Any:
    return ImageFont.load_default(size=_FONT_PX * _SCALE)
