from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.phantom import tissues
from msksam_cli.phantom.sequences import (
    CARTILAGE,
    RELAXATION,
    SEQUENCES,
    Relaxation,
    Sequence,
    reference_signal,
    tissue_signal,
)


def signals(name: str) -> dict[int, float]:
    sequence = SEQUENCES[name]
    return {i: tissue_signal(r, sequence, *sequence.timings_ms[0]) for i, r in RELAXATION.items()}


def test_fat_suppressed_pd_shows_fluid_then_cartilage_then_muscle_then_fat_then_tendon() -> None:
    seen = signals("pd-fs-tse")
    order = [
        tissues.JOINT_FLUID,
        tissues.FEMORAL_CARTILAGE,
        tissues.QUADRICEPS,
        tissues.FEMUR,
        tissues.MEDIAL_MENISCUS,
        tissues.PATELLAR_LIGAMENT,
    ]
    assert sorted(order, key=lambda tissue: -seen[tissue]) == order


def test_t1_shows_fat_and_marrow_bright_and_fluid_darker_than_cartilage() -> None:
    seen = signals("t1-tse")
    assert min(seen[tissues.FAT], seen[tissues.TIBIA]) > 2 * seen[tissues.FEMORAL_CARTILAGE]
    assert seen[tissues.JOINT_FLUID] < seen[tissues.FEMORAL_CARTILAGE]


def test_dess_shows_fluid_and_cartilage_far_above_marrow() -> None:
    seen = signals("dess")
    assert seen[tissues.JOINT_FLUID] > 2 * seen[tissues.FEMORAL_CARTILAGE] > 4 * seen[tissues.FEMUR]


def test_the_low_field_gradient_echo_shows_marrow_bright_above_cartilage_and_muscle() -> None:
    seen = signals("gre-t1")
    assert seen[tissues.FEMUR] > 2 * seen[tissues.FEMORAL_CARTILAGE] > 2 * seen[tissues.MEDIAL_MENISCUS]
    assert seen[tissues.FEMUR] > 2 * seen[tissues.GASTROCNEMIUS]


def test_t2_shows_the_spinal_canal_above_discs_above_marrow_above_muscle() -> None:
    seen = signals("t2-fs-tse")
    order = [tissues.SPINAL_CANAL, tissues.DISC_L3_L4, tissues.L3, tissues.LEFT_PSOAS, tissues.AORTA]
    assert sorted(order, key=lambda tissue: -seen[tissue]) == order


def test_stir_nulls_fat_and_leaves_water() -> None:
    plain, nulled = signals("pd-tse"), signals("stir-tse")
    assert nulled[tissues.FAT] < 0.1 * plain[tissues.FAT]
    assert nulled[tissues.TUMOUR] > 3 * nulled[tissues.FEMUR]


def test_dixon_images_are_the_parts_their_sum_and_their_difference() -> None:
    share = Relaxation(0.7, 1000.0, 40.0, 12.0, 0.5)
    timing = (2.4, 0.0)
    parts = {
        name: tissue_signal(share, replace(SEQUENCES[f"dixon-{name}"], name=""), *timing)
        for name in ("water", "fat", "in-phase", "opposed-phase")
    }
    assert parts["in-phase"] == pytest.approx(parts["water"] + parts["fat"])
    assert parts["opposed-phase"] == pytest.approx(abs(parts["water"] - parts["fat"]))
    assert signals("dixon-fat")[tissues.FEMORAL_CARTILAGE] == 0
    assert signals("dixon-water")[tissues.FAT] < 0.1 * signals("dixon-fat")[tissues.FAT]


def test_a_spin_lock_decays_with_t1_rho_at_one_echo_time() -> None:
    sequence = SEQUENCES["t1-rho"]
    assert len(sequence.timings_ms) == len(sequence.spin_lock_times_ms) > 3
    first, last = (tissue_signal(CARTILAGE, sequence, *sequence.timings_ms[n]) for n in (0, -1))
    passed_ms = sequence.spin_lock_times_ms[-1] - sequence.spin_lock_times_ms[0]
    assert first / last == pytest.approx(np.exp(passed_ms / 43.0))


def test_an_inversion_recovery_is_dark_where_the_inverted_signal_crosses_zero() -> None:
    tissue = Relaxation(1.0, 500.0, 50.0, 30.0)
    sequence = Sequence("", "inversion-recovery", 1e6, (0.0,), inversion_time_ms=500.0 * np.log(2))
    assert tissue_signal(tissue, sequence, 0.0) == pytest.approx(0.0, abs=1e-9)
    assert tissue_signal(tissue, replace(sequence, inversion_time_ms=0.0), 0.0) == pytest.approx(1.0)


def test_one_image_of_a_sequence_has_its_own_timing() -> None:
    for name in ("t2-multi-echo", "t1-rho", "dess"):
        sequence = SEQUENCES[name]
        alone = [sequence.image(number).timings_ms for number in range(len(sequence.timings_ms))]
        assert alone == [(timing,) for timing in sequence.timings_ms]


@pytest.mark.parametrize("name", sorted(SEQUENCES))
def test_every_sequence_shows_cartilage_and_tells_three_tissues_apart(name: str) -> None:
    seen = signals(name)
    assert seen[tissues.IMPLANT] < 0.01 * max(seen.values())
    assert reference_signal(SEQUENCES[name]) > 0
    levels = sorted(
        seen[tissue] / max(seen.values()) for tissue in (tissues.FEMUR, tissues.DELTOID, tissues.JOINT_FLUID)
    )
    assert levels[2] - levels[0] > 0.05


def test_a_dixon_fat_image_is_scaled_by_the_cartilage_of_the_sum() -> None:
    assert reference_signal(SEQUENCES["dixon-fat"]) == reference_signal(SEQUENCES["dixon-in-phase"])


def test_a_spin_echo_decays_with_t2_and_recovers_with_t1() -> None:
    tissue = Relaxation(0.8, 1000.0, 40.0, 20.0)
    sequence = Sequence("", "spin-echo", 1000.0, (10.0, 50.0))
    first, second = (tissue_signal(tissue, sequence, echo) for echo in sequence.echo_times_ms)
    assert first / second == pytest.approx(np.exp(40.0 / 40.0))
    assert first == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-0.25))


def test_a_dess_of_a_tissue_whose_echoes_vanish_is_an_ernst_signal() -> None:
    tissue = Relaxation(1.0, 800.0, 0.5, 0.4)
    dess = Sequence("", "dess", 20.0, (0.0,), 30.0)
    spoiled = replace(dess, kind="gradient-echo")
    assert tissue_signal(tissue, dess, 0.0) == pytest.approx(tissue_signal(tissue, spoiled, 0.0), rel=1e-6)


def test_an_unknown_kind_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="'epi'"):
        tissue_signal(RELAXATION[1], Sequence("", "epi", 20.0, (1.0,)), 1.0)
