from __future__ import annotations

import pytest
import torch

from msksam_cli.training.losses import mask_loss, sam_loss


def _truth(size):
    truth = torch.zeros(1, 64, 64)
    truth[0, 10 : 10 + size, 20 : 20 + size] = 1
    return truth


def test_a_certain_right_mask_costs_nothing_and_its_opposite_a_lot():
    truth = _truth(16)
    assert mask_loss((truth * 2 - 1) * 20, truth).item() == pytest.approx(0, abs=1e-3)
    assert mask_loss((1 - truth * 2) * 20, truth).item() > 20


def test_a_small_mask_missed_costs_as_much_as_a_large_one():
    small, large = (mask_loss(torch.full((1, 64, 64), -4.0), _truth(size)).item() for size in (6, 40))
    assert 0.4 < small / large < 1.5


def test_an_empty_truth_gives_a_finite_loss_that_falls_with_the_logits():
    truth = torch.zeros(1, 16, 16)
    high, low = mask_loss(torch.zeros(1, 16, 16), truth), mask_loss(torch.full((1, 16, 16), -9.0), truth)
    assert torch.isfinite(high).all()
    assert low.item() < high.item()


def _answers(truth):
    return torch.stack([(truth[0] * 2 - 1) * 12] * 4)[None]


def test_the_single_answer_must_fit_and_one_of_the_others_suffices():
    truth = _truth(16)
    iou = torch.ones(1, 4)
    right = _answers(truth)
    perfect = sam_loss(right, iou, truth).item()
    two_wrong, first_wrong = right.clone(), right.clone()
    two_wrong[:, 2:] *= -1
    first_wrong[:, 0] *= -1
    wrong_iou = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert sam_loss(two_wrong, wrong_iou, truth).item() == pytest.approx(perfect, abs=1e-3)
    assert sam_loss(first_wrong, iou, truth).item() > perfect + 5


def test_a_false_guess_of_the_iou_is_punished_and_pulls_towards_the_true_one():
    truth = _truth(16)
    guess = torch.full((1, 4), 0.4, requires_grad=True)
    loss = sam_loss(_answers(truth), guess, truth)
    loss.backward()
    assert loss.item() > sam_loss(_answers(truth), torch.ones(1, 4), truth).item()
    assert (guess.grad < 0).all()
