"""Labelled sets that the benchmarks measure on: real ones beside the project, and images drawn from known anatomy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.tissues import Tissue, TissueTable, default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.phantom.acquisition import Anatomy, acquire
from msksam_cli.phantom.foreign import dressed
from msksam_cli.phantom.protocol import Protocol
from msksam_cli.phantom.regions import REGIONS, Region
from msksam_cli.phantom.sequences import SEQUENCES

PHANTOM_SEED = 990_000
"""Seeds from here on are for measuring; nothing that ships may be trained on them."""

PHANTOM_GROUPS = ("bone", "cartilage", "meniscus", "ligament", "muscle", "vertebra", "disc")
PHANTOM_SCANS = {
    "knee": (("pd-fs-tse", "sagittal", 0.5, 3.3), ("t1-tse", "coronal", 0.5, 3.5)),
    "hip": (("pd-fs-tse", "coronal", 0.9, 5.0), ("t1-tse", "axial", 0.9, 6.0)),
    "lumbar": (("t2-tse", "sagittal", 0.8, 4.5), ("t1-tse", "axial", 0.8, 7.0)),
    "shoulder": (("pd-fs-tse", "coronal", 0.6, 4.0), ("gre-t2-star", "axial", 0.6, 4.0)),
    "thigh": (("t1-tse", "axial", 0.9, 8.0), ("dixon-water", "axial", 1.2, 8.0)),
}
_PLANE_AXES = {"sagittal": (1, 2, 0), "coronal": (0, 2, 1), "axial": (0, 1, 2)}

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled volume.

    Attributes:
        name: unique in its set.
        volume: intensities, perhaps only some of its slices.
        labels: truth on the same grid.
        window: intensity window of the whole volume.
    """

    name: str
    volume: Volume
    labels: LabelMap
    window: tuple[float, float]


def thinned(case: Case, every: int) -> Case:
    """Every `every`-th slice of a case as a volume of its own, the middle one of each run; the window stays."""
    if every == 1:
        return case
    grid = case.volume.grid
    axis, first = grid.slice_axis, every // 2
    kept = [slice(None)] * 3
    kept[axis] = slice(first, None, every)
    values = case.labels.values[tuple(kept)]
    affine = grid.affine.copy()
    affine[:3, 3] += first * affine[:3, axis]
    affine[:3, axis] *= every
    thin = Grid((values.shape[0], values.shape[1], values.shape[2]), affine)
    volume = Volume(case.volume.intensities[tuple(kept)], thin, case.volume.side, case.volume.body_part)
    return Case(case.name, volume, LabelMap(values, thin, case.labels.tissues), case.window)


def knee(data: Path) -> Iterator[Case]:
    """Femur, tibia and patella of the real study."""
    (series,) = scan_study(data / "knee_bones_mr" / "study").series
    volume, _ = read_series(series)
    yield _case("knee", volume, data / "knee_bones_mr" / "labels.nii.gz", _table("bone", "femur", "tibia", "patella"))


def lumbar(data: Path) -> Iterator[Case]:
    """Vertebral bodies L1 to L5 of 16 subjects."""
    table = _table("vertebra", *(f"l{n}-vertebral-body" for n in range(1, 6)))
    yield from _folder(data / "lumbar_vertebrae_mr", table)


def tumours(data: Path) -> Iterator[Case]:
    """Soft-tissue sarcomas of 12 subjects."""
    yield from _folder(data / "extremity_tumour_t1", _table("other", "tumour"))


def dess(data: Path) -> Iterator[Case]:
    """Bones, cartilages and menisci of a real knee whose image is rendered, by four sequences in three planes."""
    names = (
        "femoral-cartilage", "medial-tibial-cartilage", "lateral-tibial-cartilage", "patellar-cartilage",
        "femur", "tibia", "patella", "fibula", "lateral-meniscus", "medial-meniscus",
    )  # fmt: skip
    known = {tissue.name: tissue for tissue in tissues_of("knee")}
    table = TissueTable(tuple(replace(known[name], index=n) for n, name in enumerate(names, start=1)))
    outlines = read_label_map(data / "knee_labels_dess" / "right_knee_labels.nii.gz", table)
    middle, subject = _middle_mm(outlines), dressed(outlines, 4_400)
    for seed, (sequence, plane, in_plane, spacing, slices) in enumerate(
        (
            ("dess", "sagittal", 0.45, 1.4, 72),
            ("pd-fs-tse", "sagittal", 0.45, 3.3, 30),
            ("t1-tse", "coronal", 0.5, 3.5, 26),
            ("t2-tse", "axial", 0.5, 3.5, 34),
        )
    ):
        protocol = Protocol(plane, in_plane, spacing, min(spacing, 3.0), slices, (140.0, 140.0), middle)
        volume, truth = acquire(subject, SEQUENCES[sequence], protocol, 4_400 + seed)
        yield rendered(f"{plane}-{sequence}", volume, _only(truth, table))


def phantoms(data: Path) -> Iterator[Case]:
    """Two people of each of the five regions, never drawn for training, in two scans each."""
    del data
    for number, region in enumerate(REGIONS.values()):
        for person in range(2):
            shape = region.sample(np.random.default_rng((PHANTOM_SEED, number, person)))
            anatomy = Anatomy(partial(region.label_map, shape), region.name, getattr(shape, "side", ""))
            for scan, (sequence, plane, in_plane, spacing) in enumerate(PHANTOM_SCANS[region.name]):
                protocol = _covering(region, plane, in_plane, spacing)
                seed = PHANTOM_SEED + 100 * number + 10 * person + scan
                volume, truth = acquire(anatomy, SEQUENCES[sequence], protocol, seed)
                asked = TissueTable(tuple(tissue for tissue in truth.tissues if tissue.group in PHANTOM_GROUPS))
                yield rendered(f"{region.name}-{person}-{sequence}", volume, _only(truth, asked))


def _covering(region: Region, plane: str, in_plane_mm: float, spacing_mm: float) -> Protocol:
    """Slices over the inner four fifths of a region's field of view, all of it in the plane."""
    first, last = np.array(region.first_mm), np.array(region.last_mm)
    width, height, depth = (float(v) for v in (last - first)[list(_PLANE_AXES[plane])])
    middle = tuple(float(v) for v in (first + last) / 2)
    thick = min(spacing_mm, 4.0)
    slices = max(4, round(0.8 * depth / spacing_mm))
    return Protocol(plane, in_plane_mm, spacing_mm, thick, slices, (width, height), (middle[0], middle[1], middle[2]))


def _only(truth: LabelMap, table: TissueTable) -> LabelMap:
    """The truth without the tissues that are not asked for."""
    asked = np.isin(truth.values, table.indices)
    return LabelMap(np.where(asked, truth.values, 0).astype(truth.values.dtype), truth.grid, table)


def _middle_mm(labels: LabelMap) -> tuple[float, float, float]:
    voxels = np.argwhere(labels.values > 0)
    x, y, z = labels.grid.to_world_mm((voxels.min(axis=0) + voxels.max(axis=0)) / 2)
    return float(x), float(y), float(z)


def _folder(folder: Path, table: TissueTable) -> Iterator[Case]:
    for image in sorted((folder / "images").glob("*.nii.gz")):
        volume, _ = read_volume(image)
        yield _case(image.name.removesuffix(".nii.gz"), volume, folder / "labels" / image.name, table)


def _case(name: str, volume: Volume, labels: Path, table: TissueTable) -> Case:
    truth = reordered_labels(read_label_map(labels, table), volume.grid)
    if truth is None:
        raise SystemExit(f"{name}: image and labels lie on different grids")
    return rendered(name, volume, truth)


def rendered(name: str, volume: Volume, labels: LabelMap) -> Case:
    """A case from a volume and its truth."""
    return Case(name, volume, labels, intensity_window(volume.intensities))


def _table(group: str, *names: str) -> TissueTable:
    colors = default_table(range(1, len(names) + 1))
    return TissueTable(
        tuple(Tissue(n, name, group=group, color=colors.by_index(n).color) for n, name in enumerate(names, start=1))
    )


SETS: Mapping[str, Callable[[Path], Iterator[Case]]] = {
    "lumbar": lumbar,
    "knee": knee,
    "tumours": tumours,
    "dess": dess,
    "phantoms": phantoms,
}
