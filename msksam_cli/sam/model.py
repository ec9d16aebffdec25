"""The networks: segment-anything's own classes, put together for each architecture msksam knows.

Every architecture has the same three parts, an image encoder, a prompt encoder and a mask decoder, and the same
256-channel embedding, so that the rest of the program does not care which one it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from msksam_cli.sam.asking import EMBEDDING_CHANNELS, Asking, box_as_logits
from msksam_cli.sam.vision_shim import import_modeling

modeling = import_modeling()

Sam = Any  # segment_anything.modeling.Sam, an nn.Module; the package carries no types

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

# What an encoder expects of grey levels 0…255: mean and deviation to scale by, per channel. MedSAM was trained on 0…1.
NORMALISATIONS = {"imagenet": (PIXEL_MEAN, PIXEL_STD), "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))}


@dataclass(frozen=True)
class Architecture:
    """How a network is put together.

    Attributes:
        name: such as "vit_b"; stored in checkpoints.
        image_side_px: side of the square input the weights are made for.
        stride_px: input pixels per embedding cell along each side.
        asking: how prompts are put to the decoder.
        make_encoder: image side in pixels → image encoder.
    """

    name: str
    image_side_px: int
    stride_px: int
    asking: Asking
    make_encoder: Callable[[int], nn.Module]


def vit_encoder(
    image_side_px: int, *, embed_dim: int, depth: int, num_heads: int, global_attn_indexes: tuple[int, ...]
) -> nn.Module:
    """segment-anything's vision transformer with the settings all its releases share."""
    encoder: nn.Module = modeling.ImageEncoderViT(
        depth=depth,
        embed_dim=embed_dim,
        img_size=image_side_px,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=num_heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=global_attn_indexes,
        window_size=14,
        out_chans=EMBEDDING_CHANNELS,
    )
    return encoder


def _vit(name: str, embed_dim: int, depth: int, num_heads: int, global_attn_indexes: tuple[int, ...]) -> Architecture:
    make = partial(
        vit_encoder, embed_dim=embed_dim, depth=depth, num_heads=num_heads, global_attn_indexes=global_attn_indexes
    )
    return Architecture(name, image_side_px=1024, stride_px=16, asking=Asking(), make_encoder=make)


def _small_encoder(image_side_px: int) -> nn.Module:
    from msksam_cli.sam.small_encoder import SmallEncoder

    return SmallEncoder(image_side_px)


ARCHITECTURES: Mapping[str, Architecture] = {
    "vit_b": _vit("vit_b", 768, 12, 12, (2, 5, 8, 11)),
    "vit_l": _vit("vit_l", 1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _vit("vit_h", 1280, 32, 16, (7, 15, 23, 31)),
    "msksam_small": Architecture("msksam_small", 384, 4, Asking(box_as_mask=True, block_cells=8), _small_encoder),
}


def build_sam(arch: str | Architecture, image_side_px: int | None = None, *, normalisation: str = "imagenet") -> Sam:
    """A network with fresh random weights, in evaluation mode.

    Args:
        arch: a name in `ARCHITECTURES`, or an architecture of your own.
        image_side_px: side of the square input; the architecture's own when None.
        normalisation: key of `NORMALISATIONS`.

    Returns:
        `segment_anything.modeling.Sam` with `image_encoder`, `prompt_encoder` and `mask_decoder`; the encoder maps
        (B, 3, S, S) to (B, 256, S / stride, S / stride), the decoder's low-res logits are 4 times as wide.

    Raises:
        KeyError: no architecture or normalisation has this name.
        ValueError: the side is no multiple of the stride.
    """
    architecture = ARCHITECTURES[arch] if isinstance(arch, str) else arch
    side_px = image_side_px or architecture.image_side_px
    if side_px % architecture.stride_px:
        raise ValueError(f"{architecture.name} needs a side that is a multiple of {architecture.stride_px}: {side_px}")
    pixel_mean, pixel_std = NORMALISATIONS[normalisation]
    embedding_side = side_px // architecture.stride_px
    sam = modeling.Sam(
        image_encoder=architecture.make_encoder(side_px),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(embedding_side, embedding_side),
            input_image_size=(side_px, side_px),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=EMBEDDING_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(pixel_mean),
        pixel_std=list(pixel_std),
    )
    return sam.eval()


def box_mask_prompt(boxes_xyxy_px: Tensor, side_px: int, low_res_side: int) -> Tensor:
    """Boxes as mask prompts, see `box_as_logits`.

    Args:
        boxes_xyxy_px: (N, 4) boxes in the model frame.
        side_px: side of the model's input.
        low_res_side: side h = w of the mask prompt, 4 times the embedding's.

    Returns:
        (N, 1, h, w) float32 logits on the boxes' device.
    """
    low_res_px = side_px / low_res_side
    starts_px = torch.arange(low_res_side, device=boxes_xyxy_px.device, dtype=torch.float32) * low_res_px
    logits: Tensor = box_as_logits(boxes_xyxy_px.to(torch.float32), starts_px, low_res_px)
    return logits
