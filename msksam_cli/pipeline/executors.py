"""Where a command's cases are worked on: in this process, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from msksam_cli.errors import EnvironmentFault, UsageError
from msksam_cli.executor import Executor, Item, LocalExecutor, Lost, Result, Work

EXECUTORS = ("local", "dask")


@dataclass(frozen=True)
class ExecutorOptions:
    """Where cases are worked on.

    Attributes:
        executor: "local" for this process, "dask" for workers.
        scheduler: address of a dask scheduler whose workers are used, "" to start workers.
        cluster: TOML file that says which workers to start; None for processes on this machine.
    """

    executor: str = "local"
    scheduler: str = ""
    cluster: Path | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UsageError(f"unknown executor {self.executor!r}", f"Use {' or '.join(EXECUTORS)}")
        if self.executor == "local" and (self.scheduler or self.cluster):
            raise UsageError("workers are named for a run in this process", "Give --executor dask as well")
        if self.scheduler and self.cluster:
            raise UsageError("--scheduler and --cluster contradict each other", "Give one of them")

    @property
    def is_local(self) -> bool:
        """Whether cases are worked on in this process."""
        return self.executor == "local"


def spread(work: Work[Item, Result], items: Sequence[Item], where: ExecutorOptions, what: str) -> list[Result | Lost]:
    """The result of every item, in their order.

    Args:
        work: what is done with each.
        items: with paths that begin at the root, where other processes work.
        where: they are worked on.
        what: is being done, for a bar.

    Raises:
        EnvironmentFault: the machine fails, here or on every worker.
    """
    found: dict[str, Result | Lost] = {}
    with open_executor(where) as executor:
        for item, result in tqdm(executor.run(work, items), what, len(items), unit="case", disable=None):
            found[work.name_of(item)] = result
    return [found[work.name_of(item)] for item in items]


@contextmanager
def open_executor(options: ExecutorOptions) -> Iterator[Executor]:
    """The executor that options name, for as long as the context lasts.

    Raises:
        UsageError: the cluster file or the address cannot be understood.
        EnvironmentFault: dask is not installed, or no worker answers.
    """
    if options.is_local:
        yield LocalExecutor()
        return
    if find_spec("distributed") is None:
        raise EnvironmentFault("dask is not installed", 'Run pip install "msksam[cluster]"')
    from msksam_cli.cluster.launch import dask_executor
    from msksam_cli.cluster.settings import read_settings

    settings = read_settings(options.cluster) if options.cluster else None
    with dask_executor(options.scheduler, settings) as executor:
        yield executor
