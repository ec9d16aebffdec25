"""Build the atlases that ship with msksam, one per region, from populations of procedural people.

    python benchmarks/build_bundled_atlases.py [--region knee …] [-o models/atlases] [--left-out 2]

Equal arguments give equal anatomy. People with implants or tumours are passed over: an atlas says where healthy tissue
may be. Atlases of parts with sides show the right one; left ones of the population are mirrored. The table of all
atlases in the folder goes to benchmarks/results/atlases.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from msksam_cli.atlas.build import AtlasCase, Naming, atlas_case
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.atlas_folder import MANIFEST, read_atlas, write_atlas
from msksam_cli.phantom.regions import REGIONS, Region, region_named
from msksam_cli.phantom.signal import SEQUENCES, render
from msksam_cli.phantom.thigh import ThighShape
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, atlas_text, build_from_cases

SEED = 20
"""Of all populations; seeds for measuring are elsewhere (`truth_sets.PHANTOM_SEED`)."""

RESULTS = Path(__file__).parent / "results" / "atlases.md"


@dataclass(frozen=True)
class Recipe:
    """How the atlas of a region is made.

    Attributes:
        people: cases in its population.
        spacing_mm: of its grid.
        contrasts: sequences that its people are seen by, in turn.
    """

    people: int
    spacing_mm: float
    contrasts: tuple[str, ...]


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "knee": Recipe(15, 1.5, ("t1-tse", "pd-fs-tse", "dess")),
        "hip": Recipe(12, 2.5, ("t1-tse", "pd-fs-tse")),
        "lumbar": Recipe(12, 2.5, ("t1-tse", "t2-tse")),
        "shoulder": Recipe(12, 2.0, ("t1-tse", "pd-fs-tse")),
        "thigh": Recipe(12, 2.5, ("t1-tse", "dixon-water")),
    }
)


def population(region: Region, recipe: Recipe) -> Iterator[AtlasCase]:
    """Procedural people, each seen in one contrast."""
    grid, number = region.grid(recipe.spacing_mm), list(REGIONS).index(region.name)
    for person in range(recipe.people):
        rng = np.random.default_rng((SEED, number, person))
        shape, labels = _person(region, rng, recipe.spacing_mm)
        contrast = recipe.contrasts[person % len(recipe.contrasts)]
        seed = 1000 * SEED + 100 * number + person
        volume = Volume(render(labels, SEQUENCES[contrast], seed), grid, getattr(shape, "side", ""), region.name)
        yield atlas_case(volume, labels, recipe.spacing_mm, contrast)


def _person(region: Region, rng: np.random.Generator, spacing_mm: float) -> tuple[Any, LabelMap]:
    """Dimensions and labels of the first person drawn that has no implant and no tumour; of two thighs only one."""
    anatomy = tissues_of(region.name)
    while True:
        shape = region.sample(rng)
        if isinstance(shape, ThighShape):
            shape = replace(shape, both=False)
        labels = region.label_map(shape, region.grid(spacing_mm))
        if set(np.unique(labels.values).tolist()) <= {0, *anatomy.indices}:
            return shape, LabelMap(labels.values, labels.grid, anatomy)


def build(region: Region, output: Path, left_out: int) -> Atlas:
    """Build and write the atlas of one region."""
    recipe = RECIPES[region.name]
    cases = list(population(region, recipe))
    side = "right" if any(case.volume.side for case in cases) else ""
    folder = output / f"{region.name}-v1"
    options = BuildAtlasOptions(
        Path(), folder, body_part=region.name, side=side, spacing_mm=recipe.spacing_mm, left_out=left_out
    )
    origin = {"origin": f"procedural people of msksam, seed {SEED}", "licence": "MIT"}
    atlas, _ = build_from_cases(cases, Naming(folder.name, region.name, side, origin), options)
    return write_atlas(folder, atlas)


def results(output: Path) -> str:
    """Two Markdown tables over the atlases in a folder: what they are, and what they are worth."""
    folders = sorted(manifest.parent for manifest in output.glob(f"*/{MANIFEST}"))
    atlases = [(read_atlas(folder), sum(file.stat().st_size for file in folder.iterdir()) / 1e6) for folder in folders]
    return "\n".join(
        [
            "Written by `benchmarks/build_bundled_atlases.py`. All cases are procedural people. Some are left out one",
            "by one and labelled by the atlas of the others, at its spacing and without any network. It says how well",
            "an atlas knows such people, and nothing about patients.",
            "",
            "| atlas | side | cases | templates | tissues | spacing mm | voxels | MB |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_what(atlas, megabytes) for atlas, megabytes in atlases),
            "",
            "| atlas | left out | in doubt | group | tissues | mean Dice | worst tissue's worst case | box recall |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(row for atlas, _ in atlases for row in _worth(atlas)),
            "",
        ]
    )


def _what(atlas: Atlas, megabytes: float) -> str:
    voxels = " × ".join(map(str, atlas.grid.shape))
    templates = ", ".join(atlas.templates)
    return (
        f"| {atlas.name} | {atlas.side or 'none'} | {atlas.provenance['cases']} | {templates} | {len(atlas.tissues)} | "
        f"{atlas.provenance['spacing_mm']:g} | {voxels} | {megabytes:.1f} |"
    )


def _worth(atlas: Atlas) -> Iterator[str]:
    """A row per group of tissues from the quality card."""
    quality: Any = atlas.provenance["quality"]
    for group in atlas.tissues.groups:
        rows = [quality["tissues"].get(str(tissue.index)) for tissue in atlas.tissues if tissue.group == group]
        found = [row for row in rows if row]
        dice, recall = (np.mean([row[key] for row in found]) for key in ("dice_mean", "box_recall"))
        worst = min(row["dice_least"] for row in found)
        yield (
            f"| {atlas.name} | {quality['left_out']} | {quality['doubtful']} | {group} | {len(found)} | {dice:.2f} | "
            f"{worst:.2f} | {recall:.2f} |"
        )


def main() -> None:
    """Build, write and show the atlases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("models/atlases"))
    parser.add_argument("--region", nargs="+", choices=list(REGIONS), default=list(REGIONS))
    parser.add_argument("--left-out", type=int, default=2)
    arguments = parser.parse_args()
    for name in arguments.region:
        start = time.perf_counter()
        print(atlas_text(build(region_named(name), arguments.output, arguments.left_out)))
        print(f"{time.perf_counter() - start:.0f} s", flush=True)
    RESULTS.write_text(results(arguments.output))


if __name__ == "__main__":
    main()
