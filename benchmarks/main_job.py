"""The main job twice on one study: seconds by stage cold and warm, slices encoded, bytes of cache per slice.

python benchmarks/main_job.py STUDY [--tissue bone]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.tables import aligned_text
from msksam_cli.pipeline.segment import Segmented, run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

STAGES = ("read", "place", "refine", "prompts", "encode", "decode", "clean", "measure", "write")


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--tissue", default="bone")
    arguments = parser.parse_args()
    tissues = tuple(arguments.tissue.split(","))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        for name in ("cold", "warm", "again"):
            output = Path(scratch) / ("cold" if name == "again" else name)
            run = run_segment(SegmentOptions(arguments.study, tissues, output, cache=cache))
            done = [outcome for outcome in run.outcomes if isinstance(outcome, Segmented)]
            fresh = [outcome.record for outcome in done if not outcome.resumed]
            stages = [sum(record.seconds.get(stage, 0.0) for record in fresh) for stage in STAGES]
            encoded = sum(record.slices_encoded for record in fresh)
            rows.append((name, f"{run.seconds:.1f}", *(f"{seconds:.1f}" for seconds in stages), str(encoded)))
        summary = DiskStore(cache).summary()
    text = aligned_text(("run", "total s", *STAGES, "slices encoded"), rows)
    text += f"\ncache: {summary.entries} slices, {summary.size_bytes / max(summary.entries, 1):.0f} bytes a slice"
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "main-job.md").write_text(
        f"`msksam segment --tissue {arguments.tissue}` on one study, CPU; warm: another output folder, same cache; "
        f"again: the same output folder, so that the case is kept.\n\n```\n{text}\n```\n"
    )


if __name__ == "__main__":
    main()
