"""Dimensions of a hip and how they vary between people."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from msksam_cli.errors import UsageError


@dataclass(frozen=True)
class HipShape:
    """Dimensions of one hip and of the pelvis round it; defaults are means over adults of both sexes.

    Means and spreads are rounded from the sources named; where those give men and women apart, the middle is taken.
    The other half of the pelvis is the mirror image but for the bending and the implant.

    Attributes:
        side: "left" or "right": the hip round the world's origin.
        head_diameter_mm: bony femoral head, 47 ± 4 (Noble 1988).
        neck_shaft_deg: angle of the neck to the shaft, 126 ± 6 (Boese 2016).
        anteversion_deg: turn of the neck towards the front, 12 ± 8 (Scorcelletti 2020).
        head_offset_mm: from the head's centre to the shaft's axis, 43 ± 5 (Noble 1988).
        head_distance_mm: between the centres of both heads, 176 ± 9 (Bell 1990).
        cup_inclination_deg: of the acetabulum's opening to the transverse plane, 46 ± 4.
        cup_anteversion_deg: turn of its opening towards the front, 18 ± 6 (Köhnlein 2009).
        femoral_cartilage_mm: greatest thickness on the head, 1.9 ± 0.3 (Shepherd 1999; Mechlenburg 2007).
        acetabular_cartilage_mm: greatest thickness of the lunate surface, 1.7 ± 0.3 (Mechlenburg 2007).
        labrum_mm: height of the labrum, 5.5 ± 1 (Seldes 2001).
        recess_mm: depth of the fluid in front of the neck, 1.5; up to 9 with an effusion.
        osteophyte_mm: height of the bony lips at the head's and the socket's edge, 0 when healthy.
        implant: whether the hip round the origin is replaced.
        muscle_bulk: factor on the girth of muscles, 1 ± 0.08.
        subcutaneous_mm: fat under the skin beside the trochanter; median 22, from 5 to 70.
        fill_mm: how far muscles fill the room between them; less leaves more fat between muscles.
        septum_mm: thickness of the fat between touching muscles.
        infiltration: part of the muscles that is streaks of fat, 0 to 0.5; the gluteals take more than the others.
        bladder_mm: radius of the bladder, 15 when empty, 50 when full.
        tumour_mm: mean radius of a soft-tissue mass on the side of the origin, 0 for none.
        tumour_centre: its centre in mm of the template: lateral, anterior, superior.
        rotation_deg: turn of the pelvis about the long axis of the body.
        bending_mm: size of the smooth deformation that makes each hip its own.
        seed: of the deformation, of lumps and of streaks.
    """

    side: str = "right"
    head_diameter_mm: float = 47.0
    neck_shaft_deg: float = 126.0
    anteversion_deg: float = 12.0
    head_offset_mm: float = 43.0
    head_distance_mm: float = 176.0
    cup_inclination_deg: float = 46.0
    cup_anteversion_deg: float = 18.0
    femoral_cartilage_mm: float = 1.9
    acetabular_cartilage_mm: float = 1.7
    labrum_mm: float = 5.5
    recess_mm: float = 1.5
    osteophyte_mm: float = 0.0
    implant: bool = False
    muscle_bulk: float = 1.0
    subcutaneous_mm: float = 22.0
    fill_mm: float = 9.0
    septum_mm: float = 1.0
    infiltration: float = 0.0
    bladder_mm: float = 28.0
    tumour_mm: float = 0.0
    tumour_centre: tuple[float, float, float] = (15.0, -68.0, 0.0)
    rotation_deg: float = 0.0
    bending_mm: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side not in ("left", "right"):
            raise UsageError(f"a hip has no side {self.side!r}", "Use left or right")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_mm") and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be 0 or more, got {value}")
        if not 0 <= self.infiltration < 1:
            raise ValueError(f"infiltration must be from 0 to below 1, got {self.infiltration}")


_LIMIT_SD = 2.2
_TUMOUR_PLACES = ((15, -68, 0), (48, -12, 50), (24, 44, -75), (-38, 6, -95), (-25, 42, -25), (52, 0, -85))


def sample_hip_shape(rng: np.random.Generator, side: str | None = None) -> HipShape:
    """Draw a hip, each dimension within ± 2.2 standard deviations; arthritis thins cartilage and grows bone together.

    Args:
        rng: source of chance; equal states give equal hips.
        side: "left" or "right"; drawn when None.

    Raises:
        UsageError: the side is neither.
    """

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -_LIMIT_SD, _LIMIT_SD))

    drawn_side = "right" if rng.random() < 0.5 else "left"
    stature, age = draw(1.0, 0.05), rng.uniform(0, 1)
    arthritis = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.25 else 0.0
    effusion = float(rng.uniform(2.0, 7.5)) if rng.random() < 0.15 + 0.3 * arthritis else 0.0
    place = rng.choice(_TUMOUR_PLACES) + rng.normal(0, 8, 3)
    return HipShape(
        side=side or drawn_side,
        head_diameter_mm=47.0 * stature * draw(1.0, 0.06),
        neck_shaft_deg=draw(126.0, 6.0),
        anteversion_deg=draw(12.0, 8.0),
        head_offset_mm=43.0 * stature * draw(1.0, 0.09),
        head_distance_mm=176.0 * stature * draw(1.0, 0.03),
        cup_inclination_deg=draw(46.0, 4.0),
        cup_anteversion_deg=draw(18.0, 6.0),
        femoral_cartilage_mm=draw(1.9, 0.3) * (1 - 0.6 * arthritis),
        acetabular_cartilage_mm=draw(1.7, 0.3) * (1 - 0.6 * arthritis),
        labrum_mm=draw(5.5, 1.0),
        recess_mm=max(0.6, draw(1.5, 0.4)) + effusion,
        osteophyte_mm=arthritis * float(rng.uniform(2.0, 6.0)),
        implant=bool(rng.random() < 0.05),
        muscle_bulk=draw(1.0 - 0.08 * (age - 0.5), 0.07),
        subcutaneous_mm=float(np.clip(np.exp(draw(np.log(22.0), 0.5)), 5.0, 70.0)),
        fill_mm=float(np.clip(draw(10.5 - 5.5 * age, 1.5), 1.5, 13.0)),
        septum_mm=float(np.clip(draw(0.8 + 0.8 * age, 0.3), 0.5, 2.5)),
        infiltration=float(np.clip(rng.exponential(0.02 + 0.08 * age), 0, 0.5)),
        bladder_mm=float(rng.uniform(15.0, 48.0)),
        tumour_mm=float(rng.uniform(8.0, 40.0)) if rng.random() < 0.1 else 0.0,
        tumour_centre=(float(place[0]), float(place[1]), float(place[2])),
        rotation_deg=draw(0.0, 3.0),
        bending_mm=float(rng.uniform(1.0, 3.0)),
        seed=int(rng.integers(2**31)),
    )
