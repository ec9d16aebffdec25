"""Damage done to bytes at random, and attempts at reading them that are timed and counted."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

LIMIT_S = 15
HEADER_BYTES = 1800
COLUMNS = ("files", "read", "refused", "crashes", "hangs", "moved", "unaccounted", "slowest_ms")
MUST_BE_0 = ("crashes", "hangs", "moved", "unaccounted")


def damage(content: bytes, chooser: random.Random) -> bytes:
    """One kind of damage at a random place."""
    damaged, place = bytearray(content), chooser.randrange(len(content))
    kind = chooser.choice(("flip", "flip", "header", "header", "header", "cut", "insert", "zero", "repeat"))
    if kind == "flip":
        for _ in range(chooser.choice((1, 4, 20, 200))):
            damaged[chooser.randrange(len(damaged))] ^= 1 << chooser.randrange(8)
    elif kind == "header":
        for _ in range(chooser.choice((1, 1, 3, 8))):
            damaged[chooser.randrange(min(len(damaged), HEADER_BYTES))] = chooser.randrange(256)
    elif kind == "cut":
        del damaged[place:]
    elif kind == "insert":
        damaged[place:place] = bytes(chooser.randrange(256) for _ in range(chooser.randrange(1, 40)))
    elif kind == "zero":
        stretch = chooser.randrange(1, 300)
        damaged[place : place + stretch] = bytes(len(damaged[place : place + stretch]))
    else:
        damaged[place:place] = damaged[place : place + chooser.randrange(1, 500)]
    return bytes(damaged)


def timed(attempt: Callable[[], None], counts: Counter[str]) -> None:
    """Run one attempt; count what must never happen."""
    started = time.perf_counter()
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  # any exception but a refusal is what is being counted
        counts["crashes"] += 1
        counts[f"  {type(error).__name__}"] += 1
    seconds = time.perf_counter() - started
    counts["hangs"] += seconds > LIMIT_S
    counts["slowest_ms"] = max(counts["slowest_ms"], round(seconds * 1000))


def report(name: str, counts: Counter[str]) -> int:
    """Print the counts; return the exit status, 1 when one that must be 0 is not."""
    print(f"{'':8}" + "".join(f"{column:>13}" for column in COLUMNS))
    print(f"{name:8}" + "".join(f"{counts[column]:13}" for column in COLUMNS))
    print("".join(f"{key} {count}\n" for key, count in counts.items() if key.startswith("  ")), end="")
    return int(any(counts[bad] for bad in MUST_BE_0))
