"""Build the knee atlas that ships with msksam from a population of procedural knees.

    python benchmarks/build_bundled_atlas.py [-o models/atlases/knee-v1] [--knees 15]

Equal arguments give equal anatomy. The atlas shows a right knee; left knees of the population are mirrored.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from msksam_cli.atlas.build import AtlasCase, Naming, atlas_case
from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.io.atlas_folder import write_atlas
from msksam_cli.phantom.knee import knee_label_map, sample_knee_shape
from msksam_cli.phantom.signal import SEQUENCES, render
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, atlas_text, build_from_cases

SEED = 20
CONTRASTS = ("t1-tse", "pd-fs-tse", "dess")
SIZE_MM = (180.0, 180.0, 150.0)
SPACING_MM = 1.5


def population_grid() -> Grid:
    """An isotropic RAS+ grid round the joint's centre."""
    shape = tuple(int(size / SPACING_MM) for size in SIZE_MM)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * SPACING_MM
    return Grid((shape[0], shape[1], shape[2]), affine)


def population(knees: int) -> list[AtlasCase]:
    """Procedural knees of both sides, each seen in one contrast."""
    rng = np.random.default_rng(SEED)
    grid, cases = population_grid(), []
    for number in range(knees):
        shape = sample_knee_shape(rng)
        labels = knee_label_map(shape, grid)
        contrast = CONTRASTS[number % len(CONTRASTS)]
        volume = Volume(render(labels, SEQUENCES[contrast], SEED + number), grid, shape.side, "knee")
        cases.append(atlas_case(volume, labels, SPACING_MM, contrast))
    return cases


def main() -> None:
    """Build, write and show the atlas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("models/atlases/knee-v1"))
    parser.add_argument("--knees", type=int, default=15)
    parser.add_argument("--left-out", type=int, default=3)
    arguments = parser.parse_args()
    start = time.perf_counter()
    options = BuildAtlasOptions(
        Path(), arguments.output, body_part="knee", side="right", spacing_mm=SPACING_MM, left_out=arguments.left_out
    )
    origin = {"origin": f"procedural knees of msksam, seed {SEED}", "licence": "MIT"}
    naming = Naming(arguments.output.name, "knee", "right", origin)
    atlas, _ = build_from_cases(population(arguments.knees), naming, options)
    written = write_atlas(arguments.output, atlas)
    size = sum(file.stat().st_size for file in arguments.output.iterdir())
    print(atlas_text(written))
    print(f"{size / 1e6:.2f} MB in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
