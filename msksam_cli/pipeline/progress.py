"""How far a run has come: a file beside its results while it lasts, and the tables that follow its cases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import InputError
from msksam_cli.executor import Workers
from msksam_cli.io.atomic import remove_file
from msksam_cli.io.tables import read_json, write_json
from msksam_cli.pipeline.case_work import Failed, SeriesOutcome
from msksam_cli.pipeline.run_record import write_tables

_TIMES_LONGER = 20
"""Tables and progress are written again when so many times as long has passed as it took: 5 % of the time at most."""


@dataclass(frozen=True)
class Progress:
    """How far a run, or one shard of it, has come.

    Attributes:
        planned: cases it is to segment.
        segmented: cases it has segmented.
        kept: cases an earlier run had done.
        failed: case → reason.
        workers: worker → the cases it is at.
        started_s: when the run began, in seconds since 1970.
        updated_s: when this was written.
        is_stopped: whether the run ended before its cases did.
    """

    planned: int
    segmented: int = 0
    kept: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    started_s: float = 0.0
    updated_s: float = 0.0
    is_stopped: bool = False

    @property
    def done(self) -> int:
        """Cases that came to an end, good or bad."""
        return self.segmented + self.kept + len(self.failed)

    def after(self, outcome: SeriesOutcome) -> Progress:
        """The progress when one more case is done."""
        if isinstance(outcome, Failed):
            return replace(self, failed={**self.failed, outcome.case: outcome.reason})
        if outcome.resumed:
            return replace(self, kept=self.kept + 1)
        return replace(self, segmented=self.segmented + 1)


def progress_file_name(shard: tuple[int, int]) -> str:
    """Name of the file of a run or shard while it lasts.

    >>> progress_file_name((1, 1)), progress_file_name((2, 8))
    ('progress.json', 'progress-2-of-8.json')
    """
    part, parts = shard
    return "progress.json" if parts == 1 else f"progress-{part}-of-{parts}.json"


def read_progress(path: Path) -> Progress:
    """The progress a file tells.

    Raises:
        InputError: the file cannot be read or is no progress of a run.
    """
    content: Any = read_json(path)
    try:
        found = Progress(**content)
        counts = (found.planned, found.segmented, found.kept, found.started_s, found.updated_s)
        is_sound = all(isinstance(count, int | float) for count in counts)
        workers = {str(name): tuple(map(str, cases)) for name, cases in found.workers.items()}
        failed = {str(case): str(reason) for case, reason in found.failed.items()}
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path.name} is no progress of a run", "Run the same command again") from error
    if not is_sound:
        raise InputError(f"{path.name} is no progress of a run", "Run the same command again")
    return replace(found, workers=workers, failed=failed)


class Board:
    """Keeps the tables and the progress of a run true while its cases are done.

    Args:
        folder: of the run.
        tissues: all that a case might be asked for.
        shard: of the run.
    """

    def __init__(self, folder: Path, tissues: TissueTable, shard: tuple[int, int]) -> None:
        self._folder, self._tissues, self._shard = folder, tissues, shard
        self._progress = Progress(0)
        self._next_s = 0.0

    @contextmanager
    def open(self, planned: int) -> Iterator[None]:
        """Tables and progress are there from the beginning; after the last case the progress goes, and the run's own
        file says the rest; when the run is stopped, it stays.

        Raises:
            EnvironmentFault: the disk fails.
        """
        self._progress = Progress(planned, started_s=time.time())
        self._write()
        try:
            yield
        except BaseException:
            self._progress = replace(self._progress, is_stopped=True)
            self._write()
            raise
        write_tables(self._folder, self._tissues)
        remove_file(self._folder / progress_file_name(self._shard))

    def note(self, outcome: SeriesOutcome, workers: Workers) -> None:
        """One more case is done.

        Raises:
            EnvironmentFault: the disk fails.
        """
        self._progress = replace(
            self._progress.after(outcome), workers={name: workers.working_on.get(name, ()) for name in workers.names}
        )
        if time.monotonic() >= self._next_s:
            self._write()

    def event(self, outcome: SeriesOutcome) -> dict[str, object]:
        """What a case's end is for machines."""
        state = "failed" if isinstance(outcome, Failed) else "kept" if outcome.resumed else "segmented"
        reason = {"reason": outcome.reason} if isinstance(outcome, Failed) else {}
        now = self._progress
        return {"event": "case", "case": outcome.case, "state": state, **reason, "done": now.done, "of": now.planned}

    def _write(self) -> None:
        began = time.monotonic()
        write_tables(self._folder, self._tissues)
        self._progress = replace(self._progress, updated_s=time.time())
        write_json(self._folder / progress_file_name(self._shard), asdict(self._progress))
        ended = time.monotonic()
        self._next_s = ended + _TIMES_LONGER * (ended - began)
