"""Work spread over the cores of a CPU: one item per thread; whatever runs the network, without importing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


CORES_VARIABLE = "MSKSAM_CORES"
"""Environment variable: the most cores a process uses, where several share a machine."""


def cores() -> int:
    """How many cores this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get(CORES_VARIABLE, "")
    return min(int(told), there) if told.isdecimal() and int(told) else there


def cores_with_memory(bytes_each: int) -> int:
    """How many cores can be at work when each takes so many bytes: at least one, no more than memory is free for."""
    if "SC_AVPHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return cores()
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(min(cores(), free_bytes // bytes_each), 1)


def few_cores() -> int:
    """How many cores work is spread over whose every item takes much memory."""
    return min(cores(), 8)


def spread_over_cores(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int | None = None,
    prepare: Callable[[], object] | None = None,
) -> list[_Result]:
    """Results of a function that lets other threads run, for every item, in order.

    Args:
        function: what is done with an item.
        items: in the order of the results.
        workers: threads; as many as cores when None.
        prepare: called once in each thread.
    """
    if not items:
        return []
    with threads(min(workers or cores(), len(items)), prepare) as pool:
        return list(pool.map(function, items))


@contextmanager
def threads(count: int, prepare: Callable[[], object] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for; after an exception, such as a signal's, not for what they have not begun."""
    pool = ThreadPoolExecutor(count, initializer=prepare)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
