"""Anatomical laws of the procedural shoulder."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.shoulder import (
    SHOULDER_TISSUES,
    ShoulderShape,
    sample_shoulder_shape,
    shoulder_label_map,
    shoulder_labels_at,
)

CUFF = (tissues.SUPRASPINATUS, tissues.INFRASPINATUS, tissues.SUBSCAPULARIS, tissues.TERES_MINOR)
ANATOMY = set(SHOULDER_TISSUES.indices) - {tissues.IMPLANT, tissues.TUMOUR}
# ml inside the field of view, which cuts the long bones and the trunk; Iannotti 1992 and Soslowsky 1992 (cartilage is
# area times thickness), Tingart 2003 and Holzbaur 2007 (muscles), widened for small and large people
PUBLISHED_ML = {
    tissues.HUMERAL_CARTILAGE: (1.5, 5.5),
    tissues.GLENOID_CARTILAGE: (0.6, 3.2),
    tissues.GLENOID_LABRUM: (0.6, 3.5),
    tissues.SUPRASPINATUS: (20, 80),
    tissues.INFRASPINATUS: (50, 160),
    tissues.SUBSCAPULARIS: (70, 220),
    tissues.TERES_MINOR: (4, 35),
    tissues.DELTOID: (150, 480),
}


def shoulder_grid(spacing_mm: float = 1.7) -> Grid:
    """The field of view of a right shoulder."""
    first, last = np.array([-112.0, -80.0, -100.0]), np.array([58.0, 76.0, 60.0])
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = first
    i, j, k = ((last - first) / spacing_mm).astype(int)
    return Grid((int(i), int(j), int(k)), affine)


def joint_grid() -> Grid:
    """Small, anisotropic and not cubic, round the joint."""
    affine = np.diag([2.1, 1.3, 1.7, 1.0])
    affine[:3, 3] = (-45, -36, -30)
    return Grid((38, 55, 43), affine)


def fine_joint_grid(spacing_mm: float = 1.0) -> Grid:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-42, -36, -36)
    count = int(76 / spacing_mm)
    return Grid((count, count, count), affine)


@pytest.fixture(scope="module")
def mean_shoulder() -> LabelMap:
    return shoulder_label_map(ShoulderShape(), shoulder_grid())


@pytest.fixture(scope="module")
def mean_joint() -> LabelMap:
    return shoulder_label_map(ShoulderShape(), fine_joint_grid())


HEALTHY = {
    "cartilage_loss": 0.0,
    "osteophyte_mm": 0.0,
    "effusion_mm": 0.0,
    "tendon_tear_mm": 0.0,
    "fatty_infiltration": 0.0,
    "implant_mm": 0.0,
}


@pytest.fixture(scope="module", params=[0, 1, 2])
def any_shoulder(request: pytest.FixtureRequest) -> LabelMap:
    shape = sample_shoulder_shape(np.random.default_rng(request.param), "right")
    return shoulder_label_map(replace(shape, **HEALTHY), shoulder_grid())


def volume_ml(labels: LabelMap, tissue: int) -> float:
    return float(labels.mask(tissue).sum() * labels.grid.voxel_volume_mm3 / 1000)


def places_mm(labels: LabelMap, tissue: int) -> NDArray[np.float64]:
    return labels.grid.to_world_mm(np.argwhere(labels.mask(tissue)))


def in_scapular_plane(places: NDArray[np.float64], shape: ShoulderShape) -> tuple[NDArray[np.float64], ...]:
    """Along the blade towards the socket, and forwards out of the blade's costal side."""
    turn = np.radians(shape.scapular_plane_deg)
    x, y = places[..., 0], places[..., 1]
    return np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x


def ray(shape: ShoulderShape, start: NDArray[np.float64], end: NDArray[np.float64]) -> list[int]:
    """Distinct consecutive labels from one point to another."""
    steps = np.linspace(0, 1, 600)[:, None]
    return [int(value) for value, _ in itertools.groupby(shoulder_labels_at(shape, start + steps * (end - start)))]


def towards_socket(shape: ShoulderShape) -> NDArray[np.float64]:
    turn = np.radians(shape.scapular_plane_deg)
    return np.array([-np.cos(turn), -np.sin(turn), 0.0])


def test_every_tissue_exists_in_every_shoulder(any_shoulder: LabelMap) -> None:
    assert set(np.unique(any_shoulder.values)) - {0} == ANATOMY


def test_volumes_lie_within_published_ranges(any_shoulder: LabelMap) -> None:
    for tissue, (low, high) in PUBLISHED_ML.items():
        assert low < volume_ml(any_shoulder, tissue) < high, SHOULDER_TISSUES.by_index(tissue).name


@pytest.mark.parametrize("diameter_mm", [40.0, 52.0])
def test_the_head_has_the_diameter_asked_for(diameter_mm: float) -> None:
    shape = ShoulderShape(head_diameter_mm=diameter_mm, glenoid_height_mm=36 * diameter_mm / 46)
    labels = shoulder_label_map(shape, fine_joint_grid())
    places = places_mm(labels, tissues.HUMERUS)
    medial = places @ towards_socket(shape)
    assert medial.max() == pytest.approx(diameter_mm / 2, abs=1.0)
    assert places[:, 2].max() == pytest.approx(diameter_mm / 2, abs=1.0)
    lower, upper = places_mm(labels, tissues.SCAPULA)[:, 2].min(), places[:, 2].max()
    assert lower < upper


def test_the_greater_tuberosity_stays_below_the_top_of_the_head_by_what_was_asked() -> None:
    for drop_mm in (5.0, 11.0):
        shape = ShoulderShape(tuberosity_drop_mm=drop_mm, abduction_deg=0.0, external_rotation_deg=0.0)
        along = np.linspace(0, 1, 400)[:, None]
        turn = np.radians(shape.retroversion_deg)
        foot = np.array([21 * np.cos(turn) + 2 * np.sin(turn), 21 * np.sin(turn) - 2 * np.cos(turn), 0.0])
        line = foot + along * np.array([0, 0, 30.0])
        bone = shoulder_labels_at(shape, line) == tissues.HUMERUS
        assert line[bone][-1, 2] == pytest.approx(23 - drop_mm - 1.5, abs=1.5)


def test_cartilage_lies_between_head_and_socket() -> None:
    shape = ShoulderShape()
    for height in (-8.0, 0.0, 8.0):
        start = np.array([0.0, 0.0, height])
        passed = ray(shape, start, start + 34 * towards_socket(shape))
        assert passed[0] == tissues.HUMERUS
        between = passed[1 : passed.index(tissues.SCAPULA)]
        assert between == [tissues.HUMERAL_CARTILAGE, tissues.JOINT_FLUID, tissues.GLENOID_CARTILAGE]


def test_cartilage_is_as_thick_as_asked_for() -> None:
    for thickness in (1.0, 2.0):
        shape = ShoulderShape(humeral_cartilage_mm=thickness)
        steps = np.linspace(0, 32, 3201)
        labels = shoulder_labels_at(shape, steps[:, None] * towards_socket(shape))
        assert (labels == tissues.HUMERAL_CARTILAGE).mean() * 32 == pytest.approx(thickness, abs=0.25)


def test_the_labrum_surrounds_the_socket(mean_joint: LabelMap) -> None:
    labrum, lining = places_mm(mean_joint, tissues.GLENOID_LABRUM), places_mm(mean_joint, tissues.GLENOID_CARTILAGE)
    _, labrum_across = in_scapular_plane(labrum, ShoulderShape())
    _, lining_across = in_scapular_plane(lining, ShoulderShape())
    for ring, inner in ((labrum[:, 2], lining[:, 2]), (labrum_across, lining_across)):
        assert ring.min() < inner.min() - 0.7
        assert ring.max() > inner.max() + 0.7


def test_humerus_and_scapula_never_touch(any_shoulder: LabelMap) -> None:
    grown = ndimage.binary_dilation(any_shoulder.mask(tissues.HUMERUS))
    assert not (grown & any_shoulder.mask(tissues.SCAPULA)).any()
    assert not (grown & any_shoulder.mask(tissues.CLAVICLE)).any()


def test_each_bone_is_one_piece(any_shoulder: LabelMap) -> None:
    for bone in (tissues.HUMERUS, tissues.SCAPULA, tissues.CLAVICLE):
        _, count = ndimage.label(any_shoulder.mask(bone), np.ones((3, 3, 3)))
        assert count == 1, SHOULDER_TISSUES.by_index(bone).name


def test_cuff_muscles_lie_on_their_sides_of_the_scapula(mean_shoulder: LabelMap) -> None:
    shape = ShoulderShape()
    middle: dict[int, tuple[float, float]] = {}
    for tissue in (*CUFF, tissues.SCAPULA):
        places = places_mm(mean_shoulder, tissue)
        along, forward = in_scapular_plane(places, shape)
        beside = (along > -95) & (along < -35) & (places[:, 2] > -60)
        middle[tissue] = (float(forward[beside].mean()), float(places[beside, 2].mean()))
    blade_forward, blade_height = middle[tissues.SCAPULA]
    assert middle[tissues.SUBSCAPULARIS][0] > blade_forward + 8
    assert middle[tissues.INFRASPINATUS][0] < blade_forward - 5
    assert middle[tissues.TERES_MINOR][0] < blade_forward - 3
    assert middle[tissues.SUPRASPINATUS][1] > blade_height + 15
    assert middle[tissues.TERES_MINOR][1] < middle[tissues.INFRASPINATUS][1] < middle[tissues.SUPRASPINATUS][1]


def test_parts_stand_in_the_order_of_anatomy(mean_shoulder: LabelMap) -> None:
    middle = {tissue: places_mm(mean_shoulder, tissue).mean(axis=0) for tissue in ANATOMY}
    assert (
        middle[tissues.LUNG][0] < middle[tissues.SCAPULA][0] < middle[tissues.HUMERUS][0] < middle[tissues.DELTOID][0]
    )
    assert middle[tissues.PECTORALIS_MAJOR][1] > middle[tissues.CHEST_WALL][1] > middle[tissues.INFRASPINATUS][1]
    assert middle[tissues.SUPRASPINATUS_TENDON][2] > 20
    assert middle[tissues.TRAPEZIUS][2] > middle[tissues.SUPRASPINATUS][2] > middle[tissues.TERES_MAJOR][2]


def test_the_biceps_tendon_runs_in_front_of_the_humerus(mean_joint: LabelMap) -> None:
    places = places_mm(mean_joint, tissues.BICEPS_TENDON)
    below = places[places[:, 2] < 0]
    assert len(below) > 20
    assert below[:, 1].min() > 12


def test_the_lung_lies_inside_the_chest_wall(mean_shoulder: LabelMap) -> None:
    grown = ndimage.binary_dilation(mean_shoulder.mask(tissues.LUNG), iterations=2)
    assert set(np.unique(mean_shoulder.values[grown])) <= {tissues.LUNG, tissues.CHEST_WALL, tissues.FAT}


def test_nothing_but_skin_meets_the_air(any_shoulder: LabelMap) -> None:
    at_the_air = ndimage.binary_dilation(any_shoulder.values == 0)
    assert set(np.unique(any_shoulder.values[at_the_air])) == {0, tissues.SKIN}


def test_a_left_shoulder_is_the_mirror_image_of_a_right_one() -> None:
    right = sample_shoulder_shape(np.random.default_rng(5), "right")
    grid = joint_grid()
    mirrored = Grid(grid.shape, np.diag([-1.0, 1, 1, 1]) @ grid.affine)
    left_values = shoulder_label_map(replace(right, side="left"), mirrored).values
    np.testing.assert_array_equal(left_values, shoulder_label_map(right, grid).values)
    assert (left_values != shoulder_label_map(right, mirrored).values).mean() > 0.05


def test_labels_do_not_depend_on_the_order_or_direction_of_the_grids_axes() -> None:
    shape, grid, order = sample_shoulder_shape(np.random.default_rng(6), "right"), joint_grid(), (1, 2, 0)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    affine[:3, 3] += affine[:3, 0] * (grid.shape[order[0]] - 1)
    affine[:3, 0] *= -1
    turned = shoulder_label_map(shape, Grid(tuple(grid.shape[axis] for axis in order), affine)).values
    expected = np.transpose(shoulder_label_map(shape, grid).values, order)[::-1]
    assert (turned != expected).mean() < 1e-4


def test_labels_on_an_oblique_grid_are_those_of_its_points() -> None:
    shape = sample_shoulder_shape(np.random.default_rng(7), "right")
    angle = np.radians(20)
    affine = joint_grid().affine.copy()
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3] = turn @ affine[:3]
    grid = Grid((20, 45, 41), affine)
    labels = shoulder_label_map(shape, grid)
    there = shoulder_labels_at(shape, grid.to_world_mm(np.argwhere(np.ones(grid.shape)))).reshape(grid.shape)
    assert (there != labels.values).mean() < 1e-4
    assert len(np.unique(there)) > 10


def test_external_rotation_turns_the_tuberosities_backwards_and_leaves_the_scapula() -> None:
    inwards, outwards = (
        shoulder_label_map(ShoulderShape(external_rotation_deg=angle), joint_grid()) for angle in (-25.0, 35.0)
    )
    before, after = (places_mm(labels, tissues.HUMERUS)[:, :2] for labels in (inwards, outwards))
    assert after[after[:, 0] > 0][:, 1].mean() < before[before[:, 0] > 0][:, 1].mean() - 1
    np.testing.assert_array_equal(inwards.mask(tissues.SCAPULA), outwards.mask(tissues.SCAPULA))


def test_worn_cartilage_takes_less_room_and_leaves_the_bones(mean_joint: LabelMap) -> None:
    worn = shoulder_label_map(ShoulderShape(cartilage_loss=0.8), mean_joint.grid)
    for tissue in (tissues.HUMERAL_CARTILAGE, tissues.GLENOID_CARTILAGE):
        assert volume_ml(worn, tissue) < 0.6 * volume_ml(mean_joint, tissue)
    for bone in (tissues.HUMERUS, tissues.SCAPULA):
        np.testing.assert_array_equal(worn.mask(bone), mean_joint.mask(bone))


def test_osteophytes_enlarge_the_bones_below_the_head_and_nowhere_else(mean_joint: LabelMap) -> None:
    spurred = shoulder_label_map(ShoulderShape(osteophyte_mm=5.0), mean_joint.grid)
    grown = spurred.mask(tissues.HUMERUS) & ~mean_joint.mask(tissues.HUMERUS)
    assert grown.sum() * mean_joint.grid.voxel_volume_mm3 > 300
    assert not (mean_joint.mask(tissues.HUMERUS) & ~spurred.mask(tissues.HUMERUS)).any()
    places = mean_joint.grid.to_world_mm(np.argwhere(grown))
    assert places[:, 2].max() < 6
    assert np.linalg.norm(places, axis=1).max() < 23 + 5 + 1
    assert volume_ml(spurred, tissues.SCAPULA) > volume_ml(mean_joint, tissues.SCAPULA)


def test_an_effusion_adds_fluid_round_the_head(mean_joint: LabelMap) -> None:
    volumes = [
        volume_ml(shoulder_label_map(ShoulderShape(effusion_mm=amount), mean_joint.grid), tissues.JOINT_FLUID)
        for amount in (0.0, 2.0, 5.0)
    ]
    assert 0.5 < volumes[0] < 3
    assert volumes[1] > volumes[0] + 3
    assert volumes[2] > volumes[1] + 5


def test_a_tear_draws_the_tendon_back_and_leaves_fluid_at_the_tuberosity(mean_joint: LabelMap) -> None:
    shape = ShoulderShape(tendon_tear_mm=20.0)
    torn = shoulder_label_map(shape, mean_joint.grid)
    whole_end = in_scapular_plane(places_mm(mean_joint, tissues.SUPRASPINATUS_TENDON), shape)[0].max()
    torn_end = in_scapular_plane(places_mm(torn, tissues.SUPRASPINATUS_TENDON), shape)[0].max()
    assert whole_end - torn_end == pytest.approx(17, abs=4)
    gap = mean_joint.mask(tissues.SUPRASPINATUS_TENDON) & ~torn.mask(tissues.SUPRASPINATUS_TENDON)
    assert (torn.values[gap] == tissues.JOINT_FLUID).mean() > 0.9


def test_fatty_infiltration_replaces_the_asked_part_of_the_cuff_by_fat(mean_shoulder: LabelMap) -> None:
    fatty = shoulder_label_map(ShoulderShape(fatty_infiltration=0.4), mean_shoulder.grid)
    changed = fatty.values != mean_shoulder.values
    assert set(np.unique(mean_shoulder.values[changed])) <= set(CUFF)
    assert set(np.unique(fatty.values[changed])) == {tissues.FAT}
    muscle = np.isin(mean_shoulder.values, CUFF)
    assert changed[muscle].mean() == pytest.approx(0.4, abs=0.08)
    np.testing.assert_array_equal(fatty.mask(tissues.DELTOID), mean_shoulder.mask(tissues.DELTOID))


def test_an_implant_leaves_a_void_of_its_size_in_the_tuberosity_and_only_there(mean_joint: LabelMap) -> None:
    repaired = shoulder_label_map(ShoulderShape(implant_mm=5.0), mean_joint.grid)
    changed = repaired.values != mean_joint.values
    np.testing.assert_array_equal(changed, repaired.mask(tissues.IMPLANT))
    assert 0.5 < volume_ml(repaired, tissues.IMPLANT) < 3
    assert (mean_joint.values[changed] == tissues.HUMERUS).mean() > 0.5
    assert not mean_joint.mask(tissues.IMPLANT).any()
