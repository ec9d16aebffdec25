"""What a segmentation run says when it is done: lines for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msksam_cli.pipeline.case_work import Failed, Segmented
from msksam_cli.pipeline.segment_run import SegmentRun


def run_text(run: SegmentRun) -> str:
    """A line per case, what failed, and a summary; of a dry run what would be done and what would be refused."""
    if run.is_dry:
        refused = (f"would refuse   {one.case}: {one.reason}" for one in run.outcomes if isinstance(one, Failed))
        return "\n".join([*(f"would segment  {line}" for line in run.planned), *refused, f"into {run.folder}"])
    lines = [_outcome_line(outcome) for outcome in run.outcomes]
    lines += [f"refused    {refusal}" for refusal in run.scan.refused]
    lines += [f"missing    {refusal}" for refusal in run.not_exported]
    done = [outcome for outcome in run.outcomes if isinstance(outcome, Segmented)]
    fresh = [outcome.record for outcome in done if not outcome.resumed]
    encoded = sum(record.slices_encoded for record in fresh)
    cached = sum(record.slices_cached for record in fresh)
    resumed = sum(outcome.resumed for outcome in done)
    failed = len(run.outcomes) - len(done)
    counts = f"{len(done)} segmented ({resumed} by an earlier run), {failed} failed"
    return "\n".join(
        [*lines, f"{counts}; {encoded} slices encoded, {cached} from the cache; {run.seconds:.1f} s", f"{run.folder}"]
    )


def run_json(run: SegmentRun) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "folder": str(run.folder),
            "planned": list(run.planned),
            "cases": [_outcome_values(outcome) for outcome in run.outcomes],
            "refused": [{"case": refusal.where, "reason": refusal.reason} for refusal in run.scan.refused],
            "not_exported": [{"case": one.where, "reason": one.reason} for one in run.not_exported],
            "seconds": round(run.seconds, 3),
            "exit_code": run.exit_code,
        },
        indent=1,
        ensure_ascii=False,
    )


def tell_event(event: Mapping[str, object]) -> None:
    """Write what happened as one line of JSON to stderr, for a machine that follows a run."""
    sys.stderr.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stderr.flush()


def _outcome_line(outcome: Segmented | Failed) -> str:
    if isinstance(outcome, Failed):
        return f"failed     {outcome.case}: {outcome.reason}"
    record = outcome.record
    states = Counter(str(row["status"]).replace("_", " ") for row in record.metrics)
    doubts = Counter(str(flag["flag"]) for flag in record.flags)
    tissues = ", ".join(f"{count} {state}" for state, count in states.most_common())
    noted = f"  doubts: {_counted(doubts)}" if doubts else ""
    verb = "kept     " if outcome.resumed else "segmented"
    return f"{verb}  {outcome.case}  {tissues}{noted}"


def _counted(doubts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ×{count}" if count > 1 else name for name, count in doubts.items())


def _outcome_values(outcome: Segmented | Failed) -> dict[str, Any]:
    if isinstance(outcome, Failed):
        return {"case": outcome.case, "state": "failed", "reason": outcome.reason}
    record = outcome.record
    return {
        "case": outcome.case,
        "state": "kept" if outcome.resumed else "segmented",
        "slices_encoded": 0 if outcome.resumed else record.slices_encoded,
        "slices_cached": 0 if outcome.resumed else record.slices_cached,
        "metrics": list(record.metrics),
        "flags": list(record.flags),
    }
