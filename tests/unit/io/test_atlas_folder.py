from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from msksam_cli.core.atlases import Atlas, Population
from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import REGIONS, TISSUES, tissues_of
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import AtlasError
from msksam_cli.io import atlas_folder
from msksam_cli.io.atlas_folder import find_atlas, list_atlases, read_atlas, read_atlas_header, write_atlas

SHAPE = (7, 8, 9)


def _atlas(name: str = "toy-v1") -> Atlas:
    rng = np.random.default_rng(0)
    affine = np.array([[0.5, 0.1, 0, -3], [-0.1, 0.7, 0, 4.25], [0, 0, 3, 1e-7], [0, 0, 0, 1]])
    return Atlas(
        name=name,
        body_part="knee",
        side="right",
        grid=Grid(SHAPE, affine),
        templates={"t1": rng.uniform(size=SHAPE).astype(np.float32)},
        probabilities={3: rng.uniform(size=SHAPE).astype(np.float32), 300: np.zeros(SHAPE, np.float32)},
        tissues=TissueTable((Tissue(3, "femur", "F", "#112233", "medial", "bone", "SCT:71341001"), Tissue(300, "x"))),
        populations={3: Population(123456.789, 12.5, 4)},
        provenance={"cases": 4, "quality": {"left_out": 2, "tissues": {"3": {"dice_mean": 0.91}}}},
        support=rng.uniform(size=SHAPE) > 0.3,
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    atlas = _atlas()
    read = read_atlas(tmp_path / "a") if write_atlas(tmp_path / "a", atlas) else None
    assert read is not None
    assert (read.name, read.body_part, read.side) == ("toy-v1", "knee", "right")
    np.testing.assert_array_equal(read.grid.affine, atlas.grid.affine)
    assert list(read.tissues) == list(atlas.tissues)
    assert read.populations[3].volume_mean_mm3 == pytest.approx(123456.789)
    assert read.provenance == atlas.provenance
    np.testing.assert_array_equal(read.support, atlas.support)
    for index, probability in atlas.probabilities.items():
        np.testing.assert_allclose(read.probabilities[index], probability, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(read.templates["t1"], atlas.templates["t1"], atol=0.5 / 255 + 1e-6)


def test_equal_atlases_have_equal_bytes_and_hash_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    first, second = write_atlas(tmp_path / "a", _atlas()), write_atlas(tmp_path / "b", _atlas())
    assert first.sha256 == second.sha256
    assert len(first.sha256) == 64
    again = write_atlas(tmp_path / "c", first)
    np.testing.assert_array_equal(again.probabilities[3], first.probabilities[3])


@pytest.mark.parametrize("name", ["atlas.toml", "tissues.tsv", "priors.npz"])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, name: str) -> None:
    write_atlas(tmp_path / "a", _atlas())
    file = tmp_path / "a" / name
    content = file.read_bytes()
    for position in np.linspace(0, len(content) - 1, 12).astype(int):
        broken = bytearray(content)
        broken[position] ^= 4
        file.write_bytes(bytes(broken))
        with pytest.raises(AtlasError, match=r"damaged|no atlas"):
            read_atlas(tmp_path / "a")


@pytest.mark.parametrize("name", ["atlas.toml", "tissues.tsv", "priors.npz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_atlas(tmp_path / "a", _atlas())
    (tmp_path / "a" / name).unlink()
    with pytest.raises(AtlasError, match=r"a is no atlas: .* cannot be read"):
        read_atlas(tmp_path / "a")


def test_atlases_are_found_by_name_in_both_places_and_by_folder(tmp_path: Path, monkeypatch) -> None:
    bundled, user = tmp_path / "bundled", tmp_path / "user"
    monkeypatch.setattr(atlas_folder, "bundled_atlas_folder", lambda: bundled)
    monkeypatch.setattr(atlas_folder, "user_atlas_folder", lambda: user)
    write_atlas(bundled / "knee-v1", _atlas())
    write_atlas(user / "hip-v1", _atlas())
    assert list(list_atlases()) == ["knee-v1", "hip-v1"]
    assert find_atlas("hip-v1") == user / "hip-v1"
    assert find_atlas(str(bundled / "knee-v1")) == bundled / "knee-v1"
    with pytest.raises(AtlasError, match=r"no atlas 'elbow'.*knee-v1, hip-v1"):
        find_atlas("elbow")


def test_a_header_is_what_the_atlas_says_of_itself_and_is_checked_like_it(tmp_path: Path) -> None:
    written = write_atlas(tmp_path / "a", _atlas())
    header = read_atlas_header(tmp_path / "a")
    assert (header.folder, header.name, header.body_part) == (tmp_path / "a", "toy-v1", "knee")
    assert (header.tissues, header.sha256) == (written.tissues, written.sha256)
    (tmp_path / "a" / "priors.npz").write_bytes(b"changed")
    with pytest.raises(AtlasError, match="a is damaged"):
        read_atlas_header(tmp_path / "a")


@pytest.mark.parametrize(
    ("region", "side", "tissues"),
    [
        ("knee", "right", {"femur", "tibia", "patella", "femoral-cartilage", "medial-meniscus"}),
        ("thigh", "right", {"femur", "rectus-femoris", "semitendinosus", "femoral-vessels"}),
        ("hip", "right", {"femur", "hip-bone", "femoral-head-cartilage", "gluteus-medius", "piriformis"}),
        ("shoulder", "right", {"humerus", "scapula", "glenoid-labrum", "supraspinatus", "deltoid"}),
        ("lumbar", "", {"l1-vertebral-body", "l5-vertebral-body", "disc-l4-l5", "spinal-canal", "left-psoas"}),
    ],
)
def test_the_bundled_atlases_are_sound_and_small_and_hold_no_findings(
    region: str, side: str, tissues: set[str]
) -> None:
    folder = atlas_folder.bundled_atlas_folder() / f"{region}-v1"
    atlas = read_atlas(folder)
    names = {t.name for t in atlas.tissues}
    assert (atlas.body_part, atlas.side) == (region, side)
    assert tissues <= names <= {t.name for t in tissues_of(region)}
    assert all(atlas.tissues.by_index(index).name == TISSUES.by_index(index).name for index in atlas.tissues.indices)
    assert min(float(p.max()) for p in atlas.probabilities.values()) >= 0.3
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4e6
    assert tomllib.loads((folder / "atlas.toml").read_text())["provenance"]["quality"]["left_out"] > 0


def test_the_bundled_atlases_are_one_to_a_region() -> None:
    found = sorted(atlas_folder.bundled_atlas_folder().glob("*/atlas.toml"))
    assert {read_atlas_header(manifest.parent).body_part for manifest in found} == set(REGIONS)
    assert len(found) == len(REGIONS)
