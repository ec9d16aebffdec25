from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.errors import UsageError
from msksam_cli.pipeline.cache import open_cache, prune_cache, size_in_bytes, verify_cache


def fill(folder: Path, entries: int) -> None:
    store = open_cache(folder)
    for value in range(entries):
        key = EmbeddingKey(str(value), "e", "v1", "fp32")
        store.put(key, Embedding(np.full((4, 8, 8), value, np.float16), (9, 9)))


def test_the_default_cache_is_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSKSAM_CACHE", str(tmp_path / "elsewhere"))
    assert open_cache().root == tmp_path / "elsewhere"


def test_pruning_without_a_limit_removes_everything(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    assert prune_cache(tmp_path).entries == 3
    assert open_cache(tmp_path).summary().entries == 0


def test_pruning_by_age_alone_keeps_what_is_young(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    assert prune_cache(tmp_path, older_than_days=1).entries == 0
    assert verify_cache(tmp_path).intact == 3


def test_pruning_by_size_leaves_no_more_than_that(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    prune_cache(tmp_path, max_size="2K")
    assert 0 < open_cache(tmp_path).summary().size_bytes <= 2048


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("10", 10), ("2K", 2048), ("1.5 MiB", 1572864), ("3gb", 3 << 30)])
def test_sizes_are_read_in_factors_of_1024(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1e3", "5 apples"])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        size_in_bytes(text)
