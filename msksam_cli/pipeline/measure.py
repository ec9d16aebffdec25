"""Measure label volumes that exist already, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import InputError, MsksamError
from msksam_cli.io.nifti import read_label_map, read_map, read_volume
from msksam_cli.io.tables import aligned_text, write_csv
from msksam_cli.measure.map_values import map_values
from msksam_cli.measure.morphometry import METRICS_COLUMNS, TissueMeasure, measure_tissues
from msksam_cli.pipeline.case_matching import Unusable, case_name, label_volumes, volumes_by_case
from msksam_cli.pipeline.label_matching import tissue_table
from msksam_cli.pipeline.map_options import DEFAULT_UNIT
from msksam_cli.pipeline.maps import map_volumes


@dataclass(frozen=True)
class MeasureOptions:
    """What to measure.

    Attributes:
        labels: folder of label volumes, run folder or one file.
        images: folder of images with the cases' names, or one file; None leaves intensities empty.
        output: folder for metrics.csv; None writes nothing.
        names: names of the label values, "1=femur,2=tibia" or a TSV file; "" looks for labels.tsv.
        maps: folder of quantitative maps with the cases' names, or one file; None leaves their columns empty.
        map_unit: unit of their values.
    """

    labels: Path
    images: Path | None = None
    output: Path | None = None
    names: str = ""
    maps: Path | None = None
    map_unit: str = DEFAULT_UNIT


@dataclass(frozen=True)
class Measurement:
    """What `run_measure` found.

    Attributes:
        measures: case and measure of each tissue, ordered by case and label.
        refused: cases that could not be measured.
    """

    measures: tuple[tuple[str, TissueMeasure], ...]
    refused: tuple[Unusable, ...]

    @property
    def exit_code(self) -> int:
        """0 when every case was measured, else 3."""
        return 3 if self.refused else 0


def run_measure(options: MeasureOptions) -> Measurement:
    """Measure every label volume and, with an output folder, write metrics.csv.

    Raises:
        InputError: nothing could be measured.
    """
    volumes = volumes_by_case(label_volumes(options.labels, "labels"))
    images = _beside(options.images, "images", list(volumes))
    maps = _beside(options.maps, "maps", list(volumes))
    table = tissue_table(options.names, options.labels)
    measures: list[tuple[str, TissueMeasure]] = []
    refused: list[Unusable] = []
    for case, files in tqdm(sorted(volumes.items()), desc="measure", unit="case", disable=None):
        try:
            found = _measure_case(files, images.get(case, []), table)
            if options.maps is not None:
                found = _with_map(found, files[0], maps.get(case, []), options.map_unit)
            measures += [(case, measure) for measure in found]
        except MsksamError as error:
            refused.append(Unusable(case, str(error)))
    if len(refused) == len(volumes):
        raise InputError(f"no case could be measured; {refused[0].case}: {refused[0].reason}")
    if options.output is not None:
        write_csv(options.output / "metrics.csv", METRICS_COLUMNS, (measure.row(case) for case, measure in measures))
    return Measurement(tuple(measures), tuple(refused))


def measurement_text(measurement: Measurement) -> str:
    """Cases, tissues, status and volume in aligned columns, for a terminal."""
    columns = ("case", "tissue", "status", "volume mm³", "mean intensity")
    rows = [
        (case, item.tissue, item.status.value, _number(item.volume_mm3), _number(item.mean_intensity))
        for case, item in measurement.measures
    ]
    return aligned_text(columns, rows)


def _beside(folder: Path | None, role: str, cases: Sequence[str]) -> dict[str, list[Path]]:
    """Case → files of a folder, or of the one file that belongs to the one case."""
    if folder is None:
        return {}
    found = map_volumes(folder) if role == "maps" else label_volumes(folder, role)
    if folder.is_file() and len(cases) == 1:
        return {cases[0]: found}
    return volumes_by_case(found)


def _measure_case(files: list[Path], images: list[Path], table: TissueTable | None) -> tuple[TissueMeasure, ...]:
    if len(files) > 1 or len(images) > 1:
        names = ", ".join(path.name for path in (files if len(files) > 1 else images))
        raise InputError(f"several files share the case name {case_name(files[0].name)!r}: {names}", "Rename them")
    label_map = read_label_map(files[0], table)
    volume = read_volume(images[0])[0] if images else None
    return measure_tissues(label_map, volume)


def _with_map(
    measures: tuple[TissueMeasure, ...], labels: Path, maps: list[Path], unit: str
) -> tuple[TissueMeasure, ...]:
    """Measures with what the case's map says of each tissue."""
    if len(maps) != 1:
        raise InputError(f"{len(maps)} maps have the case's name", "Give one map for each case")
    found = map_values(read_label_map(labels), read_map(maps[0], unit))
    return tuple(replace(one, on_map=found.get(one.label, one.on_map)) for one in measures)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
