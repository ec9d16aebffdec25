from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom import tissues
from msksam_cli.phantom.sequences import RELAXATION, SEQUENCES
from msksam_cli.phantom.signal import ideal_echoes, ideal_signal, render
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
