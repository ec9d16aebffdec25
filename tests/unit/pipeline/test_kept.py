"""What one run knows of a volume, another need not find out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msksam_cli.atlas.placement import place_atlas
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.atlas_folder import read_atlas
from msksam_cli.io.result_store import ResultStore
from msksam_cli.pipeline.kept import Kept


def unread() -> Atlas:
    raise AssertionError("the atlas was read again")


@pytest.fixture
def bones_atlas(small_atlas: Path) -> Atlas:
    return read_atlas(small_atlas)


@pytest.fixture
def bones_volume(make_bones: Callable[..., tuple[Volume, LabelMap]]) -> Volume:
    return make_bones(Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0])), shift_px=1)[0]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "cache")


def test_a_kept_placement_is_the_computed_one(bones_atlas: Atlas, bones_volume: Volume, store: ResultStore) -> None:
    first = Kept.of(bones_volume, store).placement(bones_atlas, bones_volume, threads=1)
    (entry,) = [path for path in store.root.rglob("*") if path.is_file()]
    written = entry.read_bytes()
    second = Kept.of(bones_volume, store).placement(bones_atlas, bones_volume, threads=1)
    computed = place_atlas(bones_atlas, bones_volume)
    assert entry.read_bytes() == written
    for placed in (first, second):
        assert placed.fit == computed.fit
        assert placed.visible_fraction == computed.visible_fraction
        assert (placed.side, placed.atlas_sha256) == (computed.side, computed.atlas_sha256)
        assert placed.grid is bones_volume.grid
        for index in bones_atlas.tissues.indices:
            np.testing.assert_array_equal(placed.probabilities[index], computed.probabilities[index])
    assert max(second.probabilities[index].max() for index in bones_atlas.tissues.indices) > 0.5


def test_a_placement_taken_from_the_store_is_not_computed(
    bones_atlas: Atlas, bones_volume: Volume, store: ResultStore
) -> None:
    Kept.of(bones_volume, store).placement(bones_atlas, bones_volume, threads=1)
    renamed = replace(bones_atlas, probabilities={n: p * 0 for n, p in bones_atlas.probabilities.items()})
    placed = Kept.of(bones_volume, store).placement(renamed, bones_volume, threads=1)
    assert max(placed.probabilities[index].max() for index in bones_atlas.tissues.indices) > 0.5


def test_a_damaged_entry_is_computed_again(bones_atlas: Atlas, bones_volume: Volume, store: ResultStore) -> None:
    known = Kept.of(bones_volume, store)
    first = known.placement(bones_atlas, bones_volume, threads=1)
    (entry,) = [path for path in store.root.rglob("*") if path.is_file()]
    entry.write_bytes(entry.read_bytes()[:-9])
    again = known.placement(bones_atlas, bones_volume, threads=1)
    index = bones_atlas.tissues.indices[0]
    np.testing.assert_array_equal(again.probabilities[index], first.probabilities[index])
    assert store.remove_broken() == 0


def test_an_atlas_that_was_tried_before_is_not_even_read(
    bones_atlas: Atlas, bones_volume: Volume, store: ResultStore
) -> None:
    known = Kept.of(bones_volume, store)
    score = known.fit_score("a" * 64, lambda: bones_atlas, bones_volume)
    assert score > 0
    assert Kept.of(bones_volume, store).fit_score("a" * 64, unread, bones_volume) == score
    with pytest.raises(AssertionError, match="read again"):
        known.fit_score("b" * 64, unread, bones_volume)


def test_without_a_store_nothing_is_kept(bones_atlas: Atlas, bones_volume: Volume) -> None:
    known = Kept.of(bones_volume, None)
    assert known.fit_score("a" * 64, lambda: bones_atlas, bones_volume) > 0
    with pytest.raises(AssertionError, match="read again"):
        known.fit_score("a" * 64, unread, bones_volume)


def test_bones_come_back_as_they_were_found_and_only_to_the_same_question(
    bones_atlas: Atlas, bones_volume: Volume, store: ResultStore
) -> None:
    known = Kept.of(bones_volume, store)
    placed = place_atlas(bones_atlas, bones_volume)
    values = np.zeros(bones_volume.grid.shape, dtype=np.uint8)
    values[3:9, 5:30, 2:11] = bones_atlas.tissues.indices[0]
    values[12:20, 8:20, 4:6] = bones_atlas.tissues.indices[1]
    found = LabelMap(values, bones_volume.grid, bones_atlas.tissues)
    assert known.bones(placed, "model a") is None
    known.keep_bones(placed, "model a", found)
    again = Kept.of(bones_volume, store).bones(placed, "model a")
    assert again is not None
    np.testing.assert_array_equal(again.values, values)
    assert again.grid is placed.grid
    assert known.bones(placed, "model b") is None
    assert known.bones(replace(placed, atlas_sha256="b" * 64), "model a") is None
    other = replace(bones_volume, intensities=bones_volume.intensities + 1)
    assert Kept.of(other, store).bones(placed, "model a") is None


def test_bones_that_cannot_be_told_apart_are_not_kept(
    bones_atlas: Atlas, bones_volume: Volume, store: ResultStore
) -> None:
    known, placed = Kept.of(bones_volume, store), place_atlas(bones_atlas, bones_volume)
    found = LabelMap(np.ones(bones_volume.grid.shape, np.uint8) * 2, bones_volume.grid, bones_atlas.tissues)
    known.keep_bones(placed, "", found)
    assert known.bones(placed, "") is None
    assert store.sizes() == []


def test_the_hash_follows_intensities_grid_and_side(bones_volume: Volume) -> None:
    moved = np.array(bones_volume.grid.affine)
    moved[0, 3] += 0.1
    brighter = np.array(bones_volume.intensities)
    brighter[0, 0, 0] += 1
    others = [
        replace(bones_volume, intensities=brighter),
        replace(bones_volume, grid=replace(bones_volume.grid, affine=moved)),
        replace(bones_volume, side="left" if bones_volume.side != "left" else "right"),
    ]
    hashes = [volume.sha256 for volume in (bones_volume, *others)]
    assert len(set(hashes)) == 4
    assert replace(bones_volume, body_part="knee").sha256 == hashes[0], "placing does not ask for it"
