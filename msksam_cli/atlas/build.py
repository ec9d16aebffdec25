"""An atlas from labelled cases: all brought to their mean shape, then averaged.

The labels drive the alignment, since a case's own labels are the best evidence of where its tissues are: each case is
painted with one grey level per tissue and the growing mean is placed on that painting by the affine and deformable
steps that place atlases on images. Averaging the cases' sizes and tilts keeps the atlas between them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.deform import Field, looked_up_voxels, no_displacement
from msksam_cli.atlas.evidence import Classes, class_means, normalised, tissue_classes
from msksam_cli.atlas.placement import bend_image
from msksam_cli.atlas.resampling import mirror_about_x, resample, world_aligned_grid
from msksam_cli.core.atlases import Atlas, Population
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import AtlasError, GridMismatchError

_ALIGN_SPACINGS = 2.0
_MARGIN_MM = 25.0
_ROUNDS = 2
_LEAST_COVERAGE = 0.5

Report = Callable[[str], object]
Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class AtlasCase:
    """One labelled case, thinned to what an atlas needs; see `atlas_case`.

    Attributes:
        volume: intensities 0…1; its `side` says whether to mirror it.
        labels: labels on the same grid.
        volumes_mm3: label value → volume of complete tissues, from the labels at full resolution.
        contrast: which template its image is averaged into.
    """

    volume: Volume
    labels: LabelMap
    volumes_mm3: Mapping[int, float]
    contrast: str = "mean"


@dataclass(frozen=True, eq=False)
class Alignment:
    """Cases with their maps from the atlas's space.

    Attributes:
        cases: mirrored where needed.
        atlas_to_case_mm: one (4, 4) map per case.
        fields: one displacement on `frame` per case, looked along before the map.
        frame: the atlas's grid.
        tissues: tissues that occur.
    """

    cases: tuple[AtlasCase, ...]
    atlas_to_case_mm: tuple[FloatArray, ...]
    fields: tuple[Field, ...]
    frame: Grid
    tissues: TissueTable


@dataclass(frozen=True, eq=False)
class Sums:
    """What cases add up to on the atlas's grid.

    Attributes:
        tissues: label value → (I, J, K) sum of memberships.
        images: contrast → (I, J, K) sum of intensities.
        seen: contrast → (I, J, K) number of cases that had image there.
    """

    tissues: Mapping[int, NDArray[np.float32]]
    images: Mapping[str, NDArray[np.float32]]
    seen: Mapping[str, NDArray[np.float32]]

    def plus(self, other: Sums, sign: float = 1.0) -> Sums:
        """The sum of both, or the difference with `sign` −1."""
        return Sums(
            _added(self.tissues, other.tissues, sign),
            _added(self.images, other.images, sign),
            _added(self.seen, other.seen, sign),
        )


def _added(
    first: Mapping[Key, NDArray[np.float32]], second: Mapping[Key, NDArray[np.float32]], sign: float
) -> dict[Key, NDArray[np.float32]]:
    nothing = np.float32(0)
    keys = dict.fromkeys((*first, *second))
    return {key: np.asarray(first.get(key, nothing) + np.float32(sign) * second.get(key, nothing)) for key in keys}


@dataclass(frozen=True)
class Naming:
    """What an atlas is called.

    Attributes:
        name: such as "knee-v1".
        body_part: lower case.
        side: the side the atlas shows, "" for parts without one.
    """

    name: str
    body_part: str = ""
    side: str = ""
    provenance: Mapping[str, object] = field(default_factory=dict)


def atlas_case(volume: Volume, labels: LabelMap, spacing_mm: float, contrast: str = "mean") -> AtlasCase:
    """A case thinned to `spacing_mm` where it is finer, its intensities scaled to 0…1.

    Raises:
        GridMismatchError: image and labels lie on different grids.
    """
    if volume.grid.shape != labels.grid.shape or not volume.grid.matches(labels.grid):
        raise GridMismatchError(
            f"image of shape {volume.grid.shape} and labels of shape {labels.grid.shape} do not share a grid",
            "Resample the labels onto their image",
        )
    scaled = normalised(volume.intensities, volume.window)
    steps = [max(1, int(spacing_mm / spacing)) for spacing in volume.grid.spacing_mm]
    part = tuple(slice((step - 1) // 2, None, step) for step in steps)
    values = labels.values[part]
    affine = volume.grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * steps
    affine[:3, 3] = volume.grid.to_world_mm([(step - 1) // 2 for step in steps])
    grid = Grid(values.shape, affine)
    thinned = replace(volume, intensities=resample(scaled, volume.grid, grid), grid=grid)
    return AtlasCase(thinned, LabelMap(values, grid, labels.tissues), tissue_volumes_mm3(labels), contrast)


def build_atlas(
    cases: Sequence[AtlasCase], naming: Naming, *, spacing_mm: float = 1.5, deformable: bool = True, threads: int = 1
) -> Atlas:
    """An atlas of the cases' mean shape.

    Args:
        cases: labelled cases; those whose side is known and differs from the atlas's are mirrored.
        naming: name, body part and side.
        spacing_mm: of the atlas's isotropic RAS+ grid.
        deformable: bend the cases onto the mean shape before averaging, which keeps the average sharp.
        threads: threads SimpleITK may use.

    Raises:
        AtlasError: there are no cases, or they share no tissue.
    """
    alignment = align_cases(cases, naming.side, spacing_mm=spacing_mm, deformable=deformable, threads=threads)
    sums = [case_sums(alignment, number) for number in range(len(alignment.cases))]
    return atlas_from_sums(alignment, total(sums), naming)


def align_cases(
    cases: Sequence[AtlasCase],
    side: str = "",
    *,
    spacing_mm: float = 1.5,
    deformable: bool = True,
    threads: int = 1,
    report: Report = str,
) -> Alignment:
    """All cases aligned with their mean shape; `report` is told each step.

    Raises:
        AtlasError: there are no cases, or they share no tissue.
    """
    tissues = _present_tissues(cases)
    sided = tuple(_mirrored_if_needed(case, side) for case in cases)
    reference = _reference(sided)
    frame = _frame(reference, spacing_mm)
    align_mm = _ALIGN_SPACINGS * spacing_mm
    coarse = frame.resampled(align_mm)
    maps = [_centroid_map(reference.labels, case.labels) for case in sided]
    mean = _mean_classes([reference], [np.eye(4)], tissues, coarse)
    for number in range(1, _ROUNDS + 1):
        report(f"affine round {number} of {_ROUNDS}")
        aligned = [_align(mean, case, start, align_mm) for case, start in zip(sided, maps, strict=True)]
        maps = _centred(aligned, frame)
        mean = _mean_classes(sided, maps, tissues, coarse)
    fields = tuple(no_displacement(frame) for _ in sided)
    if deformable:
        target = _mean_classes(sided, maps, tissues, frame)
        bent = []
        for number, (case, matrix) in enumerate(zip(sided, maps, strict=True), start=1):
            report(f"deformable, case {number} of {len(sided)}")
            bent.append(_bend_onto_mean(target, case, matrix, threads))
        fields = tuple(bent)
    return Alignment(sided, tuple(maps), fields, frame, tissues)


def case_sums(alignment: Alignment, number: int) -> Sums:
    """What one aligned case adds to the atlas."""
    case, frame = alignment.cases[number], alignment.frame
    voxels = _case_voxels(case, frame, alignment.atlas_to_case_mm[number], alignment.fields[number])
    image = ndimage.map_coordinates(case.volume.intensities, voxels, order=1, mode="nearest").astype(np.float32)
    top = np.array(case.volume.grid.shape)[:, None, None, None] - 0.5
    seen = np.all((voxels > -0.5) & (voxels < top), axis=0).astype(np.float32)
    shares = memberships(case.labels, voxels, alignment.tissues)
    return Sums(
        tissues={index: share * seen for index, share in shares.items()},
        images={case.contrast: image * seen},
        seen={case.contrast: seen},
    )


def total(sums: Sequence[Sums]) -> Sums:
    """All sums added up."""
    result = sums[0]
    for part in sums[1:]:
        result = result.plus(part)
    return result


def atlas_from_sums(alignment: Alignment, sums: Sums, naming: Naming) -> Atlas:
    """Means of what was summed; the atlas knows only places that half of the cases saw."""
    seen = np.sum(list(sums.seen.values()), axis=0)
    cases = float(seen.max())
    return Atlas(
        name=naming.name,
        body_part=naming.body_part,
        side=naming.side,
        grid=alignment.frame,
        templates={c: np.clip(v / np.maximum(sums.seen[c], 1e-3), 0, 1) for c, v in sorted(sums.images.items())},
        probabilities={i: np.clip(v / np.maximum(seen, 1.0), 0, 1) for i, v in sorted(sums.tissues.items())},
        tissues=alignment.tissues,
        populations=populations([case.volumes_mm3 for case in alignment.cases]),
        provenance=naming.provenance,
        support=seen >= _LEAST_COVERAGE * cases,
    )


def memberships(labels: LabelMap, voxels: NDArray[np.float32], tissues: TissueTable) -> dict[int, NDArray[np.float32]]:
    """Label value → (I, J, K) share of each tissue by trilinear interpolation at voxel coordinates (3, I, J, K).

    Beyond the labels' grid the shares are 0.
    """
    shape = voxels.shape[1:]
    rows = np.zeros(max(tissues.indices) + 1, dtype=np.int64)
    rows[list(tissues.indices)] = np.arange(1, len(tissues) + 1)
    padded = np.pad(rows[np.minimum(labels.values, len(rows) - 1)], 1)
    base = np.floor(voxels).astype(np.int64)
    rest = (voxels - base).reshape(3, -1)
    base = base.reshape(3, -1) + 1
    limits = np.array(padded.shape)[:, None] - 1
    shares = np.zeros((len(tissues) + 1) * rest.shape[1], dtype=np.float32)
    places = np.arange(rest.shape[1])
    for corner in np.ndindex(2, 2, 2):
        offset = np.array(corner)[:, None]
        i, j, k = np.clip(base + offset, 0, limits)
        weight = np.prod(np.where(offset == 1, rest, 1 - rest), axis=0)
        row = padded[i, j, k]
        used = row > 0
        shares[row[used] * rest.shape[1] + places[used]] += weight[used].astype(np.float32)
    stacked = shares.reshape(len(tissues) + 1, *shape)
    return {index: stacked[number] for number, index in enumerate(tissues.indices, start=1)}


def tissue_volumes_mm3(labels: LabelMap) -> dict[int, float]:
    """Label value → volume of tissues that do not touch the edge of the grid."""
    values = labels.values
    faces = [np.take(values, end, axis=axis) for axis in range(3) for end in (0, -1)]
    cut = set(np.unique(np.concatenate([face.ravel() for face in faces])).tolist())
    counts = np.bincount(values.ravel(), minlength=max(labels.tissues.indices) + 1)
    return {
        index: float(counts[index] * labels.grid.voxel_volume_mm3)
        for index in labels.tissues.indices
        if counts[index] and index not in cut
    }


def populations(volumes_mm3: Sequence[Mapping[int, float]]) -> dict[int, Population]:
    """How large each tissue is over the cases in which it is complete."""
    found: dict[int, list[float]] = {}
    for case in volumes_mm3:
        for index, volume in case.items():
            found.setdefault(index, []).append(volume)
    return {
        index: Population(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, len(v))
        for index, v in sorted(found.items())
    }


def painted_labels(labels: LabelMap) -> NDArray[np.float32]:
    """Labels (I, J, K) as grey levels 0…1 in which neighbouring label values differ clearly."""
    levels = np.zeros(max(labels.tissues.indices) + 1, dtype=np.float32)
    for index in labels.tissues.indices:
        levels[index] = 0.35 + 0.65 * ((index * 0.61803398875) % 1.0)
    return np.asarray(levels[labels.values])


def _present_tissues(cases: Sequence[AtlasCase]) -> TissueTable:
    if not cases:
        raise AtlasError("no labelled case to build an atlas from", "Give a folder with images/ and labels/")
    present = {int(value) for case in cases for value in np.unique(case.labels.values)} - {0}
    if not present:
        raise AtlasError("no case has any label", "Check the label files")
    return TissueTable(tuple(t for t in cases[0].labels.tissues if t.index in present))


def _mirrored_if_needed(case: AtlasCase, side: str) -> AtlasCase:
    if not side or not case.volume.side or case.volume.side == side:
        return case
    grid = Grid(case.volume.grid.shape, mirror_about_x(case.volume.grid.centre_mm) @ case.volume.grid.affine)
    return replace(
        case,
        volume=replace(case.volume, grid=grid, side=side),
        labels=LabelMap(case.labels.values, grid, case.labels.tissues),
    )


def _reference(cases: Sequence[AtlasCase]) -> AtlasCase:
    """Of the cases with most tissues, the one with the median labelled volume."""
    most = max(len(np.unique(case.labels.values)) for case in cases)
    full = [case for case in cases if len(np.unique(case.labels.values)) == most]
    ordered = sorted(full, key=lambda case: np.count_nonzero(case.labels.values) * case.labels.grid.voxel_volume_mm3)
    return ordered[len(ordered) // 2]


def _frame(reference: AtlasCase, spacing_mm: float) -> Grid:
    """A RAS+ grid round the reference's labels, with a margin as far as there is image."""
    grid = reference.labels.grid
    where = grid.to_world_mm(np.argwhere(reference.labels.values > 0))
    corners = grid.corners_mm()
    low = np.maximum(where.min(axis=0) - _MARGIN_MM, corners.min(axis=0))
    high = np.minimum(where.max(axis=0) + _MARGIN_MM, corners.max(axis=0))
    return world_aligned_grid(np.stack([low, high]), spacing_mm)


def _centroids_mm(labels: LabelMap) -> dict[int, FloatArray]:
    present = [int(v) for v in np.unique(labels.values) if v]
    centres = ndimage.center_of_mass(labels.values > 0, labels.values, present)
    return dict(zip(present, labels.grid.to_world_mm(np.array(centres)), strict=True))


def _centroid_map(source: LabelMap, target: LabelMap) -> FloatArray:
    """The shift that takes the source's tissue centroids to the target's, on average."""
    first, second = _centroids_mm(source), _centroids_mm(target)
    common = sorted(set(first) & set(second))
    if not common:
        raise AtlasError("two cases share no tissue", "Give cases with the same labels")
    matrix = np.eye(4)
    matrix[:3, 3] = np.mean([second[i] - first[i] for i in common], axis=0)
    return matrix


def _case_voxels(case: AtlasCase, frame: Grid, matrix: FloatArray, displacement: Field) -> NDArray[np.float32]:
    """(3, I, J, K) voxel coordinates in the case of each voxel of the atlas."""
    to_case = (np.linalg.inv(case.labels.grid.affine) @ matrix @ frame.affine).astype(np.float32)
    voxels = np.tensordot(to_case[:3, :3], looked_up_voxels(frame, displacement), axes=1)
    return np.asarray(voxels + to_case[:3, 3, None, None, None])


def _mean_classes(cases: Sequence[AtlasCase], maps: Sequence[FloatArray], tissues: TissueTable, frame: Grid) -> Classes:
    sums = {index: np.zeros(frame.shape, dtype=np.float32) for index in tissues.indices}
    for case, matrix in zip(cases, maps, strict=True):
        voxels = _case_voxels(case, frame, matrix, no_displacement(frame))
        for index, share in memberships(case.labels, voxels, tissues).items():
            sums[index] += share
    means = [ndimage.gaussian_filter(v / np.float32(len(cases)), 0.5) for v in sums.values()]
    return tissue_classes(means, np.ones(frame.shape, dtype=bool), frame)


def _align(mean: Classes, case: AtlasCase, start: FloatArray, spacing_mm: float) -> FloatArray:
    grid = world_aligned_grid(case.labels.grid.corners_mm(), spacing_mm)
    image = resample(painted_labels(case.labels), case.labels.grid, grid)
    matrix, _ = refine_affine(mean, image, grid, start, rigid=True)
    matrix, _ = refine_affine(mean, image, grid, matrix)
    return matrix


def _centred(maps: Sequence[FloatArray], frame: Grid) -> list[FloatArray]:
    """The maps after the atlas's space took their mean size and shear, so that it keeps no single case's."""
    _, values, right = np.linalg.svd(np.mean([matrix[:3, :3] for matrix in maps], axis=0))
    back = np.eye(4)
    back[:3, :3] = np.linalg.inv(right.T @ np.diag(values) @ right)
    back[:3, 3] = frame.centre_mm - back[:3, :3] @ frame.centre_mm
    return [matrix @ back for matrix in maps]


def _bend_onto_mean(mean: Classes, case: AtlasCase, matrix: FloatArray, threads: int) -> Field:
    """The displacement on the mean's grid that, before the affine map, takes the case's labels to the mean's."""
    image = resample(painted_labels(case.labels), case.labels.grid, mean.grid, matrix)
    means = class_means(mean.weights, image, np.ones_like(image))
    return bend_image(np.tensordot(means, mean.weights, axes=1), image, mean.grid, threads)
