"""Whether a declared size fits this machine, asked before anything is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence


def check_fits_memory(shape: Sequence[int], bytes_per_voxel: int) -> str:
    """Why an array cannot be held, "" when it can.

    >>> check_fits_memory((4, 4, 4), 4)
    ''
    >>> check_fits_memory((10**6, 10**6, 10**6), 4)[:24]
    '1000000 × 1000000 × 1000'
    """
    needed, available = math.prod(shape) * bytes_per_voxel, available_bytes()
    if available is None or needed <= available:
        return ""
    size = " × ".join(str(n) for n in shape)
    return f"{size} voxels need {needed / 2**30:.1f} GiB to be read, {available / 2**30:.1f} GiB are available"


def available_bytes() -> int | None:
    """Memory that can be had without swapping, in bytes; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):
        return _physical_bytes()


def _physical_bytes() -> int | None:
    try:
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):
        return None
