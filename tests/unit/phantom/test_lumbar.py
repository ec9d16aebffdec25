"""Anatomical laws of the procedural lumbar spine."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.lumbar import (
    LUMBAR_TISSUES,
    LumbarShape,
    lumbar_label_map,
    lumbar_labels_at,
    sample_lumbar_shape,
)
from msksam_cli.phantom.lumbar_shape import LEVELS

BODIES = (tissues.T12, tissues.L1, tissues.L2, tissues.L3, tissues.L4, tissues.L5)
DISCS = (
    tissues.DISC_T12_L1,
    tissues.DISC_L1_L2,
    tissues.DISC_L2_L3,
    tissues.DISC_L3_L4,
    tissues.DISC_L4_L5,
    tissues.DISC_L5_S1,
)
PAIRS = (
    (tissues.LEFT_PSOAS, tissues.RIGHT_PSOAS),
    (tissues.LEFT_MULTIFIDUS, tissues.RIGHT_MULTIFIDUS),
    (tissues.LEFT_ERECTOR_SPINAE, tissues.RIGHT_ERECTOR_SPINAE),
    (tissues.LEFT_QUADRATUS_LUMBORUM, tissues.RIGHT_QUADRATUS_LUMBORUM),
)
BONES = (*BODIES, tissues.T11, tissues.SACRUM)
# mm2 of one side at L4, both sexes (Danneels 2000; Kamaz 2007; Fortin and Macedo 2013; Takahashi 1990)
MUSCLE_MM2_AT_L4 = {
    tissues.LEFT_PSOAS: (550, 2000),
    tissues.LEFT_MULTIFIDUS: (300, 1200),
    tissues.LEFT_ERECTOR_SPINAE: (700, 2500),
    tissues.LEFT_QUADRATUS_LUMBORUM: (200, 1100),
}
SAC_MM2_AT_L3 = (90, 320)  # Pierro 2017; Griffith 2016


def trunk_grid(spacing_mm: float = 2.0) -> Grid:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    shape = (np.array([324.0, 300.0, 300.0]) / spacing_mm).astype(int)
    affine[:3, 3] = -(shape - 1) * spacing_mm / 2 + (0, 20, -5)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def column_grid() -> Grid:
    """Fine round the bodies and the canal of L2 to L5."""
    affine = np.diag([1.5, 0.8, 0.8, 1.0])
    affine[:3, 3] = (-39, -75, -95)
    return Grid((53, 131, 175), affine)


def small_grid() -> Grid:
    """Coarse, anisotropic and not cubic."""
    affine = np.diag([3.1, 2.3, 3.7, 1.0])
    affine[:3, 3] = (-60, -90, -80)
    return Grid((39, 55, 43), affine)


@pytest.fixture(scope="module")
def mean_spine() -> LabelMap:
    return lumbar_label_map(LumbarShape(), trunk_grid())


@pytest.fixture(scope="module")
def mean_column() -> LabelMap:
    return lumbar_label_map(LumbarShape(), column_grid())


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def any_spine(request: pytest.FixtureRequest) -> LabelMap:
    shape = replace(sample_lumbar_shape(np.random.default_rng(request.param)), screw_levels=())
    return lumbar_label_map(shape, trunk_grid())


def volume_ml(labels: LabelMap, tissue: int) -> float:
    return float(labels.mask(tissue).sum() * labels.grid.voxel_volume_mm3 / 1000)


def centroid_mm(labels: LabelMap, tissue: int) -> NDArray[np.float64]:
    return labels.grid.to_world_mm(np.argwhere(labels.mask(tissue)).mean(axis=0))


def area_mm2(labels: LabelMap, tissue: int, z_mm: float) -> float:
    """Area of a tissue in the axial plane nearest to a height."""
    k = round(float(labels.grid.to_voxel((0, 0, z_mm))[2]))
    spacing = labels.grid.spacing_mm
    return float(labels.mask(tissue)[:, :, k].sum() * spacing[0] * spacing[1])


def height_mm(labels: LabelMap, tissue: int, y_mm: float) -> float:
    """Height of a tissue in the middle sagittal plane at some place from front to back of its own centre."""
    centre = centroid_mm(labels, tissue)
    i, j, _ = np.round(labels.grid.to_voxel((0, centre[1] + y_mm, 0))).astype(int)
    return float(labels.mask(tissue)[i, j].sum() * labels.grid.spacing_mm[2])


def test_every_tissue_of_the_region_exists_in_every_spine(any_spine: LabelMap) -> None:
    assert set(np.unique(any_spine.values)) - {0} == set(tissues_of("lumbar").indices)


def test_volumes_lie_within_published_ranges(any_spine: LabelMap) -> None:
    for body in BODIES[1:]:  # Limthongkul 2010; Caula 2020
        assert 18 < volume_ml(any_spine, body) < 62, LUMBAR_TISSUES.by_index(body).name
    for disc in DISCS[1:]:  # Pfirrmann 2006; worn discs are smaller
        assert 2.5 < volume_ml(any_spine, disc) < 24, LUMBAR_TISSUES.by_index(disc).name


def test_the_mean_spine_has_average_volumes_that_grow_downwards(mean_spine: LabelMap) -> None:
    bodies = [volume_ml(mean_spine, body) for body in BODIES]
    assert bodies[:5] == sorted(bodies[:5])
    assert volume_ml(mean_spine, tissues.L3) == pytest.approx(36, abs=6)
    assert volume_ml(mean_spine, tissues.DISC_L4_L5) == pytest.approx(14.5, abs=4.5)
    assert volume_ml(mean_spine, tissues.DISC_T12_L1) < 0.75 * volume_ml(mean_spine, tissues.DISC_L4_L5)


def test_muscles_and_dural_sac_have_published_areas(any_spine: LabelMap) -> None:
    height = centroid_mm(any_spine, tissues.L4)[2]
    for muscle, (low, high) in MUSCLE_MM2_AT_L4.items():
        assert low < area_mm2(any_spine, muscle, height) < high, LUMBAR_TISSUES.by_index(muscle).name
    sac = area_mm2(any_spine, tissues.SPINAL_CANAL, centroid_mm(any_spine, tissues.L3)[2])
    assert SAC_MM2_AT_L3[0] < sac < SAC_MM2_AT_L3[1]


def test_bodies_and_discs_alternate_from_above(any_spine: LabelMap) -> None:
    upper = (tissues.T11, tissues.DISC_T11_T12)
    order = [*upper, *(tissue for pair in zip(BODIES, DISCS, strict=True) for tissue in pair), tissues.SACRUM]
    heights = [centroid_mm(any_spine, tissue)[2] for tissue in order[2:]]
    assert heights == sorted(heights, reverse=True)
    assert centroid_mm(any_spine, tissues.T11)[2] > centroid_mm(any_spine, tissues.T12)[2]


def test_the_world_begins_in_the_middle_of_l3(mean_spine: LabelMap) -> None:
    np.testing.assert_allclose(centroid_mm(mean_spine, tissues.L3), 0, atol=1.5)


def test_from_front_to_back_lie_vessel_body_canal_spinous_process_and_skin(mean_spine: LabelMap) -> None:
    middle = round(float(mean_spine.grid.to_voxel((0, 0, 0))[2]))
    wanted = (tissues.AORTA, tissues.L3, tissues.SPINAL_CANAL, tissues.POSTERIOR_ELEMENTS)
    y = [np.nonzero(mean_spine.values[:, :, middle] == tissue)[1].mean() * 2.0 for tissue in wanted]
    assert y == sorted(y, reverse=True)
    assert y[1] - y[2] == pytest.approx(24, abs=3)


def test_the_aorta_lies_left_and_the_vena_cava_right(any_spine: LabelMap) -> None:
    above = np.zeros(any_spine.grid.shape, dtype=bool)
    above[:, :, round(float(any_spine.grid.to_voxel((0, 0, 20))[2])) :] = True
    for tissue, sign in ((tissues.AORTA, -1), (tissues.VENA_CAVA, 1)):
        x = any_spine.grid.to_world_mm(np.argwhere(any_spine.mask(tissue) & above))[:, 0]
        spine = any_spine.grid.to_world_mm(np.argwhere(any_spine.mask(tissues.L1)))[:, 0]
        assert sign * (x.mean() - spine.mean()) > 3


def test_bodies_never_touch_each_other(any_spine: LabelMap) -> None:
    for upper, lower in itertools.pairwise(BODIES):
        assert not (ndimage.binary_dilation(any_spine.mask(upper)) & any_spine.mask(lower)).any()


def test_each_body_and_disc_is_one_piece_and_the_canal_runs_through(any_spine: LabelMap) -> None:
    thecal = any_spine.mask(tissues.SPINAL_CANAL) | any_spine.mask(tissues.SPINAL_CORD)
    for mask in (*(any_spine.mask(tissue) for tissue in (*BODIES, *DISCS)), thecal):
        components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        assert sizes.max() >= 0.98 * sizes.sum()
    z = any_spine.grid.to_world_mm(np.argwhere(thecal))[:, 2]
    assert z.min() < centroid_mm(any_spine, tissues.DISC_L5_S1)[2] - 10
    assert z.max() > centroid_mm(any_spine, tissues.T12)[2] + 15


def test_the_iliac_wings_stand_beside_the_sacrum_and_carry_their_muscles(any_spine: LabelMap) -> None:
    beside = {
        tissue: np.abs(any_spine.grid.to_world_mm(np.argwhere(any_spine.mask(tissue)))[:, 0]).mean()
        for tissue in (tissues.SACRUM, tissues.ILIOPSOAS, tissues.HIP_BONE, tissues.GLUTEUS_MEDIUS)
    }
    assert beside[tissues.SACRUM] + 20 < beside[tissues.HIP_BONE] < beside[tissues.GLUTEUS_MEDIUS]
    crest = any_spine.grid.to_world_mm(np.argwhere(any_spine.mask(tissues.HIP_BONE)))[:, 2].max()
    assert centroid_mm(any_spine, tissues.L5)[2] < crest < centroid_mm(any_spine, tissues.L3)[2]


def test_nothing_but_skin_meets_the_air(any_spine: LabelMap) -> None:
    at_the_air = ndimage.binary_dilation(any_spine.values == 0)
    assert set(np.unique(any_spine.values[at_the_air])) == {0, tissues.SKIN}


def test_skin_covers_the_spinous_processes_of_a_lean_back() -> None:
    lean = LumbarShape(fat_thickness_mm=3.0, body_height_mm=33.0, body_depth_mm=31.0, canal_depth_mm=20.0)
    labels = lumbar_label_map(lean, trunk_grid())
    at_the_air = ndimage.binary_dilation(labels.values == 0)
    assert tissues.POSTERIOR_ELEMENTS not in labels.values[at_the_air]


def test_both_sides_mirror_each_other_where_nothing_bends(mean_spine: LabelMap) -> None:
    for left, right in PAIRS:
        np.testing.assert_array_equal(mean_spine.mask(left), mean_spine.mask(right)[::-1])
        assert centroid_mm(mean_spine, right)[0] > 5
    for bone in (*BONES, tissues.POSTERIOR_ELEMENTS):
        np.testing.assert_array_equal(mean_spine.mask(bone), mean_spine.mask(bone)[::-1])


def test_a_positive_scoliosis_is_convex_to_the_right() -> None:
    straight, bent = (lumbar_label_map(LumbarShape(scoliosis_deg=cobb), small_grid()) for cobb in (0.0, 20.0))
    shift = {body: centroid_mm(bent, body)[0] - centroid_mm(straight, body)[0] for body in BODIES[2:]}
    assert shift[tissues.L3] == pytest.approx(190 / np.pi * np.tan(np.radians(10)), abs=1.5)
    assert shift[tissues.L3] > shift[tissues.L5] + 2


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_labels_do_not_depend_on_the_order_or_direction_of_the_grids_axes(order: tuple[int, int, int]) -> None:
    shape, grid = sample_lumbar_shape(np.random.default_rng(6)), small_grid()
    values = lumbar_label_map(shape, grid).values
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    affine[:3, 3] += affine[:3, 0] * (grid.shape[order[0]] - 1)
    affine[:3, 0] *= -1
    turned = lumbar_label_map(shape, Grid(tuple(grid.shape[axis] for axis in order), affine)).values
    assert (turned != np.transpose(values, order)[::-1]).mean() < 1e-4


def test_labels_on_an_oblique_grid_are_those_of_its_points() -> None:
    shape = sample_lumbar_shape(np.random.default_rng(7))
    angle = np.radians(20)
    affine = small_grid().affine.copy()
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3] = turn @ affine[:3]
    grid = Grid((30, 50, 41), affine)
    labels = lumbar_label_map(shape, grid)
    there = lumbar_labels_at(shape, grid.to_world_mm(np.argwhere(np.ones(grid.shape)))).reshape(grid.shape)
    assert (there != labels.values).mean() < 1e-4
    assert len(np.unique(there)) > 15


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_bodies_have_the_dimensions_asked_for(factor: float) -> None:
    shape = LumbarShape(body_width_mm=47 * factor, body_depth_mm=34.5 * factor, body_height_mm=28.5 * factor)
    labels = lumbar_label_map(replace(shape, pitch_deg=0.0), column_grid())
    mask = labels.mask(tissues.L3)
    extent = [(np.ptp(np.nonzero(mask)[axis]) + 1) * labels.grid.spacing_mm[axis] for axis in range(3)]
    assert extent[0] == pytest.approx(shape.body_width_mm * 1.06, abs=3)
    assert extent[1] == pytest.approx(shape.body_depth_mm, abs=2)
    assert extent[2] == pytest.approx(shape.body_height_mm, abs=1.5)


def test_more_lordosis_tilts_the_sacrum_back_and_l5_forwards() -> None:
    flat, curved = (lumbar_label_map(LumbarShape(lordosis_deg=angle), trunk_grid(4.0)) for angle in (30.0, 62.0))
    assert centroid_mm(curved, tissues.SACRUM)[1] < centroid_mm(flat, tissues.SACRUM)[1] - 8
    assert centroid_mm(curved, tissues.L5)[1] < centroid_mm(flat, tissues.L5)[1] - 4


def test_a_degenerate_disc_is_lower_and_bulges(mean_column: LabelMap) -> None:
    worn = tuple(1.0 if name == "L4" else 0.0 for name in LEVELS)
    labels = lumbar_label_map(LumbarShape(degeneration=worn), column_grid())
    disc, other = tissues.DISC_L4_L5, tissues.DISC_L3_L4
    assert volume_ml(labels, disc) < 0.75 * volume_ml(mean_column, disc)
    assert volume_ml(labels, other) == pytest.approx(volume_ml(mean_column, other), rel=0.05)
    assert height_mm(labels, disc, 0) < height_mm(mean_column, disc, 0) - 3


def test_a_protrusion_narrows_the_sac_at_its_level(mean_column: LabelMap) -> None:
    level = LEVELS.index("L4")
    labels = lumbar_label_map(LumbarShape(protrusion_mm=6.0, protrusion_level=level), column_grid())
    z = centroid_mm(mean_column, tissues.DISC_L4_L5)[2] + 4
    healthy = area_mm2(mean_column, tissues.SPINAL_CANAL, z)
    assert 0.3 * healthy < area_mm2(labels, tissues.SPINAL_CANAL, z) < 0.9 * healthy
    assert area_mm2(labels, tissues.SPINAL_CANAL, 0) == area_mm2(mean_column, tissues.SPINAL_CANAL, 0)


def test_osteophytes_widen_the_rims_and_not_the_waist(mean_column: LabelMap) -> None:
    labels = lumbar_label_map(LumbarShape(osteophyte_mm=6.0), column_grid())
    added = labels.mask(tissues.L3) & ~mean_column.mask(tissues.L3)
    assert added.sum() > 100
    z = labels.grid.to_world_mm(np.argwhere(added))[:, 2]
    assert np.percentile(np.abs(z), 5) > 6


def test_a_fracture_takes_height_from_the_front(mean_column: LabelMap) -> None:
    shape = LumbarShape(fracture_level=LEVELS.index("L3"), fracture_loss=0.4)
    labels = lumbar_label_map(shape, column_grid())
    front, back = (height_mm(labels, tissues.L3, y) / height_mm(mean_column, tissues.L3, y) for y in (11.0, -11.0))
    assert front < 0.75
    assert back > front + 0.1
    assert volume_ml(labels, tissues.L4) == pytest.approx(volume_ml(mean_column, tissues.L4), rel=0.05)


def test_a_schmorl_node_moves_disc_into_the_body_above(mean_column: LabelMap) -> None:
    labels = lumbar_label_map(LumbarShape(node_level=LEVELS.index("L3")), column_grid())
    moved = mean_column.mask(tissues.L3) & (labels.values != tissues.L3)
    assert moved.sum() > 50
    assert set(np.unique(labels.values[moved])) == {tissues.DISC_L3_L4}


@pytest.mark.parametrize("part", [0.2, 0.7])
def test_fatty_infiltration_streaks_the_back_muscles_and_spares_the_psoas(part: float, mean_spine: LabelMap) -> None:
    labels = lumbar_label_map(LumbarShape(fatty_infiltration=part), trunk_grid())
    back = np.isin(mean_spine.values, [tissue for pair in PAIRS[1:3] for tissue in pair])
    assert (labels.values[back] == tissues.FAT).mean() == pytest.approx(0.55 * part, abs=0.12)
    changed = labels.values != mean_spine.values
    assert not (changed & ~back).any()


def test_screws_run_through_the_pedicles_into_two_bodies(mean_column: LabelMap) -> None:
    levels = (LEVELS.index("L3"), LEVELS.index("L4"))
    labels = lumbar_label_map(LumbarShape(screw_levels=levels), column_grid())
    metal = labels.mask(tissues.IMPLANT)
    _, count = ndimage.label(metal, np.ones((3, 3, 3)))
    assert count == 2
    replaced = mean_column.values[metal]
    assert {tissues.L3, tissues.L4, tissues.POSTERIOR_ELEMENTS} <= set(replaced)
    assert not {tissues.L2, tissues.L5, tissues.SPINAL_CANAL} & set(replaced)


@pytest.mark.parametrize("level", [1.6, 3.0])
def test_the_cord_ends_at_its_level(level: float) -> None:
    labels = lumbar_label_map(LumbarShape(conus_level=level), trunk_grid())
    bottom = labels.grid.to_world_mm(np.argwhere(labels.mask(tissues.SPINAL_CORD)))[:, 2].min()
    height = np.interp(level, (1, 2, 3), [centroid_mm(labels, body)[2] for body in BODIES[:3]])
    assert bottom == pytest.approx(height, abs=6)


def test_spines_differ_between_people() -> None:
    maps = [lumbar_label_map(sample_lumbar_shape(np.random.default_rng(seed)), small_grid()).values for seed in (1, 2)]
    assert (maps[0] != maps[1]).mean() > 0.1


def test_a_volume_is_drawn_in_reasonable_time() -> None:
    grid = trunk_grid(4.0)
    started = time.process_time()
    lumbar_label_map(sample_lumbar_shape(np.random.default_rng(0)), grid)
    assert (time.process_time() - started) / np.prod(grid.shape) < 2e-5
