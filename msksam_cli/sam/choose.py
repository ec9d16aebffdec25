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
    asked = _near_box(prior_plane, prediction.prompt.box) if prediction.prompt.box else prior_plane
    agreement = [soft_dice(logits > 0, asked) for logits in prediction.logits]
    return scores + PRIOR_WEIGHT * np.array(agreement)


def soft_dice(mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> float:
    """Dice of a mask with a probability map of its shape: 2 Σ mp / (Σ m + Σ p); 0 when both are empty.

    >>> soft_dice(np.array([True, False]), np.array([0.5, 0.5], dtype=np.float32))
    0.5
    """
    total = float(mask.sum()) + float(probability.sum(dtype=np.float64))
    return 2.0 * float(probability[mask].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _near_box(plane: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    x0, y0, x1, y1 = box.xyxy
    shape = (plane.shape[0], plane.shape[1])
    grown = box.padded(BOX_MARGIN * (x1 - x0) + 1, BOX_MARGIN * (y1 - y0) + 1, shape)
    left, top, right, bottom = (round(value) for value in grown.xyxy)
    near = np.zeros_like(plane)
    near[top : bottom + 1, left : right + 1] = plane[top : bottom + 1, left : right + 1]
    return near
