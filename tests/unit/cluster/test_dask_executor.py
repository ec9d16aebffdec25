from __future__ import annotations

import errno
import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from msksam_cli.cluster.dask_executor import FAULTS_ALLOWED
from msksam_cli.cluster.launch import dask_executor
from msksam_cli.cluster.settings import ClusterSettings
from msksam_cli.errors import EnvironmentFault, InputError, UnlikeOthers, UsageError
from msksam_cli.executor import Ahead, Lost, Work

pytestmark = pytest.mark.filterwarnings("default")  # of dask and tornado, which are not ours


_QUIET = {
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": logging.CRITICAL,
}


@pytest.fixture(scope="module")
def executor():
    with dask_executor(settings=ClusterSettings(workers=2)) as found:
        yield found


def _square(number):
    return number * number


@dataclass(frozen=True)
class _Noted:
    """Work that leaves a file for every attempt."""

    folder: Path
    deadly: tuple[int, ...] = ()
    deadly_once: tuple[int, ...] = ()
    full: tuple[int, ...] = ()

    def attempts(self, number):
        return len(list(self.folder.glob(f"{number}-*")))

    def __call__(self, number):
        before = self.attempts(number)
        (self.folder / f"{number}-{before}-{os.getpid()}").touch()
        if number in self.deadly or (number in self.deadly_once and not before):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.full:
            raise EnvironmentFault(os.strerror(errno.ENOSPC))
        return os.getpid()


def test_every_item_comes_back_once_with_its_result_from_another_process(executor):
    results = list(executor.run(Work(_square, str), range(25)))
    assert sorted(results) == [(number, number * number) for number in range(25)]
    assert os.getpid() not in executor.everywhere(os.getpid).values()
    assert len(executor.everywhere(os.getpid)) == 2


def test_no_more_items_are_begun_than_workers_are_there(executor):
    begun = []

    def items():
        for number in range(12):
            begun.append(number)
            yield number

    for done, _ in enumerate(executor.run(Work(_square, str), items()), start=1):
        assert len(begun) <= done + 2 + 1  # one more is looked at to know whether there is one


def test_no_items_are_no_work(executor):
    assert list(executor.run(Work(_square, str), [])) == []


def test_an_item_whose_worker_dies_is_done_again_and_nothing_else_is(executor, tmp_path):
    work = _Noted(tmp_path, deadly_once=(3,))
    results = dict(executor.run(Work(work, str), range(8)))
    assert all(isinstance(result, int) for result in results.values())
    assert [work.attempts(number) for number in range(8)] == [1, 1, 1, 2, 1, 1, 1, 1]


def test_an_item_that_ends_its_worker_twice_is_given_up_and_the_others_are_done(executor, tmp_path):
    work = _Noted(tmp_path, deadly=(2,))
    results = dict(executor.run(Work(work, str), range(6)))
    lost = results.pop(2)
    assert isinstance(lost, Lost)
    assert "ended its worker 2 times" in lost.reason
    assert all(isinstance(result, int) for result in results.values())
    assert [work.attempts(number) for number in range(6)] == [1, 1, 2, 1, 1, 1]


def _refuse(number):
    raise InputError(f"nothing to do with {number}", "Stop")


def _stumble(number):
    raise KeyError(number)


def test_other_errors_of_the_work_end_the_run_as_they_are(executor):
    with pytest.raises(InputError, match="nothing to do with 1"):
        list(executor.run(Work(_refuse, str), [1]))
    with pytest.raises(RuntimeError, match=r"on worker .*: KeyError in test_dask_executor\.py:\d+$"):
        list(executor.run(Work(_stumble, str), ["patient's name"]))
    assert list(executor.run(Work(_square, str), [3])) == [(3, 9)]


def test_a_run_that_is_left_early_leaves_the_workers_free(executor):
    for _ in executor.run(Work(_square, str), range(50)):
        break
    assert sorted(executor.run(Work(_square, str), [1, 2])) == [(1, 1), (2, 4)]


def test_a_worker_says_why_it_cannot_be_used(executor):
    with pytest.raises(EnvironmentFault, match=r"worker .*/\d.*no such device"):
        executor.everywhere(_no_device)


def _no_device():
    raise EnvironmentFault("no such device")


@dataclass(frozen=True)
class _FullOnOne:
    """Work that finds the disk full in one process."""

    full: int

    def __call__(self, number):
        if os.getpid() == self.full:
            raise EnvironmentFault("disk full")
        return os.getpid()


def test_a_worker_whose_disk_is_full_gets_nothing_more_and_its_items_go_to_the_other():
    with dask_executor(settings=ClusterSettings(workers=2)) as executor:
        pids = set(executor.everywhere(os.getpid).values())
        full = min(pids)
        results = dict(executor.run(Work(_FullOnOne(full), str), range(10)))
        assert set(results) == set(range(10))
        assert set(results.values()) == pids - {full}
        assert len(executor.workers().names) == 1


@dataclass(frozen=True)
class _Choosy:
    """Work that only one process is fit for."""

    fit: int

    def __call__(self, number):
        if os.getpid() != self.fit:
            raise UnlikeOthers("torch 2.10 and 2.11")
        return number


def test_a_worker_unlike_the_others_gets_no_items_and_that_is_no_fault_of_theirs():
    with dask_executor(settings=ClusterSettings(workers=3)) as executor:
        fit = min(executor.everywhere(os.getpid).values())
        assert dict(executor.run(Work(_Choosy(fit), str), range(4))) == {number: number for number in range(4)}
        assert len(executor.workers().names) == 1


@dataclass(frozen=True)
class _FaultyItem:
    """Work on one item that every machine fails at, after some that none does."""

    bad: int

    def __call__(self, number):
        if number == self.bad:
            time.sleep(0.3)
            raise EnvironmentFault("device lost")
        return number


def test_an_item_that_all_machines_fail_at_is_given_up_while_others_are_done():
    with dask_executor(settings=ClusterSettings(workers=4, cores=1)) as executor:
        results = dict(executor.run(Work(_FaultyItem(0), str), range(400)))
    assert isinstance(results[0], Lost)
    assert results[0].reason.count("device lost") == FAULTS_ALLOWED + 1
    assert {number for number, result in results.items() if result == number} == set(range(1, 400))


def test_a_worker_whose_time_is_up_begins_nothing_more(monkeypatch):
    monkeypatch.setenv("MSKSAM_WORKER_UNTIL", str(time.time() - 1))
    with (
        dask_executor(settings=ClusterSettings(workers=1)) as executor,
        pytest.raises(EnvironmentFault, match="its time is up"),
    ):
        list(executor.run(Work(_square, str), range(3)))


def _told_to_use():
    return os.environ["MSKSAM_CORES"], os.environ["OMP_NUM_THREADS"], os.environ.get("MSKSAM_OFFLINE")


def test_a_worker_is_told_its_cores_and_this_process_keeps_its_own(monkeypatch):
    monkeypatch.setenv("MSKSAM_OFFLINE", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    with dask_executor(settings=ClusterSettings(workers=1, cores=3)) as executor:
        assert list(executor.everywhere(_told_to_use).values()) == [("3", "3", "1")]
        assert "MSKSAM_CORES" not in os.environ
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "1"


def test_a_scheduler_is_left_as_it_was():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, **_QUIET) as cluster:
        cluster.scheduler.allowed_failures = 5
        with dask_executor(cluster.scheduler_address) as executor:
            assert list(executor.run(Work(_square, str), [2])) == [(2, 4)]
            assert cluster.scheduler.allowed_failures == 0
        assert cluster.scheduler.allowed_failures == 5


def test_a_result_that_went_with_its_worker_is_made_again(executor):
    results = executor.run(Work(_square, str), range(8))
    found = [next(results)]
    time.sleep(1.0)  # the items underway are done, and their results on their workers
    for pid in executor.everywhere(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    assert sorted([*found, *results]) == [(number, number * number) for number in range(8)]


def test_a_disk_that_is_full_everywhere_ends_the_run(tmp_path):
    with (
        dask_executor(settings=ClusterSettings(workers=2)) as executor,
        pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1/[01]: No space left"),
    ):
        list(executor.run(Work(_Noted(tmp_path, full=tuple(range(10))), str), range(10)))


@dataclass(frozen=True)
class _Step:
    """A step that notes in which process it was done, after those before it."""

    folder: Path
    name: str
    fails: bool = False

    def __call__(self, number):
        with (self.folder / f"{number}").open("a") as stream:
            stream.write(f"{self.name} {os.getpid()}\n")
        if self.fails:
            raise InputError("not today")
        return number


@pytest.mark.parametrize("fails", [False, True])
def test_where_some_workers_have_a_gpu_they_do_what_is_for_them_and_nothing_else(tmp_path, fails):
    from distributed import LocalCluster, Nanny

    with LocalCluster(n_workers=1, threads_per_worker=1, **_QUIET, resources={"GPU": 1}) as cluster:
        plain = {"cls": Nanny, "options": {"nthreads": 1}}
        cluster.worker_spec |= {"plain-1": plain, "plain-2": plain}
        cluster.sync(cluster._correct_state)
        with dask_executor(cluster.scheduler_address) as executor:
            assert executor.is_split
            (gpu,) = executor.everywhere(os.getpid, on_gpu=True).values()
            others = set(executor.everywhere(os.getpid).values())
            assert len(others) == 2
            ahead = (
                Ahead(_Step(tmp_path, "place", fails), on_gpu=False),
                Ahead(_Step(tmp_path, "encode", fails), True),
            )
            results = dict(executor.run(Work(_Step(tmp_path, "do"), str, ahead), range(8)))
    assert results == {number: number for number in range(8)}
    for number in range(8):
        steps = [line.split() for line in (tmp_path / f"{number}").read_text().splitlines()]
        assert [name for name, _ in steps] == ["place", "encode", "do"]
        assert int(steps[1][1]) == gpu
        assert {int(steps[0][1]), int(steps[2][1])} <= others


def test_a_scheduler_that_dies_ends_the_run_with_what_to_do():
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **_QUIET) as cluster,
        dask_executor(cluster.scheduler_address) as executor,
    ):
        results = executor.run(Work(_square, str), range(1000000))
        next(results)
        cluster.close()
        with pytest.raises(EnvironmentFault, match="the scheduler is gone"):
            list(results)


def test_an_address_that_nobody_answers_or_that_is_none_is_said():
    with pytest.raises(UsageError, match="no address of a scheduler"), dask_executor("nowhere:at:all"):
        pass
