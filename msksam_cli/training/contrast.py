"""From label planes to grey images: random contrast, or contrast given per label; then the scanner's faults.

Networks trained on fully random contrast carry over to scans they have not seen (Billot et al., SynthSeg, Med Image
Anal 2023); the published signal of real sequences is mixed in by passing levels. A batch is sketched on the CPU, where
labels are cut, and rendered at once in torch on any device, so that sketches can come from many worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from msksam_cli.training.planes import Plane

Levels = Mapping[int, float]

_CORTEX_MM = (0.4, 2.2)
_PART_CONTRAST = (0.1, 1.0)
_SHELL_SHARE = 0.8
_WEAK_SHARE = 0.2
_WEAK_CONTRAST = (0.15, 0.6)
_WIDEST_BLUR_PX = 5


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a batch of B images is rendered from; tensors on the CPU.

    Attributes:
        slabs: (N, S, S) uint8 drawn labels of all planes.
        owners: (N,) int64, the image each slab belongs to.
        scans: (K, S, S) float32, images that a scanner made, 0…1.
        scanned: (K,) int64, where they stand in the batch.
        levels: (B, 256) float32 intensity of each label.
        wholes: (B, 256) uint8, the label that each label is a part of, itself when of none.
        solid: (B, 256) bool, labels shown with a cortical shell.
        shell_px: (B,) int64, width of the shell.
        seed: of everything the rendering leaves to chance.
    """

    slabs: Tensor
    owners: Tensor
    scans: Tensor
    scanned: Tensor
    levels: Tensor
    wholes: Tensor
    solid: Tensor
    shell_px: Tensor
    seed: int


def sketch_images(
    shown: Sequence[Plane | NDArray[np.float32]],
    rng: np.random.Generator,
    levels: Sequence[Levels | None] | None = None,
) -> Sketch:
    """A sketch of images of one side.

    Args:
        shown: what each image shows: a plane to draw, or grey levels (S, S) 0…1 of a scan.
        rng: source of all randomness.
        levels: per image, label → intensity (0 is black, about 1 is bright); random per label where missing or None.
    """
    planes = [(n, one) for n, one in enumerate(shown) if isinstance(one, Plane)]
    scans = [(n, one) for n, one in enumerate(shown) if not isinstance(one, Plane)]
    side_px = planes[0][1].truth.shape[0] if planes else scans[0][1].shape[0]
    tables = [_level_table(given, rng) for given in levels or [None] * len(shown)]
    wholes = np.tile(np.arange(256, dtype=np.uint8), (len(shown), 1))
    solid, shell_px = np.zeros((len(shown), 256), dtype=bool), np.ones(len(shown), dtype=np.int64)
    for n, plane in planes:
        solid[n, list(plane.shelled)] = rng.random() < _SHELL_SHARE
        shell_px[n] = max(1, round(rng.uniform(*_CORTEX_MM) / plane.pixel_mm))
        for part, whole in plane.whole_of.items():
            wholes[n, part] = whole
            tables[n][part] = tables[n][whole] + rng.uniform(*_PART_CONTRAST) * (tables[n][part] - tables[n][whole])
    empty = np.zeros((0, side_px, side_px))
    return Sketch(
        slabs=torch.from_numpy(np.concatenate([plane.slabs for _, plane in planes] or [empty.astype(np.uint8)])),
        owners=torch.tensor([n for n, plane in planes for _ in plane.slabs], dtype=torch.int64),
        scans=torch.from_numpy(np.stack([one for _, one in scans]) if scans else empty.astype(np.float32)),
        scanned=torch.tensor([n for n, _ in scans], dtype=torch.int64),
        levels=torch.from_numpy(np.stack(tables)),
        wholes=torch.from_numpy(wholes),
        solid=torch.from_numpy(solid),
        shell_px=torch.from_numpy(shell_px),
        seed=int(rng.integers(2**62)),
    )


def render(sketch: Sketch, device: str | torch.device = "cpu") -> Tensor:
    """Grey levels (B, S, S) uint8 of a sketch, made and left on a device."""
    rng, noise = np.random.default_rng(sketch.seed), torch.Generator(device).manual_seed(sketch.seed)
    count, side_px = len(sketch.levels), sketch.slabs.shape[-1]
    labels, owners = sketch.slabs.to(device).long(), sketch.owners.to(device)
    roughness = _tensor(rng.uniform(0.0, 1.0, (count, 256)), device)
    texture = _texture(count, side_px, rng, noise)  # (B, S, S)
    drawn = _look_up(sketch.levels.to(device)[owners], labels)
    drawn = drawn * (1 + _look_up(roughness[owners], labels) * texture[owners])  # (N, S, S)
    cortex = _tensor(rng.uniform(0, 0.25, count), device)
    drawn = torch.where(_shells(sketch, labels, owners), cortex[owners, None, None], drawn)
    images = torch.zeros((count, side_px, side_px), device=device).index_add_(0, owners, drawn)
    images = images / torch.bincount(owners, minlength=count).clamp(min=1)[:, None, None]
    images[sketch.scanned.to(device)] = sketch.scans.to(device)
    return degrade(images, rng, noise)


def degrade(images: Tensor, rng: np.random.Generator, noise: torch.Generator | None = None) -> Tensor:
    """Blur, coarse matrix, bias field, Rician noise, contrast curve and window, as a scanner and a viewer would.

    Args:
        images: (B, S, S) float32, about 0…1.
        rng: source of what differs between images.
        noise: source of noise, on the images' device; made from `rng` when None.

    Returns:
        (B, S, S) uint8.
    """
    noise = noise or torch.Generator(images.device).manual_seed(int(rng.integers(2**62)))
    count, side_px, device = len(images), images.shape[-1], images.device
    images = _blurred(images, _tensor(rng.uniform(0.3, 1.6, (2, count)), device))
    for factor in (2, 3):
        chosen = _tensor(rng.random(count), device) < 0.125
        images = torch.where(chosen[:, None, None], _coarsened(images, factor), images)
    bias = smooth_fields(count, side_px, rng.uniform(0.4, 0.9, count), noise)
    images = images * torch.exp(_column(rng.uniform(0, 0.6, count), device) * bias)
    strong = rng.random(count) < 0.2
    deviation = _column(np.where(strong, rng.uniform(0.04, 0.13, count), rng.uniform(0.0, 0.05, count)), device)
    real, imaginary = torch.randn((2, *images.shape), generator=noise, device=device) * deviation
    images = torch.sqrt((images + real) ** 2 + imaginary**2)
    images = images ** _column(np.exp(rng.normal(0, 0.25, count)), device)
    low, high = _window(images, rng)
    return ((images - low) / (high - low).clamp(min=1e-6) * 255).clamp(0, 255).to(torch.uint8)


def smooth_fields(count: int, side_px: int, scales: NDArray[np.float64], noise: torch.Generator) -> Tensor:
    """Noise (B, S, S) float32 of zero mean and unit deviation, each smooth over its scale as a share of the side."""
    device = noise.device
    cells = torch.tensor(np.clip(1.5 / scales, 3, side_px), dtype=torch.float32, device=device)
    coarse = int(cells.max().ceil()) + 3
    grid = torch.randn((count, 1, coarse, coarse), generator=noise, device=device)
    reach = (cells / coarse)[:, None, None, None]  # the part of the coarse grid that is shown
    line = torch.linspace(-1, 1, side_px, device=device)
    where = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)[None] * reach
    fields = F.grid_sample(grid, where, mode="bicubic", padding_mode="reflection", align_corners=True)[:, 0]
    deviation, mean = torch.std_mean(fields, dim=(1, 2), keepdim=True)
    return (fields - mean) / (deviation + 1e-6)


def _texture(count: int, side_px: int, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    fine = smooth_fields(count, side_px, rng.uniform(0.01, 0.05, count), noise)
    wide = smooth_fields(count, side_px, rng.uniform(0.05, 0.3, count), noise)
    return (
        _column(rng.uniform(0.0, 0.2, count), noise.device) * fine
        + _column(rng.uniform(0.0, 0.3, count), noise.device) * wide
    )


def _level_table(levels: Levels | None, rng: np.random.Generator) -> NDArray[np.float32]:
    table = rng.uniform(0.05, 1.0, 256).astype(np.float32)
    table[0] = rng.uniform(0, 0.1) if rng.random() < 0.8 else rng.uniform(0, 1)
    for label, level in (levels or {}).items():
        table[label] = level * float(rng.normal(1.0, 0.08))
    if rng.random() < _WEAK_SHARE:
        table[1:] = table[1:].mean() + rng.uniform(*_WEAK_CONTRAST) * (table[1:] - table[1:].mean())
    return table


def _shells(sketch: Sketch, labels: Tensor, owners: Tensor) -> Tensor:
    """Where slabs of labels (N, S, S) show cortical bone, bool."""
    device = labels.device
    wholes = _look_up(sketch.wholes.to(device)[owners], labels)
    width_px = sketch.shell_px.to(device)[owners, None, None]
    edge = _wider(wholes.float()) != -_wider(-wholes.float())  # a neighbour has another label
    shell = edge
    for reached in range(2, int(sketch.shell_px.max()) + 1):
        edge = _wider(edge.float()) > 0
        shell = torch.where(width_px >= reached, edge, shell)
    return shell & _look_up(sketch.solid.to(device)[owners], wholes.long())


def _wider(values: Tensor) -> Tensor:
    """The largest value (N, S, S) among each pixel's neighbours."""
    return F.max_pool2d(values[:, None], 3, stride=1, padding=1)[:, 0]


def _look_up(tables: Tensor, labels: Tensor) -> Tensor:
    """Entries (N, S, S) of tables (N, 256) at labels (N, S, S)."""
    return torch.gather(tables, 1, labels.flatten(1)).view(labels.shape)


def _blurred(images: Tensor, sigmas_px: Tensor) -> Tensor:
    """Gaussian blur of (B, S, S) by sigmas (2, B) along rows and columns."""
    taps = torch.arange(-_WIDEST_BLUR_PX, _WIDEST_BLUR_PX + 1, device=images.device)
    kernels = torch.exp(-0.5 * (taps / sigmas_px[..., None]) ** 2)
    kernels = kernels / kernels.sum(dim=-1, keepdim=True)  # (2, B, taps)
    padded = F.pad(images[None], (_WIDEST_BLUR_PX,) * 4, mode="replicate")
    down = F.conv2d(padded, kernels[0][:, None, :, None], groups=len(images))
    return F.conv2d(down, kernels[1][:, None, None, :], groups=len(images))[0]


def _coarsened(images: Tensor, factor: int) -> Tensor:
    """Images as acquired at a `factor` coarser matrix and interpolated."""
    small = F.avg_pool2d(images[:, None], factor, ceil_mode=True)
    return F.interpolate(small, images.shape[1:], mode="bilinear")[:, 0]


def _window(images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What is shown black and what white, (B, 1, 1) each: percentiles of every image."""
    count, flat = len(images), images.flatten(1).sort(dim=1).values
    last = flat.shape[1] - 1
    ends = []
    for share in (rng.uniform(0, 0.02, count), rng.uniform(0.975, 1.0, count)):
        position = torch.from_numpy(np.rint(share * last).astype(np.int64)).to(images.device)
        ends.append(flat.gather(1, position[:, None])[:, :, None])
    return ends[0], ends[1]


def _tensor(values: object, device: str | torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float32), device=device)


def _column(values: NDArray[np.floating], device: torch.device) -> Tensor:
    return _tensor(values, device)[:, None, None]
