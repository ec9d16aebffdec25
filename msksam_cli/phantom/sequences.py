"""How tissues answer MR sequences: relaxation at 3 T, sequences and signal equations.

Times are in ms. Sources of relaxation times at 3 T: Gold et al. 2004 (AJR 183:343; cartilage, fluid, muscle, fat,
marrow), Stanisz et al. 2005 (MRM 54:507; cartilage, muscle), Pai et al. 2008 (MRI 26:1215; T2 of cartilage and
muscle), Jordan et al. 2013 (EJR 82:734), de Bazelaire et al. 2004 (Radiology 230:652; marrow, fat). Meniscus,
ligament, tendon, skin and cortical bone lie within the ranges of reviews of short-T2 tissues and are rounded. Proton
densities are apparent ones: muscle's is lowered by magnetisation transfer in multi-slice imaging, that of vessels by
flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from msksam_cli.phantom import tissues


@dataclass(frozen=True)
class Relaxation:
    """Magnetic properties of one tissue.

    Attributes:
        proton_density: relative to water.
        t1_ms: longitudinal relaxation time of the water part.
        t2_ms: transverse relaxation time of the water part.
        t2_star_ms: the same with the field's inhomogeneity.
        fat_fraction: part of the signal that is fat, 0 to 1.
    """

    proton_density: float
    t1_ms: float
    t2_ms: float
    t2_star_ms: float
    fat_fraction: float = 0.0


_FAT_PART = Relaxation(0.95, 370.0, 133.0, 45.0, 1.0)
CARTILAGE = Relaxation(0.86, 1200.0, 36.0, 24.0)
_MENISCUS = Relaxation(0.55, 960.0, 11.0, 7.0)
_LIGAMENT = Relaxation(0.45, 900.0, 11.0, 6.0)
_TENDON = Relaxation(0.35, 750.0, 6.0, 3.0)
_MUSCLE = Relaxation(0.60, 1420.0, 34.0, 22.0, 0.03)
_MARROW = Relaxation(0.70, 1000.0, 40.0, 12.0, 0.85)
CORTICAL_BONE = Relaxation(0.08, 220.0, 0.6, 0.5)

RELAXATION: Mapping[int, Relaxation] = MappingProxyType(
    {
        tissues.FEMUR: _MARROW,
        tissues.TIBIA: replace(_MARROW, fat_fraction=0.87),
        tissues.PATELLA: replace(_MARROW, fat_fraction=0.90),
        tissues.FIBULA: replace(_MARROW, fat_fraction=0.88),
        tissues.FEMORAL_CARTILAGE: CARTILAGE,
        tissues.MEDIAL_TIBIAL_CARTILAGE: replace(CARTILAGE, t2_ms=34.0),
        tissues.LATERAL_TIBIAL_CARTILAGE: replace(CARTILAGE, t2_ms=33.0),
        tissues.PATELLAR_CARTILAGE: replace(CARTILAGE, t2_ms=33.0),
        tissues.MEDIAL_MENISCUS: _MENISCUS,
        tissues.LATERAL_MENISCUS: _MENISCUS,
        tissues.ANTERIOR_CRUCIATE: replace(_LIGAMENT, proton_density=0.50, t2_ms=13.0, t2_star_ms=8.0),
        tissues.POSTERIOR_CRUCIATE: _LIGAMENT,
        tissues.MEDIAL_COLLATERAL: _TENDON,
        tissues.LATERAL_COLLATERAL: _TENDON,
        tissues.PATELLAR_LIGAMENT: _TENDON,
        tissues.QUADRICEPS_TENDON: _TENDON,
        tissues.QUADRICEPS: _MUSCLE,
        tissues.HAMSTRINGS: _MUSCLE,
        tissues.GASTROCNEMIUS: _MUSCLE,
        tissues.LEG_MUSCLES: _MUSCLE,
        tissues.FAT: replace(_FAT_PART, fat_fraction=0.94, t1_ms=1000.0, t2_ms=40.0, t2_star_ms=25.0),
        tissues.SKIN: Relaxation(0.60, 950.0, 30.0, 15.0, 0.1),
        tissues.JOINT_FLUID: Relaxation(1.0, 3600.0, 700.0, 300.0),
        tissues.POPLITEAL_VESSELS: Relaxation(0.12, 1600.0, 60.0, 45.0),
    }
)
"""Relaxation per label value at 3 T; bones mean their marrow, the cortex is `CORTICAL_BONE`."""


@dataclass(frozen=True)
class Sequence:
    """How the scanner weighs tissues.

    Attributes:
        name: key in `SEQUENCES`.
        kind: "spin-echo", "gradient-echo" or "dess".
        repetition_time_ms: between excitations.
        echo_times_ms: one per echo.
        flip_angle_deg: of the excitation.
        fat_suppression: part of the fat signal removed, 0 to 1.
        snr: of cartilage in an average place, signal over noise sd.
        t1_factor: factor on T1 against 3 T (about 0.55 at 0.3 T).
    """

    name: str
    kind: str
    repetition_time_ms: float
    echo_times_ms: tuple[float, ...]
    flip_angle_deg: float = 90.0
    fat_suppression: float = 0.0
    snr: float = 25.0
    t1_factor: float = 1.0


SEQUENCES: Mapping[str, Sequence] = MappingProxyType(
    {
        sequence.name: sequence
        for sequence in (
            Sequence("pd-fs-tse", "spin-echo", 3200.0, (30.0,), 90.0, 0.90, 28.0),
            Sequence("pd-tse", "spin-echo", 3000.0, (27.0,), 90.0, 0.0, 30.0),
            Sequence("t2-fs-tse", "spin-echo", 4200.0, (68.0,), 90.0, 0.90, 16.0),
            Sequence("t1-tse", "spin-echo", 650.0, (11.0,), 90.0, 0.0, 28.0),
            Sequence("dess", "dess", 16.3, (4.7,), 25.0, 0.96, 22.0),
            Sequence("t2-multi-echo", "spin-echo", 1800.0, tuple(10.0 * n for n in range(1, 8)), 90.0, 0.85, 30.0),
            Sequence("gre-t1", "gradient-echo", 20.0, (10.0,), 50.0, 0.0, 12.0, 0.55),
        )
    }
)
"""Sequences by name; `dess` and `t2-multi-echo` follow the OAI protocol (Peterfy et al. 2008)."""


def tissue_signal(relaxation: Relaxation, sequence: Sequence, echo_time_ms: float) -> float:
    """Signal of a tissue: its water and fat parts by the sequence's equation, the fat part suppressed."""
    water = relaxation.proton_density * _magnetisation(relaxation, sequence, echo_time_ms)
    fat = _FAT_PART.proton_density * _magnetisation(_FAT_PART, sequence, echo_time_ms)
    left = 1.0 - sequence.fat_suppression
    return float((1 - relaxation.fat_fraction) * water + relaxation.fat_fraction * left * fat)


def _magnetisation(tissue: Relaxation, sequence: Sequence, echo_time_ms: float) -> float:
    e1 = np.exp(-sequence.repetition_time_ms / (tissue.t1_ms * sequence.t1_factor))
    if sequence.kind == "spin-echo":
        return float((1 - e1) * np.exp(-echo_time_ms / tissue.t2_ms))
    flip = np.radians(sequence.flip_angle_deg)
    if sequence.kind == "gradient-echo":
        ernst = np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)
        return float(ernst * np.exp(-echo_time_ms / tissue.t2_star_ms))
    if sequence.kind == "dess":
        return _dess(tissue, sequence, echo_time_ms, float(e1))
    raise ValueError(f"unknown kind of sequence {sequence.kind!r}")


def _dess(tissue: Relaxation, sequence: Sequence, echo_time_ms: float, e1: float) -> float:
    """Root of the sum of squares of both echoes of a double-echo steady state (Welsch et al. 2009, MRM 62:544)."""
    flip = np.radians(sequence.flip_angle_deg)
    e2 = np.exp(-sequence.repetition_time_ms / tissue.t2_ms)
    cosine = np.cos(flip)
    r = np.sqrt((1 - e2**2) / ((1 - e1 * cosine) ** 2 - e2**2 * (e1 - cosine) ** 2))
    first = np.tan(flip / 2) * (1 - (e1 - cosine) * r) * np.exp(-echo_time_ms / tissue.t2_star_ms)
    second = np.tan(flip / 2) * (1 - (1 - e1 * cosine) * r) * np.exp(echo_time_ms / tissue.t2_ms)
    return float(np.hypot(first, second))
