"""`msksam segment` as a user runs it: exit codes, what is said where, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from msksam_cli.app import app
from msksam_cli.errors import InputError, UsageError
from msksam_cli.io.atomic import TEMPORARY_PREFIX
from msksam_cli.pipeline.run_record import is_done, read_records

PROGRAM = [sys.executable, "-c", "from msksam_cli.app import main; main()", "segment"]


@pytest.fixture
def arguments(small_study, small_checkpoint, tmp_path):
    """What to type to segment the small study with prompts from its labels."""
    return [
        str(small_study.images), "--tissue", "bone", "-o", str(tmp_path / "out"), "--model", str(small_checkpoint),
        "--prompts", f"labels:{small_study.labels}", "--device", "cpu", "--cache", str(tmp_path / "cache"),
    ]  # fmt: skip


def _run(*arguments):
    return CliRunner().invoke(app, ["segment", *arguments])


def _environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "MSKSAM_OFFLINE": "1"}


def test_results_go_to_stdout_talk_to_stderr_and_all_done_is_0(small_study, arguments, tmp_path):
    small_study.add("a")
    done = subprocess.run(
        [*PROGRAM, *arguments, "--json"], capture_output=True, text=True, check=False, timeout=300, env=_environment()
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(case["case"], case["state"]) for case in told["cases"]] == [("a", "segmented")]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "labels" / "a.nii.gz").is_file()


def test_an_expected_error_is_one_line_on_stderr_and_its_exit_code(small_study, arguments):
    small_study.images.mkdir()
    done = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=300, env=_environment()
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("msksam: nothing usable among 0 files")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_a_signal_ends_the_run_within_5_s_and_leaves_whole_cases_and_no_temporaries(
    number, exit_code, small_study, arguments, tmp_path
):
    for case in range(16):
        small_study.add(f"c{case:02d}", shift_px=case % 4)
    running = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment()
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "out").glob("records/c*.json")):
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(number)
    sent_s = time.monotonic()
    _, said = running.communicate(timeout=120)
    assert time.monotonic() - sent_s < 5
    assert running.returncode == exit_code, said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob(TEMPORARY_PREFIX + "*"))
    records = list(read_records(tmp_path / "out"))
    assert 1 <= len(records) < 16
    assert all(is_done(record, tmp_path / "out", record.setup_sha256, record.input_sha256) for record in records)
    resumed = _run(*arguments)
    assert resumed.exit_code == 0
    assert f"16 segmented ({len(records)} by an earlier run)" in resumed.stdout


def test_some_cases_failed_is_3_and_says_which(small_study, arguments):
    small_study.add("a")
    small_study.add("b")
    (small_study.labels / "b.nii.gz").unlink()
    result = _run(*arguments)
    assert result.exit_code == 3
    assert "failed     b: 0 label volumes for case b" in result.stdout
    assert "1 segmented (0 by an earlier run), 1 failed; 5 slices encoded" in result.stdout


def test_options_reach_the_run(small_study, arguments, tmp_path):
    for name in "ab":
        small_study.add(name)
    planned = _run(*arguments, "--dry-run", "--shard", "2/2")
    assert planned.stdout.splitlines()[0] == "would segment  b: femur, tibia"
    assert not (tmp_path / "out").exists()
    for name in ("c-echo-1", "c-echo-2", "c-echo-3"):
        small_study.add(name)
    timed = _run(*arguments, "--dry-run", "--spin-lock-times-ms", "0,20,40")
    assert [line.split(":")[0] for line in timed.stdout.splitlines()[:-1]] == [
        "would segment  a", "would segment  b", "would segment  c-echo-1",
    ]  # fmt: skip
    few = _run(*arguments, "--no-fusion", "--min-slices", "7", "--dry-run")
    assert isinstance(few.exception, InputError)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--shard", "3/2"), "shard 3/2 does not exist"),
        (("--prompt-kind", "blob"), "unknown kind of prompt"),
        (("--batch-size", "0"), "cannot read batch size"),
        (("--use-sform", "--use-qform"), "contradict each other"),
        (("--runtime", "abacus"), "unknown runtime"),
        (("--tissue", " , "), "no tissue was named"),
        (("--tissue", "humerus"), "unknown tissue 'humerus'"),
        (("--device", "toaster"), "unknown device 'toaster'"),
        (("--precision", "int4"), "unknown precision 'int4'"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--map-fit", "gauss"), "unknown noise floor 'gauss'"),
        (("--echo-times-ms", "10,x"), "cannot read times '10,x'"),
        (("--echo-times-ms", "10,20", "--spin-lock-times-ms", "0,10"), "echo times or spin-lock times"),
        (("--echo-times-ms", "10,20,30"), "no set of volumes has 3 members"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_2_and_nothing_is_written(extra, message, small_study, arguments, tmp_path):
    small_study.add("a")
    result = _run(*arguments, *extra)
    assert isinstance(result.exception, UsageError), result.output
    assert result.exception.exit_code == 2
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_cache_and_no_cache_together_are_refused_by_the_parser(small_study, arguments):
    small_study.add("a")
    assert _run(*arguments, "--no-cache").exit_code == 2
