"""Dice of atlas alone, SAM with atlas prompts and SAM with true prompts, through the real commands' own functions.

    python benchmarks/three_columns.py knee   --data ../shared/data [--model …] [--out FOLDER]
    python benchmarks/three_columns.py lumbar --data ../shared/data

`knee` segments the bones of the real study with nothing but defaults; `lumbar` builds an atlas from the first ten
subjects and segments the vertebrae of the other six. Every column is written as label volumes and read by `evaluate`.
An ellipse that fills the true box is the baseline of the third column. Tables go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from msksam_cli.atlas.placement import place_atlas
from msksam_cli.atlas.priors import prompts_from_labels, strongest_tissue
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.slicing import take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.atlas_folder import find_atlas, list_atlases, read_atlas
from msksam_cli.io.nifti import read_label_map, write_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import aligned_text, write_tissue_table
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, build_atlas
from msksam_cli.pipeline.evaluate import EvaluateOptions, evaluate
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.pipeline.segment_text import run_text

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("atlas alone", "SAM, atlas prompts", "SAM, true prompts", "ellipse in the true box")
Table = dict[str, dict[str, float]]


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("knee", "lumbar"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="msksam-small")
    parser.add_argument("--out", type=Path, default=Path("msksam-out"))
    options = parser.parse_args()
    out = options.out / f"three-columns-{options.set}"
    started = time.monotonic()
    job = {"knee": knee, "lumbar": lumbar}[options.set](options.data, out)
    table = three_columns(job, options.model, out)
    text = as_text(table)
    print(text)
    print(f"{time.monotonic() - started:.0f} s")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"three-columns-{options.set}.md").write_text(f"Mean Dice, model {options.model}.\n\n```\n{text}\n```\n")


class Job(NamedTuple):
    """What is measured: images, truth beside its table, atlas and tissues."""

    study: Path
    truth: Path
    atlas: str
    tissues: tuple[str, ...]


def knee(data: Path, out: Path) -> Job:
    """The real knee study; its truth gets the names that `labels.nii.gz` does not carry."""
    truth = out / "truth"
    (truth / "labels").mkdir(parents=True, exist_ok=True)
    (series,) = scan_study(data / "knee_bones_mr" / "study").series
    shutil.copy(data / "knee_bones_mr" / "labels.nii.gz", truth / "labels" / f"{series.case}.nii.gz")
    atlas = read_atlas(next(iter(list_atlases().values())))
    write_tissue_table(truth / "labels.tsv", atlas.tissues.select(["femur", "tibia", "patella"]))
    return Job(data / "knee_bones_mr" / "study", truth, "auto", ("femur", "tibia", "patella"))


def lumbar(data: Path, out: Path) -> Job:
    """Subjects 1 to 10 make the atlas, 11 to 16 are segmented."""
    images = sorted((data / "lumbar_vertebrae_mr" / "images").glob("*.nii.gz"))
    for part, chosen in (("train", images[:10]), ("test", images[10:])):
        for kind in ("images", "labels"):
            (out / part / kind).mkdir(parents=True, exist_ok=True)
            for image in chosen:
                shutil.copy(image.parent.parent / kind / image.name, out / part / kind / image.name)
    names = out / "vertebrae.tsv"
    rows = [f"{n}\tL{n}\tL{n}\t#{40 * n + 20:02x}80c0\t\tvertebra\t" for n in range(1, 6)]
    names.write_text("index\tname\tabbreviation\tcolor\tside\tgroup\tmapping\n" + "\n".join(rows) + "\n")
    shutil.copy(names, out / "test" / "labels.tsv")
    if not (out / "lumbar-atlas" / "atlas.toml").is_file():
        build_atlas(BuildAtlasOptions(out / "train", out / "lumbar-atlas", names, body_part="lspine", left_out=2))
    return Job(out / "test" / "images", out / "test", str(out / "lumbar-atlas"), ("vertebra",))


def three_columns(job: Job, model: str, out: Path) -> Table:
    """Column → tissue → mean Dice."""
    study, truth, atlas, tissues = job
    loaded = read_atlas(find_atlas(atlas) if atlas != "auto" else next(iter(list_atlases().values())))
    wanted = loaded.tissues.select(tissues)
    asked = SegmentOptions(study, tissues, out / "atlas-prompts", atlas, model, overwrite=True)
    run = run_segment(asked)
    run_segment(replace(asked, output=out / "true-prompts", prompts=f"labels:{truth / 'labels'}"))
    write_each(study, truth, out / "atlas-alone", lambda labels, volume: atlas_alone(loaded, wanted, volume))
    write_each(study, truth, out / "ellipse", lambda labels, volume: ellipses(labels, wanted))
    print(run_text(run))
    folders = ("atlas-alone", "atlas-prompts", "true-prompts", "ellipse")
    return {column: dice(out / folder, truth, out) for column, folder in zip(COLUMNS, folders, strict=True)}


def write_each(study: Path, truth: Path, folder: Path, label: Callable[[LabelMap, Volume], LabelMap]) -> None:
    """Write a label volume per case of the study."""
    for series in scan_study(study).series:
        volume, form = read_series(series)
        labels = reordered_labels(read_label_map(truth / "labels" / f"{series.case}.nii.gz"), volume.grid)
        made = label(labels, volume)
        write_label_map(folder / "labels" / f"{series.case}.nii.gz", made, form)
        write_tissue_table(folder / "labels.tsv", made.tissues)


def atlas_alone(atlas: Atlas, wanted: TissueTable, volume: Volume) -> LabelMap:
    """The strongest tissue of the placed atlas, without any network."""
    placed = place_atlas(atlas, volume, threads=2)
    chosen = {index: placed.probabilities[index] for index in wanted.indices}
    return LabelMap(strongest_tissue(chosen, volume.grid.shape).astype(np.uint8), volume.grid, wanted)


def ellipses(labels: LabelMap, wanted: TissueTable) -> LabelMap:
    """An ellipse in every box that the true prompts have."""
    named = LabelMap(np.where(np.isin(labels.values, wanted.indices), labels.values, 0), labels.grid, wanted)
    axis = named.grid.slice_axis
    values = np.zeros(named.grid.shape, np.uint8)
    for prompt in prompts_from_labels(named, wanted, axis, "box"):
        plane = take_slice(values, axis, prompt.slice_index)
        plane[_ellipse(prompt, plane.shape)] = prompt.tissue_index
    return LabelMap(values, named.grid, wanted)


def _ellipse(prompt: Prompt, shape: tuple[int, int]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = prompt.box.xyxy
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (x - (x0 + x1) / 2) / ((x1 - x0 + 1) / 2)
    return across**2 + ((y - (y0 + y1) / 2) / ((y1 - y0 + 1) / 2)) ** 2 <= 1


def dice(predictions: Path, truth: Path, out: Path) -> dict[str, float]:
    """Tissue → mean Dice over cases; a missed tissue counts as 0."""
    result = evaluate(EvaluateOptions(predictions, truth, out / "evaluation" / predictions.name))
    found: dict[str, list[float]] = {}
    for comparison in result.comparisons:
        if comparison.dice is not None:
            found.setdefault(comparison.tissue, []).append(comparison.dice)
    means = {tissue: float(np.mean(values)) for tissue, values in found.items()}
    return {**means, "mean": float(np.mean(list(means.values())))}


def as_text(table: Table) -> str:
    """Tissues down, columns across."""
    tissues = list(next(iter(table.values())))
    rows = [(t, *(f"{table[column].get(t, float('nan')):.3f}" for column in COLUMNS)) for t in tissues]
    return aligned_text(("tissue", *COLUMNS), rows)


if __name__ == "__main__":
    main()
