"""Claims: files that say which process is computing something, so that others wait for it instead of doing it too.

They save work and guard nothing: a claim that cannot be written counts as given, and one whose process is gone, or
which is older than `LONGEST_S`, is taken over. What two processes compute in spite of it is equal.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from msksam_cli.io.atomic import is_gone, writer_mark
from msksam_cli.io.cache_entry import entry_status, remove_entry

CLAIM_SUFFIX = ".claim"
LONGEST_S = 120.0


def claim(path: Path) -> bool:
    """Whether this process should compute what `path` stands for; False while another one is at it."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            if not _is_abandoned(path):
                return False
            remove_entry(path)
            continue
        except OSError:
            return True
        try:
            os.write(descriptor, writer_mark().encode())
        except OSError:
            return True  # a claim without a name goes by its age
        finally:
            os.close(descriptor)
        return True
    return True


def _is_abandoned(path: Path) -> bool:
    status = entry_status(path)
    if status is None or time.time() - status.st_mtime > LONGEST_S:
        return True
    try:
        return is_gone(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
