"""Embeddings on disk, shared by any number of processes: `<root>/<first two hex digits>/<key digest>.safetensors`.

An entry is one float16 tensor; its header holds the key and a sha256 over shapes and bytes. A reader rebuilds the
header it expects and compares it byte for byte, and hashes the rest, so that an entry with a single changed bit is
noticed, deleted and computed again. Entries appear by rename: nothing here needs a lock. Claims (`<key>.claim`) only
keep processes from computing the same embedding at the same time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.errors import CacheError, EnvironmentFault
from msksam_cli.io.atomic import TEMPORARY_PREFIX, write_atomic
from msksam_cli.io.cache_entry import CACHE_HINT, entry_status, mark_used, read_entry, remove_entry
from msksam_cli.io.claims import CLAIM_SUFFIX, claim

_SUFFIX = ".safetensors"
_ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_STALE_TEMPORARY_S = 3600.0


@dataclass(frozen=True)
class CacheSummary:
    """What a store holds, or what was removed from it.

    Attributes:
        entries: number of embeddings.
        size_bytes: their size on disk.
    """

    entries: int
    size_bytes: int


@dataclass(frozen=True)
class CacheCheck:
    """Result of reading every entry.

    Attributes:
        intact: entries that can be trusted.
        removed: broken entries, now deleted.
    """

    intact: int
    removed: int


class DiskStore:
    """An `EmbeddingStore` in a folder.

    Args:
        root: the folder; created by the first `put`.

    Raises:
        CacheError: the path exists and is no folder.
    """

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise CacheError(f"cache {root.name} is not a folder", CACHE_HINT)
        self.root = root

    def path_of(self, key: EmbeddingKey) -> Path:
        """Where the entry of a key is, or would be."""
        return self.root / key.digest[:2] / (key.digest + _SUFFIX)

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding, verified; None when there is none. A broken entry is deleted.

        Raises:
            CacheError: an entry is there and cannot be read.
        """
        path = self.path_of(key)
        content = read_entry(path)
        if content is None:
            return None
        embedding = parse_entry(content, key)
        if embedding is None:
            remove_entry(path)
        else:
            mark_used(path)
        return embedding

    def put(self, key: EmbeddingKey, embedding: Embedding) -> None:
        """Keep an embedding; a second put of the same key is harmless.

        Raises:
            CacheError: the folder cannot be written or the disk is full.
        """
        parts = entry_parts(key, embedding)
        try:
            write_atomic(self.path_of(key), lambda stream: stream.writelines(parts), durable=False)
        except EnvironmentFault as error:
            raise CacheError(f"embedding cache: {error.message}", CACHE_HINT) from error

    def claim(self, key: EmbeddingKey) -> bool:
        """Whether the caller should compute an embedding; False while another process is at it."""
        return claim(self.path_of(key).with_suffix(CLAIM_SUFFIX))

    def release(self, key: EmbeddingKey) -> None:
        """Give a claim back, whether or not the embedding was put."""
        remove_entry(self.path_of(key).with_suffix(CLAIM_SUFFIX))

    def summary(self) -> CacheSummary:
        """How many entries there are and how large they are."""
        return _summary(list(self._entries()))

    def verify(self) -> CacheCheck:
        """Read every entry; delete those that are broken."""
        intact = removed = 0
        for path, _ in self._entries():
            if _is_intact(path):
                intact += 1
            else:
                removed += 1
                remove_entry(path)
        return CacheCheck(intact, removed)

    def prune(self, *, max_age_s: float | None = None, max_bytes: int | None = None) -> CacheSummary:
        """Remove entries not used for `max_age_s` seconds, then the least recently used ones above `max_bytes`.

        Temporary files and claims that a killed process left more than an hour ago go too.

        Returns:
            What was removed.
        """
        now = time.time()
        by_last_use = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
        left = sum(status.st_size for _, status in by_last_use)
        removed = []
        for path, status in by_last_use:
            too_old = max_age_s is not None and now - status.st_mtime > max_age_s
            if too_old or (max_bytes is not None and left > max_bytes):
                remove_entry(path)
                left -= status.st_size
                removed.append((path, status))
        for path in (*self.root.glob(f"*/{TEMPORARY_PREFIX}*"), *self.root.glob(f"??/*{CLAIM_SUFFIX}")):
            temporary = entry_status(path)
            if temporary and now - temporary.st_mtime > _STALE_TEMPORARY_S:
                remove_entry(path)
        return _summary(removed)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.root.glob("??/*" + _SUFFIX):
            status = entry_status(path)
            if status and _ENTRY_NAME.fullmatch(path.name):
                yield path, status


def entry_parts(key: EmbeddingKey, embedding: Embedding) -> tuple[bytes, memoryview]:
    """Header and tensor of an entry, one after the other a safetensors file with one tensor, `features`."""
    payload = np.ascontiguousarray(embedding.features, dtype="<f2").data.cast("B")
    return _header(key, embedding.slice_shape, embedding.features.shape, payload), payload


def parse_entry(content: bytes, key: EmbeddingKey) -> Embedding | None:
    """The embedding an entry holds, or None unless every byte is as `entry_parts` gives it for this key."""
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:header_bytes])
        shape = tuple(int(n) for n in header["features"]["shape"])
        rows, columns = (int(n) for n in header["__metadata__"]["slice_shape"].split("x"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    payload = memoryview(content)[header_bytes:]
    expected = _header(key, (rows, columns), shape, payload)
    if content[:header_bytes] != expected or len(payload) != 2 * int(np.prod(shape)):
        return None
    return Embedding(np.frombuffer(payload, dtype="<f2").reshape(shape), (rows, columns))


def _header(
    key: EmbeddingKey, slice_shape: tuple[int, int], shape: tuple[int, ...], payload: bytes | memoryview
) -> bytes:
    content_sha256 = hashlib.sha256(f"{slice_shape} {shape}".encode())
    content_sha256.update(payload)
    fields = {
        "__metadata__": {
            **asdict(key),
            "slice_shape": f"{slice_shape[0]}x{slice_shape[1]}",
            "content_sha256": content_sha256.hexdigest(),
        },
        "features": {"dtype": "F16", "shape": list(shape), "data_offsets": [0, 2 * int(np.prod(shape))]},
    }
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _is_intact(path: Path) -> bool:
    try:
        content = path.read_bytes()
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        key = EmbeddingKey(*(str(metadata[name]) for name in EmbeddingKey.__dataclass_fields__))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return path.name == key.digest + _SUFFIX and parse_entry(content, key) is not None


def _summary(entries: list[tuple[Path, os.stat_result]]) -> CacheSummary:
    return CacheSummary(len(entries), sum(status.st_size for _, status in entries))
