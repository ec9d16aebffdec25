"""`segment` killed by SIGKILL at random moments: python benchmarks/robustness/kill_segment.py [--kills N] [--cases N].

One process holds the imported program and forks a run at a time. Each run is killed at a random moment between the
loading of the network and the time at which it should end, then the folder is looked at, then the next run goes on
where the killed one stopped; when a run ends by itself its outputs are compared with those of a run that was never
killed, and everything starts from an empty folder again. After each kill are counted: files under a final name that
cannot be read or differ from those of the unbroken run (corrupt), finished cases that the next run made again
(redone_finished), and the most cases whose work one kill cost (most_redone). At each end: outputs that differ from
the unbroken run's (unequal_ends), and temporaries left (temporaries). Times are left out of the comparison. The exit
status is 1 when a count is not 0 or most_redone is above 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from small_study import comparable, corrupt, write_study

from msksam_cli.io.atomic import TEMPORARY_PREFIX
from msksam_cli.pipeline.run_record import is_done, read_records
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

BAD = ("corrupt", "redone_finished", "unequal_ends", "temporaries", "failed_runs")


def forked_run(options: SegmentOptions) -> int:
    """Begin a run in a child process; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
        sys.stderr = nowhere
        code = run_segment(options).exit_code
    os._exit(code)


def timed_run(options: SegmentOptions) -> float:
    """Seconds of a run that is left alone."""
    started = time.monotonic()
    _, status = os.waitpid(forked_run(options), 0)
    if status:
        raise SystemExit("a run that nobody killed failed")
    return time.monotonic() - started


def finished(folder: Path) -> dict[str, int]:
    """Case → time its record was written, of every case that is done and whose outputs are as they were written."""
    return {
        record.case: (folder / "records" / f"{record.case}.json").stat().st_mtime_ns
        for record in read_records(folder)
        if is_done(record, folder, record.setup_sha256, record.input_sha256)
    }


def begun(folder: Path) -> set[str]:
    """Cases with an output under its final name."""
    return {path.name.split(".")[0] for path in (folder / "labels").glob("c*")}


def kill_segment(root: Path, kills: int, cases: int, seed: int) -> Counter[str]:
    """Counts after `kills` kills of runs over `cases` cases below `root`."""
    chooser, counts = random.Random(seed), Counter[str]()
    options = write_study(root, cases)
    unbroken = dataclasses.replace(options, output=root / "whole", cache=root / "whole-cache")
    longest_s, shortest_s = timed_run(unbroken), timed_run(unbroken)
    whole = comparable(root / "whole")
    if len(begun(root / "whole")) != cases:
        raise SystemExit("the unbroken run failed")
    out = options.output_folder
    while counts["kills"] < kills:
        before, begun_before = finished(out), begun(out)
        child = forked_run(options)
        left_s = (longest_s - shortest_s) * (1 - len(before) / cases)
        time.sleep(chooser.uniform(0.5 * shortest_s, shortest_s + 1.1 * left_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        after = finished(out)
        counts["corrupt"] += corrupt(out, whole)
        counts["redone_finished"] += sum(after.get(case) != when for case, when in before.items())
        if os.WIFSIGNALED(status):
            counts["kills"] += 1
            counts["kills_with_temporaries"] += any(out.rglob(TEMPORARY_PREFIX + "*"))
            counts["most_redone"] = max(counts["most_redone"], len(begun(out) - set(after) - begun_before))
            continue
        counts["ends"] += 1
        counts["failed_runs"] += os.WEXITSTATUS(status) != 0
        counts["unequal_ends"] += comparable(out) != whole
        counts["temporaries"] += len(list(out.rglob(TEMPORARY_PREFIX + "*")))
        shutil.rmtree(out)
        if chooser.random() < 0.5:
            shutil.rmtree(options.cache or out, ignore_errors=True)
    _, status = os.waitpid(forked_run(options), 0)
    counts["ends"] += 1
    counts["failed_runs"] += status != 0
    counts["unequal_ends"] += comparable(out) != whole
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_segment(Path(folder), options.kills, options.cases, options.seed)
    for name in ("kills", "kills_with_temporaries", "ends", "most_redone", *BAD):
        print(f"{name:24}{counts[name]:8}")
    sys.exit(int(any(counts[name] for name in BAD) or counts["most_redone"] > 1))


if __name__ == "__main__":
    main()
