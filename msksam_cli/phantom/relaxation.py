"""Relaxation of tissues at 3 T: proton density, T1, T2, T2*, T1ρ and fat fraction.

Times are in ms. Fat is a part of its own: a tissue's times are those of its water, `FAT_PART` has those of its fat.

Sources, all at 3 T: Gold et al. 2004 (AJR 183:343; cartilage, fluid, muscle, fat, marrow), Stanisz et al. 2005 (MRM
54:507; cartilage, muscle, blood, spinal cord, nerve, kidney, liver), de Bazelaire et al. 2004 (Radiology 230:652;
marrow, fat, organs of abdomen and pelvis), Pai et al. 2008 (MRI 26:1215; T2 and T1ρ of cartilage and muscle), Jordan et
al. 2013 (EJR 82:734), Rauscher et al. 2008 (Radiology 249:591; T2 and T1ρ of the meniscus), Johannessen et al. 2006
(Spine 31:1253; T1ρ of discs), Kühn et al. 2014 (Radiology 272:494; fat of vertebrae). Ligament, tendon, labrum, skin,
lung and cortical bone lie within the ranges of reviews of short-T2 tissues and are rounded, as are tumours, whose
spread is wide. Proton densities are apparent ones: muscle's is lowered by magnetisation transfer in multi-slice
imaging, that of vessels by flow; an implant gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import Tissue
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
        t1_rho_ms: relaxation time under a spin lock of about 500 Hz; None where nobody measured it, and T2, to which it
            falls as the lock gets weaker, stands for it.
    """

    proton_density: float
    t1_ms: float
    t2_ms: float
    t2_star_ms: float
    fat_fraction: float = 0.0
    t1_rho_ms: float | None = None

    @property
    def spin_lock_decay_ms(self) -> float:
        """T1ρ, or T2 where it is not known."""
        return self.t2_ms if self.t1_rho_ms is None else self.t1_rho_ms


FAT_PART = Relaxation(0.95, 370.0, 133.0, 45.0, 1.0)
CARTILAGE = Relaxation(0.86, 1200.0, 36.0, 24.0, t1_rho_ms=43.0)
CORTICAL_BONE = Relaxation(0.08, 220.0, 0.6, 0.5)
_MENISCUS = Relaxation(0.55, 960.0, 11.0, 7.0, t1_rho_ms=15.0)
_LABRUM = Relaxation(0.50, 960.0, 14.0, 8.0)
_LIGAMENT = Relaxation(0.45, 900.0, 11.0, 6.0)
_TENDON = Relaxation(0.35, 750.0, 6.0, 3.0)
_MUSCLE = Relaxation(0.60, 1420.0, 34.0, 22.0, 0.03, t1_rho_ms=38.0)
_YELLOW_MARROW = Relaxation(0.70, 1000.0, 40.0, 12.0, 0.85)
_RED_MARROW = replace(_YELLOW_MARROW, t2_ms=49.0, fat_fraction=0.42)
_DISC = Relaxation(0.80, 1150.0, 85.0, 50.0, t1_rho_ms=105.0)
_FAT = Relaxation(0.95, 1000.0, 40.0, 25.0, 0.94)
_FLUID = Relaxation(1.0, 3600.0, 700.0, 300.0)
_VESSEL = Relaxation(0.12, 1600.0, 60.0, 45.0)
_NERVE = Relaxation(0.62, 1080.0, 65.0, 35.0, 0.12)
_TUMOUR = Relaxation(0.85, 1500.0, 85.0, 50.0, t1_rho_ms=95.0)
_VOID = Relaxation(0.001, 100.0, 0.1, 0.05)
_ORGANS = Relaxation(0.78, 1050.0, 52.0, 25.0, 0.08)

_BY_GROUP: Mapping[str, Relaxation] = MappingProxyType(
    {
        "bone": _YELLOW_MARROW,
        "cartilage": CARTILAGE,
        "meniscus": _MENISCUS,
        "ligament": _LIGAMENT,
        "muscle": _MUSCLE,
        "fat": _FAT,
        "skin": Relaxation(0.60, 950.0, 30.0, 15.0, 0.1),
        "fluid": _FLUID,
        "vertebra": _RED_MARROW,
        "disc": _DISC,
        "other": _ORGANS,
    }
)

_EXCEPTIONS: Mapping[int, Relaxation] = MappingProxyType(
    {
        tissues.TIBIA: replace(_YELLOW_MARROW, fat_fraction=0.87),
        tissues.PATELLA: replace(_YELLOW_MARROW, fat_fraction=0.90),
        tissues.FIBULA: replace(_YELLOW_MARROW, fat_fraction=0.88),
        tissues.HIP_BONE: replace(_YELLOW_MARROW, fat_fraction=0.65),
        tissues.SACRUM: replace(_RED_MARROW, fat_fraction=0.50),
        tissues.SCAPULA: replace(_YELLOW_MARROW, fat_fraction=0.75),
        tissues.CLAVICLE: replace(_YELLOW_MARROW, fat_fraction=0.70),
        tissues.POSTERIOR_ELEMENTS: replace(_RED_MARROW, proton_density=0.55, fat_fraction=0.55),
        tissues.MEDIAL_TIBIAL_CARTILAGE: replace(CARTILAGE, t2_ms=34.0),
        tissues.LATERAL_TIBIAL_CARTILAGE: replace(CARTILAGE, t2_ms=33.0),
        tissues.PATELLAR_CARTILAGE: replace(CARTILAGE, t2_ms=33.0),
        tissues.ANTERIOR_CRUCIATE: replace(_LIGAMENT, proton_density=0.50, t2_ms=13.0, t2_star_ms=8.0),
        tissues.MEDIAL_COLLATERAL: _TENDON,
        tissues.LATERAL_COLLATERAL: _TENDON,
        tissues.PATELLAR_LIGAMENT: _TENDON,
        tissues.QUADRICEPS_TENDON: _TENDON,
        tissues.SUPRASPINATUS_TENDON: _TENDON,
        tissues.BICEPS_TENDON: _TENDON,
        tissues.ACETABULAR_LABRUM: _LABRUM,
        tissues.GLENOID_LABRUM: _LABRUM,
        tissues.CHEST_WALL: replace(_MUSCLE, fat_fraction=0.15),
        tissues.INTERMUSCULAR_FAT: replace(_FAT, fat_fraction=0.85),
        tissues.POPLITEAL_VESSELS: _VESSEL,
        tissues.FEMORAL_VESSELS: _VESSEL,
        tissues.AXILLARY_VESSELS: _VESSEL,
        tissues.AORTA: replace(_VESSEL, proton_density=0.08, t1_ms=1930.0, t2_ms=275.0, t2_star_ms=50.0),
        tissues.VENA_CAVA: replace(_VESSEL, proton_density=0.15, t1_ms=1930.0, t2_ms=180.0),
        tissues.SCIATIC_NERVE: _NERVE,
        tissues.SPINAL_CORD: Relaxation(0.72, 990.0, 78.0, 45.0),
        tissues.SPINAL_CANAL: Relaxation(0.95, 4000.0, 1000.0, 300.0),
        tissues.BLADDER: Relaxation(1.0, 3800.0, 900.0, 300.0),
        tissues.PELVIC_ORGANS: Relaxation(0.80, 1500.0, 78.0, 40.0, 0.05),
        tissues.LUNG: Relaxation(0.15, 1270.0, 40.0, 0.8),
        tissues.IMPLANT: _VOID,
        tissues.TUMOUR: _TUMOUR,
    }
)

RELAXATION: Mapping[int, Relaxation] = MappingProxyType(
    {tissue.index: _EXCEPTIONS.get(tissue.index, _BY_GROUP[tissue.group]) for tissue in TISSUES}
)
"""Relaxation per label value of the tissue table; bones mean their marrow, the cortex is `CORTICAL_BONE`."""


def relaxation_of(tissue: Tissue) -> Relaxation:
    """Relaxation of a tissue of any table: by its name where the tissue table knows it, else by its group.

    Tissues of the group "other" that nobody knows get levels that differ from index to index, so that none is lost in
    its neighbour.

    >>> relaxation_of(Tissue(3, "femoral-cartilage")) == CARTILAGE
    True
    """
    known = TISSUES.by_name(tissue.name)
    if known is not None:
        return RELAXATION[known.index]
    if tissue.group != "other":
        return _BY_GROUP[tissue.group]
    spread = tissue.index * 0.61803398875 % 1.0
    return replace(
        _ORGANS, proton_density=0.5 + 0.4 * spread, t2_ms=30.0 + 60.0 * spread, t1_ms=1500.0 - 500.0 * spread
    )


def infiltrated(relaxation: Relaxation, fat_fraction: float) -> Relaxation:
    """A tissue of which a part has turned into fat; what fat it had before stays in the rest.

    Args:
        relaxation: the healthy tissue.
        fat_fraction: part replaced, 0 to 1; muscle of Goutallier grade 2 has about 0.2, of grade 4 over 0.5.

    >>> infiltrated(Relaxation(0.6, 1420.0, 34.0, 22.0, 0.1), 0.5).fat_fraction
    0.55

    Raises:
        ValueError: the fraction is outside 0 to 1.
    """
    if not 0 <= fat_fraction <= 1:
        raise ValueError(f"fat fraction {fat_fraction} is outside 0 to 1")
    return replace(relaxation, fat_fraction=relaxation.fat_fraction + fat_fraction * (1 - relaxation.fat_fraction))
