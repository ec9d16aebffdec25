"""Processes that share one cache: python benchmarks/robustness/shared_cache.py [--seconds N] [--processes N].

Each process embeds the slices of a study over and over, as `segment` does, a chunk at a time. A network takes its
time over each slice and gives features made from its pixels, so that every answer can be judged. In `study` the
processes start together and go through the study in one order, as when one study is segmented for several tissues at
once; in `shards` each has its part; in `hostile` they start at random places, and entries are deleted, cut, damaged
by a bit or pruned all the while. Counted are embeddings that are not those of their slice (wrong), exceptions, and
temporaries or claims left; and how often each slice was encoded on average: in `study` and `shards` not more than 1.1
times, in `hostile` more, since entries are destroyed. The exit status is 1 when a count is not 0 or a slice of
`study` or `shards` was encoded more often.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.embeddings import Embedding
from msksam_cli.fusion import FusionRules
from msksam_cli.io.atomic import TEMPORARY_PREFIX
from msksam_cli.io.claims import CLAIM_SUFFIX
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.network import Keep, keep_nothing
from msksam_cli.pipeline.segment_case import Setup, Tally, embed

MODES = ("study", "shards", "hostile")
BAD = ("wrong", "exceptions", "temporaries")
MOST_OFTEN = 1.1
CHUNK = 8
FEATURES = (64, 16, 16)


def slice_of(number: int) -> NDArray[np.uint8]:
    """The slice of this number, unlike all others."""
    return np.random.default_rng(number).integers(0, 256, (24, 20), dtype=np.uint8)


def features_of(pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
    """What belongs to a slice and to no other."""
    seed = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=FEATURES).astype(np.float16)


@dataclass(frozen=True, eq=False)
class SlowNetwork:
    """A network that takes `seconds` over each slice, as a real one does; it cannot decode."""

    seconds: float
    name: str = "slow"
    image_side_px: int = 64
    device: str = "cpu"
    runtime: str = "torch"
    precision: str = "fp32"
    weights_sha256: str = "w"
    encoder_sha256: str = "e"
    metadata: Mapping[str, str] = field(default_factory=dict)
    memory_notes: tuple[str, ...] = ()

    def encode(
        self, slices: Sequence[NDArray[np.uint8]], batch_size: int | None = None, keep: Keep = keep_nothing
    ) -> list[Embedding]:
        """Features of every slice, after the time they take."""
        time.sleep(self.seconds * len(slices))
        embeddings = [Embedding(features_of(pixels), (pixels.shape[0], pixels.shape[1])) for pixels in slices]
        for number, embedding in enumerate(embeddings):
            keep(number, embedding)
        return embeddings

    def decode_slices(self, asked: Sequence[tuple[Embedding, Sequence[Prompt]]]) -> list[list[MaskPrediction]]:
        """Not asked for here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plan:
    """What the processes do: `mode`, over how many slices, by how many processes, for how long."""

    mode: str
    slices: int
    processes: int
    seconds: float
    seconds_per_slice: float
    seed: int


def work(root: str, plan: Plan, own: int, start: Any, results: Any) -> None:
    """One process: embeds until its time is up; puts its counts."""
    counts, chooser = Counter[str](), random.Random(f"{plan.seed} {own}")
    store = DiskStore(Path(root))
    setup = Setup(TissueTable((Tissue(1, "a"),)), SlowNetwork(plan.seconds_per_slice), store, FusionRules())
    numbers = list(range(plan.slices))
    if plan.mode == "shards":
        numbers = numbers[own :: plan.processes]
    chunks = [numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)]
    start.wait()
    until = time.monotonic() + plan.seconds
    turn = 0
    while time.monotonic() < until:
        chunk = chooser.choice(chunks) if plan.mode == "hostile" else chunks[turn % len(chunks)]
        turn += 1
        planes, tally = [slice_of(number) for number in chunk], Tally()
        try:
            found = embed(planes, setup, tally)
        except Exception as error:  # noqa: BLE001  # any exception is what is being counted
            counts["exceptions"] += 1
            counts[f"  {type(error).__name__}: {error}"] += 1
            continue
        counts["read"] += len(found)
        counts["encoded"] += tally.slices_encoded
        counts["wrong"] += sum(
            one.features.tobytes() != features_of(pixels).tobytes() for one, pixels in zip(found, planes, strict=True)
        )
        if plan.mode == "hostile":
            harm(store, chooser)
    results.put(counts)


def harm(store: DiskStore, chooser: random.Random) -> None:
    """Destroy an entry in one of the ways the world has."""
    entries = list(store.root.glob("??/*.safetensors"))
    if not entries:
        return
    path = chooser.choice(entries)
    kind = chooser.choice(("delete", "cut", "flip", "prune", "verify", "nothing", "nothing"))
    try:
        if kind == "delete":
            path.unlink(missing_ok=True)
        elif kind in ("cut", "flip"):
            content = bytearray(path.read_bytes())
            place = chooser.randrange(len(content))
            content[place] ^= 1 << chooser.randrange(8)
            path.write_bytes(content if kind == "flip" else content[:place])
        elif kind == "prune":
            store.prune(max_bytes=chooser.randrange(4_000_000))
        elif kind == "verify":
            store.verify()
    except (FileNotFoundError, ValueError):
        return  # another process was faster


def shared_cache(root: Path, plan: Plan) -> Counter[str]:
    """Counts of all processes together."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    arguments = [(str(root), plan, own, start, results) for own in range(plan.processes)]
    processes = [context.Process(target=work, args=one) for one in arguments]
    for process in processes:
        process.start()
    time.sleep(0.5 * plan.processes + 2.0)  # until all are at the start
    start.set()
    counts = Counter[str]()
    for _ in processes:
        counts.update(results.get(timeout=plan.seconds + 300))
    for process in processes:
        process.join(timeout=60)
        counts["exceptions"] += process.exitcode != 0
    left = (*root.rglob(TEMPORARY_PREFIX + "*"), *root.rglob("*" + CLAIM_SUFFIX))
    counts["temporaries"] = len(left)
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=600, help="for each of the three modes")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--seconds-per-slice", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    print(f"{'':10}{'read':>10}{'encoded':>10}{'per slice':>12}" + "".join(f"{name:>13}" for name in BAD))
    for mode in MODES:
        plan = Plan(mode, options.slices, options.processes, options.seconds, options.seconds_per_slice, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            counts = shared_cache(Path(folder), plan)
        often = counts["encoded"] / options.slices
        failed |= any(counts[name] for name in BAD) or (mode != "hostile" and often > MOST_OFTEN)
        cells = "".join(f"{counts[name]:13}" for name in BAD)
        print(f"{mode:10}{counts['read']:10}{counts['encoded']:10}{often:12.3f}{cells}", flush=True)
        print("".join(f"{name} ({number})\n" for name, number in counts.items() if name.startswith("  ")), end="")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
