"""Anatomical laws of the procedural knee."""

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
from msksam_cli.phantom.knee import KneeShape, knee_label_map, knee_labels_at, sample_knee_shape
from msksam_cli.phantom.tissues import KNEE_TISSUES

SPACING_MM = 1.0
PARTS = {tissues.HAMSTRINGS: 2, tissues.POPLITEAL_VESSELS: 2, tissues.LEG_MUSCLES: 3, tissues.QUADRICEPS: 3}
CARTILAGE_BONE = {
    tissues.FEMORAL_CARTILAGE: tissues.FEMUR,
    tissues.MEDIAL_TIBIAL_CARTILAGE: tissues.TIBIA,
    tissues.LATERAL_TIBIAL_CARTILAGE: tissues.TIBIA,
    tissues.PATELLAR_CARTILAGE: tissues.PATELLA,
}
# ml; Eckstein 2001 (cartilage: 16.6 to 31.4 ml in all for men), Bloecker 2011 (menisci), Iranpour 2008 (patella),
# widened for women and for small and large knees
PUBLISHED_ML = {
    tissues.PATELLA: (9, 32),
    tissues.FEMORAL_CARTILAGE: (7, 22),
    tissues.MEDIAL_TIBIAL_CARTILAGE: (1.0, 4.2),
    tissues.LATERAL_TIBIAL_CARTILAGE: (1.0, 4.5),
    tissues.PATELLAR_CARTILAGE: (1.4, 5.5),
    tissues.MEDIAL_MENISCUS: (1.2, 4.0),
    tissues.LATERAL_MENISCUS: (1.2, 4.0),
    tissues.ANTERIOR_CRUCIATE: (0.8, 4.0),
    tissues.POSTERIOR_CRUCIATE: (1.2, 5.0),
}


def knee_grid(spacing_mm: float = SPACING_MM) -> Grid:
    extent = np.array([150.0, 160.0, 170.0])
    affine = np.diag([spacing_mm] * 3 + [1.0])
    shape = (extent / spacing_mm).astype(int)
    affine[:3, 3] = -(shape - 1) * spacing_mm / 2 + (0, 0, 5)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def joint_grid() -> Grid:
    """Small, anisotropic and not cubic, round the joint."""
    affine = np.diag([2.1, 1.3, 1.7, 1.0])
    affine[:3, 3] = (-40, -35, -25)
    return Grid((38, 55, 43), affine)


@pytest.fixture(scope="module")
def mean_knee() -> LabelMap:
    return knee_label_map(KneeShape(), knee_grid())


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def any_knee(request: pytest.FixtureRequest) -> LabelMap:
    shape = sample_knee_shape(np.random.default_rng(request.param), "right")
    return knee_label_map(shape, knee_grid())


def volume_ml(labels: LabelMap, tissue: int) -> float:
    return float(labels.mask(tissue).sum() * labels.grid.voxel_volume_mm3 / 1000)


def extent_mm(mask: NDArray[np.bool_], axis: int) -> float:
    return float((np.ptp(np.nonzero(mask)[axis]) + 1) * SPACING_MM)


def centroid_mm(labels: LabelMap, tissue: int) -> NDArray[np.float64]:
    return labels.grid.to_world_mm(np.argwhere(labels.mask(tissue)).mean(axis=0))


def column(labels: LabelMap, axis: int, **at_mm: float) -> list[int]:
    """Distinct consecutive labels along one world axis through a point."""
    point = [at_mm.get("x", 0.0), at_mm.get("y", 0.0), at_mm.get("z", 0.0)]
    index: list[int | slice] = [int(i) for i in np.round(labels.grid.to_voxel(point))]
    index[axis] = slice(None)
    return [int(value) for value, _ in itertools.groupby(labels.values[tuple(index)])]


def test_every_tissue_exists_in_every_knee(any_knee: LabelMap) -> None:
    assert set(np.unique(any_knee.values)) - {0} == set(KNEE_TISSUES.indices)


def test_volumes_lie_within_published_ranges(any_knee: LabelMap) -> None:
    for tissue, (low, high) in PUBLISHED_ML.items():
        assert low < volume_ml(any_knee, tissue) < high, KNEE_TISSUES.by_index(tissue).name


def test_the_mean_knee_has_average_volumes(mean_knee: LabelMap) -> None:
    assert volume_ml(mean_knee, tissues.PATELLA) == pytest.approx(19, abs=4)
    assert volume_ml(mean_knee, tissues.FEMORAL_CARTILAGE) == pytest.approx(14, abs=3)
    cartilage = sum(volume_ml(mean_knee, tissue) for tissue in CARTILAGE_BONE)
    assert 16 < cartilage < 27
    for tissue in (tissues.MEDIAL_MENISCUS, tissues.LATERAL_MENISCUS):
        assert 1.5 < volume_ml(mean_knee, tissue) < 3.2


def test_each_tissue_is_one_piece_or_as_many_as_its_muscles(any_knee: LabelMap) -> None:
    for tissue in set(KNEE_TISSUES.indices) - {tissues.JOINT_FLUID}:
        components, count = ndimage.label(any_knee.mask(tissue), np.ones((3, 3, 3)))
        sizes = np.sort(np.bincount(components.ravel())[1:])[::-1]
        pieces = PARTS.get(tissue, 1)
        assert sizes[:pieces].sum() >= 0.98 * sizes.sum(), (KNEE_TISSUES.by_index(tissue).name, sizes[:5], count)


def test_cartilage_lies_on_its_own_bone_and_is_no_thicker_than_real_cartilage(any_knee: LabelMap) -> None:
    for cartilage, bone in CARTILAGE_BONE.items():
        away = ndimage.distance_transform_edt(~any_knee.mask(bone), sampling=any_knee.grid.spacing_mm)
        assert away[any_knee.mask(cartilage)].max() < 6.0
        assert np.median(away[any_knee.mask(cartilage)]) < 2.6


def test_bones_never_touch(any_knee: LabelMap) -> None:
    for bone in (tissues.TIBIA, tissues.PATELLA):
        grown = ndimage.binary_dilation(any_knee.mask(bone), iterations=2)
        assert not (grown & any_knee.mask(tissues.FEMUR)).any()
    grown = ndimage.binary_dilation(any_knee.mask(tissues.FIBULA))
    assert not (grown & (any_knee.mask(tissues.FEMUR) | any_knee.mask(tissues.TIBIA))).any()


def test_cartilage_lies_between_femur_and_tibia(mean_knee: LabelMap) -> None:
    for x, plate in ((-20.0, tissues.MEDIAL_TIBIAL_CARTILAGE), (21.0, tissues.LATERAL_TIBIAL_CARTILAGE)):
        upwards = column(mean_knee, 2, x=x, y=-6.0)
        between = upwards[upwards.index(tissues.TIBIA) + 1 : upwards.index(tissues.FEMUR)]
        assert between[0] == plate
        assert between[-1] == tissues.FEMORAL_CARTILAGE
        assert set(between) <= {plate, tissues.FEMORAL_CARTILAGE, tissues.JOINT_FLUID}


def test_cartilage_lies_between_patella_and_trochlea(mean_knee: LabelMap) -> None:
    forwards = column(mean_knee, 1, x=2.0, z=35.0)
    between = forwards[forwards.index(tissues.FEMUR) + 1 : forwards.index(tissues.PATELLA)]
    assert between[0] == tissues.FEMORAL_CARTILAGE
    assert between[-1] == tissues.PATELLAR_CARTILAGE
    assert set(between) <= {tissues.FEMORAL_CARTILAGE, tissues.JOINT_FLUID, tissues.PATELLAR_CARTILAGE}


def test_the_outside_of_the_leg_is_skin_then_fat(mean_knee: LabelMap) -> None:
    for axis, point in ((0, {"y": 0.0, "z": 60.0}), (1, {"x": -30.0, "z": -50.0})):
        line = column(mean_knee, axis, **point)
        assert line[:3] == [0, tissues.SKIN, tissues.FAT]
        assert line[-3:] == [tissues.FAT, tissues.SKIN, 0]


def test_nothing_but_skin_meets_the_air(any_knee: LabelMap) -> None:
    at_the_air = ndimage.binary_dilation(any_knee.values == 0)
    assert set(np.unique(any_knee.values[at_the_air])) == {0, tissues.SKIN}


def test_the_leg_runs_through_both_ends_of_the_grid(any_knee: LabelMap) -> None:
    below, above = set(np.unique(any_knee.values[:, :, 0])), set(np.unique(any_knee.values[:, :, -1]))
    common = {tissues.FAT, tissues.SKIN}
    assert common | {tissues.TIBIA, tissues.FIBULA, tissues.GASTROCNEMIUS} <= below
    assert common | {tissues.FEMUR, tissues.QUADRICEPS, tissues.HAMSTRINGS, tissues.QUADRICEPS_TENDON} <= above


def test_a_right_knee_has_its_lateral_side_to_the_patients_right(mean_knee: LabelMap) -> None:
    fibula, tibia = centroid_mm(mean_knee, tissues.FIBULA), centroid_mm(mean_knee, tissues.TIBIA)
    assert fibula[0] > 25
    assert fibula[1] < tibia[1] - 15
    for tissue in KNEE_TISSUES:
        if tissue.side:
            assert np.sign(centroid_mm(mean_knee, tissue.index)[0]) == (1 if tissue.side == "lateral" else -1)


def test_parts_stand_in_the_order_of_anatomy(mean_knee: LabelMap) -> None:
    height = {tissue: centroid_mm(mean_knee, tissue)[2] for tissue in KNEE_TISSUES.indices}
    assert height[tissues.TIBIA] < height[tissues.PATELLAR_LIGAMENT] < height[tissues.PATELLA]
    assert height[tissues.PATELLA] < height[tissues.QUADRICEPS_TENDON]
    depth = {tissue: centroid_mm(mean_knee, tissue)[1] for tissue in KNEE_TISSUES.indices}
    assert depth[tissues.POSTERIOR_CRUCIATE] < depth[tissues.ANTERIOR_CRUCIATE]
    assert depth[tissues.GASTROCNEMIUS] < depth[tissues.TIBIA] < depth[tissues.PATELLA]


def test_menisci_are_rings_open_towards_the_notch(mean_knee: LabelMap) -> None:
    for tissue, sign in ((tissues.MEDIAL_MENISCUS, -1), (tissues.LATERAL_MENISCUS, 1)):
        seen_from_above = mean_knee.mask(tissue).any(axis=2)

        def at(x: float, y: float, plane: NDArray[np.bool_] = seen_from_above) -> bool:
            i, j, _ = np.round(mean_knee.grid.to_voxel((x, y, 0))).astype(int)
            return bool(plane[i, j])

        assert not at(sign * 20.0, -8.0)
        assert not at(sign * 9.0, -8.0)
        assert at(sign * 35.0, -8.0)
        assert any(at(sign * 21.0, y) for y in (4.0, 6.0, 8.0, 10.0, 12.0))
        assert any(at(sign * 21.0, y) for y in (-22.0, -24.0, -26.0, -28.0))


def test_a_left_knee_is_the_mirror_image_of_a_right_one() -> None:
    right = sample_knee_shape(np.random.default_rng(5), "right")
    grid = joint_grid()
    mirrored = Grid(grid.shape, np.diag([-1.0, 1, 1, 1]) @ grid.affine)
    left_values = knee_label_map(replace(right, side="left"), mirrored).values
    np.testing.assert_array_equal(left_values, knee_label_map(right, grid).values)
    assert (left_values != knee_label_map(right, mirrored).values).mean() > 0.05


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_labels_do_not_depend_on_the_order_or_direction_of_the_grids_axes(order: tuple[int, int, int]) -> None:
    shape, grid = sample_knee_shape(np.random.default_rng(6)), joint_grid()
    values = knee_label_map(shape, grid).values
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    affine[:3, 3] += affine[:3, 0] * (grid.shape[order[0]] - 1)
    affine[:3, 0] *= -1
    turned = knee_label_map(shape, Grid(tuple(grid.shape[axis] for axis in order), affine)).values
    expected = np.transpose(values, order)[::-1]
    assert (turned != expected).mean() < 1e-4


def test_labels_on_an_oblique_grid_are_those_of_its_points() -> None:
    shape = sample_knee_shape(np.random.default_rng(7))
    angle = np.radians(20)
    affine = joint_grid().affine.copy()
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine[:3] = turn @ affine[:3]
    grid = Grid((20, 45, 21), affine)
    labels = knee_label_map(shape, grid)
    indices = np.argwhere(np.ones(grid.shape))
    there = knee_labels_at(shape, grid.to_world_mm(indices)).reshape(grid.shape)
    assert (there != labels.values).mean() < 1e-4
    assert len(np.unique(there)) > 10


@pytest.mark.parametrize("width_mm", [72.0, 92.0])
def test_bones_have_the_dimensions_asked_for(width_mm: float) -> None:
    factor = width_mm / 81.0
    shape = KneeShape(
        epicondylar_width_mm=width_mm,
        femoral_depth_mm=62 * factor,
        tibial_width_mm=75 * factor,
        tibial_depth_mm=49 * factor,
        patella_width_mm=44 * factor,
        patella_height_mm=42 * factor,
        patella_thickness_mm=22 * factor,
        flexion_deg=0.0,
    )
    labels = knee_label_map(shape, knee_grid())
    femur, tibia, patella = (labels.mask(bone) for bone in (tissues.FEMUR, tissues.TIBIA, tissues.PATELLA))
    assert extent_mm(femur, 0) == pytest.approx(shape.epicondylar_width_mm, abs=2)
    assert extent_mm(femur, 1) == pytest.approx(shape.femoral_depth_mm, abs=2)
    assert extent_mm(tibia, 0) == pytest.approx(shape.tibial_width_mm, abs=2)
    assert [extent_mm(patella, axis) for axis in range(3)] == pytest.approx(
        [shape.patella_width_mm, shape.patella_thickness_mm, shape.patella_height_mm], abs=2
    )


def test_thicker_cartilage_takes_more_room(mean_knee: LabelMap) -> None:
    thick = knee_label_map(KneeShape(femoral_cartilage_mm=3.2), mean_knee.grid)
    assert volume_ml(thick, tissues.FEMORAL_CARTILAGE) > 1.15 * volume_ml(mean_knee, tissues.FEMORAL_CARTILAGE)
    assert volume_ml(thick, tissues.PATELLA) == pytest.approx(volume_ml(mean_knee, tissues.PATELLA), rel=0.02)


def test_flexion_moves_the_thigh_and_leaves_the_leg() -> None:
    straight, bent = (knee_label_map(KneeShape(flexion_deg=angle), knee_grid(2.0)) for angle in (0.0, 12.0))
    top, bottom = straight.mask(tissues.FEMUR)[:, :, -1], bent.mask(tissues.FEMUR)[:, :, -1]
    assert abs(np.nonzero(top)[1].mean() - np.nonzero(bottom)[1].mean()) * 2.0 > 8
    np.testing.assert_array_equal(straight.values[:, :, :30], bent.values[:, :, :30])
