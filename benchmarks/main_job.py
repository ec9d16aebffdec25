"""The main job on one study: seconds by stage cold, warm, and warm for other tissues; slices encoded; memory; cache.

    python benchmarks/main_job.py STUDY [--tissue bone] [--other muscle] [--slices 10,40,143] [--keep]

Every run is a process of its own, as a user would start it. `warm` writes to another folder with the same cache;
`other` asks for other tissues with it; `again` asks for the first once more in the first folder, where its case is
done. With `--slices` only so many slices from the middle of the study's first series are taken instead, `cold` and
`warm` for each number.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from machine import machine_text

from msksam_cli.core.geometry import Grid
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.nifti import form_from_grid, write_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import aligned_text
from msksam_cli.pipeline.case_work import Segmented
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

STAGES = (
    "read", "choose", "place", "refine", "prompts", "encode", "decode", "clean", "signals", "map", "measure", "write",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"
HEADING = (
    "`msksam segment` with nothing but `--tissue` on one study, no GPU. warm: another output folder, same cache; "
    "other: other tissues, same cache; again: the first once more, whose case is done. Total: the whole process, "
    "imports included."
)
SLICES_HEADING = (
    "`msksam segment` with nothing but `--tissue` on so many slices from the middle of one series, no GPU, without and "
    "with a cache of the same. Total: the whole process, imports included."
)


def main() -> None:
    """Measure, print and keep the table, or be one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--tissue", default="bone")
    parser.add_argument("--other", default="", help="tissues of the run `other`; none when empty")
    parser.add_argument("--slices", default="", help="numbers of slices, to see what grows with them")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.output:
        print(json.dumps(measured(options.study, options.tissue, options.output, options.cache)))
        return
    counts = [int(count) for count in options.slices.split(",") if count]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if counts:
            rows = []
            for count in counts:
                study, cache = middle(options.study, count, scratch / f"study-{count}"), scratch / f"cache-{count}"
                for run in ("cold", "warm"):
                    rows.append(row(f"{count}, {run}", study, options.tissue, scratch / f"{count}-{run}", cache))
        else:
            plan = [("cold", options.tissue, "cold"), ("warm", options.tissue, "warm")]
            plan += [("other", options.other, "other")] if options.other else []
            plan += [("again", options.tissue, "cold")]
            cache = scratch / "cache"
            rows = [row(run, options.study, tissue, scratch / folder, cache) for run, tissue, folder in plan]
        summary = DiskStore(cache).summary()
    text = aligned_text(("run", "tissue", "total s", *STAGES, "slices encoded", "peak MB"), rows)
    text += f"\ncache: {summary.entries} slices, {summary.size_bytes / max(summary.entries, 1):.0f} bytes a slice"
    text = f"{machine_text()}\n\n{text}"
    print(text)
    if options.keep:
        heading, file = (SLICES_HEADING, "main-job-slices.md") if counts else (HEADING, "main-job.md")
        (RESULTS / file).write_text(f"{heading}\n\n```\n{text}\n```\n", encoding="utf-8")


def row(name: str, study: Path, tissue: str, output: Path, cache: Path) -> tuple[str, ...]:
    """Cells of one run, a process of its own."""
    command = [
        sys.executable, __file__, str(study), "--tissue", tissue, "--output", str(output), "--cache", str(cache),
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    wall = time.perf_counter() - started
    found = json.loads(done.stdout.splitlines()[-1])
    stages = [f"{found['seconds'].get(stage, 0.0):.1f}" for stage in STAGES]
    return name, tissue, f"{wall:.1f}", *stages, str(found["encoded"]), f"{found['peak_mb']:.0f}"


def middle(study: Path, count: int, folder: Path) -> Path:
    """A study of so many slices from the middle of another's first series."""
    volume, _ = read_series(scan_study(study).series[0])
    grid, axis = volume.grid, volume.grid.slice_axis
    if count > grid.shape[axis]:
        raise SystemExit(f"{count} slices are wanted of {grid.shape[axis]}")
    first = (grid.shape[axis] - count) // 2
    part = tuple(slice(first, first + count) if one == axis else slice(None) for one in range(3))
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world_mm([first if one == axis else 0 for one in range(3)])
    cut = volume.intensities[part]
    thin = replace(volume, intensities=cut, grid=Grid(cut.shape, affine))
    write_volume(folder / "middle.nii.gz", thin, form_from_grid(thin.grid))
    return folder


def measured(study: Path, tissue: str, output: Path, cache: Path) -> dict[str, object]:
    """Seconds by stage, slices encoded and peak memory of one run."""
    run = run_segment(SegmentOptions(study, tuple(tissue.split(",")), output, cache=cache))
    fresh = [outcome.record for outcome in run.outcomes if isinstance(outcome, Segmented) and not outcome.resumed]
    return {
        "seconds": {stage: sum(record.seconds.get(stage, 0.0) for record in fresh) for stage in STAGES},
        "encoded": sum(record.slices_encoded for record in fresh),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
