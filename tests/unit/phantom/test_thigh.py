"""Anatomical laws of the procedural thigh."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues
from msksam_cli.phantom.thigh import THIGH_TISSUES, ThighShape, sample_thigh_shape, thigh_label_map, thigh_labels_at
from msksam_cli.phantom.thigh_shape import ATROPHIC

# ml, means of Handsfield 2014 over men and women; adductor magnus with brevis, which the phantom does not part
HANDSFIELD_ML = {
    tissues.RECTUS_FEMORIS: 269,
    tissues.VASTUS_LATERALIS: 830,
    tissues.VASTUS_INTERMEDIUS: 606,
    tissues.VASTUS_MEDIALIS: 427,
    tissues.SARTORIUS: 164,
    tissues.GRACILIS: 104,
    tissues.ADDUCTOR_LONGUS: 162,
    tissues.ADDUCTOR_MAGNUS: 664,
    tissues.BICEPS_FEMORIS_LONG_HEAD: 207,
    tissues.BICEPS_FEMORIS_SHORT_HEAD: 100,
    tissues.SEMITENDINOSUS: 186,
    tissues.SEMIMEMBRANOSUS: 246,
}
# cm2 half way up; from small women (Goodpaster 2001) to strong men (Handsfield 2014)
MIDDLE_CM2 = {
    (
        tissues.RECTUS_FEMORIS,
        tissues.VASTUS_LATERALIS,
        tissues.VASTUS_INTERMEDIUS,
        tissues.VASTUS_MEDIALIS,
    ): (30, 90),
    (
        tissues.BICEPS_FEMORIS_LONG_HEAD,
        tissues.BICEPS_FEMORIS_SHORT_HEAD,
        tissues.SEMITENDINOSUS,
        tissues.SEMIMEMBRANOSUS,
    ): (14, 45),
    (tissues.ADDUCTOR_LONGUS, tissues.ADDUCTOR_MAGNUS, tissues.GRACILIS): (10, 42),
    (tissues.SARTORIUS,): (1.5, 8),
    (tissues.FEMUR,): (4.5, 9.5),
}
PLAIN = ThighShape()


def box(first: tuple[float, float, float], last: tuple[float, float, float], *spacing_mm: float) -> Grid:
    shape = [round((b - a) / step) for a, b, step in zip(first, last, spacing_mm, strict=True)]
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = first
    return Grid((shape[0], shape[1], shape[2]), affine)


def slab(shape: ThighShape, height_mm: float = 0.0, step_mm: float = 1.0) -> NDArray[np.uint8]:
    """One slice, which holds the whole thigh."""
    grid = box((-165, -150, height_mm), (165, 150, height_mm + 1), step_mm, step_mm, 1)
    return np.asarray(thigh_label_map(shape, grid).values[:, :, 0], dtype=np.uint8)


def cm2(labels: NDArray[np.uint8], *wanted: int) -> float:
    return float(np.isin(labels, wanted).sum() / 100)


def muscle_cm2(labels: NDArray[np.uint8]) -> float:
    return cm2(labels, *(tissue.index for tissue in THIGH_TISSUES if tissue.group == "muscle"))


@pytest.fixture(scope="module")
def mean_thigh() -> LabelMap:
    return thigh_label_map(PLAIN, box((-110, -105, -215), (105, 105, 215), 2.5, 2.0, 3.0))


@pytest.fixture(scope="module", params=[0, 1, 2, 3, 4])
def sampled_slice(request: pytest.FixtureRequest) -> NDArray[np.uint8]:
    shape = sample_thigh_shape(np.random.default_rng(request.param), "right")
    return slab(replace(shape, both=False, tumour_mm=0.0, wasted=0))


@pytest.mark.parametrize("tissue", HANDSFIELD_ML)
def test_each_muscles_volume_is_near_the_published_mean(mean_thigh: LabelMap, tissue: int) -> None:
    volume = mean_thigh.mask(tissue).sum() * mean_thigh.grid.voxel_volume_mm3 / 1000
    assert volume == pytest.approx(HANDSFIELD_ML[tissue], rel=0.3)


def test_muscles_stand_in_the_shares_of_the_extensors_flexors_and_adductors(mean_thigh: LabelMap) -> None:
    extensors, flexors = np.arange(31, 35), np.arange(39, 43)
    adductors = (tissues.GRACILIS, tissues.ADDUCTOR_LONGUS, tissues.ADDUCTOR_MAGNUS)
    counts = [np.isin(mean_thigh.values, group).sum() for group in (extensors, flexors, adductors, [tissues.SARTORIUS])]
    shares = np.array(counts) / np.sum(counts)
    assert shares == pytest.approx([0.48, 0.21, 0.27, 0.04], abs=0.05)  # 50, 19, 28 and 3 % in Cotofana 2010


@pytest.mark.parametrize("tissue", [*ATROPHIC, tissues.FEMUR, tissues.SCIATIC_NERVE])
def test_each_structure_is_in_one_piece(mean_thigh: LabelMap, tissue: int) -> None:
    parts, count = ndimage.label(mean_thigh.mask(tissue), np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    assert max(sizes) > 0.97 * sum(sizes)


@pytest.mark.parametrize("group", MIDDLE_CM2)
def test_areas_half_way_up_lie_in_published_ranges(sampled_slice: NDArray[np.uint8], group: tuple[int, ...]) -> None:
    low, high = MIDDLE_CM2[group]
    assert low < cm2(sampled_slice, *group) < high


def test_muscles_lie_where_anatomists_find_them() -> None:
    labels = slab(PLAIN)
    where = {tissue: np.argwhere(labels == tissue).mean(axis=0) - (165, 150) for tissue in ATROPHIC}
    front, back = where[tissues.RECTUS_FEMORIS], where[tissues.SEMITENDINOSUS]
    assert front[1] > where[tissues.VASTUS_INTERMEDIUS][1] > 0 > where[tissues.ADDUCTOR_MAGNUS][1] > back[1]
    assert where[tissues.VASTUS_LATERALIS][0] > 25
    assert where[tissues.GRACILIS][0] < where[tissues.ADDUCTOR_MAGNUS][0] < where[tissues.BICEPS_FEMORIS_LONG_HEAD][0]
    assert where[tissues.SEMIMEMBRANOSUS][0] < back[0] < where[tissues.BICEPS_FEMORIS_LONG_HEAD][0]


def test_bone_lies_in_muscle_in_fat_in_skin() -> None:
    labels = slab(PLAIN)
    ray = labels[165:, 150]
    runs = [int(ray[0]), *(int(b) for a, b in itertools.pairwise(ray) if a != b)]
    assert runs[0] == tissues.FEMUR
    assert runs[-3:] == [tissues.FAT, tissues.SKIN, 0]
    assert tissues.VASTUS_INTERMEDIUS in runs
    assert runs.index(tissues.VASTUS_INTERMEDIUS) < runs.index(tissues.VASTUS_LATERALIS)


def test_the_shaft_is_as_wide_as_the_shape_says() -> None:
    for width in (25.0, 31.0):
        along = np.zeros((400, 3))
        along[:, 0] = np.linspace(-25, 25, 400)
        along[:, 1] = 3.0
        inside = thigh_labels_at(replace(PLAIN, shaft_width_mm=width, muscle_area_cm2=140.0), along) == tissues.FEMUR
        assert inside.sum() * 50 / 400 == pytest.approx(width, abs=1.0)


def test_muscle_area_and_fat_thickness_follow_the_shape() -> None:
    for area in (90.0, 118.0, 150.0):
        assert muscle_cm2(slab(replace(PLAIN, muscle_area_cm2=area))) == pytest.approx(area, rel=0.06)
    for thickness in (5.0, 13.0, 40.0):
        labels = slab(replace(PLAIN, subcutaneous_mm=thickness))
        inner, fat = (labels > 0) & ~np.isin(labels, (tissues.FAT, tissues.SKIN)), labels == tissues.FAT
        radii = [np.sqrt(part.sum() / np.pi) for part in (inner, inner | fat)]
        assert radii[1] - radii[0] == pytest.approx(thickness, rel=0.2, abs=1)


def test_a_wasted_muscle_is_thinner_and_fattier_and_its_neighbours_stay() -> None:
    tissue = tissues.VASTUS_LATERALIS
    well, ill = slab(PLAIN), slab(replace(PLAIN, wasted=tissue, wasting=0.4))
    assert cm2(ill, tissue) < 0.75 * cm2(well, tissue)
    assert cm2(ill, tissues.SEMIMEMBRANOSUS) == pytest.approx(cm2(well, tissues.SEMIMEMBRANOSUS), rel=0.02)
    assert cm2(ill, tissues.INTERMUSCULAR_FAT, tissues.FAT) > cm2(well, tissues.INTERMUSCULAR_FAT, tissues.FAT) + 2


def test_infiltration_turns_about_its_share_of_muscle_into_streaks() -> None:
    well = slab(PLAIN)
    lost = [muscle_cm2(slab(replace(PLAIN, infiltration=share))) / muscle_cm2(well) for share in (0.1, 0.2, 0.4)]
    assert 1 > lost[0] > lost[1] > lost[2]
    assert 1 - np.array(lost) == pytest.approx([0.1, 0.2, 0.4], abs=0.08)


def test_less_filling_leaves_more_fat_between_muscles() -> None:
    full, lean = slab(PLAIN), slab(replace(PLAIN, fill_mm=2.0))
    between = tissues.INTERMUSCULAR_FAT, tissues.FAT
    assert cm2(lean, *between) > cm2(full, *between) + 8


def test_a_left_thigh_is_the_mirror_of_a_right_one() -> None:
    shape = sample_thigh_shape(np.random.default_rng(7), "right")
    points = np.random.default_rng(1).uniform(-90, 90, (4000, 3))
    right = thigh_labels_at(shape, points)
    np.testing.assert_array_equal(thigh_labels_at(replace(shape, side="left"), points * (-1, 1, 1)), right)
    assert len(np.unique(right)) > 10


def test_both_thighs_are_mirror_images_beside_each_other() -> None:
    shape = replace(PLAIN, both=True, gap_mm=20.0)
    points = np.stack(np.meshgrid(np.arange(-300.0, 100, 0.25), np.arange(-90.0, 90, 6), [0.0], indexing="ij"), axis=-1)
    labels = thigh_labels_at(shape, points)[..., 0]
    columns = np.flatnonzero((labels > 0).any(axis=1))
    gap = (np.diff(columns).max() - 1) / 4
    assert gap == pytest.approx(20, abs=8)
    inner = labels[columns[0] : columns[-1] + 1]
    assert (inner == inner[::-1]).mean() > 0.98
    own = thigh_labels_at(PLAIN, points)[..., 0][points[:, 0, 0, 0] > -90]
    np.testing.assert_array_equal(labels[points[:, 0, 0, 0] > -90], own)


def test_any_two_grids_agree_where_they_meet() -> None:
    shape = sample_thigh_shape(np.random.default_rng(3))
    coarse = box((-70, -66, -20), (65, 60, 40), 2.4, 1.8, 5.0)
    labels = thigh_label_map(shape, coarse)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in coarse.shape), indexing="ij"), axis=-1)
    tilted = np.eye(4)
    tilted[:3, :3] = np.array([[0, 0, 5.0], [2.4, 0, 0], [0, -1.8, 0]])
    points = coarse.to_world_mm(voxels).astype(np.float32)
    same = thigh_labels_at(shape, points) == labels.values
    assert same.mean() > 0.9995


def test_a_tumour_is_as_large_as_it_says_and_pushes_the_skin_out() -> None:
    ill = replace(PLAIN, tumour_mm=25.0, tumour_place=(270.0, 0.8, 0.0), seed=4)
    grid = box((-70, -110, -50), (60, 30, 50), 1.5, 1.5, 2.0)
    tumour = thigh_label_map(ill, grid).mask(tissues.TUMOUR)
    assert tumour.sum() * grid.voxel_volume_mm3 / 1000 == pytest.approx(4 / 3 * np.pi * 2.5**3, rel=0.25)
    back = np.zeros((600, 3))
    back[:, 0], back[:, 1] = -8.0, np.linspace(0, -150, 600)
    thickness = [(thigh_labels_at(shape, back) > 0).sum() / 4 for shape in (PLAIN, ill)]
    assert thickness[1] > thickness[0] + 2


def test_a_nail_lies_in_the_marrow() -> None:
    labels = slab(replace(PLAIN, nail=True))
    nail = labels == tissues.IMPLANT
    assert 60 < nail.sum() < 140
    around = ndimage.binary_dilation(nail, iterations=2) & ~nail
    assert (labels[around] == tissues.FEMUR).all()


def test_thighs_differ_and_equal_seeds_give_equal_ones() -> None:
    shapes = [sample_thigh_shape(np.random.default_rng(seed)) for seed in range(60)]
    assert shapes[5] == sample_thigh_shape(np.random.default_rng(5))
    assert {shape.side for shape in shapes} == {"left", "right"}
    assert 0.15 < np.mean([shape.both for shape in shapes]) < 0.6
    fat = [shape.subcutaneous_mm for shape in shapes]
    assert min(fat) < 6
    assert max(fat) > 28
    assert 80 < np.mean([shape.muscle_area_cm2 for shape in shapes]) < 130
    assert np.std([shape.femur_length_mm for shape in shapes]) == pytest.approx(27, rel=0.5)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="no side 'middle'"):
        ThighShape(side="middle")
    with pytest.raises(ValueError, match="subcutaneous_mm must be 0 or more, got -1"):
        ThighShape(subcutaneous_mm=-1.0)
    with pytest.raises(ValueError, match=r"infiltration must be from 0 to below 1, got 1\.5"):
        ThighShape(infiltration=1.5)
