"""Anatomical laws of the procedural hip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues
from msksam_cli.phantom.hip import HIP_TISSUES, HipShape, hip_label_map, hip_labels_at, sample_hip_shape

PLAIN = HipShape()
ORDER = (
    tissues.FEMUR,
    tissues.FEMORAL_HEAD_CARTILAGE,
    tissues.JOINT_FLUID,
    tissues.ACETABULAR_CARTILAGE,
    tissues.HIP_BONE,
)
"""What a ray from the head's centre crosses."""
# ml, means of Handsfield 2014 over men and women; iliacus and psoas together, of which the field of view holds most
HANDSFIELD_ML = {
    tissues.GLUTEUS_MAXIMUS: 849,
    tissues.GLUTEUS_MEDIUS: 323,
    tissues.GLUTEUS_MINIMUS: 104,
    tissues.ILIOPSOAS: 452,
    tissues.TENSOR_FASCIAE_LATAE: 65,
    tissues.PECTINEUS: 65,
}


def box(first: tuple[float, float, float], last: tuple[float, float, float], *spacing_mm: float) -> Grid:
    shape = [round((b - a) / step) for a, b, step in zip(first, last, spacing_mm, strict=True)]
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = first
    return Grid((shape[0], shape[1], shape[2]), affine)


def joint(shape: HipShape) -> LabelMap:
    """The joint's surroundings, anisotropic and not cubic."""
    return hip_label_map(shape, box((-45, -42, -48), (62, 45, 40), 1.0, 0.9, 1.2))


def volume_ml(labels: LabelMap, tissue: int) -> float:
    return float(labels.mask(tissue).sum() * labels.grid.voxel_volume_mm3 / 1000)


def rays(labels_of: HipShape, directions: NDArray[np.float64], to_mm: float) -> NDArray[np.uint8]:
    """Labels (directions, steps) along rays from the head's centre, in steps of 0.1 mm."""
    steps = np.arange(15.0, to_mm, 0.1)
    return hip_labels_at(labels_of, directions[:, None, :] * steps[None, :, None])


def directions_into_the_socket() -> NDArray[np.float64]:
    drawn = np.random.default_rng(0).standard_normal((400, 3)) * 0.3 + (-0.45, -0.1, 0.85)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def mean_hip() -> LabelMap:
    return hip_label_map(PLAIN, box((-88, -125, -130), (110, 105, 150), 2.4, 2.0, 3.0))


@pytest.fixture(scope="module")
def mean_joint() -> LabelMap:
    return joint(PLAIN)


@pytest.fixture(scope="module", params=[0, 1, 2])
def any_shape(request: pytest.FixtureRequest) -> HipShape:
    shape = sample_hip_shape(np.random.default_rng(request.param), "right")
    return replace(shape, implant=False, bending_mm=0.0, tumour_mm=0.0)


@pytest.mark.parametrize("tissue", HANDSFIELD_ML)
def test_each_muscles_volume_is_near_the_published_mean(mean_hip: LabelMap, tissue: int) -> None:
    assert volume_ml(mean_hip, tissue) == pytest.approx(HANDSFIELD_ML[tissue], rel=0.35)


@pytest.mark.parametrize("tissue", [tissues.FEMUR, tissues.HIP_BONE, tissues.SACRUM, *HANDSFIELD_ML, tissues.BLADDER])
def test_each_structure_is_in_one_piece(mean_hip: LabelMap, tissue: int) -> None:
    parts, count = ndimage.label(mean_hip.mask(tissue), np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    assert max(sizes) > 0.97 * sum(sizes)


def test_the_head_is_as_wide_as_the_shape_says(any_shape: HipShape) -> None:
    labels = rays(replace(any_shape, osteophyte_mm=0.0), directions_into_the_socket(), 40.0)
    radii = 15 + (labels == tissues.FEMUR).sum(axis=1) * 0.1
    assert 2 * np.median(radii) == pytest.approx(any_shape.head_diameter_mm, abs=0.3)


def test_cartilage_lies_between_head_and_socket(any_shape: HipShape) -> None:
    labels = rays(any_shape, directions_into_the_socket(), 32.0)
    ranks = np.full(256, -1)
    ranks[list(ORDER)] = range(len(ORDER))
    crossed = ranks[labels]
    assert (crossed >= 0).mean() > 0.97
    ordered = (crossed >= 0).all(axis=1)
    assert (np.diff(crossed[ordered], axis=1) >= 0).all()
    for tissue in (tissues.FEMORAL_HEAD_CARTILAGE, tissues.ACETABULAR_CARTILAGE):
        assert (labels[ordered] == tissue).any(axis=1).mean() > 0.95


def test_cartilages_are_as_thick_as_the_shape_says() -> None:
    shape = replace(PLAIN, femoral_cartilage_mm=2.4, acetabular_cartilage_mm=1.2)
    labels = rays(shape, directions_into_the_socket(), 32.0)
    thickness = [np.percentile((labels == tissue).sum(axis=1), 90) * 0.1 for tissue in (53, 54)]
    assert thickness == pytest.approx([2.4, 1.2], abs=0.3)


def test_femur_and_hip_bone_do_not_touch(any_shape: HipShape) -> None:
    labels = joint(any_shape)
    grown = ndimage.binary_dilation(labels.mask(tissues.FEMUR))
    assert not (grown & labels.mask(tissues.HIP_BONE)).any()


def test_the_socket_holds_the_upper_half_of_the_head(mean_joint: LabelMap) -> None:
    around = rays(PLAIN, np.array([[0, 0, 1.0], [-1, 0, 0], [0, -0.9, 0.44], [0.44, 0, 0.9]]), 40.0)
    assert (around == tissues.HIP_BONE).any(axis=1).all()
    free = rays(PLAIN, np.array([[1, 0, 0.1], [0.5, 0.3, -0.8]]), 32.0)
    assert not (free == tissues.HIP_BONE).any()
    labrum = mean_joint.grid.to_world_mm(np.argwhere(mean_joint.mask(tissues.ACETABULAR_LABRUM)))
    assert (np.linalg.norm(labrum, axis=1) > 23).all()
    assert 1.5 < volume_ml(mean_joint, tissues.ACETABULAR_LABRUM) < 6  # Seldes 2001: about 5 x 5 mm round the rim


def test_the_shaft_stands_at_offset_and_angle_of_the_neck() -> None:
    shape = replace(PLAIN, neck_shaft_deg=135.0, head_offset_mm=38.0, anteversion_deg=0.0)
    shaft = hip_label_map(shape, box((5, -40, -100), (75, 40, -99), 0.7, 0.8, 1))
    centre = shaft.grid.to_world_mm(np.argwhere(shaft.mask(tissues.FEMUR))).mean(axis=0)
    assert centre[0] == pytest.approx(38, abs=3)
    varus = hip_label_map(replace(shape, neck_shaft_deg=115.0), box((5, -40, -30), (75, 40, -29), 0.7, 0.8, 1))
    valgus = hip_label_map(shape, box((5, -40, -30), (75, 40, -29), 0.7, 0.8, 1))
    reach = [labels.grid.to_world_mm(np.argwhere(labels.mask(tissues.FEMUR)))[:, 0].min() for labels in (varus, valgus)]
    assert reach[1] < reach[0] - 3


def test_muscles_lie_where_anatomists_find_them(mean_hip: LabelMap) -> None:
    where = {
        tissue.index: mean_hip.grid.to_world_mm(np.argwhere(mean_hip.mask(tissue.index))).mean(axis=0)
        for tissue in HIP_TISSUES
        if mean_hip.mask(tissue.index).any()
    }
    assert where[tissues.GLUTEUS_MAXIMUS][1] < -40
    assert where[tissues.GLUTEUS_MEDIUS][0] > where[tissues.GLUTEUS_MINIMUS][0] > 15
    assert where[tissues.ILIOPSOAS][1] > 10
    assert where[tissues.OBTURATOR_INTERNUS][0] < -30
    assert where[tissues.OBTURATOR_EXTERNUS][2] < -20
    assert where[tissues.FEMORAL_VESSELS][1] > 0 > where[tissues.SCIATIC_NERVE][1]
    assert where[tissues.BLADDER][0] < -60
    assert where[tissues.SACRUM][1] < -30
    assert where[tissues.SACRUM][2] > 30


def test_the_pelvis_is_symmetric_about_its_midline() -> None:
    points = np.random.default_rng(2).uniform(-1, 1, (6000, 3)) * (85, 100, 90)
    mirrored = points * (-1, 1, 1) - (PLAIN.head_distance_mm, 0, 0)
    np.testing.assert_array_equal(hip_labels_at(PLAIN, points), hip_labels_at(PLAIN, mirrored))


def test_a_left_hip_is_the_mirror_of_a_right_one() -> None:
    shape = sample_hip_shape(np.random.default_rng(7), "right")
    points = np.random.default_rng(1).uniform(-100, 100, (5000, 3))
    right = hip_labels_at(shape, points)
    np.testing.assert_array_equal(hip_labels_at(replace(shape, side="left"), points * (-1, 1, 1)), right)
    assert len(np.unique(right)) > 15


def test_any_two_grids_agree_where_they_meet() -> None:
    shape = sample_hip_shape(np.random.default_rng(3))
    grid = box((-120, -110, -90), (100, 95, 100), 4.4, 3.8, 7.0)
    labels = hip_label_map(shape, grid)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    points = grid.to_world_mm(voxels).astype(np.float32)
    for k in range(0, grid.shape[2], 6):
        assert (hip_labels_at(shape, points[:, :, k]) == labels.values[:, :, k]).mean() > 0.999


def test_arthritis_thins_cartilage_and_grows_bone(mean_joint: LabelMap) -> None:
    ill = joint(replace(PLAIN, femoral_cartilage_mm=0.8, acetabular_cartilage_mm=0.7, osteophyte_mm=5.0))
    for tissue in (tissues.FEMORAL_HEAD_CARTILAGE, tissues.ACETABULAR_CARTILAGE):
        assert volume_ml(ill, tissue) < 0.6 * volume_ml(mean_joint, tissue)
    assert volume_ml(ill, tissues.FEMUR) > volume_ml(mean_joint, tissues.FEMUR) + 1


def test_an_effusion_adds_fluid_round_the_neck_only(mean_joint: LabelMap) -> None:
    wet = joint(replace(PLAIN, recess_mm=8.0))
    assert volume_ml(wet, tissues.JOINT_FLUID) > 2 * volume_ml(mean_joint, tissues.JOINT_FLUID)
    for tissue in (tissues.FEMUR, tissues.HIP_BONE, tissues.FEMORAL_HEAD_CARTILAGE):
        assert volume_ml(wet, tissue) == pytest.approx(volume_ml(mean_joint, tissue))


def test_an_implant_replaces_head_and_cartilage_on_its_own_side_only() -> None:
    shape = replace(PLAIN, implant=True)
    own = joint(shape)
    assert not np.isin(own.values, (tissues.FEMORAL_HEAD_CARTILAGE, tissues.ACETABULAR_CARTILAGE)).any()
    assert volume_ml(own, tissues.IMPLANT) > 25
    assert hip_labels_at(shape, np.array([0.0, 0.0, 0.0])) == tissues.IMPLANT
    assert hip_labels_at(shape, np.array([-PLAIN.head_distance_mm, 0.0, 0.0])) == tissues.FEMUR


def test_a_tumour_is_as_large_as_it_says_and_leaves_the_bones() -> None:
    ill = replace(PLAIN, tumour_mm=22.0, tumour_centre=(25.0, -62.0, -10.0), seed=4)
    grid = box((-35, -115, -55), (85, 10, 35), 2.0, 1.6, 3.0)
    labels = hip_label_map(ill, grid)
    assert volume_ml(labels, tissues.TUMOUR) == pytest.approx(4 / 3 * np.pi * 2.2**3, rel=0.25)
    np.testing.assert_array_equal(labels.mask(tissues.FEMUR), hip_label_map(PLAIN, grid).mask(tissues.FEMUR))
    mirrored = np.array([-PLAIN.head_distance_mm - 25.0, -62.0, -10.0])
    assert hip_labels_at(ill, mirrored) != tissues.TUMOUR == hip_labels_at(ill, np.array([25.0, -62.0, -10.0]))


def test_fat_replaces_muscle_where_it_infiltrates() -> None:
    grid = box((-60, -110, 20), (90, 20, 60), 2.0, 1.6, 8.0)
    well, ill = (hip_label_map(replace(PLAIN, infiltration=share), grid) for share in (0.0, 0.25))
    for tissue in (tissues.GLUTEUS_MAXIMUS, tissues.GLUTEUS_MEDIUS):
        assert 0.3 < volume_ml(ill, tissue) / volume_ml(well, tissue) < 0.85


def test_bulk_and_fat_thickness_change_muscle_and_outline() -> None:
    across = np.zeros((3000, 3))
    across[:, 0], across[:, 1], across[:, 2] = np.linspace(0, 200, 3000), -5.0, -10.0
    outside = [
        (hip_labels_at(replace(PLAIN, subcutaneous_mm=thickness), across) > 0).sum() / 15 for thickness in (10, 50)
    ]
    assert outside[1] - outside[0] == pytest.approx(40, rel=0.15)
    grid = box((-60, -110, 20), (90, 20, 60), 2.0, 1.6, 8.0)
    small, large = (hip_label_map(replace(PLAIN, muscle_bulk=bulk), grid) for bulk in (0.85, 1.1))
    assert volume_ml(small, tissues.GLUTEUS_MAXIMUS) < 0.9 * volume_ml(large, tissues.GLUTEUS_MAXIMUS)


def test_hips_differ_and_equal_seeds_give_equal_ones() -> None:
    shapes = [sample_hip_shape(np.random.default_rng(seed)) for seed in range(80)]
    assert shapes[5] == sample_hip_shape(np.random.default_rng(5))
    assert {shape.side for shape in shapes} == {"left", "right"}
    assert np.mean([shape.head_diameter_mm for shape in shapes]) == pytest.approx(47, abs=1.5)
    assert np.std([shape.head_diameter_mm for shape in shapes]) == pytest.approx(4, abs=1.2)
    assert np.std([shape.neck_shaft_deg for shape in shapes]) == pytest.approx(6, abs=1.5)
    assert 0 < np.mean([shape.implant for shape in shapes]) < 0.15
    arthritic = [shape for shape in shapes if shape.osteophyte_mm]
    healthy = [shape for shape in shapes if not shape.osteophyte_mm]
    assert 5 < len(arthritic) < 40
    thickness = [np.mean([shape.femoral_cartilage_mm for shape in group]) for group in (arthritic, healthy)]
    assert thickness[0] < thickness[1] - 0.2


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="no side 'middle'"):
        HipShape(side="middle")
    with pytest.raises(ValueError, match="labrum_mm must be 0 or more, got nan"):
        HipShape(labrum_mm=float("nan"))
    with pytest.raises(ValueError, match=r"infiltration must be from 0 to below 1, got -0\.1"):
        HipShape(infiltration=-0.1)
