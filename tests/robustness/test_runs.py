"""Runs that are killed, find the disk full or share a cache, and labels on grids of every orientation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import disk_full
import output_grid
import pytest
import shared_cache

SCRIPTS = Path(shared_cache.__file__).parent


def test_a_run_killed_at_any_moment_leaves_nothing_corrupt_and_is_completed_to_the_same_bytes():
    done = subprocess.run(
        [sys.executable, SCRIPTS / "kill_segment.py", "--kills", "6", "--cases", "4", "--seed", "4"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip  # in a process of its own, since it forks
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert int(counts["kills"]) == 6
    assert int(counts["ends"]) >= 1


@pytest.mark.parametrize("once", [False, True], ids=["from then on", "once"])
def test_a_disk_full_at_any_change_ends_with_5_and_no_part_and_the_next_run_completes(once, tmp_path):
    counts = disk_full.disk_full(tmp_path, cases=1, step=17, once=once)
    assert {name: counts[name] for name in disk_full.BAD} == dict.fromkeys(disk_full.BAD, 0), counts
    assert counts["runs"] >= 8
    assert {kind for kind in ("write", "fsync", "open", "mkdir", "replace") if counts[f"  {kind}"] > 9} == {
        "write", "fsync", "open", "mkdir", "replace",
    }  # fmt: skip


def test_labels_lie_on_their_image_in_every_orientation(tmp_path):
    counts = output_grid.output_grid(tmp_path, oblique=6, seed=1, every=9)
    assert {name: counts[name] for name in output_grid.BAD} == dict.fromkeys(output_grid.BAD, 0)
    assert counts["volumes"] == 6


@pytest.mark.parametrize("mode", ["study", "hostile"])
def test_processes_that_share_a_cache_read_nothing_wrong_and_encode_nothing_twice(mode, tmp_path):
    plan = shared_cache.Plan(mode, slices=24, processes=2, seconds=3, seconds_per_slice=0.02, seed=1)
    counts = shared_cache.shared_cache(tmp_path, plan)
    assert {name: counts[name] for name in shared_cache.BAD} == dict.fromkeys(shared_cache.BAD, 0), counts
    assert counts["read"] > 48
    if mode == "study":
        assert counts["encoded"] <= 24 * shared_cache.MOST_OFTEN
