"""The image encoder of the bundled model: a small convolutional pyramid with segment-anything's embedding shape.

A plain residual network runs down to a sixteenth of the input; its levels are then added upwards to a quarter, where
the 256 channels that segment-anything's mask decoder expects leave it. A quarter rather than a sixteenth, so that
masks are as fine as the input: what segment-anything makes of 1024 px, a 64 × 64 embedding and 256 × 256 masks, is had
from 256 px at a small part of the cost. Convolutions see no positions, so that any input side divisible by 16 can be
used.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from msksam_cli.sam.asking import EMBEDDING_CHANNELS

STRIDE_PX = 4
_NORM_GROUPS = 8


class SmallEncoder(nn.Module):
    """Embeds normalised images.

    Args:
        img_size: side of the square input in pixels, divisible by 16.
        widths: channels at a quarter, an eighth and a sixteenth of the input.
        depths: residual blocks at each of these levels.
    """

    def __init__(
        self,
        img_size: int = 384,
        widths: tuple[int, int, int] = (96, 128, 256),
        depths: tuple[int, int, int] = (3, 3, 2),
    ) -> None:
        super().__init__()
        if img_size % 16:
            raise ValueError(f"input side {img_size} is not divisible by 16")
        self.img_size = img_size
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0] // 2, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(_NORM_GROUPS, widths[0] // 2),
            nn.GELU(),
        )
        incoming = (widths[0] // 2, *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(_downsample(before, width), *(_Residual(width) for _ in range(depth)))
            for before, width, depth in zip(incoming, widths, depths, strict=True)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, widths[1], 1) for width in widths)
        self.smooth = _Residual(widths[1])
        self.neck = nn.Sequential(
            nn.Conv2d(widths[1], EMBEDDING_CHANNELS, 1, bias=False), nn.GroupNorm(1, EMBEDDING_CHANNELS)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, 256, S/4, S/4) of normalised images (B, 3, S, S)."""
        features = self.stem(images)
        levels = []
        for level in self.levels:
            features = level(features)
            levels.append(features)
        merged = self.laterals[-1](levels[-1])
        for lateral, features in zip(reversed(self.laterals[:-1]), reversed(levels[:-1]), strict=True):
            merged = lateral(features) + nn.functional.interpolate(merged, scale_factor=2.0, mode="nearest")
        return cast(Tensor, self.neck(self.smooth(merged)))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(_NORM_GROUPS, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_NORM_GROUPS, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.add(features, self.body(features))


def _downsample(incoming: int, outgoing: int) -> nn.Module:
    return nn.Conv2d(incoming, outgoing, 3, stride=2, padding=1)
