"""Measure label volumes that exist already, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msksam_cli.core.terminology import described
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError, UsageError
from msksam_cli.executor import Work
from msksam_cli.io.nifti import read_labels, read_map, read_volume, write_volume
from msksam_cli.io.tables import aligned_text, write_csv
from msksam_cli.measure.map_values import map_values
from msksam_cli.measure.morphometry import METRICS_COLUMNS, TissueMeasure, cut_notes, measure_tissues
from msksam_cli.measure.shapes import MORPHOMETRY_COLUMNS, Images, ShapeMeasure, measure_shapes, thicknesses_of
from msksam_cli.measure.thickness import thickness_map
from msksam_cli.pipeline.case_matching import Unusable, case_name, label_volumes, volumes_by_case
from msksam_cli.pipeline.executors import ExecutorOptions, spread
from msksam_cli.pipeline.label_matching import tissue_table
from msksam_cli.pipeline.map_options import DEFAULT_UNIT
from msksam_cli.pipeline.maps import map_volumes


@dataclass(frozen=True)
class MeasureOptions:
    """What to measure.

    Attributes:
        labels: folder of label volumes, run folder or one file.
        images: folder of images with the cases' names, or one file; None leaves intensities empty.
        fat: fat images of a Dixon scan, as `images`; with `water` they give muscles a fat fraction.
        water: water images of the same scan.
        output: folder for metrics.csv and morphometry.csv; None writes nothing.
        thickness_maps: write thickness/<case>.nii.gz, the thickness of cartilages at their voxels in mm.
        names: names of the label values, "1=femur,2=tibia" or a TSV file; "" looks for labels.tsv.
        maps: folder of quantitative maps with the cases' names, or one file; None leaves their columns empty.
        map_unit: unit of their values.
    """

    labels: Path
    images: Path | None = None
    output: Path | None = None
    names: str = ""
    fat: Path | None = None
    water: Path | None = None
    maps: Path | None = None
    map_unit: str = DEFAULT_UNIT
    thickness_maps: bool = False


@dataclass(frozen=True)
class Measurement:
    """What `run_measure` found.

    Attributes:
        measures: case and measure of each tissue, ordered by case and label.
        shapes: case and measure of the shape of each tissue, place by place, in the same order.
        refused: cases that could not be measured.
    """

    measures: tuple[tuple[str, TissueMeasure], ...]
    shapes: tuple[tuple[str, ShapeMeasure], ...]
    refused: tuple[Unusable, ...]

    @property
    def exit_code(self) -> int:
        """0 when every case was measured, else 3."""
        return 3 if self.refused else 0


@dataclass(frozen=True)
class _CaseFiles:
    """Files of one case; several of one kind are refused when the case is measured."""

    case: str
    labels: list[Path]
    image: list[Path]
    fat: list[Path]
    water: list[Path]
    on_map: list[Path]


@dataclass(frozen=True)
class _Measured:
    """The measures of one case."""

    measures: tuple[TissueMeasure, ...]
    shapes: tuple[ShapeMeasure, ...]


@dataclass(frozen=True)
class _MeasureWork:
    """The work on a case, for an executor to send.

    Attributes:
        options: of the run, with absolute paths where another process works.
        table: tissues of the label values, None for those of each volume.
    """

    options: MeasureOptions
    table: TissueTable | None

    def __call__(self, files: _CaseFiles) -> _Measured | Unusable:
        """The measures of a case, or why there are none; a fault of the machine is raised."""
        try:
            return _measure_case(files, self.table, self.options)
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            return Unusable(files.case, str(error))


def run_measure(options: MeasureOptions, where: ExecutorOptions | None = None) -> Measurement:
    """Measure every label volume and, with an output folder, write metrics.csv and morphometry.csv.

    Args:
        options: what is measured.
        where: cases are worked on, in this process when None.

    Raises:
        UsageError: a fat image without a water image, or the reverse, or thickness maps without an output folder.
        InputError: nothing could be measured.
        EnvironmentFault: a thickness map or a table cannot be written.
    """
    _refuse_halves(options)
    where = where or ExecutorOptions()
    options = options if where.is_local else _absolute(options)
    volumes = volumes_by_case(label_volumes(options.labels, "labels"))
    asked = {"images": options.images, "fat": options.fat, "water": options.water, "maps": options.maps}
    found = [_beside(folder, role, list(volumes)) for role, folder in asked.items()]
    named = tissue_table(options.names, options.labels)
    table = described(named) if named else None
    measures: list[tuple[str, TissueMeasure]] = []
    shapes: list[tuple[str, ShapeMeasure]] = []
    refused: list[Unusable] = []
    items = [_CaseFiles(c, volumes[c], *(beside.get(c, []) for beside in found)) for c in sorted(volumes)]
    results = spread(Work(_MeasureWork(options, table), _case_of), items, where, "measure")
    for case, result in zip(sorted(volumes), results, strict=True):
        if isinstance(result, _Measured):
            measures += [(case, measure) for measure in result.measures]
            shapes += [(case, shape) for shape in result.shapes]
        else:
            refused.append(Unusable(case, result.reason))
    if len(refused) == len(volumes):
        raise InputError(f"no case could be measured; {refused[0].case}: {refused[0].reason}")
    if options.output is not None:
        write_csv(options.output / "metrics.csv", METRICS_COLUMNS, (measure.row(case) for case, measure in measures))
        write_csv(options.output / "morphometry.csv", MORPHOMETRY_COLUMNS, (shape.row(case) for case, shape in shapes))
    return Measurement(tuple(measures), tuple(shapes), tuple(refused))


def measurement_text(measurement: Measurement) -> str:
    """Cases, tissues, status, volume and thickness in aligned columns, for a terminal."""
    columns = ("case", "tissue", "status", "volume mm³", "thickness mm", "mean intensity")
    rows = [
        (
            case,
            item.tissue,
            item.status.value,
            _number(item.volume_mm3),
            _number(item.thickness_mean_mm, 2),
            _number(item.mean_intensity),
        )
        for case, item in measurement.measures
    ]
    return aligned_text(columns, rows)


def _refuse_halves(options: MeasureOptions) -> None:
    if (options.fat is None) != (options.water is None):
        raise UsageError("a fat fraction needs fat and water images", "Give both --fat and --water")
    if options.thickness_maps and options.output is None:
        raise UsageError("thickness maps need an output folder", "Give --output")


def _beside(folder: Path | None, role: str, cases: Sequence[str]) -> dict[str, list[Path]]:
    """Case → files of a folder, or of the one file that belongs to the one case."""
    if folder is None:
        return {}
    found = map_volumes(folder) if role == "maps" else label_volumes(folder, role)
    if folder.is_file() and len(cases) == 1:
        return {cases[0]: found}
    return volumes_by_case(found)


def _case_of(files: _CaseFiles) -> str:
    return files.case


def _absolute(options: MeasureOptions) -> MeasureOptions:
    """The same with paths that begin at the root, for a process that works in another folder."""
    paths = ("labels", "images", "output", "fat", "water", "maps")
    given = {name: path.absolute() for name in paths if (path := getattr(options, name)) is not None}
    return replace(options, **given)


def _measure_case(files: _CaseFiles, table: TissueTable | None, options: MeasureOptions) -> _Measured:
    for paths in (files.labels, files.image, files.fat, files.water):
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise InputError(f"several files share the case name {case_name(paths[0].name)!r}: {names}", "Rename them")
    label_map, form = read_labels(files.labels[0], table)
    image, fat, water = (read_volume(paths[0])[0] if paths else None for paths in (files.image, files.fat, files.water))
    thicknesses = thicknesses_of(label_map)
    tissues = measure_tissues(label_map, image, thicknesses=thicknesses)
    if options.maps is not None:
        if len(files.on_map) != 1:
            raise InputError(f"{len(files.on_map)} maps have the case's name", "Give one map for each case")
        values = map_values(label_map, read_map(files.on_map[0], options.map_unit))
        tissues = tuple(replace(one, on_map=values.get(one.label, one.on_map)) for one in tissues)
    shapes = measure_shapes(label_map, thicknesses, Images(image, fat, water), notes=cut_notes(tissues))
    if options.thickness_maps and options.output is not None:
        cartilages = {index: thickness for index, thickness in thicknesses.items() if thickness.axis is None}
        volume = Volume(thickness_map(label_map, cartilages), label_map.grid)
        write_volume(options.output / "thickness" / f"{files.case}.nii.gz", volume, form)
    return _Measured(tissues, shapes)


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
