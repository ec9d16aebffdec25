from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from msksam_cli.sam.asking import Focus, Seen, seen_by
from msksam_cli.sam.decode import ask, positions_of
from msksam_cli.sam.mask_decoder import Cells, planes_of, predict_masks
from msksam_cli.sam.model import build_sam
from msksam_cli.sam.seen import Planes, SeenCells, dense_prompts, put_back, seen_cells

SIDE, BLOCK = 64, 8
FOCUSES = [Focus(8, 16, 16, 24), Focus(0, 0, 8, 8), Focus(40, 48, 24, 16)]


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
    cells = seen_cells([Planes.of(features, None)], positions_of(sam, SIDE), None)
    parts, scores = predict_masks(sam.mask_decoder, cells, torch.zeros(1, 1, 256), sparse, SIDE**2)
    return planes_of(parts, SIDE, SIDE), scores


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
    first, _ = ask(sam, [Planes.of(features, None)], points=None, boxes=boxes, mask_prompts=None)
    with torch.inference_mode(mode=False):
        again, _ = ask(sam, [Planes.of(features.clone(), None)], points=None, boxes=boxes, mask_prompts=None)
        again.square().mean().backward()
    torch.testing.assert_close(again.detach(), first)
    assert sam.mask_decoder.iou_token.weight.grad.abs().max() > 0


@torch.inference_mode()
def test_positions_are_exact_though_first_asked_for_in_half_precision() -> None:
    fresh = build_sam("msksam_small", 128)
    with torch.autocast("cpu", torch.bfloat16):
        first = positions_of(fresh, 32, 8)
    wanted = fresh.prompt_encoder.get_dense_pe()
    torch.testing.assert_close(first.cells, wanted, rtol=1e-6, atol=1e-6)
    means = wanted.unflatten(2, (4, 8)).unflatten(4, (4, 8)).mean((3, 5))
    torch.testing.assert_close(first.blocks, means, rtol=1e-6, atol=1e-6)


def tensors(seen: Seen) -> SeenCells:
    return SeenCells(*(torch.from_numpy(values) for values in (seen.near, seen.far, seen.log_counts)))


def even_beyond(planes: Tensor, focuses: list[Focus], block_px: int) -> Tensor:
    """Planes (N, C, h, h) as they are in each focus, and the mean of each block beyond it."""
    scale = block_px // BLOCK
    even = functional.interpolate(functional.avg_pool2d(planes, block_px), scale_factor=block_px, mode="nearest")
    for own, one, focus in zip(even, planes, focuses, strict=True):
        part = (
            slice(focus.top * scale, (focus.top + focus.rows) * scale),
            slice(focus.left * scale, (focus.left + focus.columns) * scale),
        )
        own[:, *part] = one[:, *part]
    return even


@torch.inference_mode()
@pytest.mark.parametrize("focuses", [FOCUSES[:1], FOCUSES], ids=["one", "unequal"])
def test_blocks_of_equal_cells_are_answered_as_each_of_their_cells_would_be(sam: Any, focuses: list[Focus]) -> None:
    torch.manual_seed(5)
    count = len(focuses)
    features = even_beyond(torch.randn(count, 256, SIDE, SIDE) * 2, focuses, BLOCK)
    positions = even_beyond(positions_of(sam, SIDE).cells.expand(count, -1, -1, -1), focuses, BLOCK)
    mask_prompts = even_beyond(torch.randn(count, 1, 4 * SIDE, 4 * SIDE) * 4, focuses, 4 * BLOCK)
    sparse, seen = torch.randn(count, 3, 256), tensors(seen_by(focuses, SIDE, BLOCK))

    def answer(look: SeenCells | None, masked: int) -> tuple[Tensor, Tensor, Cells]:
        cells = seen_cells([Planes.of(features, BLOCK)], Planes.of(positions, BLOCK), look)
        singly = seen_cells([Planes.of(one[None], BLOCK) for one in features], Planes.of(positions, BLOCK), look)
        assert torch.equal(cells.values, singly.values)
        if look is not None:
            shared = Planes.of(features[:1], BLOCK)
            alike = seen_cells([shared] * count, Planes.of(positions, BLOCK), look)
            copied = seen_cells(
                [Planes(*(p.clone() for p in shared)) for _ in focuses], Planes.of(positions, BLOCK), look
            )
            assert torch.equal(alike.values, copied.values)
        dense = dense_prompts(sam.prompt_encoder, mask_prompts, look, SIDE // BLOCK)
        return *predict_masks(sam.mask_decoder, cells, dense, sparse, masked), cells

    wanted, wanted_scores, _ = answer(None, SIDE**2)
    found, scores, cells = answer(seen, seen.near.shape[1])
    assert cells.values.shape[1] == seen.near.shape[1] + seen.far.shape[1] < SIDE**2 / 4
    torch.testing.assert_close(scores, wanted_scores, rtol=0, atol=1e-4)
    for own, all_cells, near in zip(found, wanted, seen.near, strict=True):
        torch.testing.assert_close(own, all_cells[:, near], rtol=0, atol=1e-4)
    uncounted, _, _ = answer(seen._replace(log_counts=seen.log_counts.clamp(max=0)), seen.near.shape[1])
    assert (uncounted - found).abs().max() > 1e-2, "how many cells a block has must matter, or nothing is shown"


@torch.inference_mode()
def test_a_mask_is_embedded_alike_for_each_cell_and_for_a_block_as_for_its_first(sam: Any) -> None:
    torch.manual_seed(6)
    mask_prompts, seen = torch.randn(2, 1, 4 * SIDE, 4 * SIDE), tensors(seen_by(FOCUSES[:2], SIDE, BLOCK))
    whole = sam.prompt_encoder.mask_downscaling(mask_prompts)
    found = dense_prompts(sam.prompt_encoder, mask_prompts, seen, SIDE // BLOCK)
    rows, columns = np.divmod(seen.near[0].numpy(), SIDE)
    torch.testing.assert_close(found[0, : len(rows)], whole[0][:, rows, columns].T)
    rows, columns = np.divmod(seen.far[1].numpy(), SIDE // BLOCK) * np.array(BLOCK)
    torch.testing.assert_close(found[1, -len(rows) :], whole[1][:, rows, columns].T)


def test_masks_go_back_to_their_cells_and_learn_once_however_much_fills_up() -> None:
    seen = tensors(seen_by([Focus(2, 2, 2, 4), Focus(4, 0, 2, 2)], 6, 2))
    assert seen.near.tolist() == [[14, 15, 16, 17, 20, 21, 22, 23], [24, 25, 30, 31, 24, 24, 24, 24]]
    parts = torch.rand(2, 3, 8, 16).add(1)
    parts[1, :, 4:] = parts[1, :, :1]
    parts.requires_grad_()
    planes = put_back(parts, seen, 6)
    wanted = torch.full((2, 3, 36, 16), -20.0)
    for number, near in enumerate(seen.near):
        wanted[number][:, near] = parts[number].detach()
    assert torch.equal(planes, planes_of(wanted, 6, 6))
    planes.sum().backward()
    assert parts.grad is not None
    assert parts.grad[:, 0, :, 0].tolist() == [[1] * 8, [1] * 4 + [0] * 4]
