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
from msksam_cli.core.slicing import plane_axes, slice_uint8
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError
from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.figure_views import View, view_across

Picture = Any
"""A Pillow image; Pillow is not typed here."""

Window = tuple[slice, slice, slice]
Entry = tuple[tuple[int, int, int] | None, str]

_WIDTH_PX, _SLICES = 1400, 12
_COLUMNS = (4, 6)
_KEPT_SCALE = 0.85
_JPEG_QUALITY = 82
_MOST_PLANES_PX, _MOST_SLICE_PX = 440, 420
_GAP_PX, _FONT_PX, _LINE_PX = 6, 15, 26
_MARGIN_MM = 12.0
_TINT = 0.25
_PAPER, _INK = (16, 18, 21), (240, 240, 240)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What every tile of a figure is cut from: image, labels, grey window and the tissues that occur."""

    volume: Volume
    labels: LabelMap
    greys: tuple[float, float]
    present: TissueTable


@dataclass(frozen=True, eq=False)
class _Cut:
    """One tile: a plane of a view, the part of the volume it may show, and its scale."""

    view: View
    index: int
    window: Window
    px_per_mm: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the tile."""
        extent = [part.stop - part.start for axis, part in enumerate(self.window) if axis != self.view.slice_axis]
        width, height = extent if self.view.transposed else reversed(extent)
        size = (width * self.view.pixel_mm[0], height * self.view.pixel_mm[1])
        return max(1, round(size[0] * self.px_per_mm)), max(1, round(size[1] * self.px_per_mm))

    def plane(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The shown part (height, width) of (I, J, K) voxels, in voxels."""
        axis = self.view.slice_axis
        return self.view.picture(voxels[self.window], self.index - self.window[axis].start)


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


def jpeg_from_png(content: bytes) -> bytes:
    """The same picture as JPEG, several times smaller, for pages that carry many."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _overlay(volume: Volume, labels: LabelMap, prompts: Sequence[Prompt], title: str) -> Picture:
    occurring = set(np.flatnonzero(np.bincount(labels.values.ravel(order="K"))).tolist())
    present = TissueTable(tuple(tissue for tissue in labels.tissues if tissue.index in occurring))
    subject = _Subject(volume, labels, volume.window, present)
    lines = [_beside([_tile(subject, cut, ()) for cut in _plane_cuts(labels)])]
    cuts, columns = _slice_cuts(labels)
    tiles = [_tile(subject, cut, [p for p in prompts if p.slice_index == cut.index]) for cut in cuts]
    lines += [_beside(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    legend: list[Entry] = [(tissue.rgb, tissue.name) for tissue in present]
    width_px = max(line.width for line in lines)
    heading = [_text_line([(None, title)], width_px)] if title else []
    return _below([*heading, *lines, *_legend_lines(legend or [(None, "no voxel is labelled")], width_px)])


def _plane_cuts(labels: LabelMap) -> list[_Cut]:
    """The whole field of view in its three planes, each where it shows the most tissues, as large as a row allows."""
    grid = labels.grid
    whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    views = sorted((view_across(grid, axis) for axis in range(3)), key=lambda view: view.plane)
    at_one = [_Cut(view, _richest(labels, view.slice_axis), whole, 1.0) for view in views]
    widths, heights = zip(*(cut.size_px for cut in at_one), strict=True)
    scale = min((_WIDTH_PX - 2 * _GAP_PX) / sum(widths), _MOST_PLANES_PX / max(heights))
    return [_Cut(cut.view, cut.index, whole, scale) for cut in at_one]


def _slice_cuts(labels: LabelMap) -> tuple[list[_Cut], int]:
    """Slices from the first to the last that is labelled, cropped to the labels with a margin, and how many make a row.

    Narrow slices stand in longer rows, unless that makes them much smaller.
    """
    grid, axis = labels.grid, labels.grid.slice_axis
    window = _labelled_window(labels)
    view = view_across(grid, axis)
    first, last = window[axis].start, window[axis].stop - 1
    indices = np.unique(np.linspace(first, last, _SLICES).round().astype(int))
    shown = tuple(_widened(part, grid.shape[n], grid.spacing_mm[n]) for n, part in enumerate(window))
    window = (shown[0], shown[1], shown[2])
    width, height = _Cut(view, first, window, 1.0).size_px
    scales = {n: min((_WIDTH_PX - (n - 1) * _GAP_PX) / n / width, _MOST_SLICE_PX / height) for n in _COLUMNS}
    columns = max(n for n in _COLUMNS if scales[n] >= _KEPT_SCALE * max(scales.values()))
    return [_Cut(view, int(index), window, scales[columns]) for index in indices], columns


def _labelled_window(labels: LabelMap) -> Window:
    """The smallest box round all labels; the whole grid without any."""
    parts = []
    labelled = labels.values > 0
    for axis, size in enumerate(labels.grid.shape):
        found = np.flatnonzero(labelled.any(axis=plane_axes(axis)))
        parts.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, size))
    return parts[0], parts[1], parts[2]


def _widened(part: slice, size: int, spacing_mm: float) -> slice:
    margin = round(_MARGIN_MM / spacing_mm)
    return slice(max(0, part.start - margin), min(size, part.stop + margin))


def _richest(labels: LabelMap, axis: int) -> int:
    """The index along an axis whose plane shows the largest parts of the most tissues; the middle without labels."""
    planes = np.moveaxis(labels.values, axis, 0)
    counts = [np.bincount(plane[plane > 0], minlength=labels.tissues.indices[-1] + 1) for plane in planes]
    profiles = np.stack(counts)[:, list(labels.tissues.indices)]
    if not profiles.any():
        return labels.grid.shape[axis] // 2
    return int((profiles / np.maximum(profiles.max(axis=0), 1)).sum(axis=1).argmax())


def _tile(subject: _Subject, cut: _Cut, prompts: Sequence[Prompt]) -> Picture:
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


def _draw_prompt(draw: Any, prompt: Prompt, cut: _Cut, tissue: Tissue) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box.xyxy
        one, other = _tile_xy(cut, (x0 - 0.5, y0 - 0.5)), _tile_xy(cut, (x1 + 0.5, y1 + 0.5))
        corners = [min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])]
        draw.rectangle(corners, outline=tissue.rgb, width=1)
    if prompt.points is not None:
        for xy, is_foreground in zip(prompt.points.xy, prompt.points.is_foreground, strict=True):
            x, y = _tile_xy(cut, xy)
            fill = tissue.rgb if is_foreground else _PAPER
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=fill, outline=_INK if is_foreground else tissue.rgb)


def _tile_xy(cut: _Cut, xy: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the whole slice lies on a tile, in pixels."""
    rows, columns = (cut.window[axis] for axis in plane_axes(cut.view.slice_axis))
    inside = (xy[0] - columns.start, xy[1] - rows.start)
    extent = (rows.stop - rows.start, columns.stop - columns.start)
    shape = (extent[1], extent[0]) if cut.view.transposed else extent
    x, y = cut.view.picture_xy(inside, shape)
    width, height = cut.size_px
    return (x + 0.5) * width / shape[1], (y + 0.5) * height / shape[0]


def _draw_letters(draw: Any, cut: _Cut) -> None:
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
    line = Image.new("RGB", (width_px, _LINE_PX), _PAPER)
    draw = ImageDraw.Draw(line)
    x = 4.0
    for colour, text in entries:
        if colour is not None:
            draw.rectangle([x, 6, x + 14, 20], fill=colour)
            x += 20
        draw.text((x, _LINE_PX / 2), text, fill=_INK, font=_font(), anchor="lm")
        x += float(_font().getlength(text)) + 24
    return line


@cache
def _font() -> Any:
    return ImageFont.load_default(size=_FONT_PX)


def _beside(tiles: Sequence[Picture]) -> Picture:
    width = sum(tile.width + _GAP_PX for tile in tiles) - _GAP_PX
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), _PAPER)
    x = 0
    for tile in tiles:
        row.paste(tile, (x, 0))
        x += tile.width + _GAP_PX
    return row


def _below(rows: Sequence[Picture]) -> Picture:
    figure = Image.new(
        "RGB", (max(row.width for row in rows), sum(row.height + _GAP_PX for row in rows) - _GAP_PX), _PAPER
    )
    y = 0
    for row in rows:
        figure.paste(row, (0, y))
        y += row.height + _GAP_PX
    return figure
