"""The one way msksam writes: a temporary file in the same folder, fsync, rename, fsync of the folder.

Entries of caches do without fsync: what a crash leaves of them is recognised by its hash.

A reader therefore sees the old file, the new file or none, never a part; a crash leaves at most a file whose name
starts with `TEMPORARY_PREFIX`, which `clean_temporaries` removes.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msksam_cli.errors import EnvironmentFault

TEMPORARY_PREFIX = ".msksam-tmp-"

_ABANDONED_S = 86_400.0
_STARTED_S = time.time()
_LONGEST_ENDING = 16
_MARK = re.compile(r"([0-9a-f]{8})-(\d+)-")
_open_temporaries: set[Path] = set()


@contextlib.contextmanager
def atomic_path(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `target`; on success it becomes `target`, on any exception it is removed.

    The temporary keeps the target's suffixes, for writers that choose a format by name.

    Args:
        target: the file to write.
        durable: wait until the disk has it. Only what carries its own hash, and can be computed again if the machine
            goes down, need not.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    temporary = target.with_name(_temporary_name() + "-" + "".join(target.suffixes)[-_LONGEST_ENDING:])
    try:
        _open_temporaries.add(temporary)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield temporary
        if durable:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        if durable:
            _sync_folder(target.parent)
    except OSError as error:
        raise _fault(error, target) from error
    finally:
        _remove_temporary(temporary)


@contextlib.contextmanager
def atomic_folder(target: Path, seal: str) -> Iterator[Path]:
    """Give a temporary folder inside `target`; on success its files move into `target`, on any exception they go.

    The file called `seal` is taken away first and put back last: a folder that has one is complete.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    is_new, temporary = not target.exists(), target / _temporary_name()
    try:
        _open_temporaries.add(temporary)
        target.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        yield temporary
        (target / seal).unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == seal):
            with path.open("rb") as written:
                os.fsync(written.fileno())
            os.chmod(path, 0o644)
            os.replace(path, target / path.name)
        _sync_folder(target)
    except OSError as error:
        raise _fault(error, target) from error
    finally:
        _remove_temporary(temporary)
        if is_new and target.is_dir() and not any(target.iterdir()):
            target.rmdir()


def write_atomic(target: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Let `write` fill a binary stream that becomes `target` when it returns; `durable` as for `atomic_path`.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    with atomic_path(target, durable=durable) as temporary, temporary.open("wb") as stream:
        write(stream)
        stream.flush()


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text as `target`.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    write_atomic(target, lambda stream: stream.write(text.encode("utf-8")))


def remove_file(target: Path) -> None:
    """Remove a file if it is there.

    Raises:
        EnvironmentFault: it is there and cannot be removed.
    """
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"cannot remove {target.name}: {error.strerror}", "Check who owns the folder") from error


def clean_temporaries(folder: Path) -> int:
    """Remove what killed runs left below `folder`; return how many files and folders that were.

    One whose writer may still be at work is left alone: one of a living process of this machine, or one that
    another machine touched within a day.
    """
    stale = [path for path in folder.rglob(TEMPORARY_PREFIX + "*") if _is_abandoned(path)]
    for path in stale:
        _remove_temporary(path)
    return len(stale)


def abandon_writes() -> None:
    """Remove what this process is writing at the moment, for when it ends before its threads do."""
    ours = TEMPORARY_PREFIX + writer_mark()
    for path in list(_open_temporaries):
        if path.name.startswith(ours):  # and not the parent's, in a forked process
            _remove_temporary(path)


atexit.register(abandon_writes)


def _temporary_name() -> str:
    return TEMPORARY_PREFIX + writer_mark() + secrets.token_hex(4)


def _remove_temporary(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # a folder that became read-only must not hide what went wrong before
            path.unlink(missing_ok=True)
    _open_temporaries.discard(path)


def writer_mark() -> str:
    """What tells the files of this process from those of others: machine and process number."""
    return f"{zlib.crc32(platform.node().encode()):08x}-{os.getpid()}-"


def is_gone(mark: str) -> bool:
    """Whether a mark that begins as `writer_mark` is that of a process of this machine which has ended."""
    written_by = _MARK.match(mark)
    if not written_by or not mark.startswith(writer_mark()[:9]):
        return False
    try:
        os.kill(int(written_by[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # it lives and belongs to someone else
    return False


def _is_abandoned(path: Path) -> bool:
    mark = path.name.removeprefix(TEMPORARY_PREFIX)
    written_by = _MARK.match(mark)
    try:
        touched_s = path.stat().st_mtime
    except OSError:
        return False  # it became its target meanwhile
    if not written_by or not mark.startswith(writer_mark()[:9]):
        return time.time() - touched_s > _ABANDONED_S
    if int(written_by[2]) == os.getpid():
        return touched_s < _STARTED_S  # of an earlier process with this number, as in a container started again
    return is_gone(mark)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(error: OSError, target: Path) -> EnvironmentFault:
    reason = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}.get(
        error.errno or 0, os.strerror(error.errno) if error.errno else type(error).__name__
    )
    return EnvironmentFault(f"cannot write {target.name}: {reason}", "Free space or choose another output folder")
