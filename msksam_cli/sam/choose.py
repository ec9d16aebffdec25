"""The one rule that picks among the decoder's candidate masks; numpy only, the same for every runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.prompts import Box, MaskPrediction

PRIOR_WEIGHT = 1.0
BOX_MARGIN = 0.1


def choose_mask(prediction: MaskPrediction, prior_plane: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Logits (rows, columns) of the best candidate.

    A candidate's score is the decoder's own IoU prediction, clipped to 0…1, plus `PRIOR_WEIGHT` times its Dice with
    the prior. The first of equals wins, which is the decoder's single answer.

    Args:
        prediction: M candidates.
        prior_plane: (rows, columns) probability of the tissue in 0…1, or None. A prompt with a box asks for what is
            near the box, so that only the prior there counts.
    """
    return np.asarray(prediction.logits[int(np.argmax(candidate_scores(prediction, prior_plane)))])


def candidate_scores(prediction: MaskPrediction, prior_plane: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
    """Score of every candidate (M,), see `choose_mask`; larger is better.

    Raises:
        ValueError: the prior has another shape than the masks.
    """
    scores = np.clip(prediction.iou_predictions.astype(np.float64), 0.0, 1.0)
    if prior_plane is None:
        return scores
    if prior_plane.shape != prediction.logits.shape[1:]:
        raise ValueError(f"prior of shape {prior_plane.shape} for masks of shape {prediction.logits.shape[1:]}")
    near = _near_box(prediction.prompt.box, prior_plane.shape) if prediction.prompt.box else (slice(None), slice(None))
    agreement = [soft_dice(logits > 0, prior_plane, near) for logits in prediction.logits]
    return scores + PRIOR_WEIGHT * np.array(agreement)


def soft_dice(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], near: tuple[slice, slice] = (slice(None), slice(None))
) -> float:
    """Dice of a mask with a probability map of its shape: 2 Σ mp / (Σ m + Σ p); 0 when both are empty.

    Args:
        mask: (rows, columns).
        probability: (rows, columns).
        near: rows and columns beyond which the probability counts as 0.

    >>> soft_dice(np.array([[True, False]]), np.array([[0.5, 0.5]], dtype=np.float32))
    0.5
    """
    known = probability[near]
    total = float(np.count_nonzero(mask)) + float(known.sum(dtype=np.float64))
    return 2.0 * float(known.sum(where=mask[near], dtype=np.float64)) / total if total > 0 else 0.0


def _near_box(box: Box, shape: tuple[int, ...]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box.xyxy
    grown = box.padded(BOX_MARGIN * (x1 - x0) + 1, BOX_MARGIN * (y1 - y0) + 1, (shape[0], shape[1]))
    left, top, right, bottom = (round(value) for value in grown.xyxy)
    return slice(top, bottom + 1), slice(left, right + 1)
