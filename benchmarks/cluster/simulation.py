"""What a cohort costs: measured stage times replayed through the real scheduler, with sleep in place of the work.

    python benchmarks/cluster/simulation.py [--cases 100000] [--workers 64] [--gpus 4] [--figure FILE.png]

The scheduler and the workers are processes of their own (several workers in each), the executor is `segment`'s. Three
parts, each with a table:

1. the engine: cases of no work, and cases that sleep, for growing numbers of workers: cases a second, what a case
   costs, and what scheduler and this process take of CPU and memory;
2. tables: the records of so many cases, and how long they take to become metrics.csv and the others;
3. the model: hours for a cohort by these costs and the measured times of a case, and the size of its cache.

Times of a case are divided by `--faster`, so that a day becomes minutes; the engine is not. With `--figure` the first
part is drawn: cases a second by workers, and memory while the longest run goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine_text

from msksam_cli.cluster.launch import dask_executor
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.tissues import TissueTable
from msksam_cli.executor import Ahead, Work
from msksam_cli.io.curves import Chart, Curve, write_charts
from msksam_cli.pipeline.quality import SLICE_COLUMNS
from msksam_cli.pipeline.run_record import CaseRecord, write_record, write_tables

_WORKERS_A_PROCESS = 16
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.5

SLICES = 143
CACHE_BYTES_A_SLICE = 4_719_040
"""Of the knee of `benchmarks/results/main-job.md`, as are the seconds of a case."""
GPU_S_A_SLICE = 0.0102
"""With its cache: of `benchmarks/results/encode-speed-vit_b-cuda.md`."""


@dataclass(frozen=True)
class CaseTimes:
    """Seconds of a case's steps on a worker of two cores: placing, encoding, and all else."""

    place_s: float
    encode_s: float
    rest_s: float

    @property
    def whole_s(self) -> float:
        """Of the whole case on one worker."""
        return self.place_s + self.encode_s + self.rest_s


EMPTY = CaseTimes(0, 0, 0)
KNEE = CaseTimes(40.4, 20.3, 15.9)
KNEE_SPLIT = CaseTimes(40.4, SLICES * GPU_S_A_SLICE, 15.9)


@dataclass(frozen=True)
class Sleep:
    """A step that takes its time and none of the CPU."""

    seconds: float

    def __call__(self, case: int) -> int:
        """The case."""
        if self.seconds:
            time.sleep(self.seconds)
        return case


@dataclass(frozen=True)
class Plan:
    """A run: so many cases on so many workers, some of which have a GPU by name."""

    workers: int
    cases: int
    times: CaseTimes
    gpus: int = 0


@dataclass
class Watched:
    """CPU seconds and memory of a process.

    Attributes:
        pid: of the process.
        held: (cases done, MB) at every look.
        cpu_s: from the beginning to the last look.
    """

    pid: int
    held: list[tuple[float, float]] = field(default_factory=list)
    cpu_s: float = 0.0
    _before_s: float = 0.0

    def __post_init__(self) -> None:
        self._before_s = self._now_s()

    def look(self, done: int) -> None:
        """Note what it holds and has taken when so many cases are done."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        self.held.append((done, pages * _PAGE / 1e6))
        self.cpu_s = self._now_s() - self._before_s

    @property
    def peak_mb(self) -> float:
        """Most of its memory."""
        return max(mb for _, mb in self.held)

    def _now_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass(frozen=True, eq=False)
class Measured:
    """What a run took, of itself, of the scheduler and of the process that has the cases."""

    plan: Plan
    seconds: float
    scheduler: Watched
    here: Watched

    @property
    def cases_a_second(self) -> float:
        """Done."""
        return self.plan.cases / self.seconds


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


def run(plan: Plan, faster: float) -> Measured:
    """Send a plan's cases through the engine."""
    times = plan.times
    place, encode, rest = (Sleep(seconds / faster) for seconds in (times.place_s, times.encode_s, times.rest_s))
    split = Work(rest, str, (Ahead(place, on_gpu=False), Ahead(encode, on_gpu=True)))
    work = split if plan.gpus else Work(Sleep(times.whole_s / faster), str)
    with cluster(plan.workers, plan.gpus) as (address, pid), dask_executor(address) as executor:
        while len(executor.workers().names) < plan.workers:
            executor.everywhere(os.getpid)
            time.sleep(0.2)
        scheduler, here = Watched(pid), Watched(os.getpid())
        began = looked = time.monotonic()
        done = 0
        for done, _ in enumerate(executor.run(work, range(plan.cases)), 1):
            if time.monotonic() - looked > _LOOK_S or done == plan.cases:
                looked = time.monotonic()
                scheduler.look(done)
                here.look(done)
        if done != plan.cases:
            raise SystemExit(f"{done} of {plan.cases} cases came back")
        return Measured(plan, looked - began, scheduler, here)


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


def engine(workers: int, gpus: int, cases: int, faster: float) -> list[Measured]:
    """Print and return what runs take; the last is the longest, of so many cases of no work."""
    fewer = [count for count in (2, 4, 16, 32) if count < workers]
    plans = [Plan(count, 2_000, EMPTY) for count in (*fewer, workers)]
    plans += [Plan(count, count * 40, KNEE) for count in (*fewer, workers)]
    plans += [Plan(workers, workers * 40, KNEE_SPLIT, gpus), Plan(workers, cases, EMPTY)]
    print("\n| workers | cases | s of a case | seconds | cases/s | ideal s | scheduler CPU s, MB | here CPU s, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    measured = []
    for plan in plans:
        found, times, busy = run(plan, faster), plan.times, plan.workers - plan.gpus
        ideal = plan.cases * (times.place_s + times.rest_s if plan.gpus else times.whole_s) / faster / busy
        who = f"{busy} + {plan.gpus} GPU" if plan.gpus else f"{plan.workers}"
        counted = f"{found.seconds:.1f} | {found.cases_a_second:.0f} | {ideal:.1f}"
        took = " | ".join(f"{one.cpu_s:.1f}, {one.peak_mb:.0f}" for one in (found.scheduler, found.here))
        print(f"| {who} | {plan.cases} | {times.whole_s / faster:.3f} | {counted} | {took} |", flush=True)
        measured.append(found)
    return measured


def speed_chart(found: Sequence[Measured], faster: float) -> Chart:
    """Cases a second by workers: of no work, of a knee's time, and of a knee's time without any cost of the engine."""
    *shorter, _, _ = found
    curves = []
    for times, name, color in ((EMPTY, "no work", "#8d99ae"), (KNEE, f"{KNEE.whole_s / faster:.2f} s each", "#d1495b")):
        points = tuple((one.plan.workers, one.cases_a_second) for one in shorter if one.plan.times is times)
        curves.append(Curve(name, color, points, dots=True))
    most = max(one.plan.workers for one in shorter)
    reach = min(most, max(y for curve in curves for _, y in curve.points) * KNEE.whole_s / faster)
    ideal = Curve("the same, ideal", "#2a9d8f", ((0.0, 0.0), (reach, reach * faster / KNEE.whole_s)))
    return Chart("Through one scheduler", "workers", "cases a second", (*curves, ideal))


def memory_chart(longest: Measured) -> Chart:
    """Memory of both processes while the cases of the longest run go through."""

    def curve(name: str, color: str, held: Sequence[tuple[float, float]]) -> Curve:
        step = max(1, len(held) // 200)
        return Curve(name, color, tuple((done / 1000, mb) for done, mb in held[::step]))

    own = curve("process of the command", "#00798c", longest.here.held)
    scheduler = curve("scheduler", "#edae49", longest.scheduler.held)
    title = f"{longest.plan.cases} cases on {longest.plan.workers} workers"
    return Chart(title, "thousand cases done", "MB", (own, scheduler))


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="of the model and of the longest run")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--faster", type=float, default=300.0)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--figure", type=Path, help="draw the first part as a PNG")
    asked = parser.parse_args()
    print(machine_text())
    found = engine(asked.workers, asked.gpus, asked.cases, asked.faster)
    if asked.figure:
        write_charts(asked.figure, (speed_chart(found, asked.faster), memory_chart(found[-1])))
    print("\n| cases | seconds for tables | MB of records |\n| --- | --- | --- |")
    for count, seconds, size in tables((asked.records // 10, asked.records)):
        print(f"| {count} | {seconds:.1f} | {size:.0f} |", flush=True)
    for name, times, busy in (
        ("one kind of worker", KNEE, asked.workers),
        ("encoded on GPUs", KNEE_SPLIT, asked.workers - asked.gpus),
    ):
        own_s = times.whole_s - (times.encode_s if times is KNEE_SPLIT else 0)
        print(f"\n{asked.cases} knees, {name}: {asked.cases * own_s / busy / 3600:.0f} h on {busy} workers", end="")
    files, size_tb = asked.cases * SLICES, asked.cases * SLICES * CACHE_BYTES_A_SLICE / 1e12
    print(f"\n\nCache of {asked.cases} knees: {files / 1e6:.1f} million files, {size_tb:.1f} TB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
