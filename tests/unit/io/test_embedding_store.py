from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.errors import CacheError
from msksam_cli.io.embedding_store import DiskStore, entry_parts, parse_entry


def key_of(value: int) -> EmbeddingKey:
    return EmbeddingKey.of_slice(np.full((3, 5), value, np.uint8), "e" * 64, "v1", "fp32")


def embedding_of(value: int, shape: tuple[int, int, int] = (8, 6, 4)) -> Embedding:
    features = np.random.default_rng(value).normal(size=shape).astype(np.float16)
    return Embedding(features, (30, 50 + value))


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "cache")


def test_what_was_put_comes_back_bit_for_bit(store: DiskStore) -> None:
    assert store.get(key_of(1)) is None
    store.put(key_of(1), embedding_of(1))
    found = store.get(key_of(1))
    assert found is not None
    assert found.features.tobytes() == embedding_of(1).features.tobytes()
    assert (found.features.shape, found.features.dtype, found.slice_shape) == ((8, 6, 4), np.float16, (30, 51))
    assert store.get(key_of(2)) is None


def test_every_part_of_the_key_tells_embeddings_apart(store: DiskStore) -> None:
    key = key_of(1)
    store.put(key, embedding_of(1))
    fields = (key.pixels_sha256, key.encoder_sha256, key.preprocessing, key.precision)
    for changed in range(4):
        other = EmbeddingKey(*(field + "x" * (position == changed) for position, field in enumerate(fields)))
        assert store.get(other) is None


def test_an_entry_is_an_ordinary_safetensors_file_under_its_digest(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    digest = key_of(1).digest
    path = store.root / digest[:2] / f"{digest}.safetensors"
    assert (load_file(path)["features"] == embedding_of(1).features).all()
    assert [file for file in store.root.rglob("*") if file.is_file()] == [path]


def test_every_single_flipped_bit_is_noticed() -> None:
    key, content = key_of(1), b"".join(entry_parts(key_of(1), embedding_of(1, (2, 3, 2))))
    assert parse_entry(content, key) is not None
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        assert parse_entry(bytes(damaged), key) is None, f"bit {bit}"


def test_every_length_but_the_right_one_is_noticed() -> None:
    key, content = key_of(1), b"".join(entry_parts(key_of(1), embedding_of(1, (2, 3, 2))))
    assert all(parse_entry(content[:length], key) is None for length in range(len(content)))
    assert parse_entry(content + b"\0", key) is None


def test_a_broken_entry_is_deleted_and_can_be_put_again(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    path = store.path_of(key_of(1))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert store.get(key_of(1)) is None
    assert not path.exists()
    store.put(key_of(1), embedding_of(1))
    assert store.get(key_of(1)) is not None


def test_an_entry_under_another_keys_name_is_not_believed(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    target = store.path_of(key_of(2))
    target.parent.mkdir(parents=True, exist_ok=True)
    store.path_of(key_of(1)).rename(target)
    assert store.get(key_of(2)) is None


def test_verify_counts_the_intact_and_removes_the_broken(store: DiskStore) -> None:
    for value in range(5):
        store.put(key_of(value), embedding_of(value))
    for value in (1, 3):
        store.path_of(key_of(value)).write_bytes(b"junk")
    check = store.verify()
    assert (check.intact, check.removed) == (3, 2)
    assert store.summary().entries == 3


def age(store: DiskStore, value: int, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(store.path_of(key_of(value)), (then, then))


def test_prune_by_age_counts_from_the_last_use(store: DiskStore) -> None:
    for value in range(3):
        store.put(key_of(value), embedding_of(value))
        age(store, value, days=10)
    store.get(key_of(1))
    removed = store.prune(max_age_s=5 * 86_400)
    assert removed.entries == 2
    assert [store.get(key_of(value)) is not None for value in range(3)] == [False, True, False]


def test_prune_by_size_removes_the_least_recently_used_first(store: DiskStore) -> None:
    for value in range(4):
        store.put(key_of(value), embedding_of(value))
        age(store, value, days=10 - value)
    one = store.summary().size_bytes // 4
    removed = store.prune(max_bytes=2 * one + 8)
    assert removed.entries == 2
    assert [store.path_of(key_of(value)).exists() for value in range(4)] == [False, False, True, True]


def test_prune_spares_a_write_under_way_and_clears_an_old_one(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    folder = store.path_of(key_of(1)).parent
    fresh, stale = folder / ".msksam-tmp-fresh", folder / ".msksam-tmp-stale"
    for path in (fresh, stale):
        path.write_bytes(b"half")
    os.utime(stale, (time.time() - 7200,) * 2)
    store.prune(max_age_s=1e9)
    assert (fresh.exists(), stale.exists()) == (True, False)


def test_entries_that_vanish_while_they_are_counted_checked_and_pruned_are_passed_by(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    gone = store.path_of(key_of(2))
    gone.parent.mkdir(exist_ok=True)
    gone.symlink_to(store.root / "nothing")  # listed, and not there when looked at
    assert store.summary().entries == 1
    assert (store.verify().intact, store.verify().removed) == (1, 0)
    assert store.prune(max_bytes=0).entries == 1


def test_an_empty_cache_has_nothing(store: DiskStore) -> None:
    assert store.summary().entries == 0
    assert store.verify().intact == 0
    assert store.prune(max_bytes=0).entries == 0


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="cache cache is not a folder"):
        DiskStore(tmp_path / "cache")


def test_a_place_that_cannot_be_written_is_a_cache_error(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "cache")
    store.root.mkdir()
    (store.root / key_of(1).digest[:2]).write_text("in the way")
    with pytest.raises(CacheError, match="embedding cache: cannot write"):
        store.put(key_of(1), embedding_of(1))


def hammer(root: str, seed: int, until: float, wrong: multiprocessing.Queue[int]) -> None:
    store, generator, mistakes = DiskStore(Path(root)), random.Random(seed), 0
    while time.time() < until:
        value = generator.randrange(6)
        found = store.get(key_of(value))
        if found is None:
            store.put(key_of(value), embedding_of(value, (64, 16, 16)))
        elif found.features.tobytes() != embedding_of(value, (64, 16, 16)).features.tobytes():
            mistakes += 1
        if generator.random() < 0.1:
            store.path_of(key_of(generator.randrange(6))).unlink(missing_ok=True)
        if generator.random() < 0.05:
            store.prune(max_bytes=100_000)
    wrong.put(mistakes)


def test_processes_that_write_read_and_delete_the_same_entries_never_read_a_wrong_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    wrong: multiprocessing.Queue[int] = context.Queue()
    until = time.time() + 4
    processes = [context.Process(target=hammer, args=(str(tmp_path), seed, until, wrong)) for seed in range(2)]
    for process in processes:
        process.start()
    counts = [wrong.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert counts == [0, 0]
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(tmp_path.rglob(".msksam-tmp-*"))


def test_a_claim_is_given_to_one_and_again_when_it_is_released_or_its_process_is_gone(store: DiskStore) -> None:
    assert store.claim(key_of(1))
    assert not store.claim(key_of(1))
    assert store.claim(key_of(2))
    store.release(key_of(1))
    assert store.claim(key_of(1))
    path = store.path_of(key_of(1)).with_suffix(".claim")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(path.read_text().replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    assert store.claim(key_of(1))
    assert f"-{os.getpid()}-" in path.read_text()


def test_an_old_claim_is_taken_over_and_a_claim_that_cannot_be_written_is_given(store: DiskStore) -> None:
    assert store.claim(key_of(1))
    path = store.path_of(key_of(1)).with_suffix(".claim")
    for content, age_s, taken in (("00000000-1-", 60, False), ("00000000-1-", 130, True), ("", 60, False)):
        path.write_text(content)
        os.utime(path, (time.time() - age_s,) * 2)
        assert store.claim(key_of(1)) is taken
    blocked = store.path_of(key_of(2)).parent
    if blocked.is_dir():
        blocked.rmdir()
    blocked.write_text("in the way")
    assert store.claim(key_of(2))
    assert store.claim(key_of(2))


def test_claims_are_no_entries(store: DiskStore) -> None:
    store.put(key_of(1), embedding_of(1))
    store.claim(key_of(2))
    assert store.summary().entries == 1
    assert (store.verify().intact, store.verify().removed) == (1, 0)
    path = store.path_of(key_of(2)).with_suffix(".claim")
    store.prune(max_age_s=1e9)
    assert path.exists()
    os.utime(path, (time.time() - 7200,) * 2)
    store.prune(max_age_s=1e9)
    assert not path.exists()
