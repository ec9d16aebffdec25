"""What disease does to the procedural knee, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.knee import KneeShape, knee_label_map, knee_labels_at, sample_knee_shape, with_disease

MUSCLES = (tissues.QUADRICEPS, tissues.HAMSTRINGS, tissues.GASTROCNEMIUS, tissues.LEG_MUSCLES)
BONES = (tissues.FEMUR, tissues.TIBIA, tissues.PATELLA)


def grid() -> Grid:
    """Anisotropic and not cubic, over the joint and the recess above the patella."""
    affine = np.diag([1.3, 1.5, 1.1, 1.0])
    affine[:3, 3] = (-52, -52, -34)
    return Grid((81, 68, 105), affine)


@pytest.fixture(scope="module")
def healthy() -> LabelMap:
    return knee_label_map(KneeShape(), grid())


def volume_ml(labels: LabelMap, tissue: int) -> float:
    return float(labels.mask(tissue).sum() * labels.grid.voxel_volume_mm3 / 1000)


def changed(labels: LabelMap, healthy: LabelMap) -> NDArray[np.bool_]:
    return np.asarray(labels.values != healthy.values)


def gap_mm(shape: KneeShape, x: float) -> float:
    """Distance between tibia and femur along a vertical line through a compartment's middle."""
    heights = np.arange(-12, 16, 0.1)
    labels = knee_labels_at(shape, np.stack(np.broadcast_arrays(x, -6.0, heights), axis=-1))
    return float(heights[labels == tissues.FEMUR].min() - heights[labels == tissues.TIBIA].max())


def test_medial_wear_thins_the_medial_side_and_brings_its_bones_nearer(healthy: LabelMap) -> None:
    worn = knee_label_map(KneeShape(medial_loss=0.8), healthy.grid)
    medial, lateral, patellar = (
        volume_ml(worn, tissue) / volume_ml(healthy, tissue)
        for tissue in (tissues.MEDIAL_TIBIAL_CARTILAGE, tissues.LATERAL_TIBIAL_CARTILAGE, tissues.PATELLAR_CARTILAGE)
    )
    assert medial < 0.6
    assert lateral == pytest.approx(1, abs=0.03)
    assert patellar == pytest.approx(1, abs=0.03)
    narrowed = gap_mm(KneeShape(), -21.5) - gap_mm(KneeShape(medial_loss=0.8), -21.5)
    assert narrowed == pytest.approx(0.95 * 5.1 * 0.6 * 0.8, abs=0.6)
    assert gap_mm(KneeShape(medial_loss=0.8), 21.5) == pytest.approx(gap_mm(KneeShape(), 21.5), abs=0.15)


def test_patellar_wear_leaves_the_condyles(healthy: LabelMap) -> None:
    worn = knee_label_map(KneeShape(patellar_loss=0.9), healthy.grid)
    assert volume_ml(worn, tissues.PATELLAR_CARTILAGE) < 0.5 * volume_ml(healthy, tissues.PATELLAR_CARTILAGE)
    places = healthy.grid.to_world_mm(np.argwhere(np.ones(healthy.grid.shape)))
    behind = ((places[:, 1] < 5) & (places[:, 2] < 20)).reshape(healthy.grid.shape)
    np.testing.assert_array_equal(worn.values[behind], healthy.values[behind])


def test_a_bald_compartment_has_bone_that_meets_fluid_not_cartilage() -> None:
    heights = np.arange(-12, 16, 0.05)
    line = np.stack(np.broadcast_arrays(21.5, -6.0, heights), axis=-1)
    labels = knee_labels_at(KneeShape(lateral_loss=1.0), line)
    assert tissues.LATERAL_TIBIAL_CARTILAGE in knee_labels_at(KneeShape(), line)
    assert tissues.LATERAL_TIBIAL_CARTILAGE not in labels
    between = labels[(labels == tissues.TIBIA).nonzero()[0].max() + 1 : (labels == tissues.FEMUR).nonzero()[0].min()]
    assert (between == tissues.JOINT_FLUID).all()


def test_osteophytes_only_add_bone_at_the_edges_and_leave_the_joint_open(healthy: LabelMap) -> None:
    spurred = knee_label_map(KneeShape(osteophyte_mm=5.0), healthy.grid)
    for bone in (tissues.FEMUR, tissues.TIBIA):
        assert volume_ml(spurred, bone) - volume_ml(healthy, bone) > 0.3
        assert not (healthy.mask(bone) & ~spurred.mask(bone)).any()
        near = ndimage.distance_transform_edt(~healthy.mask(bone), sampling=healthy.grid.spacing_mm)
        assert near[spurred.mask(bone)].max() < 8
    away = ndimage.distance_transform_edt(~spurred.mask(tissues.FEMUR), sampling=healthy.grid.spacing_mm)
    assert away[spurred.mask(tissues.TIBIA)].min() > 1.2


def test_an_effusion_fills_the_recess_above_the_patella_and_moves_no_bone(healthy: LabelMap) -> None:
    small, large = (knee_label_map(KneeShape(effusion_mm=depth), healthy.grid) for depth in (1.0, 5.0))
    fluid = [volume_ml(labels, tissues.JOINT_FLUID) for labels in (healthy, small, large)]
    assert fluid[1] > fluid[0] + 1
    assert fluid[2] > fluid[1] + 10
    added = healthy.grid.to_world_mm(np.argwhere(large.mask(tissues.JOINT_FLUID) & changed(large, healthy)))
    assert added[:, 2].max() > 65
    for bone in BONES:
        np.testing.assert_array_equal(large.mask(bone), healthy.mask(bone))


def test_fatty_infiltration_replaces_the_asked_part_of_the_muscles_by_fat(healthy: LabelMap) -> None:
    fatty = knee_label_map(KneeShape(fatty_infiltration=0.3), healthy.grid)
    different = changed(fatty, healthy)
    assert set(np.unique(healthy.values[different])) <= set(MUSCLES)
    assert set(np.unique(fatty.values[different])) == {tissues.FAT}
    assert different[np.isin(healthy.values, MUSCLES)].mean() == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize(("implant", "low_ml", "high_ml"), [("screws", 3, 15), ("prosthesis", 50, 250)])
def test_metal_leaves_a_void_and_changes_nothing_else(
    implant: str, low_ml: float, high_ml: float, healthy: LabelMap
) -> None:
    labels = knee_label_map(KneeShape(implant=implant), healthy.grid)
    np.testing.assert_array_equal(changed(labels, healthy), labels.mask(tissues.IMPLANT))
    assert low_ml < volume_ml(labels, tissues.IMPLANT) < high_ml
    assert labels.tissues.by_index(tissues.IMPLANT).name == "implant"


def test_screws_lie_in_bone_and_a_prosthesis_takes_the_joint(healthy: LabelMap) -> None:
    screws = knee_label_map(KneeShape(implant="screws"), healthy.grid).mask(tissues.IMPLANT)
    assert np.isin(healthy.values[screws], (tissues.FEMUR, tissues.TIBIA)).mean() > 0.9
    assert {tissues.FEMUR, tissues.TIBIA} <= set(np.unique(healthy.values[screws]))
    replaced = knee_label_map(KneeShape(implant="prosthesis"), healthy.grid)
    for tissue in (tissues.MEDIAL_TIBIAL_CARTILAGE, tissues.LATERAL_TIBIAL_CARTILAGE):
        assert volume_ml(replaced, tissue) < 0.3 * volume_ml(healthy, tissue)


def test_a_diseased_left_knee_mirrors_the_right_one() -> None:
    shape = with_disease(sample_knee_shape(np.random.default_rng(2), "right"), np.random.default_rng(8))
    assert shape.medial_loss > 0
    points = np.random.default_rng(1).uniform(-45, 45, (4000, 3))
    mirrored = points * (-1, 1, 1)
    left = KneeShape(**{**vars(shape), "side": "left"})
    np.testing.assert_array_equal(knee_labels_at(left, mirrored), knee_labels_at(shape, points))
