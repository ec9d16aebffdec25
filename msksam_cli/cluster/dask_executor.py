"""An `Executor` over the workers of a dask scheduler.

Each worker is given one task at a time, so that when a worker dies it is known which item it was at, and no more items
are underway than workers are there. Records and caches on disk hold all results; what goes through the scheduler is an
item's names and paths, and its rows of tables.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic

from distributed import Client, Future, KilledWorker, Scheduler, get_worker

from msksam_cli.errors import EnvironmentFault, MsksamError
from msksam_cli.executor import Item, Lost, Result, Work, Workers

DEATHS_ALLOWED = 1
"""An item that has ended its worker more often than this is given up."""

FAULTS_ALLOWED = 2
"""A fault that as many and one more workers report of an item is the run's own, such as a full disk they share."""

GPU = "GPU"
"""The dask resource that a worker with a GPU has one of."""

_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class _Member:
    """A worker as the scheduler sees it."""

    name: str
    has_gpu: bool
    tasks: tuple[object, ...]


Roster = Mapping[str, _Member]


@dataclass(frozen=True)
class _Reply(Generic[Result]):
    """What a worker says of a task: a result, or the fault of its machine."""

    worker: str
    result: Result | None = None
    fault: str = ""


@dataclass(frozen=True, eq=False)
class _Task(Generic[Item]):
    """A step of an item's work, and how often it went wrong before."""

    item: Item
    number: int
    step: int = 0
    deaths: int = 0
    faults: tuple[str, ...] = ()


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
    """An `Executor` over a dask client's workers.

    Args:
        client: connected to a scheduler whose Python has msksam installed.
        patience_s: how long it may last that no worker is there.
    """

    def __init__(self, client: Client, patience_s: float) -> None:
        self._client = client
        self._patience_s = patience_s
        self._names: dict[object, str] = {}
        self._on_scheduler(_count_every_death)
        self._roster: Roster = self._on_scheduler(_roster)
        self._looked_at = self._seen_at = time.monotonic()
        self._is_split = len({member.has_gpu for member in self._roster.values()}) == 2

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
        answers: dict[str, Any] = self._client.run(ask, workers=asked, on_error="return") if asked else {}
        for address, answer in answers.items():
            if isinstance(answer, MsksamError):
                raise type(answer)(f"worker {self._name(address)}: {answer.message}", answer.hint)
            if isinstance(answer, Exception):
                raise EnvironmentFault(f"worker {self._name(address)} cannot be used ({type(answer).__name__})")
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
        """
        steps, token = _Steps(work, is_split=self._is_split), uuid.uuid4().hex[:8]
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
                self._look_when_due()
                try:
                    future = finished.get(timeout=_LOOK_AGAIN_S)
                except queue.Empty:
                    continue
                task = underway.pop(future)
                self._names.pop(future.key, None)
                outcome = self._outcome(future, task, steps)
                if isinstance(outcome, _Task):
                    turns.put(outcome)
                else:
                    yield task.item, outcome
        finally:
            if underway and self._client.status == "running":
                self._client.cancel(list(underway), force=True)

    def _submit(self, steps: _Steps[Item, Any], task: _Task[Item], token: str, name: str) -> Future:
        """Give a task to the scheduler; it goes to a worker of its kind that has none."""
        on_gpu = steps.on_gpu[task.step]
        key = (f"step{task.step}", token, task.number, task.deaths, len(task.faults))
        self._names[key] = name
        wanted = [address for address in self._roster if self._takes(address, on_gpu)] if self._is_split else None
        return self._client.submit(
            _attempt,
            steps.functions[task.step],
            task.item,
            key=key,
            workers=None if on_gpu else wanted,
            allow_other_workers=not on_gpu and wanted is not None,
            resources={GPU: 1} if on_gpu else None,
            pure=False,
        )

    def _outcome(self, future: Future, task: _Task[Item], steps: _Steps[Item, Any]) -> Any:
        """The result of a task that has ended, or the task that is to be done next for its item."""
        if future.status == "finished":
            reply: _Reply[Any] = future.result()
            if reply.fault:
                return self._faulted(reply, task, on_gpu=steps.on_gpu[task.step])
            return reply.result if steps.is_last(task) else replace(task, step=task.step + 1)
        if future.status != "error":
            raise _gone()
        error = future.exception()
        if not isinstance(error, KilledWorker):
            if steps.is_last(task):
                raise error
            return replace(task, step=task.step + 1)
        self._look()
        deaths = task.deaths + 1
        if deaths <= DEATHS_ALLOWED:
            return replace(task, deaths=deaths)
        return Lost(
            f"it ended its worker {deaths} times, last on {error.last_worker.name}; too little memory, or a crash in a "
            "library. See the workers' logs"
        )

    def _faulted(self, reply: _Reply[Any], task: _Task[Item], *, on_gpu: bool) -> _Task[Item]:
        """The task once more, for another worker: the one whose machine failed gets nothing any more.

        Raises:
            EnvironmentFault: it is not the machine of one worker that fails.
        """
        faults = (*task.faults, f"{self._name(reply.worker)}: {reply.fault}")
        self._client.retire_workers([reply.worker])
        self._look()
        if len(faults) > FAULTS_ALLOWED or not any(self._takes(address, on_gpu) for address in self._roster):
            raise EnvironmentFault("; ".join(faults), "What is done is kept: run the same command again")
        return replace(task, faults=faults)

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

    def _look_when_due(self) -> None:
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_S:
            self._look()

    def _look(self) -> None:
        """Ask the scheduler who is there.

        Raises:
            EnvironmentFault: the scheduler is gone, or no worker has been there for too long.
        """
        self._roster = self._on_scheduler(_roster)
        now = self._looked_at = time.monotonic()
        if all(any(self._takes(address, kind) for address in self._roster) for kind in (False, True)):
            self._seen_at = now
        elif now - self._seen_at > self._patience_s:
            kind = " with and without a GPU" if self._is_split else ""
            raise EnvironmentFault(
                f"no workers{kind} have been there for {self._patience_s:.0f} s",
                "Start workers and run the same command again; what is done is kept",
            )

    def _on_scheduler(self, ask: Callable[..., Any]) -> Any:
        if self._client.status != "running":
            raise _gone()
        try:
            return self._client.run_on_scheduler(ask)
        except (OSError, TimeoutError) as error:
            raise _gone() from error


def _gone() -> EnvironmentFault:
    return EnvironmentFault("the scheduler is gone", "Start it again and run the same command; what is done is kept")


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
    """On a worker: the result of a task, or the fault of this machine; other errors are the run's."""
    address = get_worker().address
    try:
        return _Reply(address, function(item))
    except MsksamError as error:
        if error.exit_code != EnvironmentFault.exit_code:
            raise
        return _Reply(address, fault=str(error))


def _roster(dask_scheduler: Scheduler) -> dict[str, _Member]:
    """On the scheduler: its workers and what they are at."""
    return {
        address: _Member(
            f"{state.host}/{state.name}", bool(state.resources.get(GPU)), tuple(t.key for t in state.processing)
        )
        for address, state in dask_scheduler.workers.items()
        if state.status.name == "running"
    }


def _count_every_death(dask_scheduler: Scheduler) -> None:
    """On the scheduler: report a task whose worker dies at once, rather than try it again unasked."""
    dask_scheduler.allowed_failures = 0
