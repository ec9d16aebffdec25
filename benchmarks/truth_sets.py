"""Labelled sets that the benchmarks measure on: real ones beside the project, and images drawn from known anatomy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.geometry import Grid
from msksam_cli.core.slicing import intensity_window
from msksam_cli.core.tissues import Tissue, TissueTable, default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.measure.regrid import reordered_labels

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


SETS: Mapping[str, Callable[[Path], Iterator[Case]]] = {"lumbar": lumbar, "knee": knee, "tumours": tumours}
