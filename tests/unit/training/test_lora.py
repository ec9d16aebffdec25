from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from msksam_cli.sam.asking import Asking
from msksam_cli.sam.model import Architecture, build_sam, vit_encoder
from msksam_cli.training.lora import add_lora, merge_lora
from msksam_cli.training.parts import is_half, let_learn, plain

TINY_VIT = Architecture(
    "tiny_vit", 64, 16, asking=Asking(),
    make_encoder=partial(vit_encoder, embed_dim=16, depth=2, num_heads=2, global_attn_indexes=(1,)),
)  # fmt: skip


def _trained(encoder):
    """The encoder after a step that moved every correction."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
                assert name.endswith((".down", ".up"))
    return encoder


@pytest.mark.parametrize("architecture", ["msksam_small", TINY_VIT])
def test_merged_corrections_give_what_they_gave_apart_in_the_tensors_there_were_before(architecture):
    torch.manual_seed(0)
    encoder = build_sam(architecture, 64).image_encoder
    names = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(images)
        layers = add_lora(encoder, 3, alpha=6.0)
        assert layers > 5
        assert torch.equal(encoder(images), before)
        apart = _trained(encoder)(images)
        merge_lora(encoder)
        merged = encoder(images)
    assert not torch.allclose(apart, before, atol=1e-3)
    assert torch.equal(merged, apart)
    after = encoder.state_dict()
    assert after.keys() == names.keys()
    changed = {name for name in names if not torch.equal(after[name], names[name])}
    assert len(changed) == layers
    assert all(name.endswith("weight") for name in changed)


def test_a_correction_has_the_asked_rank_and_its_scale():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(6, 8, (3, 2), stride=2))
    weight = layer[0].weight.detach().clone()
    assert add_lora(layer, 2, alpha=5.0) == 1
    _trained(layer)
    correction = layer[0].parametrizations.weight[0]
    difference = (layer[0].weight - weight).detach().reshape(8, -1)
    assert torch.linalg.matrix_rank(difference, atol=1e-5) == 2
    torch.testing.assert_close(difference, 2.5 * correction.up @ correction.down)


@pytest.mark.parametrize(("part", "encoder_learns"), [("decoder", False), ("all", True), ("lora", True)])
def test_each_part_lets_learn_what_its_name_says(part, encoder_learns):
    torch.manual_seed(0)
    sam = build_sam("msksam_small", 32)
    whole = sum(parameter.numel() for parameter in sam.parameters())
    encoder = sum(parameter.numel() for parameter in sam.image_encoder.parameters())
    learning = let_learn(sam, part, rank=2, seed=0)
    names = {name for name, parameter in sam.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("image_encoder.") for name in names) is encoder_learns
    assert {"mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"} <= names
    if part == "lora":
        assert whole - encoder < learning < whole - 0.8 * encoder
    else:
        assert learning == (whole if encoder_learns else whole - encoder)
    assert not any(parameter.requires_grad for parameter in plain(sam).parameters())
    assert sum(parameter.numel() for parameter in sam.parameters()) == whole


def test_weights_are_half_only_when_every_one_is():
    torch.manual_seed(0)
    sam = build_sam("msksam_small", 32)
    assert not is_half(sam)
    sam.half().float()
    assert is_half(sam)
    with torch.no_grad():
        sam.mask_decoder.iou_token.weight[0, 7] = 1 / 3
    assert not is_half(sam)
