from __future__ import annotations

import pytest
import torch

from msksam_cli.sam.model import ARCHITECTURES, box_mask_prompt, build_sam


def test_the_small_architecture_has_the_embedding_and_masks_of_segment_anything() -> None:
    sam = build_sam("msksam_small")
    with torch.inference_mode():
        embedding = sam.image_encoder(torch.zeros(2, 3, 384, 384))
    assert embedding.shape == (2, 256, 96, 96)
    assert sam.prompt_encoder.mask_input_size == (384, 384)


@pytest.mark.parametrize("side_px", [128, 192, 256])
def test_the_side_of_the_input_can_be_chosen(side_px: int) -> None:
    sam = build_sam("msksam_small", side_px)
    assert sam.image_encoder.img_size == side_px
    assert sam.prompt_encoder.image_embedding_size == (side_px // 4, side_px // 4)
    assert sam.prompt_encoder.input_image_size == (side_px, side_px)


def test_vit_b_has_the_tensors_of_the_official_checkpoint() -> None:
    with torch.device("meta"):
        sam = build_sam("vit_b")
    state = sam.state_dict()
    assert len(state) == 314
    assert state["image_encoder.pos_embed"].shape == (1, 64, 64, 768)
    assert state["image_encoder.blocks.2.attn.rel_pos_h"].shape == (127, 64)
    assert state["image_encoder.blocks.3.attn.rel_pos_h"].shape == (27, 64)
    assert sum(tensor.numel() for tensor in state.values()) == 93_735_728


def test_a_side_that_cuts_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="vit_b needs a side that is a multiple of 16: 250"):
        build_sam("vit_b", 250)


def test_every_architecture_is_filed_under_its_name() -> None:
    assert [architecture.name for architecture in ARCHITECTURES.values()] == list(ARCHITECTURES)


def test_a_box_becomes_plus_four_inside_and_minus_four_outside_by_coverage() -> None:
    (mask,) = box_mask_prompt(torch.tensor([[4.0, 2.0, 7.0, 8.0]]), side_px=16, low_res_side=8)
    assert mask.shape == (1, 8, 8)
    row, column = mask[0, 2], mask[0, :, 2]
    assert row.tolist() == [-4, -4, 4, 4, -4, -4, -4, -4]
    assert column.tolist() == [-4, 4, 4, 4, 0, -4, -4, -4]


def test_a_box_on_a_single_pixel_covers_that_pixel() -> None:
    mask = box_mask_prompt(torch.tensor([[5.0, 3.0, 5.0, 3.0], [0.0, 0.0, 15.0, 15.0]]), 16, 16)
    assert (mask[0, 0] > 0).nonzero().tolist() == [[3, 5]]
    assert (mask[1] == 4).all()
