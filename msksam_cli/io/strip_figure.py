"""Boxes and dots as PNG: how single cases spread on each of several tissues.

A line per tissue: a box from quartile to quartile with the median in it, and a dot for each case. Dots that would
cover one another are set above and below. Cases that are no real measurement are crosses. Drawn with Pillow at twice
the size and reduced; equal input gives equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from msksam_cli.io.curves import ticks

_SCALE = 2
_WIDTH_PX, _LINE_PX = 900, 44
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 190, 24, 40, 30
_FONT_PX, _DOT_PX, _BOX_PX, _LANE_PX, _LANES = 14, 3, 13, 8, (0, -1, 1, -2, 2)
_LABEL_LANES = (0, -2, 2)
_PAPER, _INK, _GRID, _BAND = (255, 255, 255), (40, 44, 52), (224, 227, 231), (246, 247, 249)
_BOX, _EDGE, _DOT, _CROSS = (214, 226, 240), (122, 150, 186), (33, 102, 172), (194, 87, 26)


@dataclass(frozen=True)
class Dot:
    """One case.

    Attributes:
        value: where it lies.
        label: a text to its left, or to its right where there is no room, "" for none.
        crossed: whether it is drawn as a cross.
    """

    value: float
    label: str = ""
    crossed: bool = False


@dataclass(frozen=True)
class Strip:
    """One tissue: its quartiles (q25, median, q75), None for no box, and its cases."""

    name: str
    quartiles: tuple[float, float, float] | None
    dots: tuple[Dot, ...]


def strip_png(strips: Sequence[Strip], title: str) -> bytes:
    """Strips from top to bottom as PNG bytes; the title says what the axis shows.

    Raises:
        ValueError: no strip has a dot.
    """
    values = [dot.value for strip in strips for dot in strip.dots]
    if not values:
        raise ValueError("strips need at least one dot")
    steps = ticks(min(values), max(values))
    bottom = _TOP_PX + _LINE_PX * len(strips)
    size = _WIDTH_PX * _SCALE, (bottom + _BOTTOM_PX) * _SCALE
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    for number in range(0, len(strips), 2):
        top = _TOP_PX + number * _LINE_PX
        draw.rectangle([0, top * _SCALE, size[0], (top + _LINE_PX) * _SCALE], fill=_BAND)
    for step in steps:
        x = _x(step, steps)
        draw.line([x * _SCALE, _TOP_PX * _SCALE, x * _SCALE, bottom * _SCALE], fill=_GRID, width=_SCALE)
        _text(draw, (x, bottom + 12), f"{step:g}", "mm")
    for number, strip in enumerate(strips):
        _draw_strip(draw, strip, steps, _TOP_PX + (number + 0.5) * _LINE_PX)
    _text(draw, (10, _TOP_PX / 2), title, "lm")
    stream = io.BytesIO()
    smooth = picture.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.LANCZOS)
    smooth.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _draw_strip(draw: Any, strip: Strip, steps: Sequence[float], middle: float) -> None:
    _text(draw, (10, middle), strip.name, "lm")
    if strip.quartiles is not None:
        left, median, right = (_x(value, steps) * _SCALE for value in strip.quartiles)
        top, bottom = (middle - _BOX_PX) * _SCALE, (middle + _BOX_PX) * _SCALE
        draw.rectangle([left, top, right, bottom], fill=_BOX, outline=_EDGE, width=_SCALE)
        draw.line([median, top, median, bottom], fill=_INK, width=2 * _SCALE)
    ends = dict.fromkeys(_LANES, float("-inf"))
    free = dict.fromkeys(_LABEL_LANES, float(_LEFT_PX))
    for dot in sorted(strip.dots, key=lambda dot: dot.value):
        x = _x(dot.value, steps)
        lane = next((lane for lane in _LANES if x - ends[lane] >= _LANE_PX), min(_LANES, key=lambda n: ends[n]))
        ends[lane] = x
        _draw_dot(draw, x * _SCALE, (middle + lane * _LANE_PX) * _SCALE, dot.crossed)
        if dot.label:
            _draw_label(draw, dot.label, x, middle, free)
        free[0] = max(free[0], x + _DOT_PX)


def _draw_label(draw: Any, label: str, x: float, middle: float, free: dict[int, float]) -> None:
    """Write a label left of its dot in the first lane that is free there, else to its right."""
    width = float(_font().getlength(label)) / _SCALE + 8
    lane = next((lane for lane in _LABEL_LANES if x - width > free[lane]), None)
    if lane is not None:
        _text(draw, (x - 8, middle + lane * _LANE_PX), label, "rm")
        free[lane] = x
    else:
        _text(draw, (x + 8, middle), label, "lm")
        free[0] = x + width


def _draw_dot(draw: Any, x: float, y: float, crossed: bool) -> None:
    reach = _DOT_PX * _SCALE
    if crossed:
        draw.line([x - reach, y - reach, x + reach, y + reach], fill=_CROSS, width=2 * _SCALE)
        draw.line([x - reach, y + reach, x + reach, y - reach], fill=_CROSS, width=2 * _SCALE)
    else:
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=_DOT)


def _x(value: float, steps: Sequence[float]) -> float:
    share = (value - steps[0]) / (steps[-1] - steps[0])
    return _LEFT_PX + share * (_WIDTH_PX - _LEFT_PX - _RIGHT_PX)


def _text(draw: Any, place: tuple[float, float], text: str, anchor: str) -> None:
    draw.text((place[0] * _SCALE, place[1] * _SCALE), text, fill=_INK, font=_font(), anchor=anchor)


@cache
def _font() -> Any:
    return ImageFont.load_default(size=_FONT_PX * _SCALE)
