from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.phantom import tissues
from msksam_cli.phantom.sequences import RELAXATION, SEQUENCES, Relaxation, Sequence, tissue_signal
from msksam_cli.core.terminology import TISSUES


def signals(name: str) -> dict[int, float]:
    sequence = SEQUENCES[name]
    return {i: tissue_signal(r, sequence, sequence.echo_times_ms[0]) for i, r in RELAXATION.items()}


def test_every_tissue_has_relaxation_times() -> None:
    assert set(RELAXATION) == set(TISSUES.indices)
    for relaxation in RELAXATION.values():
        assert 0 < relaxation.t2_star_ms <= relaxation.t2_ms < relaxation.t1_ms


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
