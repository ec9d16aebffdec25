"""An atlas from labelled cases: all brought to their mean shape, then averaged.

The labels drive the alignment, since a case's own labels are the best evidence of where its tissues are: each case is
painted with one grey level per tissue and the growing atlas is placed on that painting by the affine and deformable
steps that place it on images later. Averaging the cases' transforms keeps the atlas at the mean size and pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.atlas.affine import refine_affine
from msksam_cli.atlas.deform import looked_up
from msksam_cli.atlas.evidence import Classes, class_means, normalised, tissue_classes
from msksam_cli.atlas.placement import bend_image, on_spacing
from msksam_cli.atlas.resampling import coverage, mirror_about_x, resample, world_aligned_grid
from msksam_cli.core.atlases import Atlas, Population
from msksam_cli.core.geometry import FloatArray, Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import AtlasError, GridMismatchError

_ALIGN_MM = 3.0
_MARGIN_MM = 30.0
_ROUNDS = 2
_LEAST_COVERAGE = 0.5


@dataclass(frozen=True, eq=False)
class AtlasCase:
    """One labelled case.

    Attributes:
        volume: intensities; its `side` says whether to mirror it.
        labels: labels on the same grid.
        contrast: which template its image is averaged into.
    """

    volume: Volume
    labels: LabelMap
    contrast: str = "mean"


@dataclass(frozen=True, eq=False)
class _Aligned:
    """A case with its map from the atlas's space."""

    case: AtlasCase
    atlas_to_case_mm: FloatArray


def build_atlas(
    cases: Sequence[AtlasCase], name: str, body_part: str, *, side: str = "", spacing_mm: float = 1.5,
    deformable: bool = True, threads: int = 1,
) -> Atlas:
    """An atlas of the cases' mean shape.

    Args:
        cases: labelled cases; those whose side is known and differs from `side` are mirrored.
        name: of the atlas.
        body_part: lower case.
        side: the side the atlas will show, "" for parts without one.
        spacing_mm: of the atlas's isotropic RAS+ grid.
        deformable: bend the cases onto the mean shape before averaging, which keeps the average sharp.
        threads: threads SimpleITK may use.

    Raises:
        AtlasError: there are no cases, or no tissue is common to them.
        GridMismatchError: a case's image and labels lie on different grids.
    """
    tissues = _checked_tissues(cases)
    sided = [_mirrored_if_needed(case, side) for case in cases]
    reference = _reference(sided)
    frame = _frame(reference, spacing_mm)
    aligned = [_Aligned(case, _centroid_map(reference.labels, case.labels)) for case in sided]
    mean = _average([reference], [np.eye(4)], tissues, on=frame)
    for _ in range(_ROUNDS):
        aligned = [_Aligned(a.case, _align(mean, a, tissues)) for a in aligned]
        aligned = _centred(aligned, frame)
        mean = _average([a.case for a in aligned], [a.atlas_to_case_mm for a in aligned], tissues, on=frame)
    fields = [_bend_onto_case(mean, a, tissues, threads) if deformable else None for a in aligned]
    return _finished(aligned, fields, tissues, frame, name, body_part, side)


def tissue_volumes_mm3(labels: LabelMap) -> dict[int, float]:
    """Label value → volume of tissues that do not touch the edge of the grid."""
    values = labels.values
    rim = np.ones(values.shape, dtype=bool)
    rim[1:-1, 1:-1, 1:-1] = False
    cut = set(np.unique(values[rim]).tolist())
    counts = np.bincount(values.ravel(), minlength=max(labels.tissues.indices) + 1)
    return {
        index: float(counts[index] * labels.grid.voxel_volume_mm3)
        for index in labels.tissues.indices
        if counts[index] and index not in cut
    }


def painted_labels(labels: LabelMap) -> NDArray[np.float32]:
    """Labels (I, J, K) as grey levels 0…1 in which neighbouring label values differ clearly."""
    levels = np.zeros(max(labels.tissues.indices) + 1, dtype=np.float32)
    for index in labels.tissues.indices:
        levels[index] = 0.35 + 0.65 * ((index * 0.61803398875) % 1.0)
    return np.asarray(levels[labels.values])


def _checked_tissues(cases: Sequence[AtlasCase]) -> TissueTable:
    if not cases:
        raise AtlasError("no labelled case to build an atlas from", "Give a folder with images/ and labels/")
    for number, case in enumerate(cases, start=1):
        if not case.volume.grid.matches(case.labels.grid):
            raise GridMismatchError(f"image and labels of case {number} lie on different grids")
    present = {int(value) for case in cases for value in np.unique(case.labels.values)} - {0}
    if not present:
        raise AtlasError("no case has any label", "Check the label files")
    table = cases[0].labels.tissues
    return TissueTable(tuple(t for t in table if t.index in present))


def _mirrored_if_needed(case: AtlasCase, side: str) -> AtlasCase:
    if not side or not case.volume.side or case.volume.side == side:
        return case
    grid = Grid(case.volume.grid.shape, mirror_about_x(case.volume.grid.centre_mm) @ case.volume.grid.affine)
    volume = Volume(case.volume.intensities, grid, side, case.volume.body_part)
    return AtlasCase(volume, LabelMap(case.labels.values, grid, case.labels.tissues), case.contrast)


def _reference(cases: Sequence[AtlasCase]) -> AtlasCase:
    """The case with most tissues and, among those, the median labelled volume."""
    most = max(len(np.unique(case.labels.values)) for case in cases)
    full = [case for case in cases if len(np.unique(case.labels.values)) == most]
    ordered = sorted(full, key=lambda case: np.count_nonzero(case.labels.values) * case.labels.grid.voxel_volume_mm3)
    return ordered[len(ordered) // 2]


def _frame(reference: AtlasCase, spacing_mm: float) -> Grid:
    where = np.argwhere(reference.labels.values > 0)
    box = np.stack(np.meshgrid(*np.stack([where.min(0), where.max(0)], axis=1), indexing="ij"), -1).reshape(-1, 3)
    return world_aligned_grid(reference.labels.grid.to_world_mm(box), spacing_mm, _MARGIN_MM)


def _centroids_mm(labels: LabelMap) -> dict[int, FloatArray]:
    present = [int(v) for v in np.unique(labels.values) if v]
    centres = ndimage.center_of_mass(labels.values > 0, labels.values, present)
    return dict(zip(present, labels.grid.to_world_mm(np.array(centres)), strict=True))


def _centroid_map(source: LabelMap, target: LabelMap) -> FloatArray:
    """The shift that takes the source's tissue centroids to the target's, on average."""
    first, second = _centroids_mm(source), _centroids_mm(target)
    common = sorted(set(first) & set(second))
    matrix = np.eye(4)
    if not common:
        raise AtlasError("two cases share no tissue", "Give cases with the same labels")
    matrix[:3, 3] = np.mean([second[i] - first[i] for i in common], axis=0)
    return matrix


def _label_classes(mean: Atlas) -> Classes:
    support = np.ones(mean.grid.shape, dtype=bool)
    return tissue_classes([mean.probabilities[i] for i in mean.tissues.indices], support, mean.grid)


def _align(mean: Atlas, aligned: _Aligned, tissues: TissueTable) -> FloatArray:
    labels = aligned.case.labels
    grid = world_aligned_grid(labels.grid.corners_mm(), _ALIGN_MM)
    image = resample(painted_labels(labels), labels.grid, grid)
    classes = on_spacing(_label_classes(mean), _ALIGN_MM)
    matrix, _ = refine_affine(classes, image, grid, aligned.atlas_to_case_mm, rigid=True)
    matrix, _ = refine_affine(classes, image, grid, matrix)
    return matrix


def _centred(aligned: list[_Aligned], frame: Grid) -> list[_Aligned]:
    """The maps after the atlas's space has been moved to their mean, so that it keeps no case's size and tilt."""
    linear = np.mean([a.atlas_to_case_mm[:3, :3] for a in aligned], axis=0)
    turn, size = _polar(linear)
    del turn
    centre = frame.centre_mm
    back = np.eye(4)
    back[:3, :3] = np.linalg.inv(size)
    back[:3, 3] = centre - back[:3, :3] @ centre
    return [_Aligned(a.case, a.atlas_to_case_mm @ back) for a in aligned]


def _polar(linear: FloatArray) -> tuple[FloatArray, FloatArray]:
    left, values, right = np.linalg.svd(linear)
    return left @ right, right.T @ np.diag(values) @ right


def _average(
    cases: Sequence[AtlasCase], maps: Sequence[FloatArray], tissues: TissueTable, on: Grid
) -> Atlas:
    """Mean probabilities without images, for alignment."""
    probabilities = {i: np.zeros(on.shape, dtype=np.float32) for i in tissues.indices}
    seen = np.zeros(on.shape, dtype=np.float32)
    for case, matrix in zip(cases, maps, strict=True):
        seen += coverage(case.labels.grid, on, matrix)
        for index in tissues.indices:
            probabilities[index] += resample(case.labels.mask(index).astype(np.float32), case.labels.grid, on, matrix)
    for index in tissues.indices:
        probabilities[index] /= np.maximum(seen, 1.0)
    return Atlas("", "", "", on, {}, probabilities, tissues)


def _bend_onto_case(
    mean: Atlas, aligned: _Aligned, tissues: TissueTable, threads: int
) -> NDArray[np.float32]:
    """Displacement (3, I, J, K), in voxels of the atlas's grid, from the mean shape to the affinely aligned case."""
    case = aligned.case
    image = resample(painted_labels(case.labels), case.labels.grid, mean.grid, aligned.atlas_to_case_mm)
    means = class_means(_label_classes(mean).weights, image, np.ones_like(image))
    painted = np.tensordot(means, _label_classes(mean).weights, axes=1)
    return bend_image(painted, image, mean.grid, threads)


def _finished(
    aligned: Sequence[_Aligned], fields: Sequence[NDArray[np.float32] | None], tissues: TissueTable, frame: Grid,
    name: str, body_part: str, side: str,
) -> Atlas:
    probabilities = {i: np.zeros(frame.shape, dtype=np.float32) for i in tissues.indices}
    contrasts = sorted({a.case.contrast for a in aligned})
    templates = {c: np.zeros(frame.shape, dtype=np.float32) for c in contrasts}
    seen_by = {c: np.zeros(frame.shape, dtype=np.float32) for c in contrasts}
    for item, field in zip(aligned, fields, strict=True):
        case, matrix = item.case, item.atlas_to_case_mm
        window = intensity_window(case.volume.intensities)
        image = _pull(normalised(case.volume.intensities, window), case.volume.grid, frame, matrix, field)
        covered = _pull(np.ones(case.volume.grid.shape, dtype=np.float32), case.volume.grid, frame, matrix, field)
        templates[case.contrast] += image * covered
        seen_by[case.contrast] += covered
        for index in tissues.indices:
            mask = case.labels.mask(index).astype(np.float32)
            probabilities[index] += _pull(mask, case.labels.grid, frame, matrix, field)
    seen = sum(seen_by.values(), np.zeros(frame.shape, dtype=np.float32))
    for index in tissues.indices:
        probabilities[index] /= np.maximum(seen, 1.0)
    for contrast in contrasts:
        templates[contrast] /= np.maximum(seen_by[contrast], 1e-3)
    return Atlas(
        name=name,
        body_part=body_part,
        side=side,
        grid=frame,
        templates=templates,
        probabilities=probabilities,
        tissues=tissues,
        populations=populations([a.case.labels for a in aligned]),
        provenance={"cases": len(aligned), "spacing_mm": frame.spacing_mm[0], "deformable": fields[0] is not None},
        support=seen >= _LEAST_COVERAGE * len(aligned),
    )


def _pull(
    values: NDArray[np.float32], source: Grid, frame: Grid, matrix: FloatArray, field: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    straight = resample(values, source, frame, matrix)
    if field is None:
        return straight
    return looked_up(straight, frame, field)


def populations(label_maps: Sequence[LabelMap]) -> dict[int, Population]:
    """How large each tissue is over the cases in which it is complete."""
    volumes: dict[int, list[float]] = {}
    for labels in label_maps:
        for index, volume in tissue_volumes_mm3(labels).items():
            volumes.setdefault(index, []).append(volume)
    return {
        index: Population(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else 0.0, len(v))
        for index, v in sorted(volumes.items())
    }
