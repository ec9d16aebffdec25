"""The reading process: `python -m msksam_cli.io.dicom_worker`, one request per line on stdin.

Every DICOM byte is parsed and decoded here, so that a file which crashes, hangs or bloats a decoder ends this process
and not the run. Requests and replies are JSON lines; voxels follow their reply as raw bytes. The process writes
nothing else: what decoders print goes nowhere, and exceptions leave by type name only, since their texts can hold tag
values.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom.config

from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FileHeader
from msksam_cli.io.dicom_header import read_header

STEP_LIMIT_S = 15.0
_SLOWEST_BYTES_PER_S = 5e6


def main() -> None:
    """Answer requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _be_quiet()
    _send(replies, {"ready": os.getpid()})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_memory(int(request["memory_bytes"]))
        _restart_clock()
        if request["task"] == "header":
            _send(replies, _header_reply(Path(request["path"])))
        else:
            _convert(replies, [(Path(path), int(frame)) for path, frame in request["slices"]])
        _stop_clock()


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def _header_reply(path: Path) -> dict[str, Any]:
    try:
        return read_header(path).to_json()
    except PermissionError:
        return FileHeader("refuse", "file may not be read", "Give yourself read permission").to_json()
    except BaseException as error:  # noqa: BLE001  # the worker's boundary: whatever a parser raises refuses its file
        return FileHeader("refuse", f"DICOM header cannot be parsed ({_describe(error)})").to_json()


def _convert(replies: BinaryIO, slices: list[tuple[Path, int]]) -> None:
    from msksam_cli.io.dicom_convert import convert_planes, read_planes

    largest = max((path.stat().st_size for path, _ in slices if path.is_file()), default=0)
    _restart_clock(STEP_LIMIT_S + largest / _SLOWEST_BYTES_PER_S)
    try:
        planes = read_planes(slices, lambda: _restart_clock(STEP_LIMIT_S + largest / _SLOWEST_BYTES_PER_S))
        _restart_clock(STEP_LIMIT_S + sum(plane.pixels.nbytes for plane in planes) / _SLOWEST_BYTES_PER_S)
        converted = convert_planes(planes)
        voxels = np.ascontiguousarray(converted.voxels.T)
    except SeriesError as error:
        _send(replies, {"error": error.message, "hint": error.hint})
    except BaseException as error:  # noqa: BLE001  # the worker's boundary; some decoders raise BaseException
        _send(replies, {"error": f"pixels cannot be decoded ({_describe(error)})", "hint": ""})
    else:
        _send(
            replies,
            {"dtype": voxels.dtype.str, "shape": voxels.shape, "affine": converted.affine.tolist()},
            voxels.data.cast("B"),
        )


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "more memory than it may take"
    return "nested too deeply" if isinstance(error, RecursionError) else type(error).__name__


def _send(replies: BinaryIO, record: dict[str, Any], payload: memoryview | bytes = b"") -> None:
    replies.write(json.dumps(record).encode("ascii") + b"\n")
    replies.write(payload)
    replies.flush()


def _restart_clock(seconds: float = STEP_LIMIT_S) -> None:
    """Let the process be killed when the next step takes longer than it may, even inside a decoder's C code."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _stop_clock() -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(extra_bytes: int) -> None:
    """Allow `extra_bytes` of address space beyond what the process holds now (Linux only)."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (held + extra_bytes, hard))


if __name__ == "__main__":
    main()
