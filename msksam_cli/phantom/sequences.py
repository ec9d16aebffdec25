"""MR sequences and their signal equations.

Times are in ms. The relaxation times they weigh are in `relaxation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from msksam_cli.phantom.relaxation import CARTILAGE, CORTICAL_BONE, FAT_PART, RELAXATION, Relaxation

__all__ = [
    "CARTILAGE",
    "CORTICAL_BONE",
    "RELAXATION",
    "SEQUENCES",
    "Relaxation",
    "Sequence",
    "reference_signal",
    "tissue_signal",
]

_DIXON_PARTS = {
    "dixon-water": (1.0, 0.0),
    "dixon-fat": (0.0, 1.0),
    "dixon-in-phase": (1.0, 1.0),
    "dixon-opposed-phase": (1.0, -1.0),
}


@dataclass(frozen=True)
class Sequence:
    """How the scanner weighs tissues.

    Attributes:
        name: key in `SEQUENCES`.
        kind: "spin-echo", "inversion-recovery", "gradient-echo", "dess", "spin-lock", or one image of a two-point
            Dixon: "dixon-water", "dixon-fat", "dixon-in-phase", "dixon-opposed-phase".
        repetition_time_ms: between excitations.
        echo_times_ms: one per image, except for a spin lock, whose images share the first.
        flip_angle_deg: of the excitation.
        fat_suppression: part of the fat signal removed, 0 to 1.
        snr: of cartilage in an average place, signal over noise sd.
        t1_factor: factor on T1 against 3 T (about 0.55 at 0.3 T).
        inversion_time_ms: between inversion and excitation of an inversion recovery.
        spin_lock_times_ms: one per image of a spin lock, empty for all others.
    """

    name: str
    kind: str
    repetition_time_ms: float
    echo_times_ms: tuple[float, ...]
    flip_angle_deg: float = 90.0
    fat_suppression: float = 0.0
    snr: float = 25.0
    t1_factor: float = 1.0
    inversion_time_ms: float = 0.0
    spin_lock_times_ms: tuple[float, ...] = ()

    @property
    def timings_ms(self) -> tuple[tuple[float, float], ...]:
        """Echo time and spin-lock time of each image."""
        if self.spin_lock_times_ms:
            return tuple((self.echo_times_ms[0], lock) for lock in self.spin_lock_times_ms)
        return tuple((echo, 0.0) for echo in self.echo_times_ms)

    def image(self, number: int) -> Sequence:
        """The sequence with one of its images alone."""
        if self.spin_lock_times_ms:
            return replace(self, spin_lock_times_ms=(self.spin_lock_times_ms[number],))
        return replace(self, echo_times_ms=(self.echo_times_ms[number],))


SEQUENCES: Mapping[str, Sequence] = MappingProxyType(
    {
        sequence.name: sequence
        for sequence in (
            Sequence("pd-fs-tse", "spin-echo", 3200.0, (30.0,), 90.0, 0.90, 28.0),
            Sequence("pd-tse", "spin-echo", 3000.0, (27.0,), 90.0, 0.0, 30.0),
            Sequence("t2-fs-tse", "spin-echo", 4200.0, (68.0,), 90.0, 0.90, 16.0),
            Sequence("t2-tse", "spin-echo", 4000.0, (85.0,), 90.0, 0.0, 16.0),
            Sequence("t1-tse", "spin-echo", 650.0, (11.0,), 90.0, 0.0, 28.0),
            Sequence("t1-fs-tse", "spin-echo", 680.0, (11.0,), 90.0, 0.92, 24.0),
            Sequence("stir-tse", "inversion-recovery", 4000.0, (40.0,), 90.0, 0.0, 15.0, inversion_time_ms=250.0),
            Sequence("dess", "dess", 16.3, (4.7,), 25.0, 0.96, 22.0),
            Sequence("t2-multi-echo", "spin-echo", 1800.0, tuple(10.0 * n for n in range(1, 8)), 90.0, 0.85, 30.0),
            Sequence("gre-t1", "gradient-echo", 20.0, (10.0,), 50.0, 0.0, 12.0, 0.55),
            Sequence("gre-fs-t1", "gradient-echo", 10.0, (3.7,), 12.0, 0.94, 20.0),
            Sequence("gre-t2-star", "gradient-echo", 550.0, (14.0,), 25.0, 0.0, 22.0),
            Sequence(
                "t2-star-multi-echo", "gradient-echo", 60.0, tuple(4.6 + 7.0 * n for n in range(6)), 25.0, 0.9, 22.0
            ),
            Sequence("t1-rho", "spin-lock", 10.0, (3.0,), 10.0, 0.92, 24.0, spin_lock_times_ms=(0.0, 10.0, 30.0, 60.0)),
            *(Sequence(part, part, 6.0, (1.2 if "opposed" in part else 2.4,), 9.0, 0.0, 22.0) for part in _DIXON_PARTS),
        )
    }
)
"""Sequences by name; `dess` and `t2-multi-echo` follow the OAI protocol (Peterfy et al. 2008), `t1-rho` Li et al. 2008
(MRM 59:298), the others what clinics use at 3 T, and `gre-t1` at 0.3 T."""


def tissue_signal(
    relaxation: Relaxation, sequence: Sequence, echo_time_ms: float, spin_lock_time_ms: float = 0.0
) -> float:
    """Signal of a tissue: its water and fat parts by the sequence's equation, the fat part suppressed.

    Dixon's images hold the parts alone, their sum or their difference (Dixon 1984, Radiology 153:189); all other
    sequences are read in phase.
    """
    timing = (echo_time_ms, spin_lock_time_ms)
    water = (1 - relaxation.fat_fraction) * relaxation.proton_density * _magnetisation(relaxation, sequence, timing)
    fat = relaxation.fat_fraction * FAT_PART.proton_density * _magnetisation(FAT_PART, sequence, timing)
    of_water, of_fat = _DIXON_PARTS.get(sequence.kind, (1.0, 1.0 - sequence.fat_suppression))
    return abs(of_water * water + of_fat * fat)


def reference_signal(sequence: Sequence) -> float:
    """Signal of cartilage in a sequence's first image, by which noise and scale are set.

    All images of a Dixon share that of the sum, for cartilage holds no fat.
    """
    summed = replace(sequence, kind="dixon-in-phase") if sequence.kind in _DIXON_PARTS else sequence
    return tissue_signal(CARTILAGE, summed, *summed.timings_ms[0])


def _magnetisation(tissue: Relaxation, sequence: Sequence, timing: tuple[float, float]) -> float:
    """Transverse magnetisation at the echo for unit density (equations: Bernstein et al. 2004, Handbook of MRI Pulse
    Sequences, ch. 14 and 16).
    """
    echo_time_ms, spin_lock_time_ms = timing
    t1_ms = tissue.t1_ms * sequence.t1_factor
    e1 = float(np.exp(-sequence.repetition_time_ms / t1_ms))
    if sequence.kind == "spin-echo":
        return float((1 - e1) * np.exp(-echo_time_ms / tissue.t2_ms))
    if sequence.kind == "inversion-recovery":
        recovered = abs(1 - 2 * np.exp(-sequence.inversion_time_ms / t1_ms) + e1)
        return float(recovered * np.exp(-echo_time_ms / tissue.t2_ms))
    if sequence.kind == "dess":
        return _dess(tissue, sequence, echo_time_ms, e1)
    if sequence.kind == "spin-lock":
        locked = np.exp(-spin_lock_time_ms / tissue.spin_lock_decay_ms)
        return float(locked * np.exp(-echo_time_ms / tissue.t2_star_ms))
    if sequence.kind == "gradient-echo" or sequence.kind in _DIXON_PARTS:
        return float(_ernst(sequence.flip_angle_deg, e1) * np.exp(-echo_time_ms / tissue.t2_star_ms))
    raise ValueError(f"unknown kind of sequence {sequence.kind!r}")


def _ernst(flip_angle_deg: float, e1: float) -> float:
    """Steady state of a spoiled gradient echo (Ernst and Anderson 1966)."""
    flip = np.radians(flip_angle_deg)
    return float(np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1))


def _dess(tissue: Relaxation, sequence: Sequence, echo_time_ms: float, e1: float) -> float:
    """Root of the sum of squares of both echoes of a double-echo steady state (Welsch et al. 2009, MRM 62:544)."""
    flip = np.radians(sequence.flip_angle_deg)
    e2 = np.exp(-sequence.repetition_time_ms / tissue.t2_ms)
    cosine = np.cos(flip)
    r = np.sqrt((1 - e2**2) / ((1 - e1 * cosine) ** 2 - e2**2 * (e1 - cosine) ** 2))
    first = np.tan(flip / 2) * (1 - (e1 - cosine) * r) * np.exp(-echo_time_ms / tissue.t2_star_ms)
    second = np.tan(flip / 2) * (1 - (1 - e1 * cosine) * r) * np.exp(echo_time_ms / tissue.t2_ms)
    return float(np.hypot(first, second))
