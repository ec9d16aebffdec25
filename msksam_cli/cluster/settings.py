"""What a cluster file says: which workers, how many, how large."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from msksam_cli.core.cores import cores
from msksam_cli.errors import UsageError

Kind = Literal["local", "ssh", "slurm"]


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster to be started for one run and ended with it.

    Attributes:
        kind: "local" processes, processes on hosts by "ssh", or jobs of "slurm".
        workers: processes that work on a case each; None for as many as this machine's cores allow, or one a host.
        cores: threads that each may use; None to share a machine's cores among its workers.
        memory_gb: of each worker, above which it is ended; None for its share of this machine, no bound by ssh; needed
            by slurm.
        gpus: 1 when every worker has a GPU of its own, else 0.
        hosts: names of the machines, for ssh.
        walltime_minutes: of each job, for slurm.
        case_minutes: how long a case may take: a job begins none that might outlast its walltime.
        job_options: further lines for `#SBATCH`, such as "--partition=gpu".
        prologue: lines of shell that a job begins with, such as "source venv/bin/activate".
        network_interface: over which workers talk, such as "ib0"; "" for the default.
        wait_minutes: how long the first worker is waited for.
    """

    kind: Kind = "local"
    workers: int | None = None
    cores: int | None = None
    memory_gb: float | None = None
    gpus: int = 0
    hosts: tuple[str, ...] = ()
    walltime_minutes: int = 60
    case_minutes: int = 10
    job_options: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    network_interface: str = ""
    wait_minutes: float = 60.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"unknown kind of cluster {self.kind!r}", f"Use {', '.join(get_args(Kind))}")
        for name in ("workers", "cores", "memory_gb", "walltime_minutes", "case_minutes", "wait_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} is {value} in the cluster file", "Use a number above 0")
        if self.gpus not in (0, 1):
            raise UsageError(f"gpus is {self.gpus} in the cluster file", "Use 1 for a GPU of each worker, or 0")
        if self.kind == "ssh" and not self.hosts:
            raise UsageError("a cluster by ssh names no hosts", 'Write hosts = ["first", "second"]')
        if self.gpus and self.kind != "slurm" and self.worker_count > max(len(self.hosts), 1):
            raise UsageError("several workers would share a machine's first GPU", "Start them yourself: --scheduler")
        if self.case_minutes >= self.walltime_minutes:
            raise UsageError(
                f"a job of {self.walltime_minutes} minutes has no time for a case of {self.case_minutes}",
                "Raise walltime_minutes",
            )
        if self.kind == "slurm" and self.memory_gb is None:
            raise UsageError("a cluster of slurm jobs names no memory", "Write memory_gb = 8, or what a case needs")

    @property
    def worker_count(self) -> int:
        """How many workers there are to be; locally two cores each unless told otherwise."""
        if self.workers:
            return self.workers
        return len(self.hosts) if self.kind == "ssh" else max(cores() // (self.cores or 2), 1)

    @property
    def worker_cores(self) -> int:
        """How many threads a worker may use."""
        if self.cores:
            return self.cores
        return max(cores() // self.worker_count, 1) if self.kind == "local" else cores()


_LISTS = {"hosts", "job_options", "prologue"}
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "kind": str,
    "workers": int,
    "cores": int,
    "memory_gb": (int, float),
    "gpus": int,
    "walltime_minutes": int,
    "case_minutes": int,
    "network_interface": str,
    "wait_minutes": (int, float),
}


def read_settings(path: Path) -> ClusterSettings:
    """The cluster a TOML file describes.

    Raises:
        UsageError: no such file, not TOML, an unknown key, or a value of another kind.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read ({type(error).__name__})", "Check --cluster") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name} is not TOML ({error})", "Mend it; usage.md shows one") from error
    known = {one.name for one in fields(ClusterSettings)}
    if unknown := sorted(set(content) - known):
        raise UsageError(f"{path.name} has unknown keys: {', '.join(unknown)}", f"Use {', '.join(sorted(known))}")
    return ClusterSettings(**{name: _checked(path.name, name, value) for name, value in content.items()})


def _checked(file: str, name: str, value: object) -> Any:
    if name in _LISTS:
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise UsageError(f"{name} in {file} is no list of texts", f'Write {name} = ["…"]')
    if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
        raise UsageError(f"{name} in {file} is {value!r}", "Give it a value of the kind usage.md shows")
    return value
