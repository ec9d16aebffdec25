"""Whether two networks give the same masks: both from slice to mask, asked alike, whatever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.prompts import Box, MaskPrediction, Points, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.network import Network

SMALLEST_IOU = 0.999
"""Of masks that are the same but for rounding, which can also turn over one pixel of a mask of any size."""

SHAPES = ((384, 384), (256, 320), (320, 257), (512, 200), (31, 90), (1100, 900))
"""Square, lying, standing, narrow, tiny, larger than the input of any network but segment-anything's own."""


@dataclass(frozen=True)
class Parity:
    """How far two networks differ on one question.

    Attributes:
        slice_shape: (rows, columns).
        prompts: "box", "points", "both" or "small box", of which an architecture may see the rest coarsely.
        mask_iou: smallest IoU of the four candidates' masks, 1 where both are empty.
        pixels_apart: most pixels that only one of a candidate's two masks has.
        holds: whether each candidate's masks are the same but for rounding, see `SMALLEST_IOU`.
        logit_difference: largest, over the candidates' pixels.
        largest_logit: what that is to be held against.
        iou_prediction_difference: largest.
        embedding_difference: relative L2 distance of the embeddings as they are stored, in float16.
    """

    slice_shape: tuple[int, int]
    prompts: str
    mask_iou: float
    pixels_apart: int
    holds: bool
    logit_difference: float
    largest_logit: float
    iou_prediction_difference: float
    embedding_difference: float


def measure_parity(
    reference: Network, other: Network, shapes: Sequence[tuple[int, int]] = SHAPES
) -> tuple[Parity, ...]:
    """Differences between two networks for every shape and kind of prompt; see `parity_slice` for the images."""
    slices = [parity_slice(shape) for shape in shapes]
    found = []
    for shape, ours, theirs in zip(shapes, reference.encode(slices), other.encode(slices), strict=True):
        prompts = parity_prompts(shape)
        asked = list(prompts.values())
        answers = zip(
            reference.decode_slices([(ours, asked)])[0], other.decode_slices([(theirs, asked)])[0], strict=True
        )
        distance = _relative_distance(ours, theirs)
        found += [_parity(kind, *pair, distance) for kind, pair in zip(prompts, answers, strict=True)]
    return tuple(found)


def parity_slice(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A limb of sorts (rows, columns): a bright bone with a dark rim in grey muscle on a dark ground, smooth.

    Noise would put logits near the threshold by the thousand, where the last bit decides.
    """
    rows, columns = (np.indices(shape) + 0.5) / np.array(shape)[:, None, None]
    from_bone = np.hypot((rows - 0.48) / 0.22, (columns - 0.45) / 0.25)
    from_limb = np.hypot((rows - 0.5) / 0.46, (columns - 0.5) / 0.42)
    grey = 20 + 90 * _below(from_limb, 1.0) * (1 + 0.2 * np.sin(5 * rows + 3 * columns))
    grey += 110 * _below(from_bone, 0.9) - 80 * _below(np.abs(from_bone - 1.0), 0.07)
    return np.asarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def parity_prompts(shape: tuple[int, int]) -> dict[str, Prompt]:
    """What is asked of `parity_slice`, by kind."""
    rows, columns = shape
    box = Box((0.19 * columns, 0.25 * rows, 0.71 * columns, 0.71 * rows))
    small = Box((0.3 * columns, 0.4 * rows, 0.42 * columns, 0.5 * rows))
    points = Points(((0.45 * columns, 0.48 * rows), (0.85 * columns, 0.8 * rows)), (True, False))
    return {
        "box": Prompt(1, 0, box=box),
        "points": Prompt(1, 0, points=points),
        "both": Prompt(1, 0, box=box, points=points),
        "small box": Prompt(1, 0, box=small),
    }


def _below(distance: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """1 below the edge, 0 above, a soft step between."""
    return np.asarray(1 / (1 + np.exp(np.clip(40 * (distance - edge), -50, 50))))


def _parity(kind: str, ours: MaskPrediction, theirs: MaskPrediction, embedding_difference: float) -> Parity:
    pairs = [(one > 0, other > 0) for one, other in zip(ours.logits, theirs.logits, strict=True)]
    ious, apart = [_mask_iou(*pair) for pair in pairs], [int((one != other).sum()) for one, other in pairs]
    return Parity(
        slice_shape=(ours.logits.shape[1], ours.logits.shape[2]),
        prompts=kind,
        mask_iou=min(ious),
        pixels_apart=max(apart),
        holds=all(iou >= SMALLEST_IOU or pixels <= 1 for iou, pixels in zip(ious, apart, strict=True)),
        logit_difference=float(np.abs(ours.logits - theirs.logits).max()),
        largest_logit=float(np.abs(ours.logits).max()),
        iou_prediction_difference=float(np.abs(ours.iou_predictions - theirs.iou_predictions).max()),
        embedding_difference=embedding_difference,
    )


def _mask_iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def _relative_distance(one: Embedding, other: Embedding) -> float:
    reference = one.features.astype(np.float64)
    difference = float(np.linalg.norm(other.features.astype(np.float64) - reference))
    return difference / max(float(np.linalg.norm(reference)), 1e-12)
