"""Cartilage thickness in 3-D: from the bone–cartilage interface to the opposite surface.

Two thick bodies are compared, the bone and the bone with its cartilage, so that a thin plate is not washed out by the
smoothing that makes their surfaces smooth (see `isosurface`). From each element of the bone's surface that carries
cartilage a ray runs along the bone's normal to the first place where the second body ends; its length is the thickness.
The normal is that of the bone smoothed over two voxels, so that steps of slices do not tilt it. This is never less than
the distance to the nearest point of the articular surface (Stammberger et al. 1999, Magn Reson Med 41:529), and more
where that surface is not parallel to the bone; nearest points have the fault that all of a plate's rim, where the
opposite surface is the plate's own edge, comes out thin. Smoothing rounds the outermost voxel and a half of a plate;
samples there take the thickness of the nearest one further in. Cartilage that ends within about four voxels of a sharp
edge of the bone, where the smoothed normal turns, comes out thinner there.

The names of areas follow Eckstein et al. 2006 (Osteoarthritis Cartilage 14:974): bone covered by cartilage is cAB, bare
bone dAB, both together tAB. Bare bone is what the covered bone surface encloses. A defect that is open to the edge of
the plate cannot be told from bone that never had cartilage, by labels alone, and is not counted.

A seam of one voxel that belongs to neither bone nor cartilage counts as cartilage; where the gap is wider the bone is
bare.

Where no bone is labelled, the distance is taken from each element of the cartilage's own surface to the nearest one
that faces the other way, over both faces; elements of the rim, which have none within 60° of straight across, are left
out. Bare bone is then not known.

Labels that break up, because cartilage is thinner than a slice and lies along it, cannot be measured; their thickness
comes out too large, since only what reached a voxel centre is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.spatial import KDTree

from msksam_cli.core.boxed import Box3D
from msksam_cli.core.cores import cores, few_cores, spread_over_cores
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.isosurface import LEVEL, Elements, box_around, smoothed, surface_of

WITHOUT_BONE = "no bone touches this label: thickness is from face to face"
"""Reason of a thickness that was measured without a bone."""

_FACING_COSINE = 0.5
_NORMAL_VOXELS = 2.0
_RIM_VOXELS = 1.5
_REACH_MM = 15.0
_STRIDE_VOXELS = 0.5
_TURN_MM = 5.0
_LOOK_VOXELS = (0.5, 1.0, 1.5)
_CONTACT_VOXELS = 2
_LEAST_CONTACT = 0.05
_LEAF_SIZE = 40  # in six dimensions twice as fast to search as the 10 that suit three


@dataclass(frozen=True, eq=False)
class Thickness:
    """Thickness of one tissue, sampled over an area or a volume.

    Attributes:
        points_mm: (N, 3) places it was measured at, world mm.
        values_mm: (N,) thickness there, 0 on bare bone.
        areas_mm2: (N,) surface each place stands for: of the bone, or of the tissue when `on_bone` is false.
        covered: (N,) false on bare bone.
        on_bone: measured from a bone's surface.
        articular_mm2: area of the articular surface (AC), None without a bone.
        axis: (3,) unit vector it was measured along, None when each place has its own.
        reason: how it was measured where that needs saying, or why there is none, else "".
    """

    points_mm: FloatArray
    values_mm: FloatArray
    areas_mm2: FloatArray
    covered: NDArray[np.bool_]
    on_bone: bool = True
    articular_mm2: float | None = None
    axis: FloatArray | None = None
    reason: str = ""

    @property
    def mean_mm(self) -> float | None:
        """Mean over what carries cartilage (ThCcAB), None when nothing was measured."""
        values, weight = self._carrying
        return float(values @ weight / weight.sum()) if weight.size else None

    @property
    def sd_mm(self) -> float | None:
        """Standard deviation over what carries cartilage, None when nothing was measured."""
        mean = self.mean_mm
        if mean is None:
            return None
        values, weight = self._carrying
        return float(np.sqrt((values - mean) ** 2 @ weight / weight.sum()))

    def percentile_mm(self, percent: float) -> float | None:
        """The thickness below which this share of what carries cartilage lies; None when nothing was measured."""
        _, weight = self._carrying
        if not weight.size:
            return None
        return float(np.interp(percent / 100 * weight.sum(), *self._distribution))

    @property
    def mean_with_bare_mm(self) -> float | None:
        """Mean over covered and bare bone, which counts as 0 (ThCtAB); None without a bone."""
        if not self.on_bone or not self.areas_mm2.size:
            return None
        return float(self.values_mm @ self.areas_mm2 / self.areas_mm2.sum())

    @property
    def covered_mm2(self) -> float | None:
        """Area of bone that carries cartilage (cAB), None without a bone."""
        return float(self.areas_mm2[self.covered].sum()) if self.on_bone and self.areas_mm2.size else None

    @property
    def bare_mm2(self) -> float | None:
        """Area of bare bone enclosed by it (part of dAB), None without a bone."""
        return float(self.areas_mm2[~self.covered].sum()) if self.on_bone and self.areas_mm2.size else None

    @cached_property
    def _carrying(self) -> tuple[FloatArray, FloatArray]:
        """Thickness and area of what carries cartilage."""
        return self.values_mm[self.covered], self.areas_mm2[self.covered]

    @cached_property
    def _distribution(self) -> tuple[FloatArray, FloatArray]:
        """The area that carries thinner cartilage than a sample does, half its own included, and its thickness."""
        values, weight = self._carrying
        order = np.argsort(values)
        return np.cumsum(weight[order]) - weight[order] / 2, values[order]

    def where(self, chosen: NDArray[np.bool_]) -> Thickness:
        """The chosen samples only; their share of the articular surface is not known."""
        return replace(
            self,
            points_mm=self.points_mm[chosen],
            values_mm=self.values_mm[chosen],
            areas_mm2=self.areas_mm2[chosen],
            covered=self.covered[chosen],
            articular_mm2=None,
        )


def cartilage_thicknesses(label_map: LabelMap) -> dict[int, Thickness]:
    """Thickness of every label of the group cartilage that has voxels."""
    present = [tissue for tissue in label_map.tissues if tissue.index in label_map.boxes]
    cartilages = [tissue.index for tissue in present if tissue.group == "cartilage"]
    bones = [tissue.index for tissue in present if tissue.group == "bone"]
    found = spread_over_cores(lambda index: cartilage_thickness(label_map, index, bones), cartilages, few_cores())
    return dict(zip(cartilages, found, strict=True))


def cartilage_thickness(label_map: LabelMap, cartilage: int, bones: Sequence[int]) -> Thickness:
    """Thickness of one cartilage over the bone it touches most; local thickness when it touches none.

    Args:
        label_map: labels of cartilage and bones.
        cartilage: its label value, which has voxels.
        bones: label values of the bones.
    """
    grid = label_map.grid
    box = box_around(label_map.boxes[cartilage], grid.shape)
    values = label_map.values[box]
    mask = values == cartilage
    bone = _touching_bone(values, mask, bones)
    if bone is None:
        return _without_bone(mask, grid, box)
    return thickness_over_bone(values == bone, mask, grid, box)


def thickness_over_bone(
    bone: NDArray[np.bool_], cartilage: NDArray[np.bool_], grid: Grid, box: Box3D | None = None
) -> Thickness:
    """Thickness of a cartilage over a bone; both masks are cut out of the grid by the box, if there is one."""
    first = np.zeros(3) if box is None else np.array([part.start for part in box], dtype=np.float64)
    interface = surface_of(bone, grid, box)
    covered = _has_voxel(cartilage, grid, first, interface, outwards=True)
    if not covered.any():
        return no_thickness("no bone surface is covered")
    both = bone | cartilage | _between(bone, cartilage)
    outside = surface_of(both, grid, box)
    outside = outside.where(_has_voxel(cartilage, grid, first, outside, outwards=False))
    articular = outside.where(_faces_away(outside, interface.where(covered)))
    places = grid.to_voxel(interface.points_mm) - first
    values = np.zeros(len(interface))
    directions = _normals(bone, places[covered], grid)
    values[covered] = _to_end_mm(smoothed(both), places[covered], directions, grid)
    values[covered] = _from_further_in(values[covered], places[covered], places[~covered])
    plate = covered | _enclosed(interface, covered)
    inner = interface.where(plate)
    area = float(articular.areas_mm2.sum())
    return Thickness(inner.points_mm, values[plate], inner.areas_mm2, covered[plate], articular_mm2=area)


def thickness_map(label_map: LabelMap, thicknesses: Mapping[int, Thickness]) -> NDArray[np.float32]:
    """Thickness in mm (I, J, K) at every voxel of the measured tissues, that of the nearest sample; elsewhere 0."""
    made = np.zeros(label_map.grid.shape, dtype=np.float32)
    for index, thickness in thicknesses.items():
        if thickness.covered.any():
            voxels = label_map.boxed(index).voxels()
            _, nearest = KDTree(thickness.points_mm[thickness.covered]).query(label_map.grid.to_world_mm(voxels))
            made[tuple(voxels.T)] = thickness.values_mm[thickness.covered][nearest]
    return made


def _touching_bone(values: NDArray[np.integer], mask: NDArray[np.bool_], bones: Sequence[int]) -> int | None:
    """The bone with most voxels within two voxels of a mask, None when too few touch it for an interface."""
    if not bones:
        return None
    shell = ndimage.binary_dilation(mask, iterations=_CONTACT_VOXELS) & ~mask
    counts = np.bincount(values[shell], minlength=max(bones) + 1)
    best = max(bones, key=lambda index: counts[index])
    return best if counts[best] > _LEAST_CONTACT * counts.sum() else None


def _without_bone(mask: NDArray[np.bool_], grid: Grid, box: Box3D) -> Thickness:
    surface = surface_of(mask, grid, box)
    if not len(surface):
        return no_thickness("too few voxels for a surface")
    turned_round = np.hstack([surface.points_mm, -_TURN_MM * surface.normals])
    _, opposed = KDTree(turned_round, _LEAF_SIZE, balanced_tree=False).query(
        np.hstack([surface.points_mm, _TURN_MM * surface.normals]), workers=cores()
    )
    offsets = surface.points_mm[opposed] - surface.points_mm
    values = (offsets * surface.normals[opposed]).sum(axis=1)
    turned = (surface.normals * surface.normals[opposed]).sum(axis=1)
    faces = (turned < -_FACING_COSINE) & (values > _FACING_COSINE * np.linalg.norm(offsets, axis=1))
    if not faces.any():
        return no_thickness("no face of this label lies opposite another")
    surface, everywhere = surface.where(faces), np.ones(int(faces.sum()), dtype=bool)
    return Thickness(
        surface.points_mm, values[faces], surface.areas_mm2, everywhere, on_bone=False, reason=WITHOUT_BONE
    )


def no_thickness(reason: str) -> Thickness:
    """A thickness without samples, with the reason why there are none."""
    nothing = np.empty(0)
    return Thickness(np.empty((0, 3)), nothing, nothing, nothing.astype(bool), reason=reason)


def _between(bone: NDArray[np.bool_], cartilage: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of neither that have a face in common with both, such as a seam that a segmentation left open."""
    return np.asarray(ndimage.binary_dilation(bone) & ndimage.binary_dilation(cartilage) & ~bone & ~cartilage)


def _has_voxel(
    mask: NDArray[np.bool_], grid: Grid, first: FloatArray, elements: Elements, outwards: bool
) -> NDArray[np.bool_]:
    """Whether a voxel of a mask lies within a voxel and a half of each element, along its normal or against it."""
    start = grid.to_voxel(elements.points_mm) - first
    directions = elements.normals @ np.linalg.inv(grid.affine[:3, :3]).T * (1 if outwards else -1)
    directions /= np.abs(directions).max(axis=1, keepdims=True)
    found = np.zeros(len(elements), dtype=bool)
    for voxels in _LOOK_VOXELS:
        places = np.clip(np.rint(start + voxels * directions).astype(np.int64), 0, np.array(mask.shape) - 1)
        found |= mask[tuple(places.T)]
    return found


def _faces_away(outside: Elements, interface: Elements) -> NDArray[np.bool_]:
    """Which elements face, within 60°, where the nearest element of the interface faces."""
    _, nearest = KDTree(interface.points_mm).query(outside.points_mm, workers=cores())
    return np.asarray((outside.normals * interface.normals[nearest]).sum(axis=1) > _FACING_COSINE)


def _normals(mask: NDArray[np.bool_], places: FloatArray, grid: Grid) -> FloatArray:
    """Unit vectors (N, 3) in world directions out of a mask smoothed over two voxels, at places in its voxels."""
    field = mask.astype(np.float32)
    slopes = spread_over_cores(
        lambda order: ndimage.gaussian_filter(field, _NORMAL_VOXELS, order=order, mode="nearest"),
        [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    )
    gradient = np.stack([ndimage.map_coordinates(slope, places.T, order=1, mode="nearest") for slope in slopes], axis=1)
    outwards = -gradient @ np.linalg.inv(grid.affine[:3, :3])
    return np.asarray(outwards / np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-12))


def _to_end_mm(field: NDArray[np.float32], places: FloatArray, directions: FloatArray, grid: Grid) -> FloatArray:
    """Length in mm (N,) of rays from places in a smoothed mask to where it ends, NaN where that is out of reach."""
    stride_mm = _STRIDE_VOXELS * min(grid.spacing_mm)
    steps = directions @ np.linalg.inv(grid.affine[:3, :3]).T * stride_mm
    lengths = np.full(len(places), np.nan)
    before = ndimage.map_coordinates(field, places.T, order=1, mode="nearest")
    lengths[before <= LEVEL] = 0.0
    going = np.flatnonzero(before > LEVEL)
    for number in range(1, int(_REACH_MM / stride_mm) + 1):
        if not going.size:
            break
        now = ndimage.map_coordinates(field, (places[going] + number * steps[going]).T, order=1, mode="nearest")
        ends = now <= LEVEL
        last = before[going]
        passed = number - 1 + (last - LEVEL) / np.where(ends, last - now, 1.0)
        lengths[going[ends]] = passed[ends] * stride_mm
        before[going] = now
        going = going[~ends]
    return lengths


def _from_further_in(values: FloatArray, places: FloatArray, bare: FloatArray) -> FloatArray:
    """Values (N,) with those near bare places, and those that are NaN, taken from the nearest of the others.

    Where there are no others they stay, NaN as 0.
    """
    known = np.isfinite(values)
    if len(bare):
        distance, _ = KDTree(bare).query(places, workers=cores())
        known &= distance >= _RIM_VOXELS
    if not known.any():
        return np.nan_to_num(values)
    _, nearest = KDTree(places[known]).query(places, workers=cores())
    return np.asarray(np.where(known, values, values[known][nearest]))


def _enclosed(interface: Elements, covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Uncovered elements in pieces that border on covered ones only, the largest uncovered piece aside."""
    corners = interface.corners
    bare = np.flatnonzero(~covered)
    if not bare.size:
        return np.zeros(len(covered), dtype=bool)
    vertices = int(corners.max()) + 1
    first, second = np.repeat(corners[bare, 0], 3), corners[bare, 1:].ravel()
    joined = sparse.coo_matrix((np.ones(len(first), bool), (first, second)), shape=(vertices, vertices))
    _, piece_of_vertex = sparse.csgraph.connected_components(joined, directed=False)
    piece = piece_of_vertex[corners[:, 0]]
    area = np.bincount(piece[bare], interface.areas_mm2[bare])
    open_pieces = set(piece_of_vertex[_rim_vertices(corners)].tolist()) | {int(area.argmax())}
    return np.asarray(~covered & ~np.isin(piece, list(open_pieces)))


def _rim_vertices(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices on the edge of an open surface: those of quadrilateral sides that belong to one element only."""
    others, vertices = np.roll(corners, -1, axis=1), int(corners.max()) + 1
    numbers = np.minimum(corners, others) * vertices + np.maximum(corners, others)
    unique, count = np.unique(numbers, return_counts=True)
    return np.unique(np.divmod(unique[count == 1], vertices))
