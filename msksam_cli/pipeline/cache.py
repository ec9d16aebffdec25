"""The embedding cache as a whole: its size, its health, its pruning."""

from __future__ import annotations

import re
from pathlib import Path

from msksam_cli.errors import UsageError
from msksam_cli.io.embedding_store import CacheCheck, CacheSummary, DiskStore
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SECONDS_PER_DAY = 86_400.0


def open_cache(folder: Path | None = None) -> DiskStore:
    """The store in a folder, or in `MSKSAM_CACHE` or the platform's cache when None.

    Raises:
        CacheError: the path exists and is no folder.
    """
    return DiskStore(folder or cache_folder())


def open_results(folder: Path | None = None) -> ResultStore:
    """Placements and fits of atlases in the same folder."""
    return ResultStore(folder or cache_folder())


def verify_cache(folder: Path | None = None) -> CacheCheck:
    """Read every embedding and every kept result; delete those that are broken."""
    check, results = open_cache(folder).verify(), open_results(folder)
    broken = results.remove_broken()
    return CacheCheck(check.intact + len(results.sizes()), check.removed + broken)


def prune_cache(
    folder: Path | None = None, *, older_than_days: float | None = None, max_size: str = ""
) -> CacheSummary:
    """Remove entries by age, embeddings also by size, all of them when neither is given; return what was removed.

    Raises:
        UsageError: the size is not a number with K, M, G or T.
    """
    limit = size_in_bytes(max_size) if max_size else (0 if older_than_days is None else None)
    age = None if older_than_days is None else older_than_days * _SECONDS_PER_DAY
    removed = open_cache(folder).prune(max_age_s=age, max_bytes=limit)
    if max_size and age is None:
        return removed
    results = open_results(folder).prune(age)
    return CacheSummary(removed.entries + len(results), removed.size_bytes + sum(results))


def size_in_bytes(text: str) -> int:
    """Bytes meant by "500M", "2 GiB" or "1000"; factors of 1024.

    >>> size_in_bytes("1.5K")
    1536

    Raises:
        UsageError: the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{text!r} is no size", "Write it like 500M or 20G")
    return int(float(match[1]) * _FACTORS[match[2].upper()])
