"""Questions a plane can be asked: masks with boxes and points, jittered as an atlas would miss.

A thin tissue is asked for in tiles, as prompts from an atlas are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.training.planes import Plane

_MIN_AREA_PX = 12
_TILE_MM = (10.0, 32.0)
_TILED_SHARE = 0.75
_MAX_POINTS = 3
_GAP_SHARE = 1 / 128
_HOLE_SHARE = 0.05
_NEAREST_PX, _FARTHEST_PX = 2, 6


@dataclass(frozen=True, eq=False)
class Question:
    """One mask to find.

    Attributes:
        mask: (S, S) bool.
        label: tissue.
        box_xyxy: (4,) float32, pixel centres, jittered.
        points_xy: (3, 2) float32.
        point_labels: (3,) int32: 1 inside, 0 outside.
    """

    mask: NDArray[np.bool_]
    label: int
    box_xyxy: NDArray[np.float32]
    points_xy: NDArray[np.float32]
    point_labels: NDArray[np.int32]


def sample_questions(plane: Plane, count: int, rng: np.random.Generator) -> list[Question]:
    """`count` questions about a plane, fewer only when nothing in it is large enough to be asked for: then none."""
    truth = plane.truth
    present = np.flatnonzero(np.bincount(truth.ravel(), minlength=256))
    labels = [int(label) for label in present if plane.weights.get(int(label), 0) > 0]
    chances = np.array([plane.weights[label] for label in labels])
    questions: list[Question] = []
    for _ in range(count * 3):
        if not labels or len(questions) == count:
            break
        label = int(rng.choice(labels, p=chances / chances.sum()))
        question = _ask(plane, truth, label, rng)
        if question is not None:
            questions.append(question)
    while questions and len(questions) < count:
        questions.append(questions[int(rng.integers(len(questions)))])
    return questions


def _ask(plane: Plane, truth: NDArray[np.uint8], label: int, rng: np.random.Generator) -> Question | None:
    wanted = truth == label
    window = _window(wanted, 0)
    components, _ = ndimage.label(wanted[window], structure=np.ones((3, 3)))
    large = np.flatnonzero(np.bincount(components.ravel())[1:] >= _MIN_AREA_PX)
    if not large.size:
        return None
    mask = np.zeros(truth.shape, dtype=bool)
    mask[window] = _solid(components == 1 + int(rng.choice(large)), max(1, round(_GAP_SHARE * len(truth))))
    if label in plane.thin and rng.random() < _TILED_SHARE:
        mask = _tile(mask, plane.pixel_mm, rng)
    if np.count_nonzero(mask) < _MIN_AREA_PX:
        return None
    points, point_labels = _points(mask, rng)
    return Question(mask, label, jittered_box(mask, rng), points, point_labels)


def _solid(mask: NDArray[np.bool_], gap_px: int) -> NDArray[np.bool_]:
    """A mask without its small holes and gaps, as a person draws it: streaks of fat belong to their muscle."""
    closed = ndimage.binary_closing(np.pad(mask, gap_px), iterations=gap_px)
    holes, count = ndimage.label(ndimage.binary_fill_holes(closed) & ~closed)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    small = np.flatnonzero(areas[1:] < _HOLE_SHARE * mask.sum()) + 1
    return np.asarray((closed | np.isin(holes, small))[gap_px:-gap_px, gap_px:-gap_px])


def _tile(mask: NDArray[np.bool_], pixel_mm: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    rows, columns = np.nonzero(mask)
    chosen = int(rng.integers(rows.size))
    half = rng.uniform(*_TILE_MM, 2) / pixel_mm / 2
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    tile: NDArray[np.bool_] = mask & (np.abs(y - rows[chosen]) <= half[0]) & (np.abs(x - columns[chosen]) <= half[1])
    return tile


def jittered_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Box (4,) xyxy of a mask, missed as a person would, or too large as from an atlas.

    Each side moves by −6 … +6 % of its length and −0.7 … +0.7 pixels, in half the boxes by up to +10 % and +1.5 pixels.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)
    size = np.array([columns.size, rows.size], dtype=np.float32)
    share, pixels = (0.06, 0.7) if rng.random() < 0.5 else (0.10, 1.5)
    outward = rng.uniform(-0.06, share, 4) * np.tile(size, 2) + rng.uniform(-0.7, pixels, 4)
    box += (outward * np.array([-1, -1, 1, 1])).astype(np.float32)
    limit = mask.shape[0] - 1
    box = np.clip(box, 0, limit)
    return np.array([min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])], np.float32)


def _points(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """One or two points deep inside, the rest outside near the mask."""
    window = _window(mask, _FARTHEST_PX)
    seen = mask[window]
    depth = ndimage.distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1]
    away = ndimage.distance_transform_cdt(~seen, "taxicab") if not seen.all() else np.zeros(seen.shape, int)
    inside = np.flatnonzero(depth >= 0.6 * depth.max())
    near = np.flatnonzero((away > _NEAREST_PX) & (away <= _FARTHEST_PX))
    wanted = int(rng.integers(1, _MAX_POINTS + 1)) if near.size else _MAX_POINTS
    flat = rng.choice(inside, wanted)
    if near.size:
        flat = np.concatenate([flat, rng.choice(near, _MAX_POINTS - wanted)])
    rows, columns = flat // seen.shape[1] + window[0].start, flat % seen.shape[1] + window[1].start
    return np.stack([columns, rows], axis=1).astype(np.float32), (np.arange(_MAX_POINTS) < wanted).astype(np.int32)


def _window(mask: NDArray[np.bool_], margin_px: int) -> tuple[slice, slice]:
    """The part of a plane that holds a mask and a margin round it."""
    lines = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    first = [max(0, int(line[0]) - margin_px) for line in lines]
    last = [int(line[-1]) + margin_px + 1 for line in lines]
    return slice(first[0], last[0]), slice(first[1], last[1])
