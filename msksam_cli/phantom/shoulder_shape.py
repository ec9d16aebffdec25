"""Dimensions of a shoulder in mm and how they vary between people and with age and disease."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from msksam_cli.errors import UsageError


@dataclass(frozen=True)
class ShoulderShape:
    """Dimensions of one shoulder; defaults are means over adults of both sexes, in health.

    Means and spreads are rounded from the sources named; where those give men and women apart, the middle is taken.

    Attributes:
        side: "left" or "right".
        head_diameter_mm: of the bony humeral head, 46 ± 4 (Iannotti 1992; Robertson 2000).
        neck_shaft_deg: angle of the head's axis to the shaft, 135 ± 5 (Iannotti 1992; Robertson 2000).
        retroversion_deg: how far the head's axis points backwards of the elbow's axis, 28 ± 9 (Robertson 2000; Boileau
            and Walch 1997).
        tuberosity_drop_mm: how far the greater tuberosity stays below the top of the head, 8 ± 1.5 (Iannotti 1992).
        glenoid_height_mm: 36 ± 3 (Iannotti 1992; Churchill 2001).
        glenoid_width_mm: 26.5 ± 2.3 (Iannotti 1992; Churchill 2001).
        glenoid_inclination_deg: upward tilt of the socket's face, 4 ± 4 (Churchill 2001).
        glenoid_version_deg: forward turn of the socket's face, -1 ± 3.5 (Churchill 2001).
        scapula_width_mm: medial border to socket along the spine, 102 ± 6 (von Schroeder 2001); scales what is not
            given by itself.
        scapular_plane_deg: turn of the scapula in front of the coronal plane, 32 ± 5 (McPherson 1997).
        acromiohumeral_mm: gap between acromion and head, 10 ± 1.5 (Petersson and Redlund-Johnell 1984).
        humeral_cartilage_mm: greatest thickness, 1.4 ± 0.2 (Fox 2008; Soslowsky 1992).
        glenoid_cartilage_mm: thickness in the middle of the socket, 1.5 ± 0.25; it grows towards the rim (Soslowsky
            1992).
        labrum_height_mm: 4 ± 0.6 (Howell and Galinat 1989).
        fat_thickness_mm: subcutaneous fat over the deltoid, 7 ± 2.5.
        muscle_bulk: factor on the girth of muscles, 1 ± 0.08.
        abduction_deg: of the arm, 8 ± 4, never below 0.
        external_rotation_deg: of the arm, 5 ± 14; negative turns it inwards.
        bending_mm: size of the smooth deformation that makes each shoulder its own.
        bending_seed: which deformation, and which pattern of fatty muscle.
        cartilage_loss: part of the cartilage's thickness that is worn off, 0 to 1; all of it goes at 1.
        osteophyte_mm: height of the ridges below the head and the socket.
        effusion_mm: how far fluid lifts the capsule off the head.
        tendon_tear_mm: how far the supraspinatus tendon's end lies from its insertion.
        fatty_infiltration: part of the rotator cuff's muscles that is fat, 0 to 1.
        implant_mm: radius of the signal void round a metal anchor in the greater tuberosity; 0 for none.
    """

    side: str = "right"
    head_diameter_mm: float = 46.0
    neck_shaft_deg: float = 135.0
    retroversion_deg: float = 28.0
    tuberosity_drop_mm: float = 8.0
    glenoid_height_mm: float = 36.0
    glenoid_width_mm: float = 26.5
    glenoid_inclination_deg: float = 4.0
    glenoid_version_deg: float = -1.0
    scapula_width_mm: float = 102.0
    scapular_plane_deg: float = 32.0
    acromiohumeral_mm: float = 10.0
    humeral_cartilage_mm: float = 1.4
    glenoid_cartilage_mm: float = 1.5
    labrum_height_mm: float = 4.0
    fat_thickness_mm: float = 7.0
    muscle_bulk: float = 1.0
    abduction_deg: float = 8.0
    external_rotation_deg: float = 5.0
    bending_mm: float = 0.0
    bending_seed: int = 0
    cartilage_loss: float = 0.0
    osteophyte_mm: float = 0.0
    effusion_mm: float = 0.0
    tendon_tear_mm: float = 0.0
    fatty_infiltration: float = 0.0
    implant_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.side not in ("left", "right"):
            raise UsageError(f"a shoulder has no side {self.side!r}", "Use left or right")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_mm") and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be 0 or more, got {value}")
            if field.name in _PARTS and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must lie between 0 and 1, got {value}")


_PARTS = ("cartilage_loss", "fatty_infiltration")
_SPREAD = {
    "neck_shaft_deg": 5.0,
    "retroversion_deg": 9.0,
    "tuberosity_drop_mm": 1.5,
    "glenoid_inclination_deg": 4.0,
    "glenoid_version_deg": 3.5,
    "scapular_plane_deg": 5.0,
    "acromiohumeral_mm": 1.5,
    "humeral_cartilage_mm": 0.2,
    "glenoid_cartilage_mm": 0.25,
    "labrum_height_mm": 0.6,
    "fat_thickness_mm": 2.5,
    "muscle_bulk": 0.08,
    "abduction_deg": 4.0,
    "external_rotation_deg": 14.0,
}
_SIZES = {
    "head_diameter_mm": 0.06,
    "glenoid_height_mm": 0.05,
    "glenoid_width_mm": 0.05,
    "scapula_width_mm": 0.03,
}
_STATURE_SPREAD = 0.06
_LIMIT_SD = 2.2
_MEAN = ShoulderShape()
_CHANCE = {
    "cartilage_loss": 0.35,
    "osteophyte_mm": 0.25,
    "effusion_mm": 0.35,
    "tendon_tear_mm": 0.25,
    "fatty_infiltration": 0.4,
    "implant_mm": 0.05,
}
_GREATEST = {
    "cartilage_loss": 1.0,
    "osteophyte_mm": 7.0,
    "effusion_mm": 6.0,
    "tendon_tear_mm": 35.0,
    "fatty_infiltration": 0.6,
    "implant_mm": 9.0,
}


def sample_shoulder_shape(rng: np.random.Generator, side: str | None = None) -> ShoulderShape:
    """Draw a shoulder: one size common to all bones, then each dimension by itself, then findings of disease.

    Healthy dimensions stay within ± 2.2 standard deviations. Each finding is present by chance (see `with_disease`).

    Args:
        rng: source of chance; equal states give equal shoulders.
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
    values["abduction_deg"] = max(0.0, values["abduction_deg"])
    values["bending_mm"] = float(rng.uniform(1.0, 2.5))
    shape = ShoulderShape(side=side or drawn_side, bending_seed=int(rng.integers(2**31)), **values)
    return with_disease(shape, rng)


def with_disease(shape: ShoulderShape, rng: np.random.Generator) -> ShoulderShape:
    """The same shoulder with age and disease: each finding is present by chance, and then of any degree.

    A torn tendon comes with fluid and fatty muscle.
    """
    found = {name: _degree(rng, chance) * _GREATEST[name] for name, chance in _CHANCE.items()}
    tear_mm = found["tendon_tear_mm"]
    if tear_mm > 0:
        found["effusion_mm"] = max(found["effusion_mm"], 1.5)
        found["fatty_infiltration"] = max(found["fatty_infiltration"], 0.012 * tear_mm)
    return replace(
        shape,
        cartilage_loss=found["cartilage_loss"],
        osteophyte_mm=found["osteophyte_mm"],
        effusion_mm=found["effusion_mm"],
        tendon_tear_mm=tear_mm,
        fatty_infiltration=found["fatty_infiltration"],
        implant_mm=found["implant_mm"],
    )


def _degree(rng: np.random.Generator, chance: float) -> float:
    """0, or by chance a degree between 0.15 and 1."""
    present, degree = rng.random() < chance, rng.uniform(0.15, 1.0)
    return float(degree) if present else 0.0
