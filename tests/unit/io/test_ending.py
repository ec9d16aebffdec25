from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

BEGIN = """
import sys, threading, time
from pathlib import Path
from msksam_cli.io.atomic import atomic_path
from msksam_cli.io.ending import end_on_signals
end_on_signals()
target = Path(sys.argv[1])
def ready():
    print("ready", flush=True)
"""
PLAIN = """
with atomic_path(target) as path:
    path.write_text("half")
    ready()
    time.sleep(60)
"""
SWALLOWED = """
class Thing:
    def __del__(self):
        ready()
        time.sleep(60)
with atomic_path(target) as path:
    path.write_text("half")
    thing = Thing()
    del thing
    time.sleep(60)
"""
WAITED_FOR = """
def work():
    with atomic_path(target) as path:
        path.write_text("half")
        ready()
        time.sleep(60)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", [PLAIN, SWALLOWED, WAITED_FOR], ids=["plain", "swallowed", "waited for"])
def test_a_signal_ends_the_process_within_5_s_and_leaves_no_file(body, number, tmp_path):
    target = tmp_path / "a.txt"
    running = subprocess.Popen(
        [sys.executable, "-c", BEGIN + body, str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    assert len(os.listdir(tmp_path)) == 1
    running.send_signal(number)
    sent_s = time.monotonic()
    running.communicate(timeout=60)
    assert time.monotonic() - sent_s < 5
    assert running.returncode == 128 + number
    assert os.listdir(tmp_path) == []


def test_other_signals_end_nothing(tmp_path):
    body = """
import signal
signal.signal(signal.SIGUSR1, lambda number, frame: None)
signal.raise_signal(signal.SIGUSR1)
time.sleep(4)
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")
