from __future__ import annotations

from typing import Any

import pytest
import torch

from msksam_cli.sam.decode import _positions, ask
from msksam_cli.sam.mask_decoder import predict_masks
from msksam_cli.sam.model import build_sam


@pytest.fixture(scope="module")
def sam() -> Any:
    """A network whose decoder's every weight matters: biases and norms, too, are not what they are at birth."""
    torch.manual_seed(11)
    sam = build_sam("msksam_small", 256)
    with torch.no_grad():
        for parameter in sam.mask_decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return sam


def stock_answer(sam: Any, features: torch.Tensor, sparse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return sam.mask_decoder.predict_masks(
        image_embeddings=torch.zeros_like(features[:1]),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=features,
    )


def own_answer(sam: Any, features: torch.Tensor, sparse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    positions = sam.prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
    return predict_masks(sam.mask_decoder, features, positions, sparse)


@torch.inference_mode()
@pytest.mark.parametrize(("questions", "points"), [(1, 1), (1, 7), (3, 2)])
def test_answers_equal_the_stock_decoders(sam: Any, questions: int, points: int) -> None:
    torch.manual_seed(questions + points)
    features, sparse = torch.randn(questions, 256, 64, 64), torch.randn(questions, points, 256)
    wanted, wanted_scores = stock_answer(sam, features, sparse)
    found, scores = own_answer(sam, features, sparse)
    assert wanted.shape == (questions, 4, 256, 256)
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, wanted_scores, rtol=1e-4, atol=1e-5)


def test_gradients_equal_the_stock_decoders(sam: Any) -> None:
    features, sparse = torch.randn(1, 256, 64, 64), torch.randn(1, 2, 256)
    gradients = []
    for answer in (stock_answer, own_answer):
        sam.zero_grad()
        logits, scores = answer(sam, features, sparse)
        (logits.square().mean() + scores.sum()).backward()
        gradients.append({name: p.grad for name, p in sam.mask_decoder.named_parameters() if p.grad is not None})
    stock, own = gradients
    assert own.keys() == stock.keys(), "a weight without a gradient would stop training on several devices"
    for name in own:
        torch.testing.assert_close(own[name], stock[name], rtol=1e-3, atol=1e-5, msg=name)


@torch.inference_mode()
def test_positions_kept_while_answering_serve_training_after_it(sam: Any) -> None:
    features, boxes = torch.randn(1, 256, 64, 64), torch.tensor([[30.0, 40.0, 90.0, 120.0]])
    first, _ = ask(sam, features, points=None, boxes=boxes, mask_prompts=None)
    with torch.inference_mode(mode=False):
        again, _ = ask(sam, features.clone(), points=None, boxes=boxes, mask_prompts=None)
        again.square().mean().backward()
    torch.testing.assert_close(again.detach(), first)
    assert sam.mask_decoder.iou_token.weight.grad.abs().max() > 0


@torch.inference_mode()
def test_positions_are_exact_though_first_asked_for_in_half_precision() -> None:
    fresh = build_sam("msksam_small", 128)
    with torch.autocast("cpu", torch.bfloat16):
        first = _positions(fresh, 32)
    wanted = fresh.prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2)
    torch.testing.assert_close(first, wanted, rtol=1e-6, atol=1e-6)
