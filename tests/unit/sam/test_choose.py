from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.prompts import Box, MaskPrediction, Points, Prompt
from msksam_cli.sam.choose import candidate_scores, choose_mask

SHAPE = (12, 20)
BOX = Prompt(1, 0, box=Box((2, 2, 9, 9)))
POINT = Prompt(1, 0, points=Points(((5, 5),), (True,)))


def plane(rows: slice, columns: slice) -> np.ndarray:
    mask = np.full(SHAPE, -3.0, np.float32)
    mask[rows, columns] = 3.0
    return mask


BIG, THIN, ELSEWHERE = (
    plane(slice(2, 10), slice(2, 10)),
    plane(slice(2, 4), slice(2, 10)),
    plane(slice(2, 10), slice(14, 18)),
)


def prediction(scores: list[float], *logits: np.ndarray, prompt: Prompt = BOX) -> MaskPrediction:
    return MaskPrediction(np.stack(logits), np.array(scores, np.float32), prompt)


def test_without_a_prior_the_decoders_own_guess_decides() -> None:
    assert (choose_mask(prediction([0.2, 0.9, 0.5], BIG, THIN, ELSEWHERE)) == THIN).all()


def test_a_prior_of_thin_tissue_outvotes_a_bolder_guess_for_the_bone_beneath() -> None:
    prior = (THIN > 0).astype(np.float32)
    assert (choose_mask(prediction([0.9, 0.6], BIG, THIN), prior) == THIN).all()


def test_a_guess_above_one_counts_as_one() -> None:
    scores = candidate_scores(prediction([3.0, 1.0, -0.5], BIG, BIG, BIG))
    assert scores.tolist() == [1.0, 1.0, 0.0]


def test_the_first_of_equals_wins() -> None:
    assert (choose_mask(prediction([0.5, 0.5], BIG, THIN)) == BIG).all()


def test_a_box_makes_only_the_prior_near_it_count() -> None:
    prior = ((BIG > 0) | (ELSEWHERE > 0)).astype(np.float32)
    with_box = candidate_scores(prediction([0.0], BIG), prior)
    with_point = candidate_scores(prediction([0.0], BIG, prompt=POINT), prior)
    assert with_box.tolist() == [1.0]
    assert with_point[0] == pytest.approx(2 * 64 / (64 + 96))


def test_an_empty_prior_and_an_empty_mask_add_nothing() -> None:
    empty = np.full(SHAPE, -1.0, np.float32)
    assert candidate_scores(prediction([0.3], empty), np.zeros(SHAPE, np.float32)) == pytest.approx([0.3])


def test_a_prior_of_another_slice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prior of shape \(20, 12\) for masks of shape \(12, 20\)"):
        choose_mask(prediction([0.3], BIG), np.zeros((20, 12), np.float32))
