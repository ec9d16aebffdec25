"""Dimensions of a thigh and how they vary between people."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues

ATROPHIC = (
    tissues.RECTUS_FEMORIS,
    tissues.VASTUS_LATERALIS,
    tissues.VASTUS_INTERMEDIUS,
    tissues.VASTUS_MEDIALIS,
    tissues.SARTORIUS,
    tissues.GRACILIS,
    tissues.ADDUCTOR_LONGUS,
    tissues.ADDUCTOR_MAGNUS,
    tissues.BICEPS_FEMORIS_LONG_HEAD,
    tissues.BICEPS_FEMORIS_SHORT_HEAD,
    tissues.SEMITENDINOSUS,
    tissues.SEMIMEMBRANOSUS,
)
"""Muscles of which one may waste alone."""


@dataclass(frozen=True)
class ThighShape:
    """Dimensions of one thigh; defaults are means over adults of both sexes.

    Means and spreads are rounded from the sources named; where those give men and women apart, the middle is taken.

    Attributes:
        side: "left" or "right": the thigh round the world's origin.
        both: whether the other thigh, its mirror image but for the bending, lies beside it.
        gap_mm: room between the thighs half way up, when there are two.
        femur_length_mm: centre of the head to the joint line, 430 ± 27 (Strecker 1997).
        shaft_width_mm: outer diameter of the shaft half way up, 28 ± 2.2 (Noble 1988).
        muscle_area_cm2: all muscle in the slice half way up, 118 ± 22 (Goodpaster 2001 for the old,
            Handsfield 2014 for the young).
        subcutaneous_mm: fat under the skin half way up, on average round the thigh; median 13, from 3 to 45,
            lean to obese.
        fill_mm: how far muscles fill the room between them; less leaves more fat between muscles.
        septum_mm: thickness of the fat between touching muscles.
        infiltration: part of the muscles that is streaks of fat, 0 to 0.5.
        wasted: tissue index of one muscle that is thinner and fattier than the rest, 0 for none.
        wasting: by how much of its girth, 0 to 0.6.
        bulks: factor on the girth of single muscles, by tissue index.
        tumour_mm: mean radius of a soft-tissue mass, 0 for none.
        tumour_place: direction (degrees from lateral towards the front), depth (0 at the bone, 1 at the fascia) and
            height in mm of its centre.
        nail: whether a metal nail lies in the shaft.
        rotation_deg: turn of the thigh about its long axis; positive turns the front inwards.
        flatten: how much the weight of the thigh flattens it front to back, 0 ± 0.03.
        bending_mm: size of the smooth deformation that makes each thigh its own.
        seed: of the deformation and of the streaks.
    """

    side: str = "right"
    both: bool = False
    gap_mm: float = 6.0
    femur_length_mm: float = 430.0
    shaft_width_mm: float = 28.0
    muscle_area_cm2: float = 118.0
    subcutaneous_mm: float = 13.0
    fill_mm: float = 9.0
    septum_mm: float = 1.0
    infiltration: float = 0.0
    wasted: int = 0
    wasting: float = 0.0
    bulks: tuple[tuple[int, float], ...] = ()
    tumour_mm: float = 0.0
    tumour_place: tuple[float, float, float] = (90.0, 0.6, 0.0)
    nail: bool = False
    rotation_deg: float = 0.0
    flatten: float = 0.0
    bending_mm: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side not in ("left", "right"):
            raise UsageError(f"a thigh has no side {self.side!r}", "Use left or right")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_mm", "_cm2")) and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be 0 or more, got {value}")
        for name in ("infiltration", "wasting"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")

    @property
    def girths(self) -> dict[int, float]:
        """Factor on the girth of each muscle that differs from the others, by tissue index."""
        found = dict(self.bulks)
        if self.wasted:
            found[self.wasted] = found.get(self.wasted, 1.0) * (1 - self.wasting)
        return found


_LIMIT_SD = 2.2
_BULK_SPREAD = 0.06


def sample_thigh_shape(rng: np.random.Generator, side: str | None = None) -> ThighShape:
    """Draw a thigh, each dimension within ± 2.2 standard deviations; fat and muscle waste with age.

    Args:
        rng: source of chance; equal states give equal thighs.
        side: "left" or "right"; drawn when None.

    Raises:
        UsageError: the side is neither.
    """

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -_LIMIT_SD, _LIMIT_SD))

    drawn_side = "right" if rng.random() < 0.5 else "left"
    age = rng.uniform(0, 1)
    stature = draw(1.0, 0.05)
    wasted = int(rng.choice(ATROPHIC)) if rng.random() < 0.2 else 0
    return ThighShape(
        side=side or drawn_side,
        both=bool(rng.random() < 0.35),
        gap_mm=float(rng.uniform(1.0, 25.0)),
        femur_length_mm=430.0 * stature * draw(1.0, 0.025),
        shaft_width_mm=28.0 * stature * draw(1.0, 0.05),
        muscle_area_cm2=118.0 * stature**2 * draw(1.0, 0.15) * (1.08 - 0.22 * age),
        subcutaneous_mm=float(np.clip(np.exp(draw(np.log(13.0), 0.6)), 3.0, 45.0)),
        fill_mm=float(np.clip(draw(10.5 - 5.5 * age, 1.5), 1.5, 13.0)),
        septum_mm=float(np.clip(draw(0.8 + 0.8 * age, 0.3), 0.5, 2.5)),
        infiltration=float(np.clip(rng.exponential(0.02 + 0.08 * age), 0, 0.5)),
        wasted=wasted,
        wasting=float(rng.uniform(0.15, 0.5)) if wasted else 0.0,
        bulks=tuple((tissue, draw(1.0, _BULK_SPREAD)) for tissue in ATROPHIC),
        tumour_mm=float(rng.uniform(9.0, 48.0)) if rng.random() < 0.12 else 0.0,
        tumour_place=(float(rng.uniform(0, 360)), float(rng.uniform(0.35, 0.9)), float(rng.uniform(-110, 110))),
        nail=bool(rng.random() < 0.03),
        rotation_deg=draw(0.0, 7.0),
        flatten=draw(0.0, 0.03),
        bending_mm=float(rng.uniform(1.0, 3.0)),
        seed=int(rng.integers(2**31)),
    )
