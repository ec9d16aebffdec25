from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import REGIONS, tissues_of
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.sequences import RELAXATION, SEQUENCES
from msksam_cli.phantom.signal import ideal_echoes, ideal_signal, render
from msksam_cli.phantom.texture import growth_plate_scars
from msksam_cli.phantom.tissues import KNEE_TISSUES

SPACING = (0.8, 1.1, 3.0)


def block_of(tissue: int, shape: tuple[int, int, int] = (48, 34, 14)) -> LabelMap:
    """A box of one tissue in air, with a margin on every side."""
    values = np.zeros(shape, dtype=np.uint8)
    values[6:-6, 5:-5, 2:-2] = tissue
    return LabelMap(values, Grid(shape, np.diag([*SPACING, 1.0])), KNEE_TISSUES)


def inside(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image[14:-14, 12:-12, 5:-5]


def test_multi_echo_images_give_back_the_t2_that_made_them() -> None:
    sequence = SEQUENCES["t2-multi-echo"]
    echoes = ideal_echoes(block_of(tissues.QUADRICEPS), replace(sequence, fat_suppression=1.0), seed=4)
    means = [float(np.log(inside(image).mean())) for image in echoes]
    t2 = -1 / np.polyfit(sequence.echo_times_ms, means, 1)[0]
    assert t2 == pytest.approx(RELAXATION[tissues.QUADRICEPS].t2_ms, rel=0.13)


def test_one_echo_alone_equals_the_same_among_all() -> None:
    sequence, labels = SEQUENCES["t2-multi-echo"], block_of(tissues.FEMORAL_CARTILAGE)
    all_echoes = ideal_echoes(labels, sequence, seed=4)
    np.testing.assert_array_equal(ideal_signal(labels, sequence, 4, echo=5), all_echoes[5])
    assert len(all_echoes) == len(sequence.echo_times_ms)


def test_bone_has_a_dark_shell_as_thick_on_coarse_axes_as_on_fine_ones() -> None:
    values = np.zeros((60, 44, 30), dtype=np.uint8)
    values[10:-10, 8:-8, 6:-6] = tissues.PATELLA
    labels = LabelMap(values, Grid(values.shape, np.diag([0.5, 0.7, 1.0, 1.0])), KNEE_TISSUES)
    image = ideal_signal(labels, SEQUENCES["t1-tse"], seed=1)
    marrow = np.median(image[20:-20, 15:-15, 11:-11])
    rims = (image[10, 18:-18, 12:-12], image[20:-20, 8, 12:-12], image[20:-20, 18:-18, 6])
    for rim in rims:
        assert rim.mean() < 0.6 * marrow
    for core in (image[16, 18:-18, 12:-12], image[20:-20, 13, 12:-12], image[20:-20, 18:-18, 10]):
        assert core.mean() > 0.85 * marrow


def test_cartilage_is_darker_towards_its_bone() -> None:
    values = np.zeros((30, 30, 30), dtype=np.uint8)
    values[:, :, :12] = tissues.TIBIA
    values[:, :, 12:18] = tissues.MEDIAL_TIBIAL_CARTILAGE
    labels = LabelMap(values, Grid(values.shape, np.diag([0.5, 0.5, 0.5, 1.0])), KNEE_TISSUES)
    image = ideal_signal(labels, SEQUENCES["dess"], seed=1)
    assert image[:, :, 12].mean() < 0.88 * image[:, :, 17].mean()


def test_images_are_repeatable_and_change_with_the_seed() -> None:
    labels, sequence = block_of(tissues.QUADRICEPS), SEQUENCES["pd-fs-tse"]
    first = render(labels, sequence, seed=8)
    assert first.dtype == np.float32
    assert first.shape == labels.grid.shape
    np.testing.assert_array_equal(first, render(labels, sequence, seed=8))
    assert np.abs(first - render(labels, sequence, seed=9)).mean() > 5


def test_noise_in_air_is_rayleigh_with_the_sequences_snr() -> None:
    labels = LabelMap(np.zeros((40, 40, 9), dtype=np.uint8), block_of(1, (40, 40, 9)).grid, KNEE_TISSUES)
    sequence = SEQUENCES["pd-fs-tse"]
    air = render(labels, sequence, seed=2)
    cartilage = 450.0
    assert air.min() >= 0
    assert air.mean() == pytest.approx(np.sqrt(np.pi / 2) * cartilage / sequence.snr, rel=0.03)


def test_noise_differs_between_echoes_while_texture_is_shared() -> None:
    labels, sequence = block_of(tissues.QUADRICEPS), replace(SEQUENCES["t2-multi-echo"], snr=1e6)
    first, third = (inside(render(labels, sequence, seed=3, echo=echo)) for echo in (0, 2))
    assert np.corrcoef(first.ravel(), third.ravel())[0, 1] > 0.999
    empty = LabelMap(np.zeros((40, 40, 9), dtype=np.uint8), block_of(1, (40, 40, 9)).grid, KNEE_TISSUES)
    noisy = [render(empty, SEQUENCES["t2-multi-echo"], seed=3, echo=echo).ravel() for echo in (0, 2)]
    assert abs(np.corrcoef(*noisy)[0, 1]) < 0.05


def test_muscle_streaks_run_along_the_leg_whatever_the_grids_axes() -> None:
    shape = (40, 40, 40)
    for along, order in ((2, (0, 1, 2)), (0, (2, 0, 1))):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, order]
        labels = LabelMap(np.full(shape, tissues.HAMSTRINGS, np.uint8), Grid(shape, affine), KNEE_TISSUES)
        image = ideal_signal(labels, SEQUENCES["t1-tse"], seed=5)
        roughness = [float(np.abs(np.diff(image, axis=axis)).mean()) for axis in range(3)]
        assert int(np.argmin(roughness)) == along


def in_air(table: TissueTable, *parts: tuple[int, tuple[slice, slice, slice]], spacing: float = 1.0) -> LabelMap:
    """Boxes of tissues in a cube of air."""
    values = np.zeros((70, 64, 60), dtype=np.uint8)
    for tissue, box in parts:
        values[box] = tissue
    return LabelMap(values, Grid(values.shape, np.diag([spacing, spacing, spacing, 1.0])), table)


ALL = slice(None)


@pytest.mark.parametrize("region", REGIONS)
def test_tissues_of_every_region_are_rendered_with_bones_in_shells(region: str) -> None:
    table = tissues_of(region, findings=True)
    bone = next(t.index for t in table if t.group in ("bone", "vertebra"))
    muscle = next(t.index for t in table if t.group == "muscle")
    labels = in_air(table, (muscle, (ALL, ALL, ALL)), (bone, (slice(15, 55), slice(15, 50), slice(15, 45))))
    image = ideal_signal(labels, SEQUENCES["t1-tse"], seed=2)
    marrow = float(np.median(image[25:45, 25:40, 25:35]))
    assert marrow > 1.3 * float(np.median(image[:5]))
    assert float(image[15, 20:45, 20:40].mean()) < 0.6 * marrow


def test_a_shaft_far_from_its_joint_has_a_thicker_cortex_than_near_it() -> None:
    bone = (tissues.FEMUR, (slice(20, 50), slice(18, 46), slice(4, 60)))
    cartilage = (tissues.FEMORAL_CARTILAGE, (slice(20, 50), slice(18, 46), slice(0, 4)))
    labels = in_air(tissues_of("knee"), bone, cartilage, spacing=1.5)
    image = ideal_signal(labels, SEQUENCES["t1-tse"], seed=2)
    marrow = np.median(image[30:40, 28:36, 20:40])
    dark = [float((image[20:35, 25:40, level] < 0.5 * marrow).sum()) for level in (8, 56)]
    assert dark[1] > 1.5 * dark[0]


def test_a_growth_plate_leaves_a_line_across_the_bone_beside_its_cartilage() -> None:
    bone = (tissues.TIBIA, (slice(5, 65), slice(5, 60), slice(4, 60)))
    plateau = (tissues.MEDIAL_TIBIAL_CARTILAGE, (slice(5, 65), slice(5, 60), slice(0, 4)))
    labels = in_air(tissues_of("knee"), bone, plateau)
    loss = growth_plate_scars(labels, np.random.default_rng(3)).max(axis=2)
    level = growth_plate_scars(labels, np.random.default_rng(3)).argmax(axis=2)
    assert loss[20:50, 20:45].min() > 0.03
    assert 8 < level[20:50, 20:45].min() <= level[20:50, 20:45].max() < 34
    assert not growth_plate_scars(in_air(tissues_of("thigh"), (tissues.FEMUR, bone[1])), np.random.default_rng(3)).any()


def test_a_disc_is_brighter_in_its_nucleus_than_at_its_rim() -> None:
    disc = in_air(tissues_of("lumbar"), (tissues.DISC_L3_L4, (slice(10, 60), slice(10, 54), slice(25, 36))))
    image = ideal_signal(disc, SEQUENCES["t2-tse"], seed=2)
    assert image[30:40, 28:36, 30].mean() > 1.4 * image[10, 28:36, 28:33].mean()


def test_metal_leaves_a_void_that_blooms_in_gradient_echoes() -> None:
    table = tissues_of("hip", findings=True)
    labels = in_air(table, (tissues.GLUTEUS_MEDIUS, (ALL, ALL, ALL)), (tissues.IMPLANT, (slice(30, 40),) * 3))
    plain = in_air(table, (tissues.GLUTEUS_MEDIUS, (ALL, ALL, ALL)))
    lost = {}
    for name in ("t1-tse", "gre-t2-star", "dixon-in-phase"):
        image, whole = (ideal_signal(one, SEQUENCES[name], seed=2) for one in (labels, plain))
        assert image[30:40, 30:40, 30:40].max() < 0.05 * whole.mean()
        np.testing.assert_allclose(image[:8], whole[:8], rtol=1e-4)
        lost[name] = int((image < 0.5 * whole).sum())
    assert lost["t1-tse"] < lost["dixon-in-phase"] < lost["gre-t2-star"]


def test_infiltrated_muscle_is_brighter_on_t1_and_more_streaked() -> None:
    labels = in_air(tissues_of("shoulder"), (tissues.SUPRASPINATUS, (ALL, ALL, ALL)))
    healthy = ideal_signal(labels, SEQUENCES["t1-tse"], seed=2)
    fatty = ideal_signal(labels, SEQUENCES["t1-tse"], seed=2, infiltration={tissues.SUPRASPINATUS: 0.4})
    assert fatty.mean() > 1.4 * healthy.mean()
    assert fatty.std() / fatty.mean() > 1.3 * healthy.std() / healthy.mean()


def test_a_label_beyond_255_is_rendered() -> None:
    table = TissueTable((Tissue(900, "soleus", group="muscle"),))
    labels = LabelMap(np.full((9, 8, 7), 900, np.uint16), Grid((9, 8, 7), np.eye(4)), table)
    assert render(labels, SEQUENCES["pd-tse"], seed=1).mean() > 100
