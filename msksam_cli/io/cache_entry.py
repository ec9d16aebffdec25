"""One entry of a cache on disk, whatever it holds: read, marked as used, removed."""

from __future__ import annotations

import os
from pathlib import Path

from msksam_cli.errors import CacheError

CACHE_HINT = "Choose another folder with --cache, or use --no-cache"


def read_entry(path: Path) -> bytes | None:
    """All bytes of an entry, None when there is none.

    Raises:
        CacheError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(f"cache entry {path.name[:12]}… cannot be read: {error.strerror}", CACHE_HINT) from error


def entry_status(path: Path) -> os.stat_result | None:
    """Size and time of last use of an entry, None when it has vanished meanwhile."""
    try:
        return path.stat()
    except OSError:
        return None


def mark_used(path: Path) -> None:
    """Set the time of last use to now, where that is allowed."""
    try:
        os.utime(path)
    except OSError:
        return  # a cache that may only be read is still a cache


def remove_entry(path: Path) -> None:
    """Remove an entry, where that is allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the next one put in its place replaces it
