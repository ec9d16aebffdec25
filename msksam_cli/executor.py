"""Work on many cases: one after another in this process, or spread over the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

HERE = "here"
"""The one worker of an executor that uses no other process."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ahead(Generic[Item]):
    """Something done with an item before its work, that leaves what it finds in a cache for the work to find.

    Attributes:
        do: with an item; where it fails, the work does it again and says why.
        on_gpu: whether it is for a worker with a GPU, or for one without.
    """

    do: Callable[[Item], object]
    on_gpu: bool


@dataclass(frozen=True)
class Work(Generic[Item, Result]):
    """What is done with every item; all of it can be sent to another process.

    Attributes:
        do: an item to its result. What it raises is a fault of the machine (`EnvironmentFault` and its like: the item
            is tried elsewhere) or ends the run.
        name_of: an item to its name, of which there is one of each.
        ahead: done before, one after another, where some workers have a GPU and others not.
    """

    do: Callable[[Item], Result]
    name_of: Callable[[Item], str]
    ahead: tuple[Ahead[Item], ...] = ()


@dataclass(frozen=True)
class Lost:
    """Instead of a result: nothing came of an item on any worker, and why."""

    reason: str


@dataclass(frozen=True)
class Workers:
    """Workers that can be used.

    Attributes:
        names: of all of them.
        working_on: worker → the names of the items it is at.
    """

    names: tuple[str, ...]
    working_on: Mapping[str, tuple[str, ...]]


class Executor(Protocol):
    """Where work is done."""

    @property
    def is_split(self) -> bool:
        """Whether some workers have a GPU and others not, so that `Work.ahead` is done."""

    def everywhere(self, ask: Callable[[], Result], *, on_gpu: bool = False) -> Mapping[str, Result]:
        """Worker → answer of every worker that is there now; where workers are split, of those of one kind.

        Raises:
            EnvironmentFault: a worker cannot answer.
        """

    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | Lost]]:
        """Every item with its result, in the order in which they are done.

        Raises:
            EnvironmentFault: the machine fails, here or on every worker.
        """

    def workers(self) -> Workers:
        """Who is there and at what."""


class LocalExecutor:
    """An `Executor` of this process alone: items in their order."""

    def __init__(self) -> None:
        self._now: tuple[str, ...] = ()

    @property
    def is_split(self) -> bool:
        """There is one worker."""
        return False

    def everywhere(self, ask: Callable[[], Result], *, on_gpu: bool = False) -> Mapping[str, Result]:
        """The answer of this process."""
        del on_gpu
        return {HERE: ask()}

    def run(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result | Lost]]:
        """Every item with its result; what is raised ends the run."""
        for item in items:
            self._now = (work.name_of(item),)
            try:
                result = work.do(item)
            finally:
                self._now = ()
            yield item, result

    def workers(self) -> Workers:
        """This process."""
        return Workers((HERE,), {HERE: self._now})
