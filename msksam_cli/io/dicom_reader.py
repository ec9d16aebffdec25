"""The user's side of the reading process: start it, ask it, survive it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.cores import cores
from msksam_cli.errors import EnvironmentFault, SeriesError
from msksam_cli.io.dicom_frames import FileHeader

BYTES_PER_VOXEL = 48
_HEADER_MEMORY_BYTES = 512 << 20
_CONVERT_MEMORY_BYTES = 768 << 20
_FILES_PER_WORKER, _MOST_WORKERS = 64, 4


class WorkerDiedError(Exception):
    """The reading process ended in the middle of a request; the text says how, without file content."""


class Worker:
    """A running reading process.

    Raises:
        EnvironmentFault: it does not start.
    """

    def __init__(self) -> None:
        package_root = str(Path(__file__).resolve().parents[2])
        search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH", ""))))
        single_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "msksam_cli.io.dicom_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **single_thread, "PYTHONPATH": search_path},
            start_new_session=True,
        )
        if self._process.stdout is None or not self._process.stdout.readline():
            self.close()
            raise EnvironmentFault("the process that reads DICOM does not start", "Check the installation")

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], IO[bytes]]:
        """Send a request; return the reply, and the stream its raw bytes follow on.

        Raises:
            WorkerDiedError: the process ended before it replied.
        """
        requests, replies = self._process.stdin, self._process.stdout
        if requests is None or replies is None:
            raise ValueError("a worker needs pipes")
        with contextlib.suppress(BrokenPipeError):
            requests.write(json.dumps(request).encode("ascii") + b"\n")
            requests.flush()
        line = replies.readline()
        if not line:
            raise WorkerDiedError(_cause(self._process.wait()))
        return json.loads(line), replies

    def kill(self) -> None:
        """End the process; whoever waits for its reply learns that it died."""
        self._process.kill()

    def close(self) -> None:
        """End the process and its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def read_headers(paths: Sequence[Path]) -> list[FileHeader]:
    """Headers of files, in the order given; a file that kills the reading process is refused and the others go on."""
    workers = max(1, min(_MOST_WORKERS, cores(), len(paths) // _FILES_PER_WORKER))
    if workers == 1:
        return [_read_header(path) for path in paths]
    pool = ThreadPoolExecutor(workers)
    try:
        return list(pool.map(_read_header, paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _read_header(path: Path) -> FileHeader:
    request = {"task": "header", "path": str(path), "memory_bytes": _HEADER_MEMORY_BYTES}
    try:
        with _borrowed_worker() as worker:
            reply, _ = worker.ask(request)
            return FileHeader.from_json(reply)
    except WorkerDiedError as death:
        return FileHeader("refuse", f"reading its header {death}")


def read_voxels(slices: Sequence[tuple[Path, int]], voxel_count: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels (columns, rows, slices) and RAS+ affine of slices given in geometric order.

    Raises:
        SeriesError: they cannot be decoded or converted, or the reading process died over them.
    """
    memory_bytes = _CONVERT_MEMORY_BYTES + BYTES_PER_VOXEL * voxel_count
    request = {
        "task": "convert",
        "slices": [(str(path), frame) for path, frame in slices],
        "memory_bytes": memory_bytes,
    }
    try:
        with _borrowed_worker() as worker:
            reply, stream = worker.ask(request)
            if "error" in reply:
                raise SeriesError(reply["error"], reply["hint"])
            return _receive(reply, stream)
    except WorkerDiedError as death:
        raise SeriesError(f"decoding its pixels {death}", "Rewrite the files uncompressed and try again") from death


def _receive(reply: dict[str, Any], stream: IO[bytes]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    dtype, shape = np.dtype(reply["dtype"]), tuple(reply["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    content = stream.read(size)
    if len(content) != size:
        raise WorkerDiedError("ended before all voxels arrived")
    return np.frombuffer(content, dtype).reshape(shape).T, np.array(reply["affine"], dtype=np.float64)


def _cause(code: int) -> str:
    if code == -getattr(signal, "SIGALRM", 0):
        return "took too long"
    return f"crashed the decoder (signal {-code})" if code < 0 else f"ended the decoder (exit {code})"


_idle: queue.SimpleQueue[tuple[int, Worker]] = queue.SimpleQueue()
_lent: dict[Worker, int] = {}


def stop_reading(thread: int) -> None:
    """End what a thread of this identifier waits for; it is told that the reading process died."""
    for worker, borrower in list(_lent.items()):
        if borrower == thread:
            worker.kill()


@contextlib.contextmanager
def _borrowed_worker() -> Iterator[Worker]:
    """A worker that nobody else uses; kept for the next request unless this one failed."""
    worker = _idle_worker() or Worker()
    _lent[worker] = threading.get_ident()
    try:
        yield worker
    except BaseException:
        worker.close()
        raise
    finally:
        del _lent[worker]
    _idle.put((os.getpid(), worker))


def _idle_worker() -> Worker | None:
    with contextlib.suppress(queue.Empty):
        while True:
            owner, worker = _idle.get_nowait()
            if owner == os.getpid():
                return worker
    return None


def _close_idle_workers() -> None:
    while worker := _idle_worker():
        worker.close()


atexit.register(_close_idle_workers)
