"""Work spread over the cores of a CPU: one item per thread, one thread inside each operator.

Threads inside torch's operators wait for each other at every one of them; with a busy neighbour that makes a network
ten times slower. Items side by side do not wait, and each result depends on its item alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_over_cores(
    function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int | None = None
) -> list[_Result]:
    """Results of a torch function for every item, in order; `workers` threads, as many as cores when None."""
    if not items:
        return []
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(workers or cores(), len(items)), initializer=_one_thread_per_operator) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(before)


def _one_thread_per_operator() -> None:
    torch.set_num_threads(1)
