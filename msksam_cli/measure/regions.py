"""Regions of the knee's cartilages, from the anatomy in the label map and the directions of its affine (RAS+).

- Tibia: medial and lateral plates have labels of their own; each is cut into anterior, central and posterior by thirds
  of its extent from front to back (Black et al. 2020, ISMRM; so in DOSMA).
- Femur: medial and lateral of its centre of area; anterior, central and posterior by the angle round the axis of a
  circle fitted to its sagittal projection (Monu et al. 2017, Osteoarthritis Cartilage 25:513), central being the 30°
  about straight down, as in DOSMA. The anterior part is the trochlea, the posterior one the back of the condyles
  (regions A, C and P of WORMS, Peterfy et al. 2004, Osteoarthritis Cartilage 12:177).
- Patella: medial and lateral of its centre of area.

The knee is taken to lie straight in the scanner: "down" and "front" are those of the patient coordinate system.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import FloatArray
from msksam_cli.core.volume import LabelMap

CENTRAL_DEG = 15.0
"""Half of the angle that the central region of the femur spans."""

_PAIRS = (
    ("medial-tibial-cartilage", "lateral-tibial-cartilage"),
    ("medial-meniscus", "lateral-meniscus"),
)
_ALONG = ("posterior", "central", "anterior")
_TIBIAL = ("medial-tibial-cartilage", "lateral-tibial-cartilage")


def lateral_direction(label_map: LabelMap, side: str = "") -> float | None:
    """+1 where lateral lies to the patient's right (RAS x grows), −1 where it lies to the left, None when unknown.

    Medial and lateral tibial cartilages or menisci decide, else the fibula beside the tibia, else the knee's side.
    """
    for medial, lateral in (*_PAIRS, ("tibia", "fibula")):
        places = [_centre_x_mm(label_map, name) for name in (medial, lateral)]
        if places[0] is not None and places[1] is not None:
            return float(np.sign(places[1] - places[0])) or None
    return {"right": 1.0, "left": -1.0}.get(side)


def cartilage_regions(
    tissue: str, points_mm: FloatArray, areas_mm2: FloatArray, lateral: float | None
) -> Mapping[str, NDArray[np.bool_]]:
    """Region → which of the points (N, 3) in world mm belong to it; empty for cartilages without regions.

    Args:
        tissue: name of the cartilage.
        points_mm: where its thickness was measured.
        areas_mm2: (N,) area each stands for.
        lateral: see `lateral_direction`; without it femur and patella are not cut into medial and lateral.
    """
    if not len(points_mm):
        return {}
    if tissue in _TIBIAL:
        return _named(_thirds(points_mm[:, 1]))
    if tissue not in ("femoral-cartilage", "patellar-cartilage"):
        return {}
    sides = _sides(points_mm[:, 0], areas_mm2, lateral)
    if tissue == "patellar-cartilage":
        return sides
    along = _named(_sectors(points_mm[:, 1], points_mm[:, 2]))
    both = {
        f"{side}-{place}": in_side & in_place for side, in_side in sides.items() for place, in_place in along.items()
    }
    return {**sides, **along, **both}


def fitted_circle(across: FloatArray, up: FloatArray) -> tuple[float, float, float]:
    """Centre and radius of the circle that fits points (N,) best by algebraic least squares (Kåsa 1976).

    >>> angle = np.linspace(0, 2, 9)
    >>> [round(value, 6) for value in fitted_circle(3 + 5 * np.cos(angle), 1 + 5 * np.sin(angle))]
    [3.0, 1.0, 5.0]
    """
    shift = across.mean(), up.mean()
    x, y = across - shift[0], up - shift[1]
    design = np.stack([2 * x, 2 * y, np.ones_like(x)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(design, x**2 + y**2)
    return float(a + shift[0]), float(b + shift[1]), float(np.sqrt(c + a**2 + b**2))


def _centre_x_mm(label_map: LabelMap, name: str) -> float | None:
    tissue = label_map.tissues.by_name(name)
    if tissue is None:
        return None
    voxels = label_map.boxed(tissue.index).voxels()
    return float(label_map.grid.to_world_mm(voxels.mean(axis=0))[0]) if len(voxels) else None


def _sides(x_mm: FloatArray, areas_mm2: FloatArray, lateral: float | None) -> dict[str, NDArray[np.bool_]]:
    if lateral is None:
        return {}
    is_lateral = (x_mm - np.average(x_mm, weights=areas_mm2)) * lateral > 0
    return {"medial": ~is_lateral, "lateral": is_lateral}


def _thirds(y_mm: FloatArray) -> NDArray[np.int64]:
    """0 for the posterior third of the extent, 1 for the central, 2 for the anterior."""
    low, high = y_mm.min(), y_mm.max()
    return np.digitize(y_mm, [low + (high - low) / 3, low + 2 * (high - low) / 3])


def _sectors(y_mm: FloatArray, z_mm: FloatArray) -> NDArray[np.int64]:
    """0 for what lies behind the central sector round the fitted axis, 1 in it, 2 in front of it.

    Angles are signed from straight down, positive to the front and negative to the back; they meet again straight
    above, where there is no cartilage.
    """
    y_centre, z_centre, _ = fitted_circle(y_mm, z_mm)
    from_down = np.degrees(np.arctan2(y_mm - y_centre, z_centre - z_mm))
    return np.digitize(from_down, [-CENTRAL_DEG, CENTRAL_DEG])


def _named(places: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    return {name: places == number for number, name in reversed(list(enumerate(_ALONG)))}
