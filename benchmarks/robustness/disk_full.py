"""A disk that is full from the n-th write on, for every n: python benchmarks/robustness/disk_full.py [--cases N].

Whatever changes the disk below the run's folders is counted as it is called: making a folder or file, every write of
bytes, fsync, rename. A first run counts them; then for n = 0, 1, 2 … a run finds the disk full at the n-th and ever
after (with `--once` only at the n-th), and another run finishes its work on a disk with room. Counted are runs that
did not end with the error of exit code 5, or with `--once` do without what failed (not_5), files under a final name
that are cut or not those of an unbroken run (partial_finals), temporaries left behind by the failed run
(temporaries), and second runs that failed or left other bytes than the unbroken run (unequal_ends). Times are left
out of the comparison. The exit status is 1 when a count is not 0.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import dataclasses
import errno
import io
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from small_study import comparable, corrupt, write_study

from msksam_cli.errors import MsksamError
from msksam_cli.io.atomic import TEMPORARY_PREFIX
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

BAD = ("not_5", "partial_finals", "temporaries", "unequal_ends")
DISK_FAULT_EXIT_CODE = 5


@dataclass
class Disk:
    """Counts what changes files below `root`, and says that the disk is full when it is.

    Attributes:
        root: below it the disk is watched.
        full_at: number of the first change that finds no room, counted from 0; None for a disk with room.
        once: whether there is room again afterwards.
    """

    root: Path
    full_at: int | None = None
    once: bool = False
    changes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, kind: str, path: object) -> None:
        """Count one change.

        Raises:
            OSError: there is no room for it.
        """
        if not isinstance(path, str | bytes | os.PathLike) or not Path(os.fsdecode(path)).is_relative_to(self.root):
            return
        with self._lock:
            number = self.changes
            self.changes += 1
            self.kinds[kind] += 1
        if self.full_at is not None and (number == self.full_at if self.once else number >= self.full_at):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class WatchedFile(io.FileIO):
    """A file whose every write of bytes is a change of the disk."""

    def __init__(self, disk: Disk, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, content: Any) -> int:
        """Write, if there is room."""
        self._disk.change("write", self.name)
        return super().write(content)


@contextlib.contextmanager
def watched(disk: Disk) -> Iterator[None]:
    """Let every change go by `disk`: what Python's functions for files do, whoever calls them."""
    real = {name: getattr(os, name) for name in ("open", "mkdir", "replace", "rename", "fsync")}
    real_open, paths = io.open, dict[int, object]()

    def opened(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            disk.change("open", path)
        number: int = real["open"](path, flags, *arguments, **more)
        paths[number] = path
        return number

    def synced(number: int) -> None:
        disk.change("fsync", os.readlink(f"/proc/self/fd/{number}") if not isinstance(number, str) else number)
        real["fsync"](number)

    def on_path(name: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            disk.change(name, path)
            return real[name](path, *arguments, **more)

        return call

    def opened_file(path: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if isinstance(path, int) or not set(mode) & set("wax+") or not Path(path).is_relative_to(disk.root):
            return real_open(path, mode, *arguments, **more)
        disk.change("open", path)
        raw = WatchedFile(disk, path, mode.replace("b", "").replace("t", ""))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments[1:], **more)

    changed = {"open": opened, "fsync": synced, **{name: on_path(name) for name in ("mkdir", "replace", "rename")}}
    try:
        for name, function in changed.items():
            setattr(os, name, function)
        builtins.open = io.open = opened_file
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        builtins.open = io.open = real_open


def _exit_code(options: SegmentOptions, disk: Disk) -> int | str:
    """Exit code of a run on a disk, or the name of the exception that no user should see."""
    try:
        with watched(disk):
            return run_segment(options).exit_code
    except MsksamError as error:
        return error.exit_code
    except Exception as error:  # noqa: BLE001  # any exception but an expected error is what is being counted
        return type(error).__name__


def disk_full(root: Path, cases: int, step: int = 1, once: bool = False) -> Counter[str]:
    """Counts over every `step`-th change that a run over `cases` cases makes below `root`."""
    counts, options = Counter[str](), write_study(root, cases)
    out, cache = options.output_folder, options.cache
    if cache is None:
        raise ValueError("the cache is watched too")
    disk = Disk(root)
    if _exit_code(dataclasses.replace(options, output=root / "whole", cache=root / "whole-cache"), disk) != 0:
        raise SystemExit("the unbroken run failed")
    whole, counts["changes"] = comparable(root / "whole"), disk.changes
    counts.update({f"  {kind}": number for kind, number in disk.kinds.items()})
    for full_at in range(0, disk.changes, step):
        counts["runs"] += 1
        code = _exit_code(options, Disk(root, full_at, once))
        if code != DISK_FAULT_EXIT_CODE and not (once and code == 0 and comparable(out) == whole):
            counts["not_5"] += 1
            counts[f"  {full_at} ended with {code}"] += 1
        counts["partial_finals"] += corrupt(out, whole)
        counts["temporaries"] += sum(len(list(folder.rglob(TEMPORARY_PREFIX + "*"))) for folder in (out, cache))
        counts["unequal_ends"] += _exit_code(options, Disk(root)) != 0 or comparable(out) != whole
        for folder in (out, cache):
            shutil.rmtree(folder)
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = disk_full(Path(folder), options.cases, options.step, options.once)
    for name in ("changes", "runs", *BAD):
        print(f"{name:24}{counts[name]:8}")
    for name, number in counts.items():
        if name.startswith("  "):
            print(f"{name:24}{number:8}")
    sys.exit(int(any(counts[name] for name in BAD)))


if __name__ == "__main__":
    main()
