"""Dimensions of a lumbar spine in mm and how they vary between people, with age and with disease."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
DISC_COUNT = len(LEVELS)
"""Discs are counted by the vertebra above them; the last one rests on the sacrum."""

_L1, _L5 = LEVELS.index("L1"), LEVELS.index("L5")


@dataclass(frozen=True)
class LumbarShape:
    """Dimensions of one spine; defaults are means over adults of both sexes without disease.

    Means and spreads are rounded from the sources named; where those give men and women apart, the middle is taken.
    How the other levels compare with L3 is fixed (Panjabi 1992; Berry 1987; Zhou 2000).

    Attributes:
        body_width_mm: upper end plate of L3 from side to side, 47 ± 3.5 (Zhou 2000; Panjabi 1992; Berry 1987).
        body_depth_mm: upper end plate of L3 from front to back, 34.5 ± 2.6 (Zhou 2000; Panjabi 1992).
        body_height_mm: mean height of L3, 28.5 ± 1.9 (Berry 1987; Zhou 2000).
        disc_height_mm: L3-L4 between the rims, 9.6 ± 1.1 (Shao 2002; Frobin 1997; Zhou 2000).
        concavity_mm: depth of the lower end plates, 2.6 ± 0.6; upper ones are half as deep (Chen 2007).
        canal_width_mm: bony canal between the pedicles of L3, 24 ± 1.8 (Panjabi 1992; Zhou 2000).
        canal_depth_mm: bony canal of L3 from front to back, 17.5 ± 1.8 (Panjabi 1992; Zhou 2000).
        lordosis_deg: from the upper end plate of L1 to that of S1, lying, 47 ± 9 (Jackson 1994, less for lying).
        pitch_deg: tilt of L3, front up, 3 ± 5.
        scoliosis_deg: Cobb angle of a single curve, 0 ± 4; positive is convex to the right.
        sacral_kyphosis_deg: from S1 to S5, 65 ± 12 (Abitbol 1987; Marty 2002).
        conus_level: end of the cord as a level, where 2 is the middle of L1, 2.35 ± 0.45 (Saifuddin 1998).
        torso_width_mm: trunk at L3 without subcutaneous fat, 265 ± 18.
        torso_depth_mm: from the front of L3 to the abdominal wall, 78 ± 18.
        fat_thickness_mm: subcutaneous fat over the back at L3, 13 ± 7, never below 3.
        muscle_bulk: factor on the girth of muscles, 1 ± 0.09.
        fatty_infiltration: part of multifidus and erector spinae that is fat, 0 to 1 (Kader 2000; Kjaer 2007).
        degeneration: of each disc from T10-T11 to L5-S1, 0 (full height) to 1 (Pfirrmann grade V).
        protrusion_mm: how far the worst disc stands into the canal beyond its bulge; 0 for none.
        protrusion_level: which disc that is, as an index into `LEVELS`.
        osteophyte_mm: length of the lips at the rims of the end plates, 0 to 6.
        fracture_level: index into `LEVELS` of a compressed body, or None.
        fracture_loss: part of the anterior height that it lost, 0 to 1 (Genant 1993: 0.2 mild, 0.4 severe).
        node_level: index into `LEVELS` of a body whose lower end plate has a Schmorl node, or None.
        screw_levels: indices into `LEVELS` of bodies held by pedicle screws, neighbours, or empty.
        bending_mm: size of the smooth deformation that makes each spine its own.
        bending_seed: which deformation, fat streaks, bowel and outlines of osteophytes.
    """

    body_width_mm: float = 47.0
    body_depth_mm: float = 34.5
    body_height_mm: float = 28.5
    disc_height_mm: float = 9.6
    concavity_mm: float = 2.6
    canal_width_mm: float = 24.0
    canal_depth_mm: float = 17.5
    lordosis_deg: float = 47.0
    pitch_deg: float = 3.0
    scoliosis_deg: float = 0.0
    sacral_kyphosis_deg: float = 65.0
    conus_level: float = 2.35
    torso_width_mm: float = 265.0
    torso_depth_mm: float = 78.0
    fat_thickness_mm: float = 13.0
    muscle_bulk: float = 1.0
    fatty_infiltration: float = 0.0
    degeneration: tuple[float, ...] = (0.0,) * DISC_COUNT
    protrusion_mm: float = 0.0
    protrusion_level: int = _L5
    osteophyte_mm: float = 0.0
    fracture_level: int | None = None
    fracture_loss: float = 0.0
    node_level: int | None = None
    screw_levels: tuple[int, ...] = ()
    bending_mm: float = 0.0
    bending_seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_mm") and not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be 0 or more, got {value}")
        parts = {"fatty_infiltration": (self.fatty_infiltration,), "fracture_loss": (self.fracture_loss,)}
        for name, values in (parts | {"degeneration": self.degeneration}).items():
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"{name} must lie in 0…1, got {values}")
        if len(self.degeneration) != DISC_COUNT:
            raise ValueError(f"degeneration needs {DISC_COUNT} values, got {len(self.degeneration)}")
        for level in (self.protrusion_level, self.fracture_level, self.node_level, *self.screw_levels):
            if level is not None and not 0 <= level < len(LEVELS):
                raise ValueError(f"a level must be 0 to {len(LEVELS) - 1}, got {level}")


_SPREAD = {
    "disc_height_mm": 1.1,
    "concavity_mm": 0.6,
    "canal_width_mm": 1.6,
    "canal_depth_mm": 1.6,
    "lordosis_deg": 9.0,
    "pitch_deg": 5.0,
    "scoliosis_deg": 4.0,
    "sacral_kyphosis_deg": 12.0,
    "conus_level": 0.45,
    "torso_width_mm": 18.0,
    "torso_depth_mm": 18.0,
    "muscle_bulk": 0.09,
}
_SIZES = {"body_width_mm": 0.045, "body_depth_mm": 0.045, "body_height_mm": 0.04}
_STATURE_SPREAD = 0.06
_LIMIT_SD = 2.2
_FRACTURE_RATE, _NODE_RATE, _SCREW_RATE = 0.16, 0.2, 0.07
_WEAR = (0.5, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0, 1.0)
_MEAN = LumbarShape()


def sample_lumbar_shape(rng: np.random.Generator) -> LumbarShape:
    """Draw a spine of an adult of 20 to 85 years: one size common to all bones, then each dimension by itself.

    Healthy dimensions stay within ± 2.2 standard deviations. Wear of discs, osteophytes, fatty infiltration and
    fractures grow with a drawn age; about one spine in fourteen carries pedicle screws.
    """

    def draw(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -_LIMIT_SD, _LIMIT_SD))

    stature = draw(1.0, _STATURE_SPREAD)
    values = {name: getattr(_MEAN, name) * stature * draw(1.0, sd) for name, sd in _SIZES.items()}
    values |= {name: draw(getattr(_MEAN, name), sd) for name, sd in _SPREAD.items()}
    values["fat_thickness_mm"] = float(np.clip(rng.gamma(3.5, 4.0), 3.0, 45.0))
    values["bending_mm"] = float(rng.uniform(0.8, 2.0))
    healthy = LumbarShape(bending_seed=int(rng.integers(2**31)), **values)
    return _worn(healthy, float(rng.uniform(0, 1)), rng)


def _worn(healthy: LumbarShape, age: float, rng: np.random.Generator) -> LumbarShape:
    """A spine as wear leaves it at an age from 0 (20 years) to 1 (85 years); discs after Miller 1988, Cheung 2009."""
    wear = np.clip(age * np.array(_WEAR) + rng.normal(0, 0.22, DISC_COUNT), 0, 1)
    worst = max(range(_L1 + 1, _L5 + 1), key=lambda level: float(wear[level] + rng.uniform(0, 0.3)))
    bulging, spurred, broken, bruised, operated = rng.random(5)
    fractured = broken < _FRACTURE_RATE * age
    upper_screw = int(rng.integers(_L5 - 2, _L5))
    return replace(
        healthy,
        degeneration=tuple(float(value) for value in wear),
        protrusion_mm=float(rng.uniform(1.5, 6.0)) if wear[worst] > 0.3 and bulging < 0.4 else 0.0,
        protrusion_level=worst,
        osteophyte_mm=float(rng.uniform(1.0, 6.0) * age) if spurred < 0.2 + 0.6 * age else 0.0,
        fracture_level=int(rng.integers(1, _L5)) if fractured else None,
        fracture_loss=float(rng.uniform(0.15, 0.5)) if fractured else 0.0,
        node_level=int(rng.integers(1, _L5)) if bruised < _NODE_RATE else None,
        fatty_infiltration=float(np.clip(0.02 + 0.45 * age**1.5 + rng.normal(0, 0.08), 0, 0.8)),
        screw_levels=(upper_screw, upper_screw + 1) if operated < _SCREW_RATE else (),
    )
