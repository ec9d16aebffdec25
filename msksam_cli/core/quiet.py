"""Warnings of other libraries silenced, by one thread at a time: what is silenced is so in the whole process."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.RLock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """No warning is shown; another thread that wants the same waits."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
