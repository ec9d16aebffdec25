"""The overlay figure of a case: three planes through the labels, then slices from end to end.

Everything is drawn to scale in mm; each tissue is tinted and outlined in its own colour. Boxes and points can be drawn
on the slices they belong to.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from msksam_cli.core.prompts import Prompt
from msksam_cli.core.slicing import slice_uint8
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.figure_layout import GAP_PX, LINE_PX, Cut, figure_layout

Picture = Any
"""A Pillow image; Pillow is not typed here."""

Entry = tuple[tuple[int, int, int] | None, str]

_JPEG_STEPS = ((1.0, 82), (0.8, 78), (0.65, 75), (0.55, 70), (0.45, 65))  # scale, quality
_FONT_PX = 15
_TINT = 0.25
_PAPER, _INK = (16, 18, 21), (240, 240, 240)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What every tile of a figure is cut from: image, labels, grey window and the tissues that occur."""

    volume: Volume
    labels: LabelMap
    greys: tuple[float, float]
    present: TissueTable


def write_overlay(
    path: Path, volume: Volume, labels: LabelMap, prompts: Sequence[Prompt] = (), title: str = ""
) -> None:
    """Write `overlay_png` as a file.

    Raises:
        GridMismatchError: image and labels lie on different grids.
        EnvironmentFault: the file cannot be written.
    """
    content = overlay_png(volume, labels, prompts, title)
    write_atomic(path, lambda stream: stream.write(content))


def overlay_png(volume: Volume, labels: LabelMap, prompts: Sequence[Prompt] = (), title: str = "") -> bytes:
    """The overlay figure as PNG bytes, equal for equal input.

    Args:
        volume: the image.
        labels: labels on the same grid; without a labelled voxel the slices are spread over the whole volume.
        prompts: boxes and points to draw on the slices of the grid's slice axis.
        title: a line above the pictures, "" for none.

    Raises:
        GridMismatchError: image and labels lie on different grids.
    """
    if not labels.grid.matches(volume.grid):
        raise GridMismatchError("labels and image lie on different grids", "Give the image the labels were drawn on")
    stream = io.BytesIO()
    _overlay(volume, labels, prompts, title).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def jpeg_from_png(content: bytes, most_bytes: int | None = None) -> bytes:
    """The same picture as JPEG, several times smaller, for pages that carry many.

    Args:
        content: of the PNG.
        most_bytes: the budget, for which the picture is made smaller step by step; the last step is taken even where
            it does not reach it. None for full size.
    """
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    jpeg = b""
    for scale, quality in _JPEG_STEPS:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        smaller = picture if scale == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        smaller.save(stream, format="JPEG", quality=quality)
        jpeg = stream.getvalue()
        if most_bytes is None or len(jpeg) <= most_bytes:
            break
    return jpeg


def png_size_px(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    width, height = Image.open(io.BytesIO(content)).size
    return int(width), int(height)


def _overlay(volume: Volume, labels: LabelMap, prompts: Sequence[Prompt], title: str) -> Picture:
    present = TissueTable(tuple(tissue for tissue in labels.tissues if tissue.index in labels.boxes))
    subject = _Subject(volume, labels, volume.window, present)
    planes, *slices = figure_layout(labels, titled=bool(title)).rows
    lines = [_beside([_tile(subject, cut, ()) for cut in planes])]
    lines += [
        _beside([_tile(subject, cut, [p for p in prompts if p.slice_index == cut.index]) for cut in row])
        for row in slices
    ]
    legend: list[Entry] = [(tissue.rgb, tissue.name) for tissue in present]
    width_px = max(line.width for line in lines)
    heading = [_text_line([(None, title)], width_px)] if title else []
    return _below([*heading, *lines, *_legend_lines(legend or [(None, "no voxel is labelled")], width_px)])


def _tile(subject: _Subject, cut: Cut, prompts: Sequence[Prompt]) -> Picture:
    greys = slice_uint8(cut.plane(subject.volume.intensities), subject.greys)
    shown = Image.fromarray(greys).resize(cut.size_px, Image.Resampling.BICUBIC)
    canvas = np.repeat(np.asarray(shown, dtype=np.float32)[:, :, None], 3, axis=2)
    _paint(canvas, cut.plane(subject.labels.values), subject.present, cut.size_px)
    tile = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(tile)
    for prompt in prompts:
        _draw_prompt(draw, prompt, cut, subject.labels.tissues.by_index(prompt.tissue_index))
    _draw_letters(draw, cut)
    return tile


def _paint(canvas: NDArray[np.float32], values: NDArray[Any], present: TissueTable, size_px: tuple[int, int]) -> None:
    """Tint and outline each tissue on a canvas (height, width, 3); masks are smoothed to the tile's resolution."""
    best = np.full(canvas.shape[:2], 127, dtype=np.uint8)
    owner = np.zeros(canvas.shape[:2], dtype=np.uint16)
    for tissue in present:
        mask = values == tissue.index
        if mask.any():
            sharp = Image.fromarray(mask.astype(np.uint8) * 255)
            share = np.asarray(sharp.resize(size_px, Image.Resampling.BILINEAR))
            owner[share > best] = tissue.index
            best = np.maximum(best, share)
    edge = _edges(owner)
    for tissue in present:
        inside = owner == tissue.index
        colour = np.array(tissue.rgb, dtype=np.float32)
        canvas[inside] = (1 - _TINT) * canvas[inside] + _TINT * colour
        canvas[inside & edge] = colour


def _edges(owner: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels with a neighbour above, below, left or right that belongs to something else."""
    edge = np.zeros(owner.shape, dtype=np.bool_)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = owner[one] != owner[other]
        edge[one] |= differs
        edge[other] |= differs
    return edge


def _draw_prompt(draw: Any, prompt: Prompt, cut: Cut, tissue: Tissue) -> None:
    if prompt.box is not None:
        draw.rectangle(cut.tile_box(prompt.box.xyxy), outline=tissue.rgb, width=1)
    if prompt.points is not None:
        for xy, is_foreground in zip(prompt.points.xy, prompt.points.is_foreground, strict=True):
            x, y = cut.tile_xy(xy)
            fill = tissue.rgb if is_foreground else _PAPER
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=fill, outline=_INK if is_foreground else tissue.rgb)


def _draw_letters(draw: Any, cut: Cut) -> None:
    """Anatomical directions at three edges, and at the fourth which slice this is."""
    width, height = cut.size_px
    left, top, right, _ = cut.view.letters
    places = (
        (left, (5, height / 2), "lm"),
        (top, (width / 2, 4), "mt"),
        (right, (width - 5, height / 2), "rm"),
        (f"{cut.view.plane}  {'ijk'[cut.view.slice_axis]}={cut.index}", (5, height - 4), "lb"),
    )
    for text, place, anchor in places:
        draw.text(place, text, fill=_INK, font=_font(), anchor=anchor, stroke_width=2, stroke_fill=_PAPER)


def _legend_lines(entries: Sequence[Entry], width_px: int) -> list[Picture]:
    """Colours and names, as many in a line as fit."""
    lines: list[list[Entry]] = [[]]
    for entry in entries:
        if lines[-1] and _entries_px([*lines[-1], entry]) > width_px:
            lines.append([])
        lines[-1].append(entry)
    return [_text_line(line, width_px) for line in lines]


def _entries_px(entries: Sequence[Entry]) -> float:
    return sum(float(_font().getlength(text)) + 44 for _, text in entries)


def _text_line(entries: Sequence[Entry], width_px: int) -> Picture:
    """One line of texts, each behind a patch of its colour if it has one."""
    line = Image.new("RGB", (width_px, LINE_PX), _PAPER)
    draw = ImageDraw.Draw(line)
    x = 4.0
    for colour, text in entries:
        if colour is not None:
            draw.rectangle([x, 6, x + 14, 20], fill=colour)
            x += 20
        draw.text((x, LINE_PX / 2), text, fill=_INK, font=_font(), anchor="lm")
        x += float(_font().getlength(text)) + 24
    return line


@cache
def _font() -> Any:
    return ImageFont.load_default(size=_FONT_PX)


def _beside(tiles: Sequence[Picture]) -> Picture:
    width = sum(tile.width + GAP_PX for tile in tiles) - GAP_PX
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), _PAPER)
    x = 0
    for tile in tiles:
        row.paste(tile, (x, 0))
        x += tile.width + GAP_PX
    return row


def _below(rows: Sequence[Picture]) -> Picture:
    figure = Image.new(
        "RGB", (max(row.width for row in rows), sum(row.height + GAP_PX for row in rows) - GAP_PX), _PAPER
    )
    y = 0
    for row in rows:
        figure.paste(row, (0, y))
        y += row.height + GAP_PX
    return figure
