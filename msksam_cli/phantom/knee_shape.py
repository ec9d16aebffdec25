"""Dimensions of a knee in mm and how they vary between people."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from msksam_cli.errors import UsageError

IMPLANTS = ("none", "screws", "prosthesis")
"""Metal that a knee may hold: nothing, the screws of a ligament's repair, or a total prosthesis."""


@dataclass(frozen=True)
class KneeShape:
    """Dimensions of one knee; defaults are means over adults of both sexes, in health.

    Means and spreads are rounded from the sources named; where those give men and women apart, the middle is taken.

    Attributes:
        side: "left" or "right".
        epicondylar_width_mm: femoral width across the epicondyles, 81 ± 6 (Terzidis 2012; Mahfouz 2012).
        femoral_depth_mm: anterior to posterior extent of the condyles, 62 ± 4 (Mahfouz 2012; Yue 2011).
        tibial_width_mm: width of the plateau, 75 ± 5.5 (Yue 2011).
        tibial_depth_mm: depth of the plateau, 49 ± 4 (Yue 2011).
        notch_width_mm: width of the intercondylar notch, 20 ± 2 (Anderson 2001; van Eck 2011).
        groove_depth_mm: depth of the trochlear groove, 5.5 ± 1 (Pfirrmann 2000).
        patella_width_mm: 44 ± 4 (Baldwin and House 2005; Yoo 2007).
        patella_height_mm: 42 ± 3.5 (Baldwin and House 2005; Yoo 2007).
        patella_thickness_mm: 22 ± 1.8 without cartilage (Baldwin and House 2005; Iranpour 2008).
        femoral_cartilage_mm: greatest thickness over the condyles, 2.5 ± 0.3 (Eckstein 2001, also the next three).
        medial_tibial_cartilage_mm: greatest thickness, 2.6 ± 0.35.
        lateral_tibial_cartilage_mm: greatest thickness, 3.2 ± 0.4.
        patellar_cartilage_mm: greatest thickness, 3.8 ± 0.5.
        medial_meniscus_width_mm: width of the body, 9.5 ± 1 (Erbagci 2004; Bloecker 2011, also the next two).
        lateral_meniscus_width_mm: width of the body, 10.5 ± 1.
        meniscus_height_mm: height at the periphery, 6.2 ± 0.6.
        fat_thickness_mm: subcutaneous fat on the medial and posterior side, 8 ± 2.5.
        muscle_bulk: factor on the girth of muscles, 1 ± 0.08.
        flexion_deg: bend of the knee, 5 ± 4, never below 0 (a knee coil).
        rotation_deg: turn of the leg about its long axis, 0 ± 5; positive turns the front inwards.
        bending_mm: size of the smooth deformation that makes each knee its own.
        bending_seed: which deformation, and which pattern of osteophytes and fatty muscle.
        medial_loss: part of the medial compartment's cartilage that is worn off, 0 to 1; the bones come nearer.
        lateral_loss: the same laterally.
        patellar_loss: the same between patella and trochlea.
        osteophyte_mm: height of the bony ridges along the joint's edges.
        effusion_mm: half the depth that fluid adds to the recess above the patella.
        fatty_infiltration: part of the muscles that is fat, 0 to 1.
        implant: one of `IMPLANTS`.
    """

    side: str = "right"
    epicondylar_width_mm: float = 81.0
    femoral_depth_mm: float = 62.0
    tibial_width_mm: float = 75.0
    tibial_depth_mm: float = 49.0
    notch_width_mm: float = 20.0
    groove_depth_mm: float = 5.5
    patella_width_mm: float = 44.0
    patella_height_mm: float = 42.0
    patella_thickness_mm: float = 22.0
    femoral_cartilage_mm: float = 2.5
    medial_tibial_cartilage_mm: float = 2.6
    lateral_tibial_cartilage_mm: float = 3.2
    patellar_cartilage_mm: float = 3.8
    medial_meniscus_width_mm: float = 9.5
    lateral_meniscus_width_mm: float = 10.5
    meniscus_height_mm: float = 6.2
    fat_thickness_mm: float = 8.0
    muscle_bulk: float = 1.0
    flexion_deg: float = 5.0
    rotation_deg: float = 0.0
    bending_mm: float = 0.0
    bending_seed: int = 0
    medial_loss: float = 0.0
    lateral_loss: float = 0.0
    patellar_loss: float = 0.0
    osteophyte_mm: float = 0.0
    effusion_mm: float = 0.0
    fatty_infiltration: float = 0.0
    implant: str = "none"

    def __post_init__(self) -> None:
        if self.side not in ("left", "right"):
            raise UsageError(f"a knee has no side {self.side!r}", "Use left or right")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_mm") and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be 0 or more, got {value}")
            if field.name in _PARTS and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must lie between 0 and 1, got {value}")
        if self.implant not in IMPLANTS:
            raise UsageError(f"a knee has no implant {self.implant!r}", f"Use one of {', '.join(IMPLANTS)}")


_PARTS = ("medial_loss", "lateral_loss", "patellar_loss", "fatty_infiltration")
_SPREAD = {
    "notch_width_mm": 2.0,
    "groove_depth_mm": 1.0,
    "femoral_cartilage_mm": 0.3,
    "medial_tibial_cartilage_mm": 0.35,
    "lateral_tibial_cartilage_mm": 0.4,
    "patellar_cartilage_mm": 0.5,
    "medial_meniscus_width_mm": 1.0,
    "lateral_meniscus_width_mm": 1.0,
    "meniscus_height_mm": 0.6,
    "fat_thickness_mm": 2.5,
    "muscle_bulk": 0.08,
    "flexion_deg": 4.0,
    "rotation_deg": 5.0,
}
_SIZES = {
    "epicondylar_width_mm": 0.03,
    "femoral_depth_mm": 0.03,
    "tibial_width_mm": 0.03,
    "tibial_depth_mm": 0.04,
    "patella_width_mm": 0.05,
    "patella_height_mm": 0.05,
    "patella_thickness_mm": 0.05,
}
_STATURE_SPREAD = 0.06
_LIMIT_SD = 2.2
_MEAN = KneeShape()


def sample_knee_shape(rng: np.random.Generator, side: str | None = None) -> KneeShape:
    """Draw a healthy knee: one size common to all bones, then each dimension by itself, within ± 2.2 deviations.

    Args:
        rng: source of chance; equal states give equal knees.
        side: "left" or "right"; drawn when None.

    Raises:
        UsageError: the side is neither.
    """

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -_LIMIT_SD, _LIMIT_SD))

    drawn_side = "right" if rng.random() < 0.5 else "left"
    stature = draw(1.0, _STATURE_SPREAD)
    values = {name: getattr(_MEAN, name) * stature * draw(1.0, sd) for name, sd in _SIZES.items()}
    values |= {name: draw(getattr(_MEAN, name), sd) for name, sd in _SPREAD.items()}
    values["flexion_deg"] = max(0.0, values["flexion_deg"])
    values["bending_mm"] = float(rng.uniform(1.0, 2.5))
    return KneeShape(side=side or drawn_side, bending_seed=int(rng.integers(2**31)), **values)


def with_disease(shape: KneeShape, rng: np.random.Generator) -> KneeShape:
    """The same knee with age, disease and surgery.

    Half of all knees have arthritis of some degree, medial more often than lateral (as in Felson 2000), with
    osteophytes that grow with it; fluid and fatty muscle come with it or by themselves; few hold metal.
    """
    arthritis = float(rng.uniform(0.1, 1.0)) if rng.random() < 0.5 else 0.0
    medial, lateral, patellar = (float(part) for part in rng.uniform((0.3, 0.0, 0.0), (1.0, 0.7, 0.9)))
    if rng.random() < 0.25:
        medial, lateral = lateral, medial
    swollen, fatty, metal = rng.random(3)
    return replace(
        shape,
        medial_loss=arthritis * medial,
        lateral_loss=arthritis * lateral,
        patellar_loss=arthritis * patellar,
        osteophyte_mm=arthritis * float(rng.uniform(0.0, 6.0)),
        effusion_mm=float(rng.uniform(0.5, 6.0)) if swollen < 0.2 + 0.4 * arthritis else 0.0,
        fatty_infiltration=float(rng.uniform(0.03, 0.4)) if fatty < 0.3 + 0.2 * arthritis else 0.0,
        implant="screws" if metal < 0.03 else "prosthesis" if metal > 0.98 else "none",
    )
