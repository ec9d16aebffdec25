from __future__ import annotations

import os
from pathlib import Path

import pytest

from msksam_cli.errors import CacheError
from msksam_cli.io.result_store import ResultStore

KEY, OTHER = "ab" * 32, "cd" * 32


def test_what_is_put_comes_back_under_its_key_alone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "cache")
    assert store.get(KEY) is None
    store.put(KEY, b"placed")
    assert store.get(KEY) == b"placed"
    assert store.get(OTHER) is None


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_one_changed_byte_is_noticed_and_the_entry_goes(tmp_path: Path, place: int) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"where an atlas lies")
    content = bytearray(store.path_of(KEY).read_bytes())
    content[place] ^= 1
    store.path_of(KEY).write_bytes(bytes(content))
    assert store.get(KEY) is None
    assert not store.path_of(KEY).exists()


def test_an_entry_cut_short_is_noticed(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for length in (0, 10, 40):
        store.put(KEY, b"x" * 100)
        store.path_of(KEY).write_bytes(store.path_of(KEY).read_bytes()[:length])
        assert store.get(KEY) is None


def test_a_second_put_replaces_the_first(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"one")
    store.put(KEY, b"two")
    assert store.get(KEY) == b"two"


def test_old_entries_are_pruned_and_fresh_ones_stay(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"old")
    store.put(OTHER, b"fresh")
    os.utime(store.path_of(KEY), (0, 0))
    assert store.prune(3600) == [32 + len(b"old")]
    assert (store.get(KEY), store.get(OTHER)) == (None, b"fresh")
    assert len(store.prune(None)) == 1
    assert store.sizes() == []


def test_broken_entries_are_found_without_their_keys(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"whole")
    store.put(OTHER, b"broken")
    store.path_of(OTHER).write_bytes(b"?" * 50)
    assert store.remove_broken() == 1
    assert store.get(KEY) == b"whole"


def test_a_folder_that_cannot_be_written_is_a_cache_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CacheError, match="cache of results"):
        ResultStore(tmp_path / "file").put(KEY, b"x")


def test_an_entry_under_another_keys_name_is_not_believed(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"of this volume")
    store.path_of(OTHER).parent.mkdir()
    store.path_of(KEY).rename(store.path_of(OTHER))
    assert store.get(OTHER) is None


def test_entries_that_vanish_while_they_are_counted_checked_and_pruned_are_passed_by(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"whole")
    gone = store.path_of(OTHER)
    gone.parent.mkdir()
    gone.symlink_to(tmp_path / "nothing")  # listed, and not there when looked at
    assert store.sizes() == [32 + len(b"whole")]
    assert store.remove_broken() == 0
    assert store.prune(None) == [32 + len(b"whole")]


def test_an_empty_entry_is_broken(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put(KEY, b"whole")
    store.path_of(KEY).write_bytes(b"")
    assert store.remove_broken() == 1
