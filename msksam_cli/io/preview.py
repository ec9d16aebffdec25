"""A volume and its labels made small enough for a page: 8-bit greys as one JPEG of all slices, labels packed.

What does not fit the budget is cropped to the labels with a margin first, and then thinned by whole steps along the
finest axis. A preview is for looking; nothing is measured on it.
"""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import slice_uint8
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, InputError
from msksam_cli.io.figure_layout import labelled_window, widened

MOST_VOXELS = 3_000_000
"""Voxels of a preview; about 0.1–0.2 bytes each as JPEG."""

_MARGIN_MM = 20.0
_JPEG_QUALITY = 80
_BLOCK_PX = 8  # of JPEG: tiles that share no block do not bleed into one another
_MOST_TISSUES = 255


@dataclass(frozen=True, eq=False)
class Preview:
    """Greys and labels on one small grid.

    Attributes:
        grid: where the preview's voxels lie.
        columns: slices along the third axis that stand side by side in the picture.
        tile_px: width and height of a slice's place in the picture, filled from the upper left; the first axis runs
            across, the second down.
        jpeg: the picture.
        labels_gzip: gzip of I·J·K bytes, the first axis fastest: 0, or 1 + the tissue's place in the page's table.
    """

    grid: Grid
    columns: int
    tile_px: tuple[int, int]
    jpeg: bytes
    labels_gzip: bytes


def preview(volume: Volume, labels: LabelMap, tissues: TissueTable, most_voxels: int = MOST_VOXELS) -> Preview:
    """The preview of a case.

    Args:
        volume: the image.
        labels: labels on the same grid.
        tissues: the page's table, which knows every label.
        most_voxels: the budget.

    Raises:
        GridMismatchError: image and labels lie on different grids.
        InputError: more tissues than a byte can tell apart.
    """
    if not labels.grid.matches(volume.grid):
        raise GridMismatchError("labels and image lie on different grids", "Give the image the labels were drawn on")
    if len(tissues) > _MOST_TISSUES:
        raise InputError(f"{len(tissues)} tissues, and a preview tells {_MOST_TISSUES} apart")
    grid = volume.grid
    window = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    if math.prod(grid.shape) > most_voxels:
        window = widened(labelled_window(labels), grid, _MARGIN_MM)
    steps = _steps((window[0].stop - window[0].start, window[1].stop - window[1].start,
                    window[2].stop - window[2].start), grid.spacing_mm, most_voxels)  # fmt: skip
    greys = slice_uint8(_block_means(volume.intensities[window], steps), volume.window)
    values = _centres(labels.values[window], steps)
    places = np.zeros(int(labels.tissues.indices[-1]) + 1 if len(labels.tissues) else 1, np.uint8)
    order = {index: place for place, index in enumerate(tissues.indices, start=1)}
    for index in labels.tissues.indices:
        places[index] = order[index]
    affine = grid.affine.copy()
    affine[:3, :3] *= steps
    affine[:3, 3] = grid.to_world_mm([part.start + (step - 1) / 2 for part, step in zip(window, steps, strict=True)])
    picture, columns, tile_px = _mosaic(greys)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    packed = gzip.compress(places[values].tobytes(order="F"), 9, mtime=0)
    return Preview(Grid((greys.shape[0], greys.shape[1], greys.shape[2]), affine), columns, tile_px,
                   stream.getvalue(), packed)  # fmt: skip


def _steps(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], most: int) -> tuple[int, int, int]:
    """Voxels of the source along each axis of one of the preview: the finest axis is made coarser until all fit.

    >>> _steps((300, 300, 32), (0.5, 0.5, 3.0), 3_000_000), _steps((400, 400, 40), (0.4, 0.4, 3.0), 3_000_000)
    ((1, 1, 1), (2, 2, 1))
    """
    steps = np.ones(3, dtype=int)
    while math.prod(-(-np.array(shape) // steps)) > most:
        reach_mm = steps * np.array(spacing_mm)
        steps[np.isclose(reach_mm, reach_mm.min())] += 1
    return int(steps[0]), int(steps[1]), int(steps[2])


def _block_means(voxels: NDArray[np.float32], steps: tuple[int, int, int]) -> NDArray[np.float32]:
    """Means over blocks of `steps` voxels; the last block of an axis repeats the border."""
    margins = [(0, -size % step) for size, step in zip(voxels.shape, steps, strict=True)]
    padded = np.pad(voxels.T, margins[::-1], mode="edge").T  # turned, as the first axis is the fastest in NIfTI files
    parts = [padded[i :: steps[0], j :: steps[1], k :: steps[2]] for i, j, k in np.ndindex(*steps)]
    return np.asarray(sum(parts) / np.float32(len(parts)), dtype=np.float32)


def _centres(values: NDArray[np.uint8] | NDArray[np.uint16], steps: tuple[int, int, int]) -> NDArray[np.int64]:
    """The label of the voxel in the middle of each block."""
    chosen = [
        np.minimum(np.arange(-(-size // step)) * step + step // 2, size - 1)
        for size, step in zip(values.shape, steps, strict=True)
    ]
    return np.asarray(values[np.ix_(*chosen)], dtype=np.int64)


def _mosaic(greys: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, tuple[int, int]]:
    """All slices along the third axis in one nearly square picture, their number in a row, and a tile's size."""
    width, height = (-(-size // _BLOCK_PX) * _BLOCK_PX for size in greys.shape[:2])
    count = greys.shape[2]
    columns = max(1, min(count, round(math.sqrt(count * height / width))))
    rows = -(-count // columns)
    padded = np.pad(greys, [(0, width - greys.shape[0]), (0, height - greys.shape[1]), (0, rows * columns - count)],
                    mode="edge")  # fmt: skip
    tiles = padded.transpose(2, 1, 0).reshape(rows, columns, height, width)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)), columns, (
        width, height)  # fmt: skip
