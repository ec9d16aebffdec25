"""Single flipped bits in cache and checkpoint: python benchmarks/robustness/flipped_bits.py [--flips N] [--seed S].

One bit at a random place of a real file is flipped, and the file is read the way a run reads it. Files: an embedding
of a cache, a kept placement's entry, a safetensors checkpoint of msksam read without a pin, the same behind the pin
that the registry and `models import` give, and a PyTorch checkpoint behind a pin. Counted are flips that were not
noticed: a reader that gave back what was damaged. The exit status is 1 when there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from small_study import write_study

from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.errors import ModelError
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.result_store import ResultStore
from msksam_cli.io.weights import read_weights
from msksam_cli.sam.checkpoint import parse_checkpoint

Noticed = Callable[[], bool]


def _is_refused(path: Path, sha256: str = "") -> bool:
    try:
        weights = read_weights(path, sha256)
        parse_checkpoint(weights.content, weights.name).build()
    except ModelError:
        return True
    return False


def targets(root: Path) -> dict[str, tuple[Path, Noticed]]:
    """Name → a file, and what tells whether its reader notices that it is damaged."""
    checkpoint = Path(write_study(root, 1).model)
    features = np.random.default_rng(0).normal(size=(256, 16, 16)).astype(np.float16)
    key = EmbeddingKey.of_slice(np.zeros((3, 5), np.uint8), "e" * 64, "v1", "fp32")
    store, results = DiskStore(root / "cache"), ResultStore(root / "cache")
    store.put(key, Embedding(features, (30, 50)))
    digest = hashlib.sha256(b"placement").hexdigest()
    results.put(digest, features.tobytes())
    plain = root / "plain.pth"
    stream = io.BytesIO()
    torch.save(parse_checkpoint(checkpoint.read_bytes(), "").build().state_dict(), stream)
    plain.write_bytes(stream.getvalue())
    pins = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (checkpoint, plain)}
    return {
        "embedding": (store.path_of(key), lambda: store.get(key) is None),
        "placement": (results.path_of(digest), lambda: results.get(digest) is None),
        "own, no pin": (checkpoint, lambda: _is_refused(checkpoint)),
        "own, pinned": (checkpoint, lambda: _is_refused(checkpoint, pins[checkpoint])),
        "torch, pinned": (plain, lambda: _is_refused(plain, pins[plain])),
    }


def flip_bits(root: Path, flips: int, seed: int) -> dict[str, Counter[str]]:
    """Name of a target → counts of flips, and of flips that were not noticed."""
    found, chooser = targets(root), random.Random(seed)
    counts = {name: Counter[str]() for name in found}
    for name, (_, noticed) in found.items():
        if noticed():
            raise SystemExit(f"{name}: the undamaged file is refused")
    for number in range(flips):
        name = list(found)[number % len(found)]
        path, noticed = found[name]
        content = path.read_bytes()
        bit = chooser.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        counts[name]["flips"] += 1
        counts[name]["unnoticed"] += not noticed()
        path.write_bytes(content)
    return counts


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--flips", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = flip_bits(Path(folder), options.flips, options.seed)
    print(f"{'':16}{'flips':>8}{'unnoticed':>12}")
    for name, of_target in counts.items():
        print(f"{name:16}{of_target['flips']:8}{of_target['unnoticed']:12}")
    sys.exit(int(any(of_target["unnoticed"] for of_target in counts.values())))


if __name__ == "__main__":
    main()
