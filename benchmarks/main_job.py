"""The main job on one study: seconds by stage cold, warm, and warm for other tissues; slices encoded; memory; cache.

    python benchmarks/main_job.py STUDY [--tissue bone] [--other muscle] [--keep]

Every run is a process of its own, as a user would start it. `warm` writes to another folder with the same cache;
`other` asks for other tissues with it; `again` asks for the first once more in the first folder, where its case is
done.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine_text

from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.tables import aligned_text
from msksam_cli.pipeline.case_work import Segmented
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

STAGES = (
    "read", "choose", "place", "refine", "prompts", "encode", "decode", "clean", "signals", "map", "measure", "write",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print and keep the table, or be one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--tissue", default="bone")
    parser.add_argument("--other", default="", help="tissues of the run `other`; none when empty")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.output:
        print(json.dumps(measured(options.study, options.tissue, options.output, options.cache)))
        return
    plan = [("cold", options.tissue, "cold"), ("warm", options.tissue, "warm"), ("again", options.tissue, "cold")]
    plan[2:2] = [("other", options.other, "other")] if options.other else []
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        for name, tissue, folder in plan:
            command = [
                sys.executable, __file__, str(options.study), "--tissue", tissue,
                "--output", str(Path(scratch) / folder), "--cache", str(cache),
            ]  # fmt: skip
            started = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            wall = time.perf_counter() - started
            found = json.loads(done.stdout.splitlines()[-1])
            stages = [f"{found['seconds'].get(stage, 0.0):.1f}" for stage in STAGES]
            rows.append((name, tissue, f"{wall:.1f}", *stages, str(found["encoded"]), f"{found['peak_mb']:.0f}"))
        summary = DiskStore(cache).summary()
    text = aligned_text(("run", "tissue", "total s", *STAGES, "slices encoded", "peak MB"), rows)
    text += f"\ncache: {summary.entries} slices, {summary.size_bytes / max(summary.entries, 1):.0f} bytes a slice"
    text = f"{machine_text()}\n\n{text}"
    print(text)
    if options.keep:
        heading = (
            "`msksam segment` with nothing but `--tissue` on one study, no GPU. warm: another output folder, same "
            "cache; other: other tissues, same cache; again: the first once more, whose case is done. Total: the whole "
            "process, imports included."
        )
        (RESULTS / "main-job.md").write_text(f"{heading}\n\n```\n{text}\n```\n", encoding="utf-8")


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
