"""Draw phantom slices, and beside them slices of a real study, into one PNG to be looked at.

    python benchmarks/phantom_gallery.py gallery.png [--region lumbar] [--real STUDY] [--seed 5] [--labels]

The first row shows one procedural knee, or another region, as several sequences would, in several planes; the second
row, given --real, as many slices of the first series of that study. Nothing of it is part of the package.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from msksam_cli.core.volume import LabelMap
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.phantom.acquisition import Anatomy, Protocol, acquire
from msksam_cli.phantom.regions import REGIONS, region_named
from msksam_cli.phantom.signal import SEQUENCES

TILE_PX = 420
WINDOW_PERCENTILE = 99.6
View = tuple[str, Protocol]
VIEWS: dict[str, tuple[View, ...]] = {
    "knee": (
        ("pd-fs-tse", Protocol("sagittal", 0.45, 3.0, 3.0, 3, (150.0, 150.0), (-20.0, 0.0, 8.0))),
        ("pd-fs-tse", Protocol("sagittal", 0.45, 3.0, 3.0, 3, (150.0, 150.0), (3.0, 0.0, 8.0))),
        ("t1-tse", Protocol("coronal", 0.5, 3.0, 3.0, 3, (150.0, 150.0), (0.0, -8.0, 8.0))),
        ("dess", Protocol("sagittal", 0.5, 1.2, 1.2, 3, (150.0, 150.0), (22.0, 0.0, 8.0))),
        ("gre-t1", Protocol("axial", 0.45, 1.5, 1.5, 3, (150.0, 150.0), (0.0, 0.0, 30.0))),
    ),
    "lumbar": (
        ("t2-tse", Protocol("sagittal", 0.7, 4.0, 4.0, 3, (270.0, 270.0), (0.0, -5.0, 0.0))),
        ("t1-tse", Protocol("sagittal", 0.7, 4.0, 4.0, 3, (270.0, 270.0), (18.0, -5.0, 0.0))),
        ("t2-tse", Protocol("axial", 0.6, 4.0, 4.0, 3, (200.0, 200.0), (0.0, -15.0, -18.0))),
        ("t1-tse", Protocol("axial", 0.8, 4.0, 4.0, 3, (330.0, 330.0), (0.0, 20.0, -38.0))),
        ("t1-tse", Protocol("coronal", 0.8, 4.0, 4.0, 3, (300.0, 300.0), (0.0, -3.0, -5.0))),
    ),
}

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


def views_of(region: str) -> tuple[View, ...]:
    """Slices that show a region well; the three planes through its field of view where none are listed."""
    if region in VIEWS:
        return VIEWS[region]
    first, last = (np.array(corner) for corner in (region_named(region).first_mm, region_named(region).last_mm))
    side_mm, centre = float((last - first).max()), (first + last) / 2
    middle = (float(centre[0]), float(centre[1]), float(centre[2]))
    planes = ("coronal", "sagittal", "axial")
    return tuple(
        (name, Protocol(plane, side_mm / TILE_PX, 3.0, 3.0, 3, (side_mm, side_mm), middle))
        for plane, name in zip(planes, ("t1-tse", "pd-fs-tse", "t2-tse"), strict=True)
    )


def phantom_rows(region: str, seed: int, with_labels: bool) -> list[list[Tile]]:
    """Rows of pictures of one procedural region of the body."""
    shape = region_named(region).sample(np.random.default_rng(seed))
    anatomy = Anatomy(partial(region_named(region).label_map, shape), region)
    images, truths = [], []
    for name, protocol in views_of(region):
        started = time.perf_counter()
        volume, labels = acquire(anatomy, SEQUENCES[name], protocol, seed)
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
    parser.add_argument("--region", choices=sorted(REGIONS), default="knee")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--labels", action="store_true", help="add a row of label maps")
    options = parser.parse_args()
    rows = phantom_rows(options.region, options.seed, options.labels)
    if options.real:
        rows.append(real_row(options.real, len(rows[0])))
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
    Image.fromarray(picture).save(options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
