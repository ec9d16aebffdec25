from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import pytest

from msksam_cli.core.tissues import default_table
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.executor import HERE, LocalExecutor, Work, Workers
from msksam_cli.io.tables import write_json
from msksam_cli.pipeline.case_work import Failed, Segmented
from msksam_cli.pipeline.progress import Board, Progress, read_progress
from msksam_cli.pipeline.run_record import CaseRecord, write_record
from msksam_cli.pipeline.status import SILENT_AFTER_S, run_status, status_json, status_text

AT = Workers(("node/0", "node/1"), {"node/0": ("c",), "node/1": ()})


def _board(folder, shard=(1, 1)):
    return Board(folder, default_table([1]), shard)


def _write(folder, name, progress):
    write_json(folder / name, asdict(progress))


def test_a_run_that_goes_on_says_how_far_it_is(tmp_path):
    board = _board(tmp_path)
    with board.open(4):
        board.note(Segmented("a", tmp_path), AT)
        board._file_due_s = 0.0
        board.note(Failed("b", "too dark"), AT)
        status = run_status(tmp_path)
        (shard,) = status.shards
        assert (shard.shard, shard.state, shard.left) == ("1/1", "running", 2)
        assert (shard.progress.segmented, shard.progress.failed) == (1, {"b": "too dark"})
        assert shard.cases_per_hour > 0
        text = status_text(status)
        assert "node/0: c" in text
        assert "node/1" not in text
        assert "failed  b: too dark" in text
        assert not status.is_over
    assert not list(tmp_path.glob("progress*"))


def test_a_run_that_was_stopped_says_so_and_the_next_begins_anew(tmp_path):
    with pytest.raises(EnvironmentFault), _board(tmp_path).open(3):
        raise EnvironmentFault("disk full")
    assert run_status(tmp_path).shards[0].state == "stopped"
    with _board(tmp_path).open(3):
        assert run_status(tmp_path).shards[0].state == "running"


def test_a_run_that_was_killed_falls_silent(tmp_path):
    long_ago = time.time() - SILENT_AFTER_S - 60
    _write(tmp_path, "progress.json", Progress(3, 1, started_s=long_ago - 3600, updated_s=long_ago))
    (shard,) = run_status(tmp_path).shards
    assert (shard.state, shard.cases_per_hour) == ("silent", 1.0)
    assert shard.silent_s >= SILENT_AFTER_S


def test_shards_stand_side_by_side_and_what_runs_hides_what_ended(tmp_path):
    ended = {
        "segmented": [{"case": "a", "resumed": True}, {"case": "b", "resumed": False}],
        "refused": [{"case": "c", "reason": "too dark"}],
    }
    write_json(tmp_path / "run-1-of-2.json", ended)
    write_json(tmp_path / "run-2-of-2.json", ended)
    _write(tmp_path, "progress-2-of-2.json", Progress(9, 2, started_s=time.time() - 60, updated_s=time.time()))
    write_record(tmp_path, CaseRecord("a", "s", "i", {}, [], []))
    status = run_status(tmp_path)
    first, second = status.shards
    assert (first.state, first.progress.segmented, first.progress.kept, first.left) == ("ended", 1, 1, 0)
    assert (second.state, second.left) == ("running", 7)
    assert status.records == 1
    told = json.loads(status_json(status))
    assert [shard["left"] for shard in told["shards"]] == [0, 7]
    assert (told["over"], told["records"]) == (False, 1)
    assert "1 case on disk" in status_text(status)


def test_tables_are_written_again_only_when_that_takes_little_of_the_time(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("msksam_cli.pipeline.progress.write_tables", lambda *_, **asked: written.append(asked))
    clock = iter(float(tick) for tick in range(1000))
    monkeypatch.setattr("msksam_cli.pipeline.progress.time.monotonic", lambda: next(clock))
    board = _board(tmp_path)
    with board.open(50):  # every look at the clock takes a second, and so does every writing
        for number in range(50):
            board.note(Segmented(f"c{number}", tmp_path), AT)
    assert 4 <= len(written) <= 8
    board.settle()
    assert [one.get("is_last", True) for one in written[-2:]] == [False, True]


def test_what_stopped_a_run_is_what_is_said_even_where_nothing_can_be_written(tmp_path, monkeypatch):
    def full(*_):
        raise EnvironmentFault("disk full")

    def stop():
        monkeypatch.setattr("msksam_cli.pipeline.progress.write_json", full)
        raise SystemExit(143)

    with pytest.raises(SystemExit, match="143"), _board(tmp_path).open(3):
        stop()


def test_the_local_executor_is_at_an_item_only_while_it_is():
    executor = LocalExecutor()
    seen = []
    work = Work(lambda item: seen.append(executor.workers().working_on[HERE]), str)
    for _ in executor.run(work, ["a", "b"]):
        assert executor.workers().working_on[HERE] == ()
    assert seen == [("a",), ("b",)]


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(InputError, match="no run has begun"):
        run_status(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        run_status(tmp_path / "none")
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match="no record of a run"):
        run_status(tmp_path)


@pytest.mark.parametrize("content", [[], {"planned": "many"}, {"planned": 1, "failed": [1]}, {"plan": 1}])
def test_progress_that_is_none_is_refused(tmp_path, content):
    write_json(tmp_path / "progress.json", content)
    with pytest.raises(InputError, match="no progress of a run"):
        read_progress(tmp_path / "progress.json")


def test_progress_comes_back_equal(tmp_path):
    progress = Progress(4, 1, 2, {"b": "x"}, {"node/0": ("c",)}, 1.0, 2.0)
    _write(tmp_path, "progress.json", progress)
    assert read_progress(tmp_path / "progress.json") == progress
    assert replace(progress, segmented=2).done == 5
