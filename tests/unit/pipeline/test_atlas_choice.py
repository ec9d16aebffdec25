"""Atlases of made-up body parts, each of its own shape, and volumes that show one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import AtlasError, UsageError
from msksam_cli.io import atlas_folder
from msksam_cli.io.atlas_folder import write_atlas
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.pipeline.atlas_choice import AtlasShelf, atlas_shelf
from msksam_cli.pipeline.compare_set import labelled_set

FEMUR, TIBIA = Tissue(1, "femur", group="bone"), Tissue(2, "tibia", group="bone")
DISC, MUSCLE = Tissue(3, "disc-l1-l2", group="disc"), Tissue(4, "psoas", group="muscle")
GRID = Grid((30, 26, 22), np.array([[3, 0, 0, -45], [0, 3.5, 0, -45], [0, 0, 4, -44], [0, 0, 0, 1.0]]))
COARSE = Grid((26, 30, 14), np.array([[3.4, 0, 0, -43], [0, 3.0, 0, -46], [0, 0, 6, -41], [0, 0, 0, 1.0]]))


def _joint(x, y, z):
    """Two balls above one another."""
    return np.hypot(np.hypot(x, y), z - 20) < 17, np.hypot(np.hypot(x, y), z + 20) < 14


def _limb(x, y, z):
    """A rod in a thick tube, side by side with another."""
    return np.hypot(x - 15, y) < 9, np.hypot(x + 18, y + 8) < 12


def _spine(x, y, z):
    """A pile of plates and what lies behind it."""
    return (np.hypot(x, y - 14) < 16) & (np.abs(z) % 18 < 11), (np.abs(x) < 24) & (y < -12) & (y > -30)


SHAPES: dict[str, Callable] = {"knee": _joint, "thigh": _limb, "lumbar": _spine}


def _masks(part: str, grid: Grid):
    return SHAPES[part](*np.moveaxis(grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0))


def _volume(part: str, *, said: str = "", grid: Grid = COARSE, levels=(300.0, 120.0, 700.0)) -> Volume:
    """A noisy image of a body part, which its input may call otherwise."""
    first, second = _masks(part, grid)
    image = np.where(first, levels[1], np.where(second, levels[2], levels[0]))
    noise = np.random.default_rng(5).normal(0, 15, grid.shape)
    return Volume((image + noise).astype(np.float32), grid, body_part=said)


def _atlas(name: str, part: str, tissues: tuple[Tissue, Tissue], body_part: str) -> Atlas:
    masks = [ndimage.gaussian_filter(mask.astype(np.float32), 0.6) for mask in _masks(part, GRID)]
    probabilities = {t.index: mask for t, mask in zip(tissues, masks, strict=True)}
    template = np.clip(0.3 + 0.5 * masks[0] - 0.2 * masks[1], 0, 1).astype(np.float32)
    return Atlas(name, body_part, "", GRID, {"t1": template}, probabilities, TissueTable(tissues))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs an atlas under a name, with the shape and the tissues of a body part."""
    monkeypatch.setattr(atlas_folder, "bundled_atlas_folder", lambda: tmp_path / "bundled")
    monkeypatch.setattr(atlas_folder, "user_atlas_folder", lambda: tmp_path / "own")

    def installed(name: str, part: str, *tissues: Tissue, body_part: str | None = None):
        atlas = _atlas(name, part, tissues, part if body_part is None else body_part)
        return write_atlas(tmp_path / "own" / name, atlas)

    return installed


@pytest.fixture
def three(install) -> Callable[..., AtlasShelf]:
    """Atlases of knee, thigh and lumbar spine, and the shelf of them for wanted tissues."""
    install("knee-x", "knee", FEMUR, TIBIA)
    install("lumbar-x", "lumbar", DISC, MUSCLE)
    install("thigh-x", "thigh", FEMUR, MUSCLE)
    return lambda *wanted: atlas_shelf("auto", wanted)


@pytest.mark.parametrize(
    ("said", "expected"), [("knee", "knee-x"), ("patella", "knee-x"), ("upperleg", "thigh-x"), ("thigh", "thigh-x")]
)
def test_the_body_part_the_input_names_decides_whatever_the_image_looks_like(three, said, expected):
    choice = three("femur").choose(_volume("lumbar", said=said))
    assert choice.atlas.name == expected
    assert choice.reason == f"the input says it shows the {said}"


@pytest.mark.parametrize(("tissue", "expected"), [("tibia", "knee-x"), ("disc", "lumbar-x"), ("bone,psoas", "thigh-x")])
def test_without_a_body_part_the_only_atlas_that_knows_the_tissues_is_taken(three, tissue, expected):
    choice = three(*tissue.split(",")).choose(_volume("knee"))
    assert choice.atlas.name == expected
    assert choice.reason == "no other atlas knows these tissues"


@pytest.mark.parametrize("levels", [(300.0, 120.0, 700.0), (500.0, 900.0, 100.0)])
@pytest.mark.parametrize("part", SHAPES)
def test_without_a_body_part_the_atlas_that_fits_is_taken_in_any_contrast(three, part, levels):
    choice = three("all").choose(_volume(part, levels=levels))
    assert choice.atlas.name == f"{part}-x"
    assert choice.reason.startswith(f"fits best: {part}-x 0.")
    assert choice.reason.count("-x") == 3


def test_a_body_part_of_several_regions_leaves_the_choice_between_them_to_the_fit(three):
    for part in ("knee", "thigh"):
        choice = three("femur").choose(_volume(part, said="leg"))
        assert choice.atlas.name == f"{part}-x"
        assert "lumbar" not in choice.reason


def test_a_group_means_the_tissues_of_the_atlas_that_is_chosen(three):
    shelf = three("bone")
    assert [t.name for t in shelf.tissues] == ["femur", "tibia"]
    assert [t.name for t in shelf.choose(_volume("thigh", said="thigh")).tissues] == ["femur"]


def test_tissues_of_another_body_part_are_refused_and_not_served_by_another_atlas(three):
    with pytest.raises(AtlasError, match=r"shows the knee, whose atlas has no 'disc': knee-x knows femur, tibia"):
        three("disc").choose(_volume("lumbar", said="knee"))
    with pytest.raises(AtlasError, match=r"no 'tibia', 'bone': lumbar-x knows disc-l1-l2, psoas.*--atlas"):
        three("tibia", "bone").candidates("lspine")


def test_a_body_part_without_an_atlas_is_refused_unless_an_atlas_does_not_say_what_it_shows(three, install):
    with pytest.raises(AtlasError, match=r"shows the ankle; there are atlases of knee, lumbar, thigh"):
        three("femur").candidates("ankle")
    install("any-x", "knee", FEMUR, TIBIA, body_part="")
    assert [header.name for header in three("femur").candidates("ankle")] == ["any-x"]
    assert [header.name for header in three("femur").candidates("knee")] == ["knee-x"]


def test_whoever_names_an_atlas_answers_for_the_body_part(three):
    three("femur")
    choice = atlas_shelf("thigh-x", ("femur",)).choose(_volume("knee", said="knee"))
    assert (choice.atlas.name, choice.reason) == ("thigh-x", "named by the user")


def test_an_unknown_tissue_is_answered_with_all_that_any_atlas_knows(three):
    with pytest.raises(UsageError, match=r"unknown tissue 'ulna'.*femur, tibia, disc-l1-l2, psoas; groups bone, disc"):
        three("femur", "ulna")
    with pytest.raises(UsageError, match="no atlas knows all of tibia, disc"):
        three("tibia", "disc")


def test_the_hash_of_a_shelf_holds_the_atlases_that_may_be_taken_and_no_others(three, install):
    before = {wanted: three(wanted).sha256 for wanted in ("femur", "disc")}
    install("thigh-x", "thigh", FEMUR, TIBIA)
    assert three("femur").sha256 != before["femur"]
    assert three("disc").sha256 == before["disc"]


@pytest.mark.parametrize("part", ["knee", "thigh"])
def test_a_labelled_set_is_compared_with_the_atlas_that_fits_where_several_know_its_tissues(three, part, tmp_path):
    three("femur")
    volume = _volume(part)
    femur = LabelMap(_masks(part, COARSE)[0].astype(np.uint8), COARSE, TissueTable((FEMUR,)))
    write_volume(tmp_path / "set" / "images" / "a.nii.gz", volume, form_from_grid(COARSE))
    write_label_map(tmp_path / "set" / "labels" / "a.nii.gz", femur, form_from_grid(COARSE))
    assert labelled_set(tmp_path / "set", names="1=femur").atlas.name == f"{part}-x"
