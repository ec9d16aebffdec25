"""Who answers a box: a checkpoint, an ellipse that fills it, or GrabCut started from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.fusion import FusionRules, join_answers
from msksam_cli.measure.overlap import dice
from msksam_cli.pipeline.baseline import ellipse_logits
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.choose import choose_mask

Plane = NDArray[np.float32]
Answerer = Callable[[NDArray[np.uint8], Sequence[Prompt]], list[Plane]]
"""From a slice (rows, columns) and prompts to logits (rows, columns) for each prompt; above 0 is inside."""

CERTAIN = np.float32(6.0)
RULES = FusionRules()


def model_answers(name_or_file: str) -> Answerer:
    """The network's answers, chosen as the tool chooses them."""
    model = load_model(name_or_file)

    def answer(plane: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Plane]:
        (embedding,) = model.encode([plane])
        return [choose_mask(prediction) for prediction in model.decode(embedding, prompts)]

    return answer


def ellipses(plane: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Plane]:
    """The ellipse that fills each box; its logits fall from the middle, so that the nearer of two boxes wins."""
    return [ellipse_logits(_box(prompt), (plane.shape[0], plane.shape[1])) for prompt in prompts]


def grabcuts(plane: NDArray[np.uint8], prompts: Sequence[Prompt]) -> list[Plane]:
    """GrabCut (Rother, Kolmogorov and Blake 2004) started from each box, in a window half as large again.

    Started from the box alone it ends with nothing on most grey slices, whose tissues share their grey levels with what
    surrounds them; so the ellipse half as large as the box is given as certainly inside.

    Needs OpenCV: pip install opencv-python-headless.
    """
    return [_grabcut(plane, _box(prompt)) for prompt in prompts]


def _grabcut(plane: NDArray[np.uint8], box: Box, rounds: int = 5) -> Plane:
    import cv2

    shape = plane.shape[0], plane.shape[1]
    x0, y0, x1, y1 = box.xyxy
    window = _pixels(box.padded((x1 - x0) / 4 + 3, (y1 - y0) / 4 + 3, shape))
    marks = np.full(shape, cv2.GC_BGD, np.uint8)
    marks[_pixels(box)] = cv2.GC_PR_FGD
    marks[ellipse_logits(box, shape) > 0.75] = cv2.GC_FGD
    seen = np.ascontiguousarray(marks[window])
    if (seen == cv2.GC_FGD).any() and (seen == cv2.GC_BGD).any():
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(
            np.repeat(plane[window][..., None], 3, axis=2), seen, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK
        )
    logits = np.full(shape, -CERTAIN, dtype=np.float32)
    logits[window][(seen == cv2.GC_FGD) | (seen == cv2.GC_PR_FGD)] = CERTAIN
    return logits


def _pixels(box: Box) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (round(value) for value in box.xyxy)
    return slice(y0, y1 + 1), slice(x0, x1 + 1)


def _box(prompt: Prompt) -> Box:
    if prompt.box is None:
        raise ValueError("these prompts are boxes")
    return prompt.box


def mask_dice(prompt: Prompt, logits: Plane, truth: NDArray[np.bool_]) -> float:
    """Dice of one answer with the truth inside the prompt's box and margin."""
    shape = truth.shape[0], truth.shape[1]
    inside = join_answers([(prompt, np.ones(shape, np.float32))], shape, RULES) > 0
    return dice(join_answers([(prompt, logits)], shape, RULES) > 0, truth & inside) or 0.0
