"""How far a run has come: a file beside its results while it lasts, and the tables that follow its cases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.executor import Workers
from msksam_cli.io.atomic import remove_file
from msksam_cli.io.tables import read_json, write_json
from msksam_cli.pipeline.case_work import Failed, SeriesOutcome
from msksam_cli.pipeline.run_record import write_tables
from msksam_cli.pipeline.segment_options import shard_file_name

_TIMES_LONGER = 20
"""Tables are written again when so many times as long has passed as it took: 5 % of the time at most."""

_TELL_EVERY_S = 2.0


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


def read_progress(path: Path) -> Progress:
    """The progress a file tells.

    Raises:
        InputError: the file cannot be read or is no progress of a run.
    """
    content: Any = read_json(path)
    try:
        found = Progress(**content)
        counts = (found.planned, found.segmented, found.kept, found.started_s, found.updated_s)
        if not all(isinstance(count, int | float) for count in counts):
            raise TypeError("a count is no number")
        workers = {str(name): tuple(map(str, cases)) for name, cases in found.workers.items()}
        failed = {str(case): str(reason) for case, reason in found.failed.items()}
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path.name} is no progress of a run", "Run the same command again") from error
    return replace(found, workers=workers, failed=failed)


class Board:
    """Keeps the tables and the progress of a run true while its cases are done.

    Args:
        folder: of the run.
        tissues: all that a case might be asked for.
        shard: of the run.
    """

    def __init__(self, folder: Path, tissues: TissueTable, shard: tuple[int, int]) -> None:
        self._folder, self._tissues = folder, tissues
        self._file = folder / shard_file_name("progress", shard)
        self._failed: dict[str, str] = {}
        self._now = Progress(0, failed=self._failed)
        self._tables_due_s = self._file_due_s = 0.0

    @contextmanager
    def open(self, planned: int) -> Iterator[None]:
        """Tables and progress are there from the beginning; the progress goes when the run has written all else, and
        stays when it is stopped.

        Raises:
            EnvironmentFault: the disk fails.
        """
        self._now = replace(self._now, planned=planned, started_s=time.time())
        self._write_tables()
        self._tell()
        try:
            yield
        except BaseException:
            self._now = replace(self._now, is_stopped=True)
            with suppress(EnvironmentFault):  # what stopped the run is what matters
                self._tell()
            raise
        remove_file(self._file)

    def note(self, outcome: SeriesOutcome, workers: Workers) -> None:
        """One more case is done.

        Raises:
            EnvironmentFault: the disk fails.
        """
        now = self._now
        if isinstance(outcome, Failed):
            self._failed[outcome.case] = outcome.reason
        elif outcome.resumed:
            now = replace(now, kept=now.kept + 1)
        else:
            now = replace(now, segmented=now.segmented + 1)
        self._now = replace(now, workers={name: workers.working_on.get(name, ()) for name in workers.names})
        if time.monotonic() >= self._file_due_s:
            self._tell()
        if time.monotonic() >= self._tables_due_s:
            self._write_tables()

    def settle(self) -> None:
        """The tables hold all cases, whoever worked on them.

        Raises:
            EnvironmentFault: the disk fails.
        """
        write_tables(self._folder, self._tissues)

    def event(self, outcome: SeriesOutcome) -> dict[str, object]:
        """What a case's end is for machines."""
        state = "failed" if isinstance(outcome, Failed) else "kept" if outcome.resumed else "segmented"
        reason = {"reason": outcome.reason} if isinstance(outcome, Failed) else {}
        return {
            "event": "case",
            "case": outcome.case,
            "state": state,
            **reason,
            "done": self._now.done,
            "of": self._now.planned,
        }

    def _tell(self) -> None:
        self._now = replace(self._now, updated_s=time.time())
        write_json(self._file, asdict(self._now))
        self._file_due_s = time.monotonic() + _TELL_EVERY_S

    def _write_tables(self) -> None:
        began = time.monotonic()
        write_tables(self._folder, self._tissues, is_last=False)
        ended = time.monotonic()
        self._tables_due_s = ended + _TIMES_LONGER * (ended - began)
