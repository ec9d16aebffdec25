from __future__ import annotations

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.errors import UsageError
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.model import build_sam
from msksam_cli.sam.resize import at_side, check_side

from .conftest import TINY_VIT


def state(side_px: int) -> dict[str, torch.Tensor]:
    return build_sam(TINY_VIT, side_px).state_dict()


def test_positions_follow_the_side_and_nothing_else_changes() -> None:
    before, wanted = state(256), state(384)
    for tensor in before.values():
        if tensor.is_floating_point():
            tensor.normal_()
    after = at_side(before, wanted)
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in wanted.items()}
    changed = {name for name in before if after[name] is not before[name]}
    block = "image_encoder.blocks.1.attn.rel_pos_"
    assert changed == {"image_encoder.pos_embed", f"{block}h", f"{block}w"}, "block 0 attends in windows"


def test_interpolated_positions_lie_where_they_were() -> None:
    before, wanted = state(256), state(384)
    ramp = torch.linspace(-1, 1, 16)
    before["image_encoder.pos_embed"][:] = ramp[None, :, None, None]
    before["image_encoder.blocks.1.attn.rel_pos_h"][:] = torch.linspace(-15, 15, 31)[:, None]
    after = at_side(before, wanted)
    positions = after["image_encoder.pos_embed"][0, :, 0, 0]
    centres = (torch.arange(24) + 0.5) / 24 * 16 - 0.5
    torch.testing.assert_close(positions[2:-2], (centres / 7.5 - 1)[2:-2], atol=0.02, rtol=0)
    relative = after["image_encoder.blocks.1.attn.rel_pos_h"][:, 0]
    assert relative[23].item() == pytest.approx(0, abs=1e-5)
    assert (relative.diff() >= 0).all()


@pytest.mark.parametrize("side_px", [250, 48, 784])
def test_a_side_no_encoder_can_have_is_refused(side_px: int) -> None:
    with pytest.raises(UsageError, match=f"cannot see {side_px} px"):
        check_side(side_px, 384)


@pytest.mark.parametrize("side_px", [256, 512])
def test_the_bundled_network_finds_the_same_block_at_another_side(side_px: int) -> None:
    pixels = np.full((200, 260), 40, np.uint8)
    pixels[60:110, 150:220] = 200
    model = load_model("msksam-small", image_side_px=side_px)
    (embedding,) = model.encode([pixels])
    assert embedding.features.shape == (256, side_px // 4, side_px // 4)
    assert model.encoder_sha256 != load_model("msksam-small").encoder_sha256
    (answer,) = model.decode(embedding, [Prompt(1, 0, box=Box((150, 60, 219, 109)))])
    found, wanted = answer.logits[int(np.argmax(answer.iou_predictions))] > 0, pixels == 200
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.95
