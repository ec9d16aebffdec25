"""Draw phantom slices, and beside them slices of a real study, into one PNG to be looked at.

    python benchmarks/phantom_gallery.py gallery.png [--real STUDY] [--seed 5] [--labels]

The first row shows a fat-suppressed PD, a T1, a DESS and a low-field gradient echo of one procedural knee; the second
row, given --real, as many slices of the first series of that study. Nothing of it is part of the package.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msksam_cli.core.volume import LabelMap
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.phantom.acquisition import Protocol, acquire
from msksam_cli.phantom.knee import sample_knee_shape
from msksam_cli.phantom.signal import SEQUENCES

TILE_PX = 420
WINDOW_PERCENTILE = 99.6
VIEWS = (
    ("pd-fs-tse", Protocol("sagittal", 0.45, 3.0, 3.0, 3, (150.0, 150.0), (-20.0, 0.0, 8.0))),
    ("pd-fs-tse", Protocol("sagittal", 0.45, 3.0, 3.0, 3, (150.0, 150.0), (3.0, 0.0, 8.0))),
    ("t1-tse", Protocol("coronal", 0.5, 3.0, 3.0, 3, (150.0, 150.0), (0.0, -8.0, 8.0))),
    ("dess", Protocol("sagittal", 0.5, 1.2, 1.2, 3, (150.0, 150.0), (22.0, 0.0, 8.0))),
    ("gre-t1", Protocol("axial", 0.45, 1.5, 1.5, 3, (150.0, 150.0), (0.0, 0.0, 30.0))),
)

Tile = NDArray[np.uint8]


def grey_tile(pixels: NDArray[np.float32], spacing_mm: tuple[float, float]) -> Tile:
    """A square (rows, columns, 3) picture of pixels (columns, rows), in true proportions."""
    top = max(float(np.percentile(pixels, WINDOW_PERCENTILE)), 1e-6)
    grey = (np.clip(pixels.T / top, 0, 1) * 255).astype(np.uint8)
    size_mm = (pixels.shape[0] * spacing_mm[0], pixels.shape[1] * spacing_mm[1])
    scale = TILE_PX / max(size_mm)
    width, height = (max(1, round(length * scale)) for length in size_mm)
    image = Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC)
    tile = Image.new("L", (TILE_PX, TILE_PX))
    tile.paste(image, ((TILE_PX - width) // 2, (TILE_PX - height) // 2))
    return np.repeat(np.asarray(tile)[..., None], 3, axis=2)


def label_tile(labels: LabelMap, position: int) -> Tile:
    """A square picture of one slice's labels in the colours of their table."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    for tissue in labels.tissues:
        colors[tissue.index] = tissue.rgb
    pixels = colors[labels.values[:, :, position].T]
    return np.asarray(Image.fromarray(pixels).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST))


def phantom_rows(seed: int, with_labels: bool) -> list[list[Tile]]:
    """Rows of pictures of one procedural knee."""
    shape = sample_knee_shape(np.random.default_rng(seed), "right")
    images, truths = [], []
    for name, protocol in VIEWS:
        started = time.perf_counter()
        volume, labels = acquire(shape, SEQUENCES[name], protocol, seed)
        print(f"{name:12s} {protocol.orientation:9s} {time.perf_counter() - started:5.2f} s")
        spacing = volume.grid.spacing_mm
        images.append(grey_tile(volume.intensities[:, :, 1], (spacing[0], spacing[1])))
        truths.append(label_tile(labels, 1))
    return [images, truths] if with_labels else [images]


def real_row(study: Path, count: int) -> list[Tile]:
    """Pictures of slices spread over the first series of a study."""
    volume, _ = read_series(scan_study(study).series[0])
    axis = volume.grid.slice_axis
    in_plane = [a for a in range(3) if a != axis]
    spacing = (volume.grid.spacing_mm[in_plane[0]], volume.grid.spacing_mm[in_plane[1]])
    positions = np.linspace(0.2, 0.8, count) * (volume.grid.shape[axis] - 1)
    slices = (np.take(volume.intensities, round(float(position)), axis=axis) for position in positions)
    return [grey_tile(pixels, spacing) for pixels in slices]


def main() -> None:
    """Write the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--labels", action="store_true", help="add a row of label maps")
    options = parser.parse_args()
    rows = phantom_rows(options.seed, options.labels)
    if options.real:
        rows.append(real_row(options.real, len(VIEWS)))
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    Image.fromarray(picture).save(options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
