"""What a segmentation run did, and the file that says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from msksam_cli import __version__
from msksam_cli.core.series import Refusal, StudyScan
from msksam_cli.io.tables import write_json
from msksam_cli.pipeline.case_work import Failed, JobFacts, Segmented, SeriesOutcome
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.scan import file_records
from msksam_cli.pipeline.segment_options import shard_file_name


@dataclass(frozen=True, eq=False)
class SegmentRun:
    """What a run did.

    Attributes:
        folder: where its results are.
        scan: what the study held.
        outcomes: one per case of this shard, in order of case.
        planned: cases a dry run would have segmented, with what would be asked; what it would have refused is in
            `outcomes`.
        seconds: of the whole run.
        is_dry: whether nothing was done but planning.
        not_exported: what was asked for beside the labels and could not be written.
    """

    folder: Path
    scan: StudyScan
    outcomes: tuple[SeriesOutcome, ...]
    planned: tuple[str, ...] = ()
    seconds: float = 0.0
    is_dry: bool = False
    not_exported: tuple[Refusal, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when every image was segmented and all was written that was asked for, else 3."""
        failed = bool(self.not_exported) or any(isinstance(outcome, Failed) for outcome in self.outcomes)
        return 3 if failed or self.scan.refused or self.scan.count("refused") else 0


def write_run(run: SegmentRun, facts: JobFacts, shard: tuple[int, int]) -> None:
    """Write run.json, or run-<I>-of-<N>.json for a shard.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    part, parts = shard
    segmented = [outcome for outcome in run.outcomes if isinstance(outcome, Segmented)]
    failed = {outcome.case: outcome.reason for outcome in run.outcomes if isinstance(outcome, Failed)}
    refused = {refusal.where: refusal.reason for refusal in run.scan.refused} | failed
    first = {series.case for series in first_echoes(run.scan.series)}
    others = [series for series in run.scan.series if series.case not in first]
    unnamed = first - {outcome.case for outcome in run.outcomes} if parts == 1 else set()
    files = [
        replace(file, state="refused", reason=failed[file.case]) if file.case in failed else file
        for file in run.scan.files
    ]
    content = {
        "msksam": __version__,
        "versions": dict(facts.versions),
        "options": {key: value for key, value in facts.plain.items() if key != "msksam"},
        "shard": f"{part}/{parts}",
        "seconds": round(run.seconds, 3),
        "segmented": [_segmented_values(outcome) for outcome in segmented],
        "refused": [{"case": case, "reason": reason} for case, reason in refused.items()],
        "not_exported": [{"case": one.where, "reason": one.reason} for one in run.not_exported],
        "skipped": [
            {"case": one.case, "reason": "a map, not an image" if one.is_map else "its first echo's labels are its own"}
            for one in others
        ]
        + [{"case": case, "reason": "not named by --only"} for case in sorted(unnamed)],
        "files": file_records(files),
    }
    write_json(run.folder / shard_file_name("run", shard), content)


def _segmented_values(outcome: Segmented) -> dict[str, object]:
    record = outcome.record
    return {
        "case": outcome.case,
        "resumed": outcome.resumed,
        "seconds": dict(record.seconds),
        "slices_encoded": 0 if outcome.resumed else record.slices_encoded,
        "slices_cached": 0 if outcome.resumed else record.slices_cached,
        "prompts": record.prompts,
        "device_memory": list(record.device_memory),
        "fit": dict(record.fit),
        "map": dict(record.map),
        "outputs": dict(record.outputs),
    }
