"""Warnings silenced by several threads."""

from __future__ import annotations

import threading
import warnings

from msksam_cli.core.quiet import without_warnings


def test_threads_that_silence_warnings_leave_what_there_was() -> None:
    before, shown = list(warnings.filters), warnings.showwarning
    first_is_in, second_may_go = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with without_warnings():
            first_is_in.set()
            second_may_go.wait(10)
            warnings.warn("unseen", stacklevel=1)
            order.append("first")

    def second() -> None:
        first_is_in.wait(10)
        second_may_go.set()
        with without_warnings():
            order.append("second")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
    assert (list(warnings.filters), warnings.showwarning) == (before, shown)


def test_one_thread_may_silence_what_is_silent() -> None:
    with without_warnings(), without_warnings():
        warnings.warn("unseen", stacklevel=1)
