"""Where everything stands in the overlay figure of a case: which planes, cut from where, at which pixels.

The layout follows from the labels alone, so that boxes and points can be laid over a figure that was drawn earlier.
Figure pixels count from the upper left corner, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.boxed import Box3D, grown
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.slicing import plane_axes
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.figure_views import View, view_across

Window = Box3D

GAP_PX, LINE_PX = 6, 26
"""Between tiles, and the height of a line of text."""

_WIDTH_PX, _SLICES = 1400, 12
_COLUMNS = (4, 6)
_KEPT_SCALE = 0.85
_MOST_PLANES_PX, _MOST_SLICE_PX = 440, 420
_MARGIN_MM = 12.0


@dataclass(frozen=True, eq=False)
class Cut:
    """One tile: a plane of a view, the part of the volume it may show, and its scale."""

    view: View
    index: int
    window: Window
    px_per_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of what the tile shows."""
        extent = [part.stop - part.start for axis, part in enumerate(self.window) if axis != self.view.slice_axis]
        width, height = extent if self.view.transposed else reversed(extent)
        return width * self.view.pixel_mm[0], height * self.view.pixel_mm[1]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the tile."""
        width, height = self.size_mm
        return max(1, round(width * self.px_per_mm)), max(1, round(height * self.px_per_mm))

    def plane(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The shown part (height, width) of (I, J, K) voxels, in voxels."""
        axis = self.view.slice_axis
        return self.view.picture(voxels[self.window], self.index - self.window[axis].start)

    def tile_xy(self, xy: tuple[float, float]) -> tuple[float, float]:
        """Where a point of the whole slice lies on the tile, in pixels."""
        rows, columns = (self.window[axis] for axis in plane_axes(self.view.slice_axis))
        inside = (xy[0] - columns.start, xy[1] - rows.start)
        extent = (rows.stop - rows.start, columns.stop - columns.start)
        shape = (extent[1], extent[0]) if self.view.transposed else extent
        x, y = self.view.picture_xy(inside, shape)
        width, height = self.size_px
        return (x + 0.5) * width / shape[1], (y + 0.5) * height / shape[0]

    def tile_box(self, xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom on the tile of a box of pixel centres, drawn round the pixels it holds."""
        x0, y0, x1, y1 = xyxy
        one, other = self.tile_xy((x0 - 0.5, y0 - 0.5)), self.tile_xy((x1 + 0.5, y1 + 0.5))
        return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


@dataclass(frozen=True, eq=False)
class Layout:
    """The tiles of a figure, row by row from the top; the first row shows whole planes, the others slices.

    Attributes:
        rows: tiles from left to right.
        top_px: where the first row begins, below the title if there is one.
    """

    rows: tuple[tuple[Cut, ...], ...]
    top_px: int

    @property
    def width_px(self) -> int:
        """Width of the figure."""
        return max(sum(cut.size_px[0] + GAP_PX for cut in row) - GAP_PX for row in self.rows)

    @property
    def bottom_px(self) -> int:
        """Where the last row ends; names of tissues stand below."""
        return self.top_px + sum(_height(row) + GAP_PX for row in self.rows) - GAP_PX

    def places(self) -> list[tuple[Cut, int, int]]:
        """Every tile of a slice with the figure's pixels of its upper left corner."""
        found, top = [], self.top_px + _height(self.rows[0]) + GAP_PX
        for row in self.rows[1:]:
            left = 0
            for cut in row:
                found.append((cut, left, top))
                left += cut.size_px[0] + GAP_PX
            top += _height(row) + GAP_PX
        return found


@dataclass(frozen=True)
class Mark:
    """A prompt in pixels of the figure.

    Attributes:
        tissue_index: label value asked for.
        box: left, top, right and bottom, None without a box.
        points: x, y and whether the point lies in the wanted tissue.
    """

    tissue_index: int
    box: tuple[float, float, float, float] | None
    points: tuple[tuple[float, float, bool], ...]


def figure_layout(labels: LabelMap, *, titled: bool) -> Layout:
    """The layout of the figure of these labels, with a line of title or without.

    It is the same, but for a pixel in the size of a tile, after the grid has been to a file and back.
    """
    cuts, columns = _slice_cuts(labels)
    rows = [tuple(_plane_cuts(labels))]
    rows += [tuple(cuts[start : start + columns]) for start in range(0, len(cuts), columns)]
    return Layout(tuple(rows), LINE_PX + GAP_PX if titled else 0)


def prompt_marks(layout: Layout, prompts: Sequence[Prompt]) -> tuple[Mark, ...]:
    """The prompts of those slices that a figure shows, where they lie in it."""
    return tuple(
        Mark(
            prompt.tissue_index,
            _shifted(cut.tile_box(prompt.box.xyxy), left, top) if prompt.box else None,
            tuple(
                (cut.tile_xy(xy)[0] + left, cut.tile_xy(xy)[1] + top, inside)
                for xy, inside in zip(prompt.points.xy, prompt.points.is_foreground, strict=True)
            )
            if prompt.points
            else (),
        )
        for cut, left, top in layout.places()
        for prompt in prompts
        if prompt.slice_index == cut.index
    )


def _shifted(box: tuple[float, float, float, float], left: int, top: int) -> tuple[float, float, float, float]:
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def _height(row: Sequence[Cut]) -> int:
    return max(cut.size_px[1] for cut in row)


def _plane_cuts(labels: LabelMap) -> list[Cut]:
    """The whole field of view in its three planes, each where it shows the most tissues, as large as a row allows."""
    grid = labels.grid
    whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    views = sorted((view_across(grid, axis) for axis in range(3)), key=lambda view: view.plane)
    at_one = [Cut(view, _richest(labels, view.slice_axis), whole, 1.0) for view in views]
    widths, heights = zip(*(cut.size_mm for cut in at_one), strict=True)
    scale = min((_WIDTH_PX - 2 * GAP_PX) / sum(widths), _MOST_PLANES_PX / max(heights))
    return [Cut(cut.view, cut.index, whole, scale) for cut in at_one]


def _slice_cuts(labels: LabelMap) -> tuple[list[Cut], int]:
    """Slices from the first to the last that is labelled, cropped to the labels with a margin, and how many make a row.

    Narrow slices stand in longer rows, unless that makes them much smaller.
    """
    grid, axis = labels.grid, labels.grid.slice_axis
    window = labelled_window(labels)
    view = view_across(grid, axis)
    first, last = window[axis].start, window[axis].stop - 1
    indices = np.unique(np.linspace(first, last, _SLICES).round().astype(int))
    window = widened(window, grid, _MARGIN_MM)
    width, height = Cut(view, first, window, 1.0).size_mm
    scales = {n: min((_WIDTH_PX - (n - 1) * GAP_PX) / n / width, _MOST_SLICE_PX / height) for n in _COLUMNS}
    columns = max(n for n in _COLUMNS if scales[n] >= _KEPT_SCALE * max(scales.values()))
    return [Cut(view, int(index), window, scales[columns]) for index in indices], columns


def labelled_window(labels: LabelMap) -> Window:
    """The smallest box round all labels; the whole grid without any."""
    whole = tuple(slice(0, size) for size in labels.grid.shape)
    i, j, k = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*(labels.boxes.values() or [whole]), strict=True)
    )
    return i, j, k


def widened(window: Window, grid: Grid, margin_mm: float) -> Window:
    """A window with a margin on every side, as far as the grid reaches."""
    return grown(window, [round(margin_mm / spacing_mm) for spacing_mm in grid.spacing_mm], grid.shape)


def _richest(labels: LabelMap, axis: int) -> int:
    """The index along an axis whose plane shows the largest parts of the most tissues; the middle without labels."""
    if not labels.boxes:
        return labels.grid.shape[axis] // 2
    profiles = np.zeros((labels.grid.shape[axis], len(labels.boxes)))
    for place, index in enumerate(labels.boxes):
        mask = labels.boxed(index)
        profiles[mask.box[axis], place] = np.count_nonzero(mask.part, axis=plane_axes(axis))
    return int((profiles / profiles.max(axis=0)).sum(axis=1).argmax())
