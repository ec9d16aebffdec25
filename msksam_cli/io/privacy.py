"""Nothing about a patient leaves by a side door: warnings, log records and crash reports of other people's code.

pydicom's warnings quote tag values, and exceptions quote file names, which can hold a patient's name. Their texts are
withheld; what is left says which library spoke, how loudly and where.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

THIRD_PARTIES = (
    "pydicom", "dicom2nifti", "highdicom", "nibabel", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls", "SimpleITK",
)  # fmt: skip
_WITHHELD = "message withheld, it could hold patient data"


def install_privacy_filter() -> None:
    """Redact third-party warnings and log records, and crash reports of every kind, from now on in this process."""
    make_record = logging.getLogRecordFactory()
    if getattr(make_record, "redacts", False):
        return

    def make_redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return redact(make_record(*args, **kwargs))

    make_redacted.redacts = True  # type: ignore[attr-defined]  # a mark on the function, so that it wraps once
    logging.setLogRecordFactory(make_redacted)
    warnings.showwarning = _show_warning
    sys.excepthook = _show_crash
    threading.excepthook = lambda crash: _report(crash.exc_value)
    sys.unraisablehook = lambda crash: _report(crash.exc_value)


def redact(record: logging.LogRecord) -> logging.LogRecord:
    """The record, without text, exception and stack when a third party made it."""
    library = record.name.split(".")[0]
    if library in THIRD_PARTIES:
        record.msg, record.args = f"{library}: {_WITHHELD}", ()
        record.exc_info = record.exc_text = record.stack_info = None
    return record


def _show_warning(  # noqa: PLR0917  # the signature is that of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del line
    place = public_place(filename)
    text = _WITHHELD if place.split("/")[0] in THIRD_PARTIES else str(message)
    (file or sys.stderr).write(f"{place}:{lineno}: {category.__name__}: {text}\n")


def _show_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    del kind, trace
    _report(error)


def _report(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        sys.stderr.write(describe_crash(error))


def describe_crash(error: BaseException) -> str:
    """A crash report of types and places only: no messages, no values, no paths outside the packages.

    >>> try:
    ...     raise KeyError("DOE^JANE")
    ... except KeyError as error:
    ...     print(describe_crash(error).splitlines()[0])
    msksam: internal error (KeyError), please report it with these lines:
    """
    names, places = [], []
    current: BaseException | None = error
    while current is not None:
        names.append(type(current).__name__)
        frames = traceback.extract_tb(current.__traceback__)
        places += [f"  {public_place(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    heading = f"msksam: internal error ({' from '.join(names)}), please report it with these lines:"
    return "\n".join([heading, *places]) + "\n"


def public_place(filename: str) -> str:
    """A source file's path from its package on, without the folders above it.

    >>> public_place("/home/jane/venv/lib/python3.11/site-packages/pydicom/charset.py")
    'pydicom/charset.py'
    >>> public_place("/home/jane/src/msksam_cli/io/study.py")
    'msksam_cli/io/study.py'
    """
    parts = Path(filename).parts
    for marker, keep in (("site-packages", 1), ("msksam_cli", 0)):
        if marker in parts:
            start = len(parts) - 1 - parts[::-1].index(marker)
            return "/".join(parts[start + keep :])
    return parts[-1] if parts else "unknown"
