from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from msksam_cli.sam.model import vit_encoder
from msksam_cli.sam.vit import attend_fused, attend_in_pieces, is_vit, vit_features


def random_vit(side_px: int, **settings: object) -> nn.Module:
    """segment-anything's transformer with random weights; positions too, which are nought at birth."""
    torch.manual_seed(5)
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 3, "global_attn_indexes": (1,)} | settings
    encoder = vit_encoder(side_px, **sizes).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.5)
            elif parameter.ndim > 1:
                parameter.mul_(3.0)
    return encoder


@pytest.fixture(scope="module", params=[224, 256, 448, 640])
def encoder(request: pytest.FixtureRequest) -> Iterator[nn.Module]:
    """Windows that fit exactly (224, 448 px) and windows that need padding, one and several along each side."""
    with torch.inference_mode():
        yield random_vit(request.param)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@torch.inference_mode()
def test_features_equal_the_stock_modules_in_single_precision(encoder: nn.Module) -> None:
    images = torch.randn(2, 3, encoder.img_size, encoder.img_size)
    wanted = encoder(images)
    assert wanted.std() > 0.1
    assert relative_error(vit_features(encoder, images), wanted) < 1e-5


@torch.inference_mode()
def test_two_images_together_equal_each_alone(encoder: nn.Module) -> None:
    images = torch.randn(2, 3, encoder.img_size, encoder.img_size)
    together = vit_features(encoder, images)
    assert relative_error(together[:1], together[1:]) > 0.1
    for number in range(2):
        torch.testing.assert_close(vit_features(encoder, images[number : number + 1])[0], together[number])


@torch.inference_mode()
def test_half_precision_stays_near_and_the_result_is_single() -> None:
    encoder, images = random_vit(256), torch.randn(1, 3, 256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        rough = vit_features(encoder, images)
    assert rough.dtype == torch.float32
    assert 1e-4 < relative_error(rough, encoder(images)) < 5e-2


@torch.inference_mode()
def test_an_encoder_without_absolute_positions_is_the_stock_one_too() -> None:
    encoder, images = random_vit(256), torch.randn(1, 3, 256, 256)
    with_positions = vit_features(encoder, images)
    encoder.pos_embed = None
    assert relative_error(vit_features(encoder, images), encoder(images)) < 1e-5
    assert relative_error(vit_features(encoder, images), with_positions) > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize(("rows", "columns", "width"), [(3, 5, 16), (20, 30, 16), (40, 40, 8)])
@pytest.mark.parametrize("attend", [attend_in_pieces, attend_fused])
def test_attention_is_softmax_of_products_and_bias(attend, rows: int, columns: int, width: int) -> None:
    torch.manual_seed(2)
    tokens, scale = rows * columns, 0.3
    q, k, v = torch.randn(3, 2, tokens, 3, width)
    down, right = torch.randn(2 * rows - 1, width), torch.randn(2 * columns - 1, width)
    row, column = torch.arange(tokens) // columns, torch.arange(tokens) % columns
    standing = down[row[None] - row[:, None] + rows - 1] + right[column[None] - column[:, None] + columns - 1]
    scores = scale * torch.einsum("bsnd,btnd->bnst", q, k) + torch.einsum("bsnd,std->bnst", q, standing)
    wanted = torch.einsum("bnst,btnd->bsnd", torch.softmax(scores, dim=-1), v)
    torch.testing.assert_close(attend(q, k, v, (down, right), scale), wanted, rtol=1e-4, atol=1e-5)


def test_only_segment_anythings_transformer_is_taken_for_one() -> None:
    assert is_vit(random_vit(224))
    assert not is_vit(nn.Conv2d(3, 256, 16, 16))
