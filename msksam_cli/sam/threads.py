"""Torch's work spread over the cores of a CPU: one item per thread, one thread inside each operator.

Threads inside torch's operators wait for each other at every one of them; with a busy neighbour that makes a network
ten times slower. Items side by side do not wait, and each result depends on its item alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from msksam_cli.core.cores import cores, spread_over_cores

__all__ = ["cores", "map_over_cores"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_over_cores(
    function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int | None = None
) -> list[_Result]:
    """Results of a torch function for every item, in order; `workers` threads, as many as cores when None."""
    before = torch.get_num_threads()
    try:
        return spread_over_cores(function, items, workers, prepare=_one_thread_per_operator)
    finally:
        torch.set_num_threads(before)


def _one_thread_per_operator() -> None:
    torch.set_num_threads(1)
