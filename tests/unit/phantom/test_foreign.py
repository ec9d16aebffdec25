from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable, default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError
from msksam_cli.phantom.acquisition import Protocol, acquire, anatomy_of, sampled
from msksam_cli.phantom.foreign import dressed
from msksam_cli.phantom.signal import SEQUENCES, render

SPACING = (1.5, 1.2, 2.5)
TABLE = TissueTable(
    (
        Tissue(3, "femur", group="bone"),
        Tissue(7, "tibia", group="bone"),
        Tissue(30, "femoral-cartilage", group="cartilage"),
    )
)


@pytest.fixture(scope="module")
def joint() -> LabelMap:
    """Two shafts that meet in the middle of an anisotropic grid, the upper one capped by cartilage."""
    shape = (88, 110, 64)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -np.array(SPACING) * (np.array(shape) - 1) / 2
    grid = Grid(shape, affine)
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    x, y, z = (affine[axis, axis] * index + affine[axis, 3] for axis, index in enumerate((i, j, k)))
    radius = np.hypot(x, y)
    values = np.zeros(shape, dtype=np.uint8)
    values[(radius < 14) & (z < -4)] = 7
    values[(radius < 14) & (z > 4)] = 3
    values[(radius < 14) & (z > 0) & (z <= 4)] = 30
    return LabelMap(values, grid, TABLE)


@pytest.fixture(scope="module")
def limb(joint: LabelMap) -> LabelMap:
    return dressed(joint, seed=1)


def voxels(labels: LabelMap, name: str) -> np.ndarray:
    tissue = labels.tissues.by_name(name)
    assert tissue is not None
    return labels.mask(tissue.index)


def test_every_outline_stays_and_keeps_its_value(joint: LabelMap, limb: LabelMap) -> None:
    np.testing.assert_array_equal(limb.values[joint.values > 0], joint.values[joint.values > 0])
    for index in joint.tissues.indices:
        assert limb.mask(index).sum() == joint.mask(index).sum()
        assert limb.tissues.by_index(index) == joint.tissues.by_index(index)


def test_added_tissues_take_free_values_and_the_known_ones_their_codes(limb: LabelMap) -> None:
    assert [tissue.name for tissue in limb.tissues][3:] == ["joint-fluid", "joint-capsule", "muscle", "fat", "skin"]
    assert limb.tissues.indices[3:] == (31, 32, 33, 34, 35)
    fat = limb.tissues.by_name("fat")
    assert fat is not None
    assert fat.mapping == "SCT:55603005"


def test_bones_no_longer_stand_in_air_and_air_begins_at_the_skin(limb: LabelMap) -> None:
    air = limb.values == 0
    skin = voxels(limb, "skin")
    assert air[0, 0].all()
    touching = ndimage.binary_dilation(air) & ~air
    assert touching.sum() > 1000
    assert skin[touching].mean() > 0.99


def test_fluid_touches_cartilage_and_stays_near_it(joint: LabelMap, limb: LabelMap) -> None:
    places = np.argwhere(voxels(limb, "joint-fluid")) * SPACING
    cartilage = np.argwhere(joint.mask(30)) * SPACING
    nearest = np.sqrt(((places[:, None] - cartilage[None]) ** 2).sum(axis=2)).min(axis=1)
    assert len(places) > 50
    assert nearest.max() < 4.0


def test_muscle_is_thicker_round_the_shafts_and_behind_than_before_the_joint(joint: LabelMap, limb: LabelMap) -> None:
    muscle = voxels(limb, "muscle")
    middle = joint.grid.shape[2] // 2
    front, back = muscle[:, 60:, :], muscle[:, :50, :]
    assert back[:, :, middle].sum() > 3 * front[:, :, middle].sum()
    assert muscle[:, :, -3].sum() > 1.3 * muscle[:, :, middle].sum()


def test_the_limb_goes_on_to_the_border_that_a_bone_reaches(limb: LabelMap) -> None:
    for end in (0, -1):
        assert (limb.values[:, :, end] > 0).mean() > 0.25


def test_dressing_is_repeatable_and_changes_with_the_seed(joint: LabelMap, limb: LabelMap) -> None:
    np.testing.assert_array_equal(limb.values, dressed(joint, seed=1).values)
    assert (limb.values != dressed(joint, seed=2).values).mean() > 0.01


def test_tissues_the_map_already_has_are_used_as_they_are(joint: LabelMap) -> None:
    table = TissueTable((*TABLE.tissues, Tissue(2, "fat", group="fat")))
    found = dressed(LabelMap(joint.values, joint.grid, table), seed=1)
    assert found.mask(2).any()
    assert [tissue.name for tissue in found.tissues].count("fat") == 1


def test_an_empty_map_is_refused(joint: LabelMap) -> None:
    with pytest.raises(InputError, match="label map is empty"):
        dressed(LabelMap(np.zeros_like(joint.values), joint.grid, TABLE))


def test_a_dressed_map_is_rendered_with_bone_brighter_than_its_shell(joint: LabelMap, limb: LabelMap) -> None:
    image = render(limb, SEQUENCES["t1-tse"], seed=3)
    marrow, muscle, air = (image[mask].mean() for mask in (joint.mask(7), voxels(limb, "muscle"), limb.values == 0))
    assert marrow > 1.5 * muscle > 4 * air


def test_labels_that_nobody_knows_are_rendered_each_at_a_level_of_its_own(joint: LabelMap) -> None:
    nameless = LabelMap(joint.values, joint.grid, default_table(joint.tissues.indices))
    image = render(nameless, SEQUENCES["pd-fs-tse"], seed=3)
    levels = sorted(float(np.median(image[joint.mask(index)])) for index in joint.tissues.indices)
    assert levels[0] > 100
    assert min(np.diff(levels)) > 15


def test_a_label_map_is_scanned_like_a_subject_in_slices_of_any_direction(joint: LabelMap) -> None:
    protocol = Protocol("coronal", 2.0, 5.0, 4.0, 7, (100.0, 120.0), (0.0, 0.0, 0.0), tilt_deg=(20.0, 10.0, 35.0))
    volume, truth = acquire(joint, SEQUENCES["pd-tse"], protocol, seed=4)
    assert volume.body_part == anatomy_of(joint).body_part == "knee"
    assert truth.grid.matches(protocol.grid)
    volume_ml = [labels.mask(3).sum() * labels.grid.voxel_volume_mm3 for labels in (truth, sampled(joint, truth.grid))]
    assert volume_ml[0] == pytest.approx(volume_ml[1], rel=0.15)


def test_sampling_on_its_own_grid_changes_nothing_and_outside_is_background(joint: LabelMap) -> None:
    np.testing.assert_array_equal(sampled(joint, joint.grid).values, joint.values)
    affine = joint.grid.affine.copy()
    affine[0, 3] += 1e4
    assert not sampled(joint, Grid(joint.grid.shape, affine)).values.any()


def test_real_outlines_of_a_knee_can_be_dressed() -> None:
    path = Path(__file__).parents[3] / "../shared/data/knee_labels_dess/right_knee_labels.nii.gz"
    if not path.is_file():
        pytest.skip("the real knee's labels lie outside the repository and are not here")
    from msksam_cli.io.nifti import read_label_map

    knee = read_label_map(path, None)
    coarse = knee.values[::4, ::4, ::2]
    affine = knee.grid.affine @ np.diag([4.0, 4.0, 2.0, 1.0])
    names = ("femoral-cartilage", "medial-tibial-cartilage", "lateral-tibial-cartilage", "patellar-cartilage")
    names += ("femur", "tibia", "patella", "fibula", "lateral-meniscus", "medial-meniscus")
    groups = ("cartilage",) * 4 + ("bone",) * 4 + ("meniscus",) * 2
    table = TissueTable(tuple(Tissue(n, names[n - 1], group=groups[n - 1]) for n in range(1, 11)))
    found = dressed(LabelMap(np.ascontiguousarray(coarse), Grid(coarse.shape, affine), table))
    assert (found.values == 0).mean() < 0.6
    assert voxels(found, "muscle").mean() > 0.15
    np.testing.assert_array_equal(found.values[coarse > 0], coarse[coarse > 0])
