"""The same weights for an input of another side.

A slice of 256 px blown up to 1024 px holds nothing new, but costs fourteen times as much to encode. Weights do not know
the side of the input, but for a vision transformer's positions; those are interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from msksam_cli.errors import UsageError

SIDE_STEP_PX = 16
LEAST_SIDE_PX = 64


def side_for(slice_shape: tuple[int, int], own_side_px: int) -> int:
    """The least side that shows a slice without making it smaller, at most the network's own.

    >>> side_for((320, 257), 1024), side_for((512, 512), 384), side_for((40, 30), 384)
    (320, 384, 64)
    """
    longest = max(slice_shape)
    return min(max(-(-longest // SIDE_STEP_PX) * SIDE_STEP_PX, LEAST_SIDE_PX), own_side_px)


def check_side(side_px: int, own_side_px: int) -> None:
    """Refuse a side that no encoder can have, or that the weights were not made for.

    Raises:
        UsageError: not a multiple of 16, below 64, or more than twice the network's own.
    """
    if side_px % SIDE_STEP_PX or not LEAST_SIDE_PX <= side_px <= 2 * own_side_px:
        raise UsageError(
            f"the network cannot see {side_px} px",
            f"Choose a multiple of {SIDE_STEP_PX} from {LEAST_SIDE_PX} to {2 * own_side_px}, or auto",
        )


def at_side(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with their positions interpolated to the shapes a network of another side has.

    Absolute positions (1, H, W, C) are resampled bicubically, relative ones (2 H − 1, C) of global attention linearly;
    those of windows do not depend on the side. All else is left alone.

    Args:
        tensors: as in `Sam.state_dict()`.
        wanted: the same of the network to be filled.
    """
    return {name: _interpolated(tensor, wanted[name]) for name, tensor in tensors.items()}


def _interpolated(tensor: Tensor, wanted: Tensor) -> Tensor:
    if tensor.shape == wanted.shape:
        return tensor
    if tensor.ndim == 4:
        planes = functional.interpolate(
            tensor.float().permute(0, 3, 1, 2), wanted.shape[1:3], mode="bicubic", antialias=True
        )
        return planes.permute(0, 2, 3, 1)
    lines = functional.interpolate(tensor.float().T[None], wanted.shape[0], mode="linear")
    return lines[0].T
