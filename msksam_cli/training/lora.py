"""Low-rank adaptation: an encoder learns through a thin correction of each weight (Hu et al., LoRA, ICLR 2022).

The correction lives in torch's parametrisation of a layer's weight, so that the layer's own code runs unchanged, and
merging leaves plain weights that load like any other checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ADAPTED = (nn.Linear, nn.Conv2d)


class LowRank(nn.Module):
    """A weight W becomes W + (alpha / rank) · B A, with B zero at the start, so that nothing changes before a step.

    Args:
        shape: of the weight; everything after the first axis counts as input.
        rank: of the correction.
        alpha: its scale; the correction is multiplied by alpha / rank.
    """

    def __init__(self, shape: torch.Size, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = shape[0], shape[1:].numel()
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.randn(rank, inputs) / rank**0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The corrected weight, of the weight's own shape."""
        return weight + self.scale * (self.up @ self.down).view_as(weight)


def add_lora(network: nn.Module, rank: int, alpha: float | None = None) -> int:
    """Freeze a network and give each of its linear and convolutional layers a trainable low-rank correction.

    Args:
        network: changed in place.
        rank: of every correction.
        alpha: see `LowRank`; the rank itself when None.

    Returns:
        How many layers were given one.
    """
    network.requires_grad_(False)
    layers = [layer for layer in network.modules() if isinstance(layer, _ADAPTED)]
    for layer in layers:
        parametrize.register_parametrization(
            layer, "weight", LowRank(layer.weight.shape, rank, rank if alpha is None else alpha)
        )
    return len(layers)


def merge_lora(network: nn.Module) -> None:
    """Write every correction into its weight; afterwards the network has the tensors it had before `add_lora`."""
    for layer in network.modules():
        if isinstance(layer, _ADAPTED) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
