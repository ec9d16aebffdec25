"""Results of expensive steps on disk, by what they were computed from: `<root>/results/<two hex digits>/<key>.kept`.

An entry is a sha256 over its key and its bytes, and the bytes, so that a reader takes nothing that was damaged or
belongs to another key; such an entry is deleted and computed again. Entries appear by rename: nothing here needs a
lock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from msksam_cli.errors import CacheError, EnvironmentFault
from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.cache_entry import CACHE_HINT, entry_status, mark_used, read_entry, remove_entry

_FOLDER, _SUFFIX = "results", ".kept"
_HASH_BYTES = 32


class ResultStore:
    """Bytes by key, in a folder beside the embeddings.

    Args:
        root: folder of the cache; created by the first `put`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, key: str) -> Path:
        """Where the entry of a key, a hex digest, is or would be."""
        return self.root / _FOLDER / key[:2] / (key + _SUFFIX)

    def get(self, key: str) -> bytes | None:
        """The bytes, verified; None when there are none. A damaged entry is deleted.

        Raises:
            CacheError: an entry is there and cannot be read.
        """
        path = self.path_of(key)
        content = read_entry(path)
        if content is None:
            return None
        if not _is_intact(key, content):
            remove_entry(path)
            return None
        mark_used(path)
        return content[_HASH_BYTES:]

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes; a second put of the same key replaces the first.

        Raises:
            CacheError: the folder cannot be written or the disk is full.
        """
        digest = _digest(key, content)
        try:
            write_atomic(self.path_of(key), lambda stream: stream.write(digest + content), durable=False)
        except EnvironmentFault as error:
            raise CacheError(f"cache of results: {error.message}", CACHE_HINT) from error

    def sizes(self) -> list[int]:
        """Bytes of every entry."""
        return [status.st_size for _, status in self._entries()]

    def remove_broken(self) -> int:
        """Read every entry and delete those that are damaged; return how many that were."""
        broken = [
            path
            for path, _ in self._entries()
            if (content := read_entry(path)) is not None and not _is_intact(path.stem, content)
        ]
        for path in broken:
            remove_entry(path)
        return len(broken)

    def prune(self, max_age_s: float | None) -> list[int]:
        """Remove entries not used for so long, all of them when None; return their sizes in bytes."""
        now = time.time()
        old = [entry for entry in self._entries() if max_age_s is None or now - entry[1].st_mtime > max_age_s]
        for path, _ in old:
            remove_entry(path)
        return [status.st_size for _, status in old]

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in (self.root / _FOLDER).glob(f"??/*{_SUFFIX}"):
            status = entry_status(path)
            if status:
                yield path, status


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + content).digest()


def _is_intact(key: str, content: bytes) -> bool:
    return _digest(key, content[_HASH_BYTES:]) == content[:_HASH_BYTES]
