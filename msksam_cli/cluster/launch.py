"""Workers to run on: of a scheduler that is there already, or started for one run and ended with it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, LocalCluster, SSHCluster
from distributed.system import MEMORY_LIMIT

from msksam_cli.cluster.dask_executor import GPU, UNTIL_VARIABLE, DaskExecutor
from msksam_cli.cluster.settings import ClusterSettings
from msksam_cli.core.cores import CORES_VARIABLE
from msksam_cli.errors import EnvironmentFault, UsageError

PATIENCE_S = 120.0
"""How long no worker need be there before a run ends, where none are queued for."""

LOG_FOLDER = "slurm-logs"
"""Where jobs of slurm find their certificates and write what their workers say, in the working directory."""

_CONFIG = {"distributed.scheduler.allowed-failures": 0, "distributed.admin.tick.limit": "1 minute"}
"""An item whose worker dies comes back at once; that a worker keeps its loop waiting to load a model is no news."""

_LIBRARY_CORES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
"""dask would have a worker give back all it frees at once; keeping it saves a tenth of the time."""


@contextmanager
def dask_executor(scheduler: str = "", settings: ClusterSettings | None = None) -> Iterator[DaskExecutor]:
    """An executor over the workers of a scheduler, or over a cluster that lives as long as the context.

    Args:
        scheduler: address of a dask scheduler, "" to start a cluster.
        settings: of the cluster to be started; None for processes on this machine.

    Raises:
        UsageError: there is no such address.
        EnvironmentFault: the scheduler or its first worker does not answer, or the cluster cannot be started.
    """
    settings = settings or ClusterSettings()
    before_start = {"distributed.nanny.pre-spawn-environ": _libraries(settings)}
    with dask.config.set(_CONFIG | before_start), _quiet(), _own_environment():
        if scheduler:
            with _client(scheduler) as client, closing(_executor(client, settings, 1)) as executor:
                yield executor
            return
        least = 1 if settings.kind == "slurm" else settings.worker_count
        with (
            _cluster(settings) as cluster,
            _client(cluster) as client,
            closing(_executor(client, settings, least)) as executor,
        ):
            yield executor


@contextmanager
def _own_environment() -> Iterator[None]:
    """Take back what dask writes into this process's environment for its children to inherit."""
    before = {name: os.environ.get(name) for name in (*_LIBRARY_CORES, *_KEEP_MEMORY)}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Let dask say nothing here: what goes wrong comes back as a result or an error."""
    logger = logging.getLogger("distributed")
    before, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = before


def _executor(client: Client, settings: ClusterSettings, least: int) -> DaskExecutor:
    try:
        client.wait_for_workers(least, timeout=settings.wait_minutes * 60)
    except TimeoutError as error:
        raise EnvironmentFault(
            f"fewer than {least} workers in {settings.wait_minutes:g} minutes", "Look at the workers' logs"
        ) from error
    is_queued = settings.kind == "slurm"
    return DaskExecutor(client, settings.wait_minutes * 60 if is_queued else PATIENCE_S, is_queued=is_queued)


def _client(where: Any) -> Client:
    try:
        return Client(where, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"{where!r} is no address of a scheduler", "Write it as tcp://host:8786") from error
    except (OSError, TimeoutError) as error:
        raise EnvironmentFault(f"no scheduler answers at {where}", "Start one with dask scheduler") from error


def _cluster(settings: ClusterSettings) -> Any:
    """The cluster that settings describe, started.

    Raises:
        EnvironmentFault: it cannot be started.
    """
    start = {"local": _local, "ssh": _ssh, "slurm": _slurm}[settings.kind]
    try:
        return start(settings)
    except (OSError, RuntimeError, TimeoutError, ImportError) as error:
        raise EnvironmentFault(
            f"the {settings.kind} cluster cannot be started ({type(error).__name__}: {error})", "Check the cluster file"
        ) from error


def _worker(settings: ClusterSettings) -> dict[str, Any]:
    """Options of a worker that takes one task at a time."""
    share = MEMORY_LIMIT // settings.worker_count if settings.kind == "local" else 0
    memory = int(settings.memory_gb * 1e9) if settings.memory_gb else share
    return {"nthreads": 1, "memory_limit": memory, "resources": {GPU: 1} if settings.gpus else {}}


def _local(settings: ClusterSettings) -> Any:
    worker = _worker(settings)
    return LocalCluster(
        n_workers=settings.worker_count,
        threads_per_worker=worker.pop("nthreads"),
        processes=True,
        env=_environment(settings),
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
        **worker,
    )


def _ssh(settings: ClusterSettings) -> Any:
    """Workers spread over the hosts; the scheduler is on the first."""
    hosts = [settings.hosts[number % len(settings.hosts)] for number in range(settings.worker_count)]
    return SSHCluster(
        [settings.hosts[0], *hosts],
        worker_options=_worker(settings) | {"env": _environment(settings)},
        scheduler_options={"dashboard": False} | _interface(settings),
        remote_python=sys.executable,
    )


def _slurm(settings: ClusterSettings) -> Any:
    """Jobs of one worker each; one that ends is followed by another as long as the run lasts.

    They and the scheduler talk by TLS, with certificates made for the run that only the user can read.
    """
    from dask_jobqueue import SLURMCluster

    Path(LOG_FOLDER).mkdir(mode=0o700, exist_ok=True)
    lasts_s = (settings.walltime_minutes - settings.case_minutes) * 60
    told = _environment(settings) | _libraries(settings)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in told.items()]
    gpu = ["--resources", f"{GPU}=1"] if settings.gpus else []
    cluster = SLURMCluster(
        cores=1,
        processes=1,
        job_cpu=settings.worker_cores,
        memory=f"{settings.memory_gb}GB",
        walltime=f"{settings.walltime_minutes // 60:02d}:{settings.walltime_minutes % 60:02d}:00",
        job_extra_directives=list(settings.job_options),
        job_script_prologue=[*exports, f"export {UNTIL_VARIABLE}=$(( $(date +%s) + {lasts_s} ))", *settings.prologue],
        worker_extra_args=gpu,
        log_directory=LOG_FOLDER,
        security=True,
        protocol="tls",
        shared_temp_directory=LOG_FOLDER,
        python=sys.executable,
        scheduler_options={"dashboard": False},
        **_interface(settings),
    )
    cluster.adapt(minimum_jobs=settings.worker_count, maximum_jobs=settings.worker_count)
    return cluster


def _environment(settings: ClusterSettings) -> dict[str, str]:
    """Environment of a worker: its cores, and what this process was told of msksam's folders and network."""
    own = {name: value for name, value in os.environ.items() if name.startswith("MSKSAM_")}
    return own | {CORES_VARIABLE: str(settings.worker_cores)}


def _libraries(settings: ClusterSettings) -> dict[str, str]:
    """What libraries of a worker read when they are loaded; dask would give them one core each."""
    return dict.fromkeys(_LIBRARY_CORES, str(settings.worker_cores)) | _KEEP_MEMORY


def _interface(settings: ClusterSettings) -> dict[str, Any]:
    return {"interface": settings.network_interface} if settings.network_interface else {}
