"""What a cohort costs: measured stage times replayed through the real scheduler, with sleep in place of the work.

    python benchmarks/cluster/simulation.py [--cases 100000] [--workers 64] [--gpus 4] [--keep]

The scheduler and the workers are processes of their own (several workers in each), the executor is `segment`'s. Three
parts, each with a table:

1. the engine: cases of no work, and cases that sleep, for growing numbers of workers: cases a second, what a case
   costs, and what scheduler and this process take of CPU and memory;
2. tables: the records of so many cases, and how long they take to become metrics.csv and the others;
3. the model: hours for a cohort by these costs and the measured times of a case, and the size of its cache.

Times of a case are divided by `--faster`, so that a day becomes minutes; the engine is not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine_text

from msksam_cli.cluster.launch import dask_executor
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.tissues import TissueTable
from msksam_cli.executor import Ahead, Work
from msksam_cli.pipeline.quality import SLICE_COLUMNS
from msksam_cli.pipeline.run_record import CaseRecord, write_record, write_tables

_WORKERS_A_PROCESS = 16
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")

SLICES = 143
CACHE_BYTES_A_SLICE = 4_719_040
"""Of the knee of `benchmarks/results/main-job.md`, as are the seconds of a case."""
GPU_S_A_SLICE = 0.0102
"""With its cache: of `benchmarks/results/encode-speed-vit_b-cuda.md`."""


@dataclass(frozen=True)
class CaseTimes:
    """Seconds of a case's steps on a worker of two cores: placing, encoding, and all else."""

    name: str
    place_s: float
    encode_s: float
    rest_s: float

    @property
    def whole_s(self) -> float:
        """Of the whole case on one worker."""
        return self.place_s + self.encode_s + self.rest_s


@dataclass(frozen=True)
class Sleep:
    """A step that takes its time and none of the CPU."""

    seconds: float

    def __call__(self, case: int) -> int:
        """The case."""
        if self.seconds:
            time.sleep(self.seconds)
        return case


@dataclass
class Watched:
    """CPU seconds and peak memory of some processes."""

    pids: tuple[int, ...]
    peak_mb: float = 0.0
    _before_s: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._before_s = self._cpu_s()

    def look(self) -> None:
        """Note how much memory they hold."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        self.peak_mb = max(self.peak_mb, pages * _PAGE / 1e6)

    @property
    def cpu_s(self) -> float:
        """Since this was made."""
        return self._cpu_s() - self._before_s

    def _cpu_s(self) -> float:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


@contextlib.contextmanager
def cluster(workers: int, gpus: int = 0) -> Iterator[tuple[str, int]]:
    """Address of a scheduler with so many workers, of which some have a GPU by name; and the scheduler's process."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        told = folder / "scheduler.json"
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1"]
        command += ["--scheduler-file", str(told), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        scheduler = _started(stack, command)
        while not told.is_file():
            time.sleep(0.1)
        address = json.loads(told.read_text())["address"]
        for first in range(0, workers, _WORKERS_A_PROCESS):
            numbers = range(first, min(first + _WORKERS_A_PROCESS, workers))
            options = {"nthreads": 1, "memory_limit": 0, "local_directory": str(folder), "dashboard": False}
            spec = {
                str(n): {
                    "cls": "distributed.Worker",
                    "opts": {**options, "name": str(n), "resources": {"GPU": 1} if n < gpus else {}},
                }
                for n in numbers
            }
            _started(stack, [sys.executable, "-m", "distributed.cli.dask_spec", address, "--spec", json.dumps(spec)])
        yield address, scheduler.pid


def _started(stack: contextlib.ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def run(cases: int, workers: int, times: CaseTimes, faster: float, gpus: int = 0) -> dict[str, float]:
    """Seconds, and what scheduler and this process took, of cases on workers."""
    place, encode, rest = (Sleep(seconds / faster) for seconds in (times.place_s, times.encode_s, times.rest_s))
    whole = Sleep(times.whole_s / faster)
    work = Work(rest, str, (Ahead(place, on_gpu=False), Ahead(encode, on_gpu=True))) if gpus else Work(whole, str)
    with cluster(workers, gpus) as (address, pid), dask_executor(address) as executor:
        while len(executor.workers().names) < workers:
            executor.everywhere(os.getpid)
            time.sleep(0.2)
        scheduler, here = Watched((pid,)), Watched((os.getpid(),))
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                scheduler.look()
                here.look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        began = time.monotonic()
        done = sum(1 for _ in executor.run(work, range(cases)))
        seconds = time.monotonic() - began
        over.set()
        watcher.join()
        if done != cases:
            raise SystemExit(f"{done} of {cases} cases came back")
        return {
            "seconds": seconds,
            "scheduler_cpu_s": scheduler.cpu_s,
            "scheduler_mb": scheduler.peak_mb,
            "here_cpu_s": here.cpu_s,
            "here_mb": here.peak_mb,
        }


def record(number: int) -> CaseRecord:
    """A record as long as that of a knee with its cartilages."""
    case, names = f"c{number:06d}", [tissue.name for tissue in tissues_of("knee")][:6]
    metrics = [{"case": case, "tissue": name, "label": n, "status": "complete"} for n, name in enumerate(names, 1)]
    numbers = {column: 0.123456 for column in SLICE_COLUMNS if column not in ("case", "tissue")}
    slices = [{"case": case, "tissue": name, **numbers} for name in names for _ in range(SLICES // 2)]
    return CaseRecord(case, "s" * 64, "i" * 64, {f"labels/{case}.nii.gz": "0" * 64}, metrics, [], slices)


def tables(counts: tuple[int, ...]) -> list[tuple[int, float, float]]:
    """(Cases, seconds to write their tables, MB of their records)."""
    found = []
    table = TissueTable(tuple(tissues_of("knee")))
    with tempfile.TemporaryDirectory() as name:
        folder, there = Path(name), 0
        for count in counts:
            for number in range(there, count):
                write_record(folder, record(number))
            there = count
            began = time.monotonic()
            write_tables(folder, table)
            seconds = time.monotonic() - began
            size = sum(path.stat().st_size for path in (folder / "records").iterdir())
            found.append((count, seconds, size / 1e6))
    return found


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="of the model and of the longest run")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--faster", type=float, default=300.0)
    parser.add_argument("--records", type=int, default=2000)
    asked = parser.parse_args()
    print(machine_text())
    print("\n| workers | cases | s of a case | seconds | cases/s | ideal s | scheduler CPU s, MB | here CPU s, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    empty, knee = CaseTimes("empty", 0, 0, 0), CaseTimes("knee, CPU", 43.4, 23.3, 35.5)
    plans = [(2, 2_000, empty, 0), (asked.workers, 2_000, empty, 0)]
    plans += [(count, count * 40, knee, 0) for count in (4, 16, asked.workers)]
    plans += [
        (asked.workers, asked.workers * 40, CaseTimes("knee, split", 43.4, SLICES * GPU_S_A_SLICE, 35.5), asked.gpus)
    ]
    plans += [(asked.workers, asked.cases, empty, 0)]
    for workers, cases, times, gpus in plans:
        found = run(cases, workers, times, asked.faster, gpus)
        each = times.whole_s / asked.faster
        busy = workers - gpus
        ideal = cases * (times.place_s + times.rest_s if gpus else times.whole_s) / asked.faster / busy
        who = f"{busy} + {gpus} GPU" if gpus else f"{workers}"
        counted = f"{found['seconds']:.1f} | {cases / found['seconds']:.0f} | {ideal:.1f}"
        took = " | ".join(f"{found[f'{one}_cpu_s']:.1f}, {found[f'{one}_mb']:.0f}" for one in ("scheduler", "here"))
        print(f"| {who} | {cases} | {each:.3f} | {counted} | {took} |", flush=True)
    print("\n| cases | seconds for tables | MB of records |\n| --- | --- | --- |")
    for count, seconds, size in tables((asked.records // 10, asked.records)):
        print(f"| {count} | {seconds:.1f} | {size:.0f} |", flush=True)
    files, size_tb = asked.cases * SLICES, asked.cases * SLICES * CACHE_BYTES_A_SLICE / 1e12
    print(f"\nCache of {asked.cases} knees: {files / 1e6:.1f} million files, {size_tb:.1f} TB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
