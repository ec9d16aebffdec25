"""Meniscal extrusion: how far a meniscus reaches beyond the edge of the tibial plateau.

In each coronal layer the outermost point of the meniscus is compared with the outermost point of the tibial plateau on
its side, along the line from one plateau to the other; the difference is positive where the meniscus reaches further
out. It is given in the middle of the plateau from front to back and as the largest one of its middle half, since
further to the front and back the edge of the tibia turns away from the horns (Jones et al. 2018, Knee Surg Sports
Traumatol Arthrosc 26:1152, compare slices chosen so with segmented tibiae). The plateau is the upper 10 mm of the
tibia below the cartilage of that side. An osteophyte that is labelled as tibia counts as its edge, which readers leave
out; extrusion is then too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msksam_cli.core.geometry import FloatArray
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.isosurface import box_around, surface_of

PLATEAU_MM = 10.0
"""How far below its cartilage the tibia counts as plateau."""

LAYER_MM = 2.0
"""Thickness of a coronal layer, at least one voxel."""

MIDDLE_MM = 3.0
"""Layers whose middle lies this near the middle of the plateau make up the central extrusion."""


@dataclass(frozen=True)
class Extrusion:
    """How far a meniscus reaches beyond the plateau; negative when it stays inside.

    Attributes:
        central_mm: mean over the middle layers, None when the meniscus is missing there.
        largest_mm: largest over the middle half of the plateau, None when the meniscus is missing there.
    """

    central_mm: float | None
    largest_mm: float | None


def extrusion(label_map: LabelMap, side: str, lateral: float | None) -> tuple[Extrusion | None, str]:
    """Extrusion of the "medial" or "lateral" meniscus, or None and the reason.

    Args:
        label_map: labels with the meniscus, the tibia and the tibial cartilage of that side.
        side: "medial" or "lateral".
        lateral: sign of the direction to the lateral side, see `regions.lateral_direction`.
    """
    if lateral is None:
        return None, "which side is lateral is not known"
    surfaces = {
        name: _surface_mm(label_map, name) for name in (f"{side}-meniscus", "tibia", f"{side}-tibial-cartilage")
    }
    missing = [name for name, points in surfaces.items() if points is None or not len(points)]
    if missing:
        return None, f"no label for {', '.join(missing)}"
    meniscus, tibia, cartilage = (np.asarray(points) for points in surfaces.values())
    outwards = lateral if side == "lateral" else -lateral
    on_side = (tibia[:, 0] - np.median(tibia[:, 0])) * outwards > 0
    height = cartilage[:, 2].min()
    plateau = tibia[on_side & (tibia[:, 2] > height - PLATEAU_MM) & (tibia[:, 2] <= cartilage[:, 2].max())]
    if not len(plateau):
        return None, "the tibia has no surface below its cartilage"
    layer_mm = max(LAYER_MM, float(np.abs(label_map.grid.affine[1, :3]).max()))
    beyond = _outermost(meniscus, outwards, layer_mm), _outermost(plateau, outwards, layer_mm)
    layers = sorted(set(beyond[0]) & set(beyond[1]))
    if not layers:
        return None, "meniscus and plateau share no coronal layer"
    differences = np.array([beyond[0][layer] - beyond[1][layer] for layer in layers])
    back, front = cartilage[:, 1].min(), cartilage[:, 1].max()
    from_middle = np.abs((np.array(layers) + 0.5) * layer_mm - (back + front) / 2)
    central, body = from_middle <= max(MIDDLE_MM, layer_mm), from_middle <= (front - back) / 4
    return Extrusion(_of_known(differences[central], np.mean), _of_known(differences[body], np.max)), ""


def _of_known(values: FloatArray, reduce: Callable[[FloatArray], float]) -> float | None:
    return float(reduce(values)) if values.size else None


def _surface_mm(label_map: LabelMap, name: str) -> FloatArray | None:
    """Points (N, 3) of a tissue's surface in world mm, None when the label is missing or empty."""
    tissue = label_map.tissues.by_name(name)
    if tissue is None or tissue.index not in label_map.boxes:
        return None
    box = box_around(label_map.boxes[tissue.index], label_map.grid.shape)
    return surface_of(label_map.values[box] == tissue.index, label_map.grid, box).points_mm


def _outermost(points_mm: FloatArray, outwards: float, layer_mm: float) -> dict[int, float]:
    """Coronal layer → largest distance outwards of the points in it."""
    layers = np.floor(points_mm[:, 1] / layer_mm).astype(np.int64)
    return {int(layer): float((points_mm[layers == layer, 0] * outwards).max()) for layer in np.unique(layers)}
