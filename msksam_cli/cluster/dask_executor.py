"""An `Executor` over the workers of a dask scheduler.

Each worker is given one task at a time, so that when a worker dies it is known which item it was at, and no more items
are underway than workers are there. Records and caches on disk hold all results; what goes through the scheduler is an
item's names and paths, and its rows of tables.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from distributed import Client, Future, KilledWorker, Scheduler, get_worker
from distributed.client import ClosedClientError, FutureCancelledError

from msksam_cli.errors import EnvironmentFault, MsksamError, UnlikeOthers
from msksam_cli.executor import Item, Lost, Result, Work, Workers

DEATHS_ALLOWED = 1
"""An item that has ended its worker more often than this is given up."""

FAULTS_ALLOWED = 2
"""A fault that as many and one more workers report of an item is the run's own, such as a full disk they share."""

GPU = "GPU"
"""The dask resource that a worker with a GPU has one of."""

UNTIL_VARIABLE = "MSKSAM_WORKER_UNTIL"
"""Environment variable of a worker: seconds since 1970 after which it begins nothing."""

_LOOK_AGAIN_S = 1.0
_GATHER_S = 60.0
_SETTLED_S = 3.0
_LOST_CONNECTION = (OSError, TimeoutError, ClosedClientError, FutureCancelledError)


@dataclass(frozen=True)
class _Member:
    """A worker as the scheduler sees it."""

    name: str
    has_gpu: bool
    tasks: tuple[object, ...]


Roster = Mapping[str, _Member]


@dataclass(frozen=True)
class _Reply(Generic[Result]):
    """What a worker says of a task.

    Attributes:
        worker: its address.
        result: of the task, where nothing else is said.
        fault: of its machine.
        is_unfit: whether it takes no tasks of this run, for the reason in `fault` and through no fault of the item.
        error: that ends the run: what the work raised, or where it has a bug.
    """

    worker: str
    result: Result | None = None
    fault: str = ""
    is_unfit: bool = False
    error: MsksamError | str | None = None


@dataclass(frozen=True, eq=False)
class _Task(Generic[Item]):
    """A step of an item's work, and how often it went wrong before.

    Attributes:
        item: what is worked on.
        number: of the item.
        step: of its work.
        tries: how often a worker was given it.
        deaths: how many workers ended with it.
        faults: of workers' machines while they were at it.
        done_before: how many items were done when the first of these was told.
    """

    item: Item
    number: int
    step: int = 0
    tries: int = 0
    deaths: int = 0
    faults: tuple[str, ...] = ()
    done_before: int = 0


class _Steps(Generic[Item, Result]):
    """The steps of a work in order, and who takes them.

    Args:
        work: what is done.
        is_split: whether what is ahead of it is done.
    """

    def __init__(self, work: Work[Item, Result], *, is_split: bool) -> None:
        ahead = work.ahead if is_split else ()
        self.functions: tuple[Callable[[Item], Any], ...] = (*(one.do for one in ahead), work.do)
        self.on_gpu = (*(one.on_gpu for one in ahead), False)

    def is_last(self, task: _Task[Item]) -> bool:
        """Whether a task is the work itself."""
        return task.step == len(self.functions) - 1


class DaskExecutor:
    """An `Executor` over a dask client's workers; to be closed.

    Args:
        client: connected to a scheduler whose Python has msksam installed.
        patience_s: how long it may last that no worker is there that is needed.
        is_queued: whether workers that go are followed by others.
    """

    def __init__(self, client: Client, patience_s: float, *, is_queued: bool = False) -> None:
        self._client = client
        self._patience_s = patience_s
        self._is_queued = is_queued
        self._names: dict[object, str] = {}
        self._last_fault = ""
        self._deaths_before: int = self._asked(lambda: client.run_on_scheduler(_allow_deaths, deaths=0))
        self._is_split = False
        self._needed = frozenset({False})
        self._roster = self._settled_roster()
        self._looked_at = self._seen_at = time.monotonic()
        self._is_split = len({member.has_gpu for member in self._roster.values()}) == 2

    def close(self) -> None:
        """Leave the scheduler as it was."""
        if self._client.status == "running":
            with contextlib.suppress(*_LOST_CONNECTION):
                self._client.run_on_scheduler(_allow_deaths, deaths=self._deaths_before)

    @property
    def is_split(self) -> bool:
        """Whether some workers had a GPU and others not when the run began."""
        return self._is_split

    def everywhere(self, ask: Callable[[], Result], *, on_gpu: bool = False) -> Mapping[str, Result]:
        """Worker → answer of every worker that is there now; where workers are split, of those of one kind.

        Raises:
            EnvironmentFault: a worker cannot answer, or none is there.
        """
        self._look()
        asked = [address for address in self._roster if self._takes(address, on_gpu)]
        if not asked:
            raise EnvironmentFault("no worker is there", "Start workers and run the same command again")
        answers: dict[str, Any] = self._asked(lambda: self._client.run(ask, workers=asked, on_error="return"))
        for address, answer in answers.items():
            if isinstance(answer, MsksamError):
                raise type(answer)(f"worker {self._name(address)}: {answer.message}", answer.hint)
            if isinstance(answer, Exception):
                raise EnvironmentFault(
                    f"worker {self._name(address)} cannot be used ({type(answer).__name__})", "Look at its log"
                )
        return {self._name(address): answer for address, answer in answers.items()}

    def workers(self) -> Workers:
        """Who is there and at what, as of a second ago."""
        at = {
            member.name: tuple(self._names[task] for task in member.tasks if task in self._names)
            for member in self._roster.values()
        }
        return Workers(tuple(sorted(at)), at)

    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | Lost]]:
        """Every item with its result, in the order in which they are done.

        Raises:
            EnvironmentFault: the scheduler is gone, no worker is left, or the machines fail.
            RuntimeError: the work has a bug; says where.
        """
        steps, token, done = _Steps(work, is_split=self._is_split), uuid.uuid4().hex[:8], 0
        turns = _Turns(items, steps.on_gpu)
        finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        underway: dict[Future, _Task[Item]] = {}
        self._names.clear()
        try:
            while True:
                free = self._free(steps.on_gpu[task.step] for task in underway.values())
                for task in turns.due(free, most_waiting=len(self._roster)):
                    future = self._submit(steps, task, token, work.name_of(task.item))
                    underway[future] = task
                    future.add_done_callback(finished.put)
                if not underway and turns.is_empty:
                    return
                self._needed = frozenset({steps.on_gpu[task.step] for task in underway.values()} | turns.kinds)
                if time.monotonic() - self._looked_at >= _LOOK_AGAIN_S:
                    self._look()
                try:
                    future = finished.get(timeout=_LOOK_AGAIN_S)
                except queue.Empty:
                    continue
                outcome = self._outcome(future, underway[future], steps, done)
                if outcome is None:  # its worker died with the result, and another makes it again
                    future.add_done_callback(finished.put)
                    continue
                task = underway.pop(future)
                self._names.pop(future.key, None)
                if isinstance(outcome, _Task):
                    turns.put(outcome)
                else:
                    done += 1
                    yield task.item, outcome
        finally:
            self._needed = frozenset({False})
            if underway and self._client.status == "running":
                with contextlib.suppress(*_LOST_CONNECTION):
                    self._client.cancel(list(underway), force=True)

    def _submit(self, steps: _Steps[Item, Any], task: _Task[Item], token: str, name: str) -> Future:
        """Give a task to the scheduler; it goes to a worker of its kind that has none."""
        on_gpu = steps.on_gpu[task.step]
        key = (f"step{task.step}", token, task.number, task.tries)
        self._names[key] = name
        wanted = [address for address in self._roster if self._takes(address, on_gpu)] if self._is_split else None
        return self._asked(
            lambda: self._client.submit(
                _attempt,
                steps.functions[task.step],
                task.item,
                key=key,
                workers=None if on_gpu else wanted,
                allow_other_workers=not on_gpu and wanted is not None,
                resources={GPU: 1} if on_gpu else None,
                pure=False,
            )
        )

    def _outcome(self, future: Future, task: _Task[Item], steps: _Steps[Item, Any], done: int) -> Any:
        """The result of a task that has ended, or the task to be done next for its item; None while it is not known."""
        if future.status == "error":
            return self._died(self._asked(future.exception), task)
        if future.status == "cancelled" or self._client.status != "running":
            raise _gone()
        try:
            reply: _Reply[Any] = self._asked(lambda: future.result(timeout=_GATHER_S), but=TimeoutError)
        except TimeoutError:
            return None
        is_last = steps.is_last(task)
        if reply.fault:
            return self._faulted(reply, task, on_gpu=steps.on_gpu[task.step], done=done)
        if reply.error is not None and is_last:
            if isinstance(reply.error, MsksamError):
                raise reply.error
            raise RuntimeError(f"on worker {self._name(reply.worker)}: {reply.error}")
        return reply.result if is_last else replace(task, step=task.step + 1, tries=0)

    def _died(self, error: BaseException | None, task: _Task[Item]) -> _Task[Item] | Lost:
        """What becomes of a task whose worker has died."""
        if not isinstance(error, KilledWorker):
            return Lost(f"it cannot be sent to a worker and back ({type(error).__name__})")
        self._look()
        deaths = task.deaths + 1
        if deaths <= DEATHS_ALLOWED:
            return replace(task, deaths=deaths, tries=task.tries + 1)
        return Lost(
            f"it ended its worker {deaths} times, last on {error.last_worker.name}; too little memory or time, or a "
            "crash in a library. See the workers' logs"
        )

    def _faulted(self, reply: _Reply[Any], task: _Task[Item], *, on_gpu: bool, done: int) -> _Task[Item] | Lost:
        """The task once more, for another worker: the one that is unfit or whose machine failed gets nothing any more.

        Raises:
            EnvironmentFault: it is not the machine of one worker that fails.
        """
        self._last_fault = f"{self._name(reply.worker)}: {reply.fault}"
        self._asked(lambda: self._client.retire_workers([reply.worker]))
        self._look()
        again = replace(task, tries=task.tries + 1)
        if not reply.is_unfit:
            before = task.done_before if task.faults else done
            again = replace(again, faults=(*task.faults, self._last_fault), done_before=before)
        is_everywhere = len(again.faults) > FAULTS_ALLOWED
        if is_everywhere and done > again.done_before:
            return Lost("; ".join(again.faults))  # others were done meanwhile
        is_last_worker = not self._is_queued and not any(self._takes(one, on_gpu) for one in self._roster)
        if is_everywhere or is_last_worker:
            raise EnvironmentFault("; ".join(again.faults) or self._last_fault, _HINT)
        return again

    def _takes(self, address: str, on_gpu: bool) -> bool:
        """Whether a worker is for tasks of a kind."""
        return not self._is_split or self._roster[address].has_gpu == on_gpu

    def _free(self, underway: Iterable[bool]) -> tuple[int, int]:
        """How many more tasks the workers can take, and how many more those with a GPU where they are split."""
        taken = Counter(underway)
        there = Counter(self._is_split and member.has_gpu for member in self._roster.values())
        return there[False] - taken[False], there[True] - taken[True]

    def _name(self, address: str) -> str:
        return self._roster[address].name if address in self._roster else address

    def _settled_roster(self) -> Roster:
        """The workers that are there once no more have come for some seconds."""
        roster, since = self._asked(lambda: self._client.run_on_scheduler(_roster)), time.monotonic()
        while time.monotonic() - since < _SETTLED_S:
            time.sleep(_LOOK_AGAIN_S / 2)
            now = self._asked(lambda: self._client.run_on_scheduler(_roster))
            since = since if set(now) == set(roster) else time.monotonic()
            roster = now
        found: Roster = roster
        return found

    def _look(self) -> None:
        """Ask the scheduler who is there.

        Raises:
            EnvironmentFault: the scheduler is gone, or no worker that is needed has been there for too long.
        """
        self._roster = self._asked(lambda: self._client.run_on_scheduler(_roster))
        now = self._looked_at = time.monotonic()
        if all(any(self._takes(address, kind) for address in self._roster) for kind in self._needed):
            self._seen_at = now
        elif now - self._seen_at > self._patience_s:
            kind = " with and without a GPU" if self._is_split else ""
            last = f"; the last to go was {self._last_fault}" if self._last_fault else ""
            raise EnvironmentFault(f"no workers{kind} have been there for {self._patience_s:.0f} s{last}", _HINT)

    def _asked(self, call: Callable[[], Any], but: type[Exception] | tuple[()] = ()) -> Any:
        """What a call to the scheduler gives.

        Raises:
            EnvironmentFault: the scheduler is gone.
        """
        if self._client.status != "running":
            raise _gone()
        try:
            return call()
        except but:
            raise
        except _LOST_CONNECTION as error:
            raise _gone() from error


_HINT = "Run the same command again when that is mended; cases that have their labels keep them"


def _gone() -> EnvironmentFault:
    return EnvironmentFault(
        "the scheduler is gone", "Start it again and run the same command; cases that have their labels keep them"
    )


class _Turns(Generic[Item]):
    """Which task is next: the one that has come furthest, then a new item.

    Args:
        items: in the order in which they are begun.
        on_gpu: of each step.
    """

    def __init__(self, items: Iterable[Item], on_gpu: tuple[bool, ...]) -> None:
        self._source = enumerate(items)
        self._next = next(self._source, None)
        self._on_gpu = on_gpu
        self._waiting: list[_Task[Item]] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to begin."""
        return self._next is None and not self._waiting

    @property
    def kinds(self) -> set[bool]:
        """Of the steps that are still to be done."""
        left = {kind for task in self._waiting for kind in self._on_gpu[task.step :]}
        return left | (set(self._on_gpu) if self._next is not None else set())

    def put(self, task: _Task[Item]) -> None:
        """Let a task have a turn."""
        self._waiting.append(task)

    def due(self, free: tuple[int, int], most_waiting: int) -> Iterator[_Task[Item]]:
        """The tasks that workers take now.

        Args:
            free: workers that are free, and of those that are for steps on a GPU.
            most_waiting: no item is begun while as many wait between two steps, so that no more lies in the cache
                than is soon used.
        """
        for kind in (False, True):
            for _ in range(free[kind]):
                task = self._furthest(kind) or (self._new(kind) if len(self._waiting) < most_waiting else None)
                if task is None:
                    break
                yield task

    def _furthest(self, kind: bool) -> _Task[Item] | None:
        found = [task for task in self._waiting if self._on_gpu[task.step] == kind]
        if not found:
            return None
        task = max(found, key=lambda one: (one.step, -one.number))
        self._waiting.remove(task)
        return task

    def _new(self, kind: bool) -> _Task[Item] | None:
        if self._next is None or self._on_gpu[0] != kind:
            return None
        number, item = self._next
        self._next = next(self._source, None)
        return _Task(item, number)


def _attempt(function: Callable[[Item], Result], item: Item) -> _Reply[Result]:
    """On a worker: what comes of a task. Nothing is raised: dask would write it and the item's paths into its log."""
    address, until = get_worker().address, os.environ.get(UNTIL_VARIABLE, "")
    if until and time.time() > float(until):
        return _Reply(address, fault="its time is up", is_unfit=True)
    try:
        return _Reply(address, function(item))
    except UnlikeOthers as error:
        return _Reply(address, fault=str(error), is_unfit=True)
    except MsksamError as error:
        if error.exit_code == EnvironmentFault.exit_code:
            return _Reply(address, fault=str(error))
        return _Reply(address, error=error)
    except Exception as error:  # noqa: BLE001  # the worker's boundary; the text may hold patient data and stays here
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _Reply(address, error=f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}")


def _roster(dask_scheduler: Scheduler) -> dict[str, _Member]:
    """On the scheduler: its workers that take tasks or are at one, and what they are at."""
    return {
        address: _Member(
            f"{state.host}/{state.name}" if state.name != address else address.partition("://")[2],
            bool(state.resources.get(GPU)),
            tuple(task.key for task in state.processing),
        )
        for address, state in dask_scheduler.workers.items()
        if state.status.name == "running" or (state.status.name == "paused" and state.processing)
    }


def _allow_deaths(dask_scheduler: Scheduler, deaths: int) -> int:
    """On the scheduler: how many workers a task may end before it is reported; returns how many before."""
    before = int(dask_scheduler.allowed_failures)
    dask_scheduler.allowed_failures = deaths
    return before
