"""The quantitative map of each case: given by the user, ready-made in the study, or fitted to the case's echoes."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from msksam_cli.core.quantity import QUANTITIES, Quantity, QuantityMap
from msksam_cli.core.series import Series
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError, SeriesError, UsageError
from msksam_cli.io.nifti import NiftiForm, read_map, write_volume
from msksam_cli.io.study import input_sha256, read_quantity, read_series
from msksam_cli.io.tables import write_json
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.map_values import MapValues, map_values
from msksam_cli.measure.relaxometry import FitStatus, RelaxationFit, fit_decay
from msksam_cli.pipeline.case_matching import case_name, label_volumes, volumes_by_case
from msksam_cli.pipeline.map_options import MapOptions

MAPS_FOLDER = "maps"
_RSQUARED = "_rsquared"
_LEAST_IMAGES: Mapping[Quantity, int] = {"T2map": 3, "T1rhomap": 3, "T2starmap": 4}
"""Images a decay is fitted to unasked; two or three gradient echoes are mostly for fat and water, or DESS."""
_MEMBER = re.compile(r"^(?P<head>.*?)[-_](?:echo|part)-?(?P<number>\d+)(?P<tail>.*)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class CaseMap:
    """The map of one case, or why there is none.

    Attributes:
        quantity_map: None when there is none.
        reason: why not; "" when there is one, and when nothing suggests that there should be.
        facts: where it is from and how the fit went, as plain values for run.json.
    """

    quantity_map: QuantityMap | None = None
    reason: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)

    def values(self, labels: LabelMap) -> dict[int, MapValues]:
        """What the map says of each tissue that has voxels; where there is none, why."""
        if self.quantity_map is not None:
            return map_values(labels, self.quantity_map)
        return {index: MapValues(reason=self.reason) for index in labels.tissues.indices} if self.reason else {}


@dataclass(frozen=True, eq=False)
class MapSource:
    """Where the maps of a study's cases come from.

    Attributes:
        options: what the user said.
        series: everything usable in the study, or of it what belongs to one case: its echoes and ready-made maps.
        files: case → files, when the user named any.
    """

    options: MapOptions
    series: tuple[Series, ...]
    files: Mapping[str, Sequence[Path]] | None = None

    def inputs_sha256(self, case: Series, inputs: str) -> str:
        """`inputs` joined with the hash of what the case's map is made of; `inputs` itself where there is no map."""
        given = [file_sha256(path) for path in self._files(case)]
        others = [input_sha256(one) for one in (*self._echoes(case), *self._ready_made(case)) if one is not case]
        parts = given if self.files is not None else others
        return hashlib.sha256(" ".join((inputs, *parts)).encode()).hexdigest() if parts else inputs

    def of_case(self, case: Series, volume: Volume) -> CaseMap:
        """The map on the case's grid: the user's own, else a fit of its echoes, else one that the study holds.

        A map that cannot be made leaves the labels as they are, and its reason stands in their rows.
        """
        try:
            if self.files is not None:
                return self._given(case, volume)
            echoes = self._echoes(case)
            if echoes:
                return self._fitted(case, volume, echoes)
            ready = self._ready_made(case)
            return self._taken(ready, volume) if ready else CaseMap()
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            return CaseMap(reason=f"no map: {error.message}")

    def _echoes(self, case: Series) -> list[Series]:
        group = [one for one in self.series if case.echo_group and one.echo_group == case.echo_group]
        timed = [one for one in group if one.echo_time_ms is not None and one.echo_time_ms >= 0]
        least = max(_LEAST_IMAGES.get(case.decay, math.inf), self.options.rules.least_images)
        if self.options.echo_times_ms or self.options.spin_lock_times_ms:
            least = self.options.rules.least_images
        return timed if case.decay and len(timed) >= least else []

    def _ready_made(self, case: Series) -> list[Series]:
        """Maps of the case's study on its grid; of NIfTI those whose name is the case's own, or its beginning."""
        grid, names = case.grid, f"{case_name(case.case)}_"
        return [
            one
            for one in self.series
            if one.is_map and one.kind == case.kind and one.study == case.study
            if one.kind == "dicom" or names.startswith(f"{case_name(one.case)}_")
            if grid and one.grid and grid.matches(one.grid)
        ]

    def _files(self, case: Series) -> Sequence[Path]:
        return (self.files or {}).get(case_name(case.case), [])

    def _given(self, case: Series, volume: Volume) -> CaseMap:
        files = self._files(case)
        if len(files) != 1:
            raise InputError(f"{len(files)} of the given maps have the case's name")
        found = read_map(files[0], self.options.unit)
        if not volume.grid.matches(found.grid):
            raise InputError("the given map lies on another grid than the image")
        return CaseMap(found, facts={"source": "given", "unit": found.unit})

    def _taken(self, ready: Sequence[Series], volume: Volume) -> CaseMap:
        found, _ = read_quantity(ready[0], self.options.unit)
        if not volume.grid.matches(found.grid):
            raise SeriesError("the study's map lies on another grid than the image")
        others = [one.case for one in ready[1:]]
        facts = {"source": ready[0].case, "quantity": found.quantity, "unit": found.unit, "not_measured": others}
        return CaseMap(found, facts=facts)

    def _fitted(self, case: Series, volume: Volume, echoes: Sequence[Series]) -> CaseMap:
        times_ms = [one.echo_time_ms for one in echoes if one.echo_time_ms is not None]
        volumes = [volume if one is case else read_series(one)[0] for one in echoes]
        strays = [one.case for one, other in zip(echoes, volumes, strict=True) if not volume.grid.matches(other.grid)]
        if strays:
            raise SeriesError(f"echoes lie on another grid: {', '.join(strays)}")
        fit = fit_decay(np.stack([one.intensities for one in volumes]), times_ms, self.options.rules)
        return CaseMap(
            QuantityMap(fit.time_ms, volume.grid, "ms", case.decay, fit.r2), facts=_facts(case, fit, times_ms)
        )


def map_source(options: MapOptions, series: Sequence[Series]) -> MapSource:
    """Where the maps come from; `series` as `timed_series` left them.

    Raises:
        InputError: the folder or file of maps does not exist or holds no volume.
    """
    if options.files is None:
        return MapSource(options, tuple(series))
    files = map_volumes(options.files)
    if options.files.is_file():
        cases = [case_name(one.case) for one in series if not one.is_map]
        return MapSource(options, tuple(series), dict.fromkeys(cases, files))
    return MapSource(options, tuple(series), volumes_by_case(files))


def case_maps(source: MapSource, cases: Sequence[Series]) -> list[MapSource]:
    """For each case the source narrowed to what belongs to it, so that it is small and quickly searched."""
    echoes: dict[str, list[Series]] = {}
    ready_made: dict[tuple[str, str], list[Series]] = {}
    for one in source.series:
        echoes.setdefault(one.echo_group, []).append(one)
        if one.is_map:
            ready_made.setdefault((one.kind, one.study), []).append(one)

    def narrowed(case: Series) -> MapSource:
        own = echoes[case.echo_group] if case.echo_group else []
        name = case_name(case.case)
        files = source.files and {name: source.files.get(name, [])}
        return replace(source, series=(*own, *ready_made.get((case.kind, case.study), ())), files=files)

    return [narrowed(case) for case in cases]


def map_volumes(path: Path) -> list[Path]:
    """The maps of a folder, or the one file; R² that lies beside a map is none.

    Raises:
        InputError: the path does not exist or holds no volume.
    """
    return [file for file in label_volumes(path, "maps") if _RSQUARED not in file.name]


def timed_series(series: Sequence[Series], options: MapOptions) -> tuple[Series, ...]:
    """The series with the times that the user gave: each set of as many volumes as times becomes one echo group.

    A set is volumes on one grid whose names differ in the number after `echo` or `part` alone, in order of that number.

    Raises:
        UsageError: no set has as many volumes as times were given.
    """
    times = options.echo_times_ms or options.spin_lock_times_ms
    if not times:
        return tuple(series)
    sets: dict[tuple[str, str], dict[int, Series]] = {}
    for one in series:
        if found := _MEMBER.match(one.case):
            sets.setdefault((found["head"], found["tail"]), {})[int(found["number"])] = one
    timed: dict[str, Series] = {}
    for (head, tail), members in sets.items():
        in_order = [members[number] for number in sorted(members)]
        grids = [one.grid for one in in_order if one.grid]
        if len(in_order) == len(times) == len(grids) and all(grids[0].matches(grid) for grid in grids):
            for one, time in zip(in_order, times, strict=True):
                decay: Quantity = "T1rhomap" if options.spin_lock_times_ms else one.decay or "T2map"
                timed[one.case] = replace(one, echo_group=f"{head}{tail}", echo_time_ms=time, decay=decay)
    if not timed:
        sizes = ", ".join(f"{head}{tail} {len(members)}" for (head, tail), members in sets.items()) or "none"
        raise UsageError(
            f"no set of volumes has {len(times)} members, as many as times were given; found: {sizes}",
            "Give one time for each volume",
        )
    return tuple(timed.get(one.case, one) for one in series)


def map_files(case: str) -> list[str]:
    """Every file below the run folder that a map of a case may be in."""
    ends = ("nii.gz", "json")
    return [
        *(f"{MAPS_FOLDER}/{case}_{suffix}.{end}" for suffix in QUANTITIES for end in ends),
        *(f"{MAPS_FOLDER}/{case}_{suffix}{_RSQUARED}.nii.gz" for suffix in QUANTITIES),
    ]


def write_case_map(folder: Path, case: str, found: CaseMap, form: NiftiForm) -> list[str]:
    """Write the map of a case, its R² and what is known about it; returns the files below the run folder.

    A map that the user gave, or of an unknown quantity, is not written again.
    """
    made = found.quantity_map
    if made is None or not made.quantity:
        return []
    stem = f"{MAPS_FOLDER}/{case}_{made.quantity}"
    write_volume(folder / f"{stem}.nii.gz", Volume(made.values, made.grid), form)
    write_json(
        folder / f"{stem}.json",
        {"Units": made.unit, **{key: value for key, value in found.facts.items() if key != "unit"}},
    )
    written = [f"{stem}.nii.gz", f"{stem}.json"]
    if made.r2 is not None:
        write_volume(folder / f"{stem}{_RSQUARED}.nii.gz", Volume(made.r2, made.grid), form)
        written.append(f"{stem}{_RSQUARED}.nii.gz")
    return written


def _facts(case: Series, fit: RelaxationFit, times_ms: Sequence[float]) -> dict[str, object]:
    return {
        "source": "fit",
        "quantity": case.decay,
        "unit": "ms",
        "times_ms": sorted(times_ms),
        "noise_sd": None if fit.noise_sd is None else round(fit.noise_sd, 3),
        **{f"voxels_{status.name.lower()}": fit.count(status) for status in FitStatus},
    }
