"""How far the runs on a folder have come, from what they leave there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.errors import InputError
from msksam_cli.io.tables import aligned_text, read_json
from msksam_cli.pipeline.progress import Progress, read_progress
from msksam_cli.pipeline.run_record import record_files

SILENT_AFTER_S = 900.0
"""A run that has said nothing for so long may have been killed."""

_NAME = re.compile(r"^(?:run|progress)(?:-(?P<part>\d+)-of-(?P<parts>\d+))?\.json$")


@dataclass(frozen=True)
class ShardStatus:
    """How far one run or shard has come.

    Attributes:
        shard: "2/8", "1/1" for a run of all cases.
        state: "running", "silent" (for longer than `SILENT_AFTER_S`), "stopped" or "ended".
        progress: cases planned and done; of a run that ended without its workers and times.
        cases_per_hour: that were segmented, while it runs; None when there is nothing to tell it from.
        silent_s: since it was last heard of, while it runs.
    """

    shard: str
    state: str
    progress: Progress
    cases_per_hour: float | None = None
    silent_s: float | None = None

    @property
    def left(self) -> int:
        """Cases that are still to be done."""
        return self.progress.planned - self.progress.done


@dataclass(frozen=True)
class RunStatus:
    """How far all runs on a folder have come.

    Attributes:
        shards: in order.
        records: cases whose labels and record are on the disk.
    """

    shards: tuple[ShardStatus, ...]
    records: int

    @property
    def is_over(self) -> bool:
        """Whether all that is known here has ended."""
        return all(shard.state == "ended" for shard in self.shards)


def run_status(folder: Path) -> RunStatus:
    """What the files in a run folder tell.

    Raises:
        InputError: there is no such folder, or no run has begun in it; or its files cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name!r} is no folder", "Give the output folder of msksam segment")
    found: dict[tuple[int, int], ShardStatus] = {}
    for path in sorted(folder.glob("run*.json")) + sorted(folder.glob("progress*.json")):  # what runs comes last
        if match := _NAME.match(path.name):
            shard = (int(match["part"] or 1), int(match["parts"] or 1))
            is_running = path.name.startswith("progress")
            found[shard] = _running(path, shard) if is_running else _ended(path, shard)
    if not found:
        raise InputError(f"no run has begun in {folder.name!r}", "Give the output folder of msksam segment")
    in_order = sorted(found, key=lambda one: (one[1], one[0]))
    return RunStatus(tuple(found[shard] for shard in in_order), len(record_files(folder)))


def status_text(status: RunStatus) -> str:
    """A line per run or shard, then what is being worked on, then what failed and why."""
    columns = ("shard", "state", "planned", "segmented", "kept", "failed", "left", "cases/h", "last sign")
    return "\n".join(
        [
            aligned_text(columns, [_cells(shard) for shard in status.shards]),
            *(f"{worker}: {', '.join(cases)}" for shard in status.shards for worker, cases in _at_work(shard)),
            *(f"failed  {case}: {why}" for shard in status.shards for case, why in shard.progress.failed.items()),
            f"{status.records} {'case' if status.records == 1 else 'cases'} on disk",
        ]
    )


def status_json(status: RunStatus) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "over": status.is_over,
            "records": status.records,
            "shards": [
                {
                    "shard": shard.shard,
                    "state": shard.state,
                    "planned": shard.progress.planned,
                    "segmented": shard.progress.segmented,
                    "kept": shard.progress.kept,
                    "failed": dict(shard.progress.failed),
                    "left": shard.left,
                    "cases_per_hour": shard.cases_per_hour,
                    "silent_s": shard.silent_s,
                    "workers": {worker: list(cases) for worker, cases in shard.progress.workers.items()},
                }
                for shard in status.shards
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def _running(path: Path, shard: tuple[int, int]) -> ShardStatus:
    progress = read_progress(path)
    silent_s = max(time.time() - progress.updated_s, 0.0)
    lasted_s = progress.updated_s - progress.started_s
    rate = round(progress.segmented * 3600 / lasted_s, 1) if progress.segmented and lasted_s > 0 else None
    state = "stopped" if progress.is_stopped else "silent" if silent_s > SILENT_AFTER_S else "running"
    return ShardStatus(_shard_text(shard), state, progress, rate, round(silent_s, 1))


def _ended(path: Path, shard: tuple[int, int]) -> ShardStatus:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path.name} is no record of a run", "Run the same command again")
    segmented, refused = _listed(content, "segmented"), _listed(content, "refused")
    kept = sum(bool(case.get("resumed")) for case in segmented)
    failed = {str(case.get("case")): str(case.get("reason")) for case in refused}
    planned = len(segmented) + len(failed)
    return ShardStatus(_shard_text(shard), "ended", Progress(planned, len(segmented) - kept, kept, failed))


def _listed(content: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    values = content.get(name)
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _shard_text(shard: tuple[int, int]) -> str:
    return f"{shard[0]}/{shard[1]}"


def _at_work(shard: ShardStatus) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Workers of a run that goes on, and what they were at when it was last heard of."""
    if shard.state == "running":
        yield from ((worker, cases) for worker, cases in shard.progress.workers.items() if cases)


def _cells(shard: ShardStatus) -> tuple[str, ...]:
    now = shard.progress
    rate = "" if shard.cases_per_hour is None else f"{shard.cases_per_hour:.1f}"
    sign = "" if shard.silent_s is None else f"{shard.silent_s:.0f} s ago"
    counts = (now.planned, now.segmented, now.kept, len(now.failed), shard.left)
    return shard.shard, shard.state, *map(str, counts), rate, sign
