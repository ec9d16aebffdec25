"""Which part of a network learns from a user's cases."""

from __future__ import annotations

import torch

from msksam_cli.sam.model import Sam
from msksam_cli.training.lora import add_lora, merge_lora

PARTS = ("decoder", "all", "lora")
LEARNING_RATES = {"decoder": 5e-4, "all": 1e-4, "lora": 5e-4}


def let_learn(sam: Sam, part: str, *, rank: int, seed: int) -> int:
    """Decide what learns.

    Args:
        sam: changed in place.
        part: "decoder" (prompt encoder and mask decoder), "all", or "lora": the decoder, and the encoder through
            low-rank corrections.
        rank: of these corrections.
        seed: of their start.

    Returns:
        How many weights learn.
    """
    sam.requires_grad_(True)
    if part == "decoder":
        sam.image_encoder.requires_grad_(False)
    if part == "lora":
        torch.manual_seed(seed)
        add_lora(sam.image_encoder, rank)
    return sum(parameter.numel() for parameter in sam.parameters() if parameter.requires_grad)


def plain(sam: Sam) -> Sam:
    """The network as any other: corrections merged, nothing marked to learn; changed in place."""
    merge_lora(sam.image_encoder)
    return sam.requires_grad_(False).eval()


def is_half(sam: Sam) -> bool:
    """Whether all weights are exactly those of half precision, as when they came from a file that stores them so."""
    tensors = (tensor for tensor in sam.state_dict().values() if tensor.is_floating_point())
    return all(torch.equal(tensor, tensor.half().to(tensor.dtype)) for tensor in tensors)
