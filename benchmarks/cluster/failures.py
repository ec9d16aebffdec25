"""What is lost when a cluster fails: python benchmarks/cluster/failures.py [--cases N] [--seed S].

The small study of the tests, segmented by two workers while something goes wrong, and compared with the labels that one
process gives: workers killed by SIGKILL at random moments; the scheduler killed, and started again for a second run; a
worker whose disk for the cache is full (a file system of its own: needs root); and a volume that takes more memory
than a worker may. Counted are cases done again although they were done, cases that have no labels in the end though
they should, and label volumes that differ. The exit status is 1 when a count is not 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robustness"))
from small_study import comparable, write_study

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import EnvironmentFault
from msksam_cli.io.nifti import form_from_grid, write_volume
from msksam_cli.pipeline.case_work import Failed
from msksam_cli.pipeline.executors import ExecutorOptions
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True)
class Told:
    """What is printed of one test."""

    name: str
    happened: str
    redone: int
    lost: int
    different: int
    failed: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether something was lost or done for nothing."""
        return bool(self.redone or self.lost or self.different)

    def row(self) -> str:
        """A line of the table."""
        return f"| {self.name} | {self.happened} | {self.redone} | {self.lost} | {self.different} | {self.failed} |"


class Cluster:
    """A scheduler and workers as processes that can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start a scheduler at a new address."""
        told = Path(tempfile.mkdtemp(dir=self._folder)) / "scheduler.json"
        self.scheduler = self._started(
            ["dask_scheduler", "--port", "0", "--host", "127.0.0.1", "--scheduler-file", str(told), "--no-dashboard",
             "--dashboard-address", "127.0.0.1:0"]
        )  # fmt: skip
        while not told.is_file() or not told.read_text():
            time.sleep(0.1)
        self.address = json.loads(told.read_text())["address"]

    def add_worker(self, **environment: str) -> None:
        """Start a worker that is started again when it dies."""
        command = ["dask_worker", self.address, "--nthreads", "1", "--memory-limit", "1.5GB", "--no-dashboard"]
        command += ["--local-directory", str(self._folder), "--death-timeout", "20"]
        self.workers.append(self._started(command, **environment))

    def kill_a_worker(self, chance: random.Random) -> bool:
        """SIGKILL to a process that works, not to the one that watches it."""
        watchers = " ".join(str(worker.pid) for worker in self.workers)
        found = subprocess.run(["pgrep", "-P", ",".join(watchers.split())], capture_output=True, text=True, check=False)
        working = [pid for pid in map(int, found.stdout.split()) if b"spawn_main" in _command(pid)]
        if working:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(working), signal.SIGKILL)
        return bool(working)

    def close(self) -> None:
        """End all of it."""
        self._stack.close()

    def _started(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | environment | {"MSKSAM_CORES": "1"},
        )  # fmt: skip
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """A cluster with a scheduler and no workers."""
    found = Cluster(folder)
    try:
        found.start()
        yield found
    finally:
        found.close()


def times(folder: Path) -> dict[str, int]:
    """Case → when its record was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (folder / "records").glob("c*.json")}


def told(name: str, happened: str, options: SegmentOptions, whole: dict[str, bytes], before: dict[str, int]) -> Told:
    """What became of a run whose first part left `before`."""
    found, after = comparable(options.output_folder), times(options.output_folder)
    labels = [path for path in whole if path.startswith("labels/")]
    redone = sum(after.get(case) != moment for case, moment in before.items())
    lost = sum(path not in found for path in labels)
    return Told(name, happened, redone, lost, sum(path in found and found[path] != whole[path] for path in labels))


def workers_killed(options: SegmentOptions, whole: dict[str, bytes], chance: random.Random, kills: int) -> Told:
    """Workers die at random moments, so far apart that the next has begun and no case is unlucky twice."""
    done = 0
    over = threading.Event()
    with started(options.output_folder.parent) as cluster:
        for _ in range(2):
            cluster.add_worker()

        def kill() -> None:
            nonlocal done
            while done < kills and not over.wait(chance.uniform(6.0, 9.0)):
                if times(options.output_folder) and cluster.kill_a_worker(chance):
                    done += 1

        killer = threading.Thread(target=kill)
        killer.start()
        run = run_segment(options, ExecutorOptions("dask", cluster.address))
        over.set()
        killer.join()
    failed = "; ".join(one.reason for one in run.outcomes if isinstance(one, Failed))
    return replace(told("workers killed", f"{done} kills", options, whole, {}), failed=failed)


def scheduler_killed(options: SegmentOptions, whole: dict[str, bytes]) -> Told:
    """The scheduler dies in the middle; a second run with a new one does the rest."""
    with started(options.output_folder.parent) as cluster:
        for _ in range(2):
            cluster.add_worker()

        def kill() -> None:
            while len(times(options.output_folder)) < len(whole) // 20 + 2:
                time.sleep(0.05)
            if cluster.scheduler:
                cluster.scheduler.kill()

        threading.Thread(target=kill, daemon=True).start()
        began, said = time.monotonic(), ""
        try:
            run_segment(options, ExecutorOptions("dask", cluster.address))
        except EnvironmentFault as error:
            said = str(error)
        seconds = time.monotonic() - began
        time.sleep(2)  # what the workers were at when it died
        before = times(options.output_folder)
    with started(options.output_folder.parent) as cluster:
        for _ in range(2):
            cluster.add_worker()
        run_segment(options, ExecutorOptions("dask", cluster.address))
    happened = f"after {len(before)} cases and {seconds:.0f} s: {said or 'NOT NOTICED'}"
    return told("scheduler killed, run again", happened, options, whole, before)


def disk_full(options: SegmentOptions, whole: dict[str, bytes]) -> Told:
    """One worker keeps its cache on a file system of 300 kB."""
    full = options.output_folder.parent / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(full)], check=True)
    try:
        with started(options.output_folder.parent) as cluster:
            cluster.add_worker(XDG_CACHE_HOME=str(full))
            cluster.add_worker(XDG_CACHE_HOME=str(options.output_folder.parent / "free"))
            run = run_segment(replace(options, cache=None), ExecutorOptions("dask", cluster.address))
    finally:
        subprocess.run(["umount", "--lazy", str(full)], check=True)
    failed = "; ".join(one.reason for one in run.outcomes if isinstance(one, Failed))
    return replace(told("one worker's disk full", "cache of 300 kB", options, whole, {}), failed=failed)


def poisoned(options: SegmentOptions, whole: dict[str, bytes]) -> Told:
    """A volume that no worker has the memory for."""
    grid = Grid((700, 700, 700), np.diag([0.3, 0.3, 0.3, 1.0]))
    intensities = np.zeros(grid.shape, dtype=np.float32)
    intensities[::7, ::5, ::3] = 100.0
    write_volume(options.study / "a-large-one.nii.gz", Volume(intensities, grid), form_from_grid(grid))
    shutil.copy(options.prompt_folder / "c000.nii.gz", options.prompt_folder / "a-large-one.nii.gz")
    try:
        with started(options.output_folder.parent) as cluster:
            for _ in range(2):
                cluster.add_worker()
            run = run_segment(options, ExecutorOptions("dask", cluster.address))
    finally:
        (options.study / "a-large-one.nii.gz").unlink()
        (options.prompt_folder / "a-large-one.nii.gz").unlink()
    failed = "; ".join(f"{one.case}: {one.reason}" for one in run.outcomes if isinstance(one, Failed))
    return replace(told("a case too large", "700 × 700 × 700 voxels", options, whole, {}), failed=failed)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="failures-"))
    options = write_study(root, asked.cases)
    run_segment(options)
    whole = comparable(options.output_folder)
    print("| what failed | how | done again | lost | different | given up, and why |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    chance, bad = random.Random(asked.seed), False
    tests = [
        ("killed", lambda o: workers_killed(o, whole, chance, asked.kills)),
        ("scheduler", lambda o: scheduler_killed(o, whole)),
        ("poisoned", lambda o: poisoned(o, whole)),
    ]
    if os.geteuid() == 0:
        tests.append(("full", lambda o: disk_full(o, whole)))
    for name, test in tests:
        (root / name).mkdir()
        one = test(replace(options, output=root / name / "out", cache=root / name / "cache"))
        bad |= one.is_bad
        print(one.row(), flush=True)
    shutil.rmtree(root, ignore_errors=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
