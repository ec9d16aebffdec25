"""From where an atlas believes a tissue to be, to boxes and points for the mask decoder.

Per slice and tissue each connected part of P > 0.5 gives one prompt: its box, padded by the larger of 2 mm and half
the width of the zone in which the atlas is undecided, positive points deep inside P > 0.8, and negative points in
competing tissues inside the box. Where P stays below 0.3 nothing is asked, because the decoder continues a structure
past its end when told to look. Thin curved tissues are cut into tiles of at most 25 mm, since the box of a whole
cartilage encloses the bone it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.placed import WorkingProbabilities, nearest, nearest_places
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.boxed import Boxed
from msksam_cli.core.cores import few_cores, spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.slicing import plane_axes, take_slice
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError

PROMPT_KINDS = ("auto", "box", "point", "box+point")
THIN_GROUPS = ("cartilage", "meniscus")
_LEAST, _INSIDE, _SURE = 0.3, 0.5, 0.8
_SMALLEST_MM2 = 4.0
_NEAR_PX = 3

_PlanePart = tuple[slice, slice]
_Winners = Callable[[int, _PlanePart], NDArray[np.integer]]
"""Index of a slice, rows and columns → label values there."""


@dataclass(frozen=True)
class PromptRules:
    """How prompts are made from probabilities.

    Attributes:
        kind: one of `PROMPT_KINDS`; "auto" is box and points.
        least_pad_mm: smallest padding of a box on each side.
        tile_mm: largest side of a tile of a thin tissue.
        positive_points: most positive points per prompt.
        negative_points: most negative points per prompt.
    """

    kind: str = "auto"
    least_pad_mm: float = 2.0
    tile_mm: float = 25.0
    positive_points: int = 3
    negative_points: int = 3

    def __post_init__(self) -> None:
        if self.kind not in PROMPT_KINDS:
            raise UsageError(f"unknown kind of prompt {self.kind!r}", f"Use one of {', '.join(PROMPT_KINDS)}")


@dataclass(frozen=True, eq=False)
class _Question:
    """What is the same for all prompts of one tissue."""

    tissue: Tissue
    rules: PromptRules
    source: str
    pad: bool


@dataclass(frozen=True, eq=False)
class _Plane:
    """What is known about one tissue on one slice.

    Attributes:
        index: of the slice.
        shape: (rows, columns) of the slice.
        corner_xy: first pixel of the part of the slice on which the tissue is expected at all.
        probability: (rows, columns) of that part.
        winner: rows and columns of the slice → label value of the strongest tissue there.
        spacing_mm: between rows and between columns.
    """

    index: int
    shape: tuple[int, int]
    corner_xy: tuple[int, int]
    probability: NDArray[np.float32]
    winner: Callable[[_PlanePart], NDArray[np.integer]]
    spacing_mm: tuple[float, float]

    def probability_on(self, part: _PlanePart) -> NDArray[np.float32]:
        """The probability on some rows and columns of the slice."""
        left, top = self.corner_xy
        rows, columns = self.probability.shape
        whole = np.zeros(self.shape, dtype=np.float32)
        whole[top : top + rows, left : left + columns] = self.probability
        return whole[part]


def prompts_from_priors(
    placed: PlacedAtlas, tissues: TissueTable, slice_axis: int, kind: str = "auto", rules: PromptRules | None = None
) -> tuple[Prompt, ...]:
    """Prompts for `tissues` on every slice on which the placed atlas expects them.

    Args:
        placed: the atlas on the volume's grid.
        tissues: which tissues to ask for.
        slice_axis: the axis slices are stacked on.
        kind: one of `PROMPT_KINDS`.
        rules: everything else; its own kind is replaced by `kind`.

    Returns:
        Prompts ordered by slice, then by label value.

    Raises:
        UsageError: `kind` is unknown.
    """
    rules = _with_kind(rules, kind)
    winner = _winner_planes(placed, slice_axis)

    def prompts_for(tissue: Tissue) -> list[Prompt]:
        question = _Question(tissue, rules, f"atlas:{placed.atlas_name}", pad=True)
        probability = placed.boxed(tissue.index)
        return list(_tissue_prompts(question, probability, winner, placed.grid, slice_axis))

    by_tissue = spread_over_cores(prompts_for, tuple(tissues), few_cores())
    return _ordered(list(chain.from_iterable(by_tissue)))


def _winner_planes(placed: PlacedAtlas, slice_axis: int) -> _Winners:
    """The tissue that is strongest on a part of a slice, 0 where none is."""
    known, shape = placed.probabilities, placed.grid.shape
    if not isinstance(known, WorkingProbabilities):
        winner = strongest_tissue(known, shape)
        return lambda index, part: take_slice(winner, slice_axis, index)[part]
    coarse = strongest_tissue({index: known.on_work(index) for index in known}, known.work.shape)
    along = nearest_places(coarse.shape[slice_axis], shape[slice_axis])
    rows, columns = (nearest_places(coarse.shape[axis], shape[axis]) for axis in plane_axes(slice_axis))
    return lambda index, part: take_slice(coarse, slice_axis, int(along[index]))[
        np.ix_(rows[part[0]], columns[part[1]])
    ]


def prompts_from_labels(
    labels: LabelMap,
    tissues: TissueTable,
    slice_axis: int,
    kind: str = "auto",
    *,
    jitter: float = 0.05,
    seed: int = 0,
    rules: PromptRules | None = None,
) -> tuple[Prompt, ...]:
    """Prompts as an expert would give them: from existing labels, boxes off by up to `jitter` of their size.

    Args:
        labels: the truth.
        tissues: which tissues to ask for.
        slice_axis: the axis slices are stacked on.
        kind: one of `PROMPT_KINDS`.
        jitter: each side of a box moves by a uniform share of the box's size within ± this.
        seed: of the jitter; equal seeds give equal prompts.
        rules: everything else; its own kind is replaced by `kind`.

    Raises:
        UsageError: `kind` is unknown.
    """
    rules = _with_kind(rules, kind)
    rng = np.random.default_rng(seed)

    def winner(index: int, part: _PlanePart) -> NDArray[np.integer]:
        return take_slice(labels.values, slice_axis, index)[part]

    prompts: list[Prompt] = []
    for tissue in tissues:
        truth = Boxed.of(labels.mask(tissue.index))
        question = _Question(tissue, rules, "labels", pad=False)
        known = replace(truth, part=truth.part.astype(np.float32))
        prompts += _tissue_prompts(question, known, winner, labels.grid, slice_axis)
    rows, columns = (labels.grid.shape[axis] for axis in plane_axes(slice_axis))
    return tuple(_jittered(prompt, jitter, rng, (rows, columns)) for prompt in _ordered(prompts))


def strongest_tissue(
    probabilities: Mapping[int, NDArray[np.float32]], shape: tuple[int, int, int], least: float = _INSIDE
) -> NDArray[np.uint16]:
    """(I, J, K) label value of the tissue with the largest probability, 0 where none exceeds `least`."""
    if isinstance(probabilities, WorkingProbabilities) and probabilities.work.shape != shape:
        coarse = {index: probabilities.on_work(index) for index in probabilities}
        return nearest(strongest_tissue(coarse, probabilities.work.shape, least), shape)
    winner = np.zeros(shape, dtype=np.uint16)
    best = np.full(shape, least, dtype=np.float32)
    for index in probabilities:
        probability = probabilities[index]
        better = probability > best
        winner[better] = index
        best[better] = probability[better]
    return winner


def _with_kind(rules: PromptRules | None, kind: str) -> PromptRules:
    rules = rules or PromptRules()
    return PromptRules(kind, rules.least_pad_mm, rules.tile_mm, rules.positive_points, rules.negative_points)


def _ordered(prompts: list[Prompt]) -> tuple[Prompt, ...]:
    return tuple(sorted(prompts, key=lambda prompt: (prompt.slice_index, prompt.tissue_index)))


def _tissue_prompts(
    question: _Question,
    probability: Boxed,
    winner: _Winners,
    grid: Grid,
    slice_axis: int,
) -> Iterator[Prompt]:
    rows, columns = plane_axes(slice_axis)
    spacing = grid.spacing_mm[rows], grid.spacing_mm[columns]
    tissue = question.tissue
    tile_mm = question.rules.tile_mm if tissue.group in THIN_GROUPS else None
    if probability.part.size == 0:
        return
    peaks = probability.part.max(axis=(rows, columns))
    for number in np.flatnonzero(peaks >= _LEAST).tolist():
        index = probability.box[slice_axis].start + number
        plane = _Plane(
            index,
            (grid.shape[rows], grid.shape[columns]),
            (probability.box[columns].start, probability.box[rows].start),
            take_slice(probability.part, slice_axis, number),
            partial(winner, index),
            spacing,
        )
        for part in _parts(plane.probability, spacing, tile_mm):
            yield _prompt(question, plane, part)


def _parts(
    probability: NDArray[np.float32], spacing_mm: tuple[float, float], tile_mm: float | None
) -> Iterator[NDArray[np.bool_]]:
    """Masks (rows, columns) to be asked for one by one: connected parts, cut into tiles where `tile_mm` is given."""
    inside = probability > min(_INSIDE, 0.6 * float(probability.max()))
    named, count = ndimage.label(inside, structure=np.ones((3, 3)))
    area = spacing_mm[0] * spacing_mm[1]
    for number, box in enumerate(ndimage.find_objects(named), start=1):
        part = named[box] == number
        if part.sum() * area < _SMALLEST_MM2 and count > 1:
            continue
        for piece in _tiles(part, spacing_mm, tile_mm) if tile_mm else (part,):
            mask = np.zeros(probability.shape, dtype=bool)
            mask[box] = piece
            yield mask


def _tiles(part: NDArray[np.bool_], spacing_mm: tuple[float, float], tile_mm: float) -> list[NDArray[np.bool_]]:
    """The part halved across its longer side until each piece's box measures at most `tile_mm`."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if rows.size == 0:
        return []
    sides = (rows[-1] - rows[0] + 1) * spacing_mm[0], (columns[-1] - columns[0] + 1) * spacing_mm[1]
    if max(sides) <= tile_mm:
        return [part]
    axis = int(sides[1] > sides[0])
    first, last = ((rows[0], rows[-1]), (columns[0], columns[-1]))[axis]
    middle = (int(first) + int(last) + 1) // 2
    index = np.arange(part.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
    low, high = part & (index < middle), part & (index >= middle)
    return _tiles(low, spacing_mm, tile_mm) + _tiles(high, spacing_mm, tile_mm)


def _prompt(question: _Question, plane: _Plane, part: NDArray[np.bool_]) -> Prompt:
    rules, box = question.rules, Box.of_mask(part).moved(*plane.corner_xy)
    if question.pad:
        pad_mm = max(rules.least_pad_mm, _undecided_mm(plane, part))
        box = box.padded(pad_mm / plane.spacing_mm[1], pad_mm / plane.spacing_mm[0], plane.shape)
    points = None if rules.kind == "box" else _points(question, plane, part, box)
    asked_box = None if rules.kind == "point" else box
    return Prompt(question.tissue.index, plane.index, asked_box, points, question.source)


def _undecided_mm(plane: _Plane, part: NDArray[np.bool_]) -> float:
    """Half the mean width of the zone round a part in which 0.2 < P < 0.8."""
    x0, y0, x1, y1 = (round(v) for v in Box.of_mask(part).padded(_NEAR_PX + 1, _NEAR_PX + 1, part.shape).xyxy)
    window = slice(y0, y1 + 1), slice(x0, x1 + 1)
    part, probability = part[window], plane.probability[window]
    near = ndimage.binary_dilation(part, iterations=_NEAR_PX)
    undecided = near & (probability > 1 - _SURE) & (probability < _SURE)
    rim = part & ~ndimage.binary_erosion(part)
    pixel_mm = float(np.sqrt(plane.spacing_mm[0] * plane.spacing_mm[1]))
    return min(0.5 * pixel_mm * float(undecided.sum()) / max(int(rim.sum()), 1), 6.0)


def _points(question: _Question, plane: _Plane, part: NDArray[np.bool_], box: Box) -> Points:
    rules, (left, top) = question.rules, plane.corner_xy
    sure = part & (plane.probability >= min(_SURE, 0.9 * float(plane.probability[part].max())))
    positive = [(left + x, top + y) for x, y in deepest_points(sure, plane.spacing_mm, rules.positive_points)]
    x0, y0, x1, y1 = (round(v) for v in box.xyxy)
    around = slice(y0, y1 + 1), slice(x0, x1 + 1)
    winner = plane.winner(around)
    rivals = (winner != 0) & (winner != question.tissue.index)
    rivals &= plane.probability_on(around) < 1 - _SURE
    beside = deepest_points(rivals, plane.spacing_mm, rules.negative_points)
    negative = [(x0 + x, y0 + y) for x, y in beside]
    return Points(tuple(positive + negative), (True,) * len(positive) + (False,) * len(negative))


def deepest_points(mask: NDArray[np.bool_], spacing_mm: tuple[float, float], most: int) -> list[tuple[float, float]]:
    """Up to `most` pixels (x, y) far from a mask's edge and from one another, the deepest first."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return []
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = ndimage.distance_transform_edt(np.pad(part, 1), sampling=spacing_mm)[1:-1, 1:-1]
    y_mm = np.arange(part.shape[0])[:, None] * spacing_mm[0]
    x_mm = np.arange(part.shape[1])[None, :] * spacing_mm[1]
    points: list[tuple[float, float]] = []
    deepest = float(depth.max())
    for _ in range(most):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] < max(0.4 * deepest, 1e-6):
            break
        points.append((float(columns[0] + x), float(rows[0] + y)))
        apart = 2.0 * max(deepest, 2.0)
        near = (y_mm - y * spacing_mm[0]) ** 2 + (x_mm - x * spacing_mm[1]) ** 2 < apart**2
        depth[near] = 0.0
    return points


def _jittered(prompt: Prompt, jitter: float, rng: np.random.Generator, shape: tuple[int, int]) -> Prompt:
    """The prompt with each side of its box moved by a uniform share of its size within ± `jitter`."""
    if prompt.box is None or jitter == 0:
        return prompt
    x0, y0, x1, y1 = prompt.box.xyxy
    width, height = x1 - x0 + 1, y1 - y0 + 1
    left, top, right, bottom = rng.uniform(-jitter, jitter, 4) * (width, height, width, height)
    xs = np.clip(sorted((x0 + left, x1 + right)), 0, shape[1] - 1)
    ys = np.clip(sorted((y0 + top, y1 + bottom)), 0, shape[0] - 1)
    box = Box((float(xs[0]), float(ys[0]), float(xs[1]), float(ys[1])))
    return Prompt(prompt.tissue_index, prompt.slice_index, box, prompt.points, prompt.source)
