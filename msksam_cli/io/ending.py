"""SIGINT and SIGTERM: open writes are undone, and the process ends with 128 + the signal's number within seconds.

The signal becomes a SystemExit in the main thread, so that everything is left in order. What swallows that (a
destructor, a library), or keeps the main thread from running (long work in C, threads that are waited for), does not
keep the process alive: a thread that waits for signals removes the files being written and ends it `GRACE_S` later.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType

from msksam_cli.io.atomic import abandon_writes

GRACE_S = 3.0
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM end this process from now on; to be called in the main thread, once."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    sender_number = sender.detach()  # open as long as the process lives
    signal.set_wakeup_fd(sender_number, warn_on_full_buffer=False)
    for number in ENDING_SIGNALS:
        signal.signal(number, _raise_exit)
    threading.Thread(target=_end_after_grace, args=(receiver,), name="ending", daemon=True).start()


def _raise_exit(number: int, frame: FrameType | None) -> None:
    """Turn a signal into an exception, so that open writes are undone on the way out."""
    del frame
    raise SystemExit(128 + number)


def _end_after_grace(receiver: socket.socket) -> None:
    while received := receiver.recv(1):  # the number of each signal that Python handles
        if received[0] in ENDING_SIGNALS:
            time.sleep(GRACE_S)
            abandon_writes()
            os._exit(128 + received[0])
