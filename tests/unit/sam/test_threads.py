from __future__ import annotations

import pytest
import torch

from msksam_cli.core.cores import cores_with_memory
from msksam_cli.sam.threads import cores, map_over_cores


def test_results_come_in_the_order_of_the_items_and_each_operator_has_one_thread() -> None:
    seen = map_over_cores(lambda item: (item, torch.get_num_threads()), list(range(20)), workers=3)
    assert seen == [(item, 1) for item in range(20)]


def test_the_callers_own_number_of_threads_is_given_back_even_after_a_failure() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        map_over_cores(str, [1, 2])
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            map_over_cores(lambda item: 1 / item, [1, 0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_nothing_to_do_is_nothing_done() -> None:
    assert map_over_cores(str, []) == []
    assert cores() >= 1


def test_no_more_cores_are_used_than_memory_is_there_for_but_one() -> None:
    assert cores_with_memory(1) == cores()
    assert cores_with_memory(1 << 60) == 1
