from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from msksam_cli.core.cores import spread_over_cores, threads


def test_results_stand_in_the_order_of_their_items() -> None:
    second_done = threading.Event()

    def doubled(number: int) -> int:
        assert second_done.wait(10) if number == 1 else not second_done.set()
        return 2 * number

    assert spread_over_cores(doubled, [1, 2], workers=2) == [2, 4]
    assert spread_over_cores(doubled, []) == []


def test_after_an_exception_what_has_not_begun_is_left_out() -> None:
    begun: list[int] = []
    futures: list[Future[None]] = []
    has_begun, stopped = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        has_begun.set()
        stopped.wait(10)

    def interrupted() -> None:
        with threads(1) as pool:
            futures.extend(pool.submit(work, number) for number in range(50))
            assert has_begun.wait(10)
            threading.Timer(0.2, stopped.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert begun == [0]
    assert all(future.cancelled() for future in futures[1:])
