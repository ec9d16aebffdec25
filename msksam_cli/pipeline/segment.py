"""The main job: a study to label volumes, tables and a report.

scan → (per case) read → place → ask → encode → decode → fuse → measure → write → tables → report
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from msksam_cli import __version__
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.cores import cores
from msksam_cli.core.series import Refusal, Series, StudyScan
from msksam_cli.core.volume import Volume
from msksam_cli.embeddings import MemoryStore
from msksam_cli.errors import AtlasError, EnvironmentFault, InputError, MsksamError, UsageError
from msksam_cli.io.atomic import clean_temporaries, write_atomic
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.figures import write_overlay
from msksam_cli.io.nifti import NiftiForm, write_label_map, write_volume
from msksam_cli.io.prompt_files import write_prompts
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.io.study import read_series
from msksam_cli.io.tables import write_json
from msksam_cli.io.thickness_figure import Surface, thickness_png
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.pipeline.atlas_choice import AtlasChoice
from msksam_cli.pipeline.environment import package_versions
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.kept import Kept
from msksam_cli.pipeline.maps import CaseMap, MapSource, map_files, map_source, timed_series, write_case_map
from msksam_cli.pipeline.measured_case import measured_case, refuse_doubts
from msksam_cli.pipeline.networks import load_network, network_for
from msksam_cli.pipeline.prompt_source import PromptSource, case_inputs_sha256, given_prompts, prompt_source
from msksam_cli.pipeline.quality import quality_model
from msksam_cli.pipeline.replay_record import replay_section
from msksam_cli.pipeline.report import write_report
from msksam_cli.pipeline.report_cases import FIGURES_FOLDER
from msksam_cli.pipeline.review import chosen_cases
from msksam_cli.pipeline.run_exports import check_exports, exported_files, write_exports
from msksam_cli.pipeline.run_record import (
    CaseRecord,
    forget_case,
    is_done,
    read_record,
    read_records,
    setup_sha256,
    write_record,
    write_tables,
)
from msksam_cli.pipeline.scan import ScanOptions, file_records, nothing_usable, run_scan
from msksam_cli.pipeline.segment_case import Segmentation, Setup, Tally, segment_with_atlas, segment_with_prompts
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True)
class Segmented:
    """A case whose labels are written; `resumed` when an earlier run had done it."""

    case: str
    record: CaseRecord
    resumed: bool = False


@dataclass(frozen=True)
class Failed:
    """A case that could not be segmented, and why."""

    case: str
    reason: str


SeriesOutcome = Segmented | Failed


@dataclass(frozen=True, eq=False)
class SegmentRun:
    """What a run did.

    Attributes:
        folder: where its results are.
        scan: what the study held.
        outcomes: one per case of this shard, in order of case.
        planned: cases a dry run would have segmented, with what would be asked; what it would have refused is in
            `outcomes`.
        seconds: of the whole run.
        is_dry: whether nothing was done but planning.
        not_exported: what was asked for beside the labels and could not be written.
    """

    folder: Path
    scan: StudyScan
    outcomes: tuple[SeriesOutcome, ...]
    planned: tuple[str, ...] = ()
    seconds: float = 0.0
    is_dry: bool = False
    not_exported: tuple[Refusal, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when every image was segmented and all was written that was asked for, else 3."""
        failed = bool(self.not_exported) or any(isinstance(outcome, Failed) for outcome in self.outcomes)
        return 3 if failed or self.scan.refused or self.scan.count("refused") else 0


@dataclass(frozen=True, eq=False)
class _Job:
    """What every case of a run needs: where to write, what was asked, and with what."""

    folder: Path
    options: SegmentOptions
    source: PromptSource
    setup: Setup
    quality: QualityModel | None
    plain: Mapping[str, object]
    maps: MapSource

    @property
    def setup_sha256(self) -> str:
        return setup_sha256(self.plain)


def run_segment(options: SegmentOptions) -> SegmentRun:
    """Segment a study and leave everything `contract` promises in the output folder.

    Raises:
        InputError: nothing in the study is usable.
        UsageError: options contradict each other, name unknown things, or the folder holds another run's labels.
        ModelError: the model cannot be loaded.
        AtlasError: no atlas knows the tissues.
        EnvironmentFault: the disk or the device fails; what is done stays done.
    """
    started = time.monotonic()
    check_exports(options)
    scan = run_scan(ScanOptions(options.study, options.min_slices, options.use_form))
    if not scan.series:
        raise nothing_usable(scan)
    scan = replace(scan, series=timed_series(scan.series, options.maps))
    maps = map_source(options.maps, scan.series)
    part, parts = options.shard
    cases = chosen_cases(first_echoes(scan.series), options.only)[part - 1 :: parts]
    source = prompt_source(options)
    folder = options.output_folder
    if options.dry_run:
        plans = [_plan(series, source) for series in cases]
        planned = tuple(plan for plan in plans if isinstance(plan, str))
        refused = tuple(plan for plan in plans if isinstance(plan, Failed))
        return SegmentRun(folder, scan, refused, planned, time.monotonic() - started, is_dry=True)
    setup = _setup(options, source)
    quality = quality_model(options.model, setup.model)
    job = _Job(folder, options, source, setup, quality, _plain_setup(options, source, setup, quality), maps)
    _prepare_folder(folder, job.setup_sha256, options.overwrite, {one.case for one in cases} if options.only else None)
    write_tables(folder, source.tissues)
    outcomes: list[SeriesOutcome] = []
    for series in tqdm(cases, desc="cases", unit="case", disable=None):
        outcomes.append(_outcome(series, job))
        write_tables(folder, source.tissues)
    done = {outcome.case for outcome in outcomes if isinstance(outcome, Segmented)}
    missing = write_exports(folder, options, [one for one in cases if one.case in done], source.tissues)
    run = SegmentRun(folder, scan, tuple(outcomes), (), time.monotonic() - started, not_exported=missing)
    _write_run(run, job.plain, options.shard)
    write_report(folder, scan.series)
    return run


def first_echoes(series: Sequence[Series]) -> list[Series]:
    """The series to be segmented: no ready-made maps, and of several echoes only the shortest that can be used.

    It has the most signal, and the other echoes lie on the same grid, so that its labels are theirs.

    Raises:
        InputError: there are maps only.
    """
    images = [one for one in series if not one.is_map]
    if not images:
        raise InputError(
            f"the study holds only maps of a quantity ({len(series)})", "Give the images they were made from as well"
        )
    shortest: dict[str, Series] = {}
    for one in images:
        group = one.echo_group or one.case
        if group not in shortest or _echo_order(one) < _echo_order(shortest[group]):
            shortest[group] = one
    return [one for one in images if shortest[one.echo_group or one.case] is one]


def _echo_order(series: Series) -> float:
    return math.inf if series.echo_time_ms is None else series.echo_time_ms


def _plan(series: Series, source: PromptSource) -> str | Failed:
    """What would be asked of a case, without looking at its voxels."""
    if source.shelf is None:
        return f"{series.case}: {', '.join(tissue.name for tissue in source.tissues)}"
    try:
        headers = source.shelf.candidates(series.body_part)
    except AtlasError as error:
        return Failed(series.case, str(error))
    names = dict.fromkeys(t.name for header in headers for t in header.tissues.select(source.shelf.wanted))
    atlases = " or ".join(header.name for header in headers)
    return f"{series.case}: {', '.join(names)} by atlas {atlases}{', as fits best' if len(headers) > 1 else ''}"


def _outcome(series: Series, job: _Job) -> SeriesOutcome:
    """The study loop's one attempt at a case: its failure is recorded, a fault of the machine ends the run."""
    try:
        inputs = job.maps.inputs_sha256(series, case_inputs_sha256(series, job.source))
        record = read_record(job.folder, series.case)
        if not job.options.overwrite and is_done(record, job.folder, job.setup_sha256, inputs):
            return Segmented(series.case, record, resumed=True)
        forget_case(job.folder, series.case, _every_file(series.case))
        record = _segment_series(series, inputs, job)
        write_record(job.folder, record)
        return Segmented(series.case, record)
    except MsksamError as error:
        if error.exit_code == EnvironmentFault.exit_code:
            raise
        return Failed(series.case, str(error))


def _segment_series(series: Series, inputs: str, job: _Job) -> CaseRecord:
    before = Tally()
    with before.timed("read"):
        volume, form = read_series(series)
    with before.timed("choose"):
        kept = Kept.of(volume, job.setup.results)
        choice = job.source.shelf.choose(volume, kept) if job.source.shelf else None
    if choice:
        job = replace(job, setup=replace(job.setup, tissues=choice.tissues))
    job = replace(job, setup=replace(job.setup, model=network_for(volume, job.options, job.setup.model)))
    segmentation = _segmentation(_Case(series, volume, choice, kept), job)
    tally, placed, wanted = segmentation.tally, segmentation.placed, job.setup.tissues
    tally.seconds |= before.seconds
    with tally.timed("map"):
        on_map = job.maps.of_case(series, volume)
    with tally.timed("measure"):
        found = measured_case(series.case, volume, segmentation, wanted, quality=job.quality, on_map=on_map)
        if job.options.strict:
            refuse_doubts(found.flags)
    with tally.timed("write"):
        outputs = _write_case(_CaseFiles(series, volume, form, segmentation, choice, on_map, found.surfaces), job)
    return CaseRecord(
        case=series.case,
        setup_sha256=job.setup_sha256,
        input_sha256=inputs,
        outputs=outputs,
        metrics=[measure.row(series.case) for measure in found.tissues],
        flags=[flag.row(series.case) for flag in found.flags],
        slices=found.slices,
        shapes=[shape.row(series.case) for shape in found.shapes],
        fit=_fit(placed, choice) if placed and choice else {},
        seconds={stage: round(seconds, 3) for stage, seconds in tally.seconds.items()},
        slices_encoded=tally.slices_encoded,
        slices_cached=tally.slices_cached,
        prompts=len(segmentation.prompts),
        map=on_map.facts,
        device_memory=list(job.setup.model.memory_notes),
    )


def _fit(placed: PlacedAtlas, choice: AtlasChoice) -> dict[str, object]:
    """How the atlas lies and why it was taken, as plain values."""
    return {**asdict(placed.fit), "atlas": placed.atlas_name, "atlas_reason": choice.reason, "side": placed.side}


@dataclass(frozen=True, eq=False)
class _Case:
    """A volume that is read, the atlas chosen for it, and what is kept about it."""

    series: Series
    volume: Volume
    choice: AtlasChoice | None
    kept: Kept


def _segmentation(case: _Case, job: _Job) -> Segmentation:
    if case.choice:
        return segment_with_atlas(case.volume, case.choice.atlas, job.setup, case.kept)
    tally = Tally()
    with tally.timed("prompts"):
        prompts = given_prompts(case.series, case.volume, job.options, job.source)
    return segment_with_prompts(case.volume, prompts, job.setup, tally=tally)


@dataclass(frozen=True, eq=False)
class _CaseFiles:
    """What is written of a case."""

    series: Series
    volume: Volume
    form: NiftiForm
    segmentation: Segmentation
    choice: AtlasChoice | None
    on_map: CaseMap
    surfaces: tuple[Surface, ...]


def _write_case(case: _CaseFiles, job: _Job) -> dict[str, str]:
    """Write the files of a case; returns path below the run folder → sha256."""
    name, done, placed = case.series.case, case.segmentation, case.segmentation.placed
    provenance = {
        "case": name,
        "model": job.setup.model.name,
        "model_sha256": job.setup.model.weights_sha256,
        "atlas": placed.atlas_name if placed else "",
        "atlas_sha256": placed.atlas_sha256 if placed else "",
        "atlas_reason": case.choice.reason if case.choice else "",
        **replay_section(case.series, case.volume, job.setup, job.options.prompts.partition(":")[0], done.labels),
    }
    labels, prompts, figure, image, thickness = _case_files(name)
    write_label_map(job.folder / labels, done.labels, case.form)
    write_prompts(
        job.folder / prompts,
        done.prompts,
        done.iou_predictions,
        grid=case.volume.grid,
        tissues=job.setup.tissues,
        provenance=provenance,
    )
    write_overlay(job.folder / figure, case.volume, done.labels, title=name)
    written = [labels, prompts, figure, *write_case_map(job.folder, name, case.on_map, case.form)]
    if case.surfaces:
        content = thickness_png(case.surfaces)
        write_atomic(job.folder / thickness, lambda stream: stream.write(content))
        written.append(thickness)
    if case.series.kind == "dicom":
        write_volume(job.folder / image, case.volume, case.form)
        written.append(image)
    return {path: file_sha256(job.folder / path) for path in written}


def _case_files(case: str) -> tuple[str, str, str, str, str]:
    """Labels, prompts, figure, image and figure of thickness of a case below the run folder."""
    figure = f"{FIGURES_FOLDER}/{case}"
    return (
        f"labels/{case}.nii.gz",
        f"prompts/{case}.json",
        f"{figure}.png",
        f"images/{case}.nii.gz",
        f"{figure}-thickness.png",
    )


def _every_file(case: str) -> tuple[str, ...]:
    """All that a run may have written of a case, below the run folder."""
    return *_case_files(case), *map_files(case), *exported_files(case)


def _setup(options: SegmentOptions, source: PromptSource) -> Setup:
    model = load_network(options)
    return Setup(
        tissues=source.tissues,
        model=model,
        store=DiskStore(options.cache or cache_folder()) if options.use_cache else MemoryStore(),
        rules=fusion_rules(options.model, model),
        prompt_kind=options.prompt_kind,
        fusion=options.fusion,
        batch_size=options.batch_size,
        threads=cores(),
        results=ResultStore(options.cache or cache_folder()) if options.use_cache else None,
    )


def _plain_setup(
    options: SegmentOptions, source: PromptSource, setup: Setup, quality: QualityModel | None
) -> dict[str, object]:
    """Everything labels and tables depend on besides the input, as plain values without paths."""
    return {
        "msksam": __version__,
        "tissues": ",".join(tissue.name for tissue in source.tissues),
        "label_values": ",".join(str(index) for index in source.tissues.indices),
        "model": setup.model.name,
        "model_sha256": setup.model.weights_sha256,
        "encoder_sha256": setup.model.encoder_sha256,
        "device": setup.model.device.partition(":")[0],
        "runtime": setup.model.runtime,
        "precision": setup.model.precision,
        "encode_size": options.encode_size,
        "atlas": ",".join(source.shelf.names) if source.shelf else "",
        "prompts": options.prompts.partition(":")[0],
        "prompts_sha256": source.sha256,
        "prompt_kind": options.prompt_kind,
        "fusion": options.fusion,
        "rules": asdict(setup.rules),
        "quality": setup_sha256(asdict(quality)) if quality else "",
        "strict": options.strict,
        "use_form": options.use_form,
        "maps": options.maps.plain(),
    }


def _prepare_folder(folder: Path, setup_hash: str, overwrite: bool, only: set[str] | None) -> None:
    """Clear what a killed run left; refuse a folder with labels made another way, so that none is lost unasked.

    With `only` no labels of other cases are ever replaced.
    """
    if not folder.is_dir():
        return
    clean_temporaries(folder)
    others = [record.case for record in read_records(folder) if record.setup_sha256 != setup_hash]
    if others and not overwrite:
        raise UsageError(
            f"the output folder holds {len(others)} cases segmented with other options, tissues or model",
            "Choose another folder with -o, or replace them with --overwrite",
        )
    if only is not None and (spared := set(others) - only):
        raise UsageError(
            f"the output folder holds {len(spared)} cases segmented with other options that --only does not name",
            "Choose another folder with -o",
        )
    for case in others:
        forget_case(folder, case, _every_file(case))


def _write_run(run: SegmentRun, plain: Mapping[str, object], shard: tuple[int, int]) -> None:
    """Write run.json, or run-<I>-of-<N>.json for a shard."""
    part, parts = shard
    segmented = [outcome for outcome in run.outcomes if isinstance(outcome, Segmented)]
    failed = {outcome.case: outcome.reason for outcome in run.outcomes if isinstance(outcome, Failed)}
    refused = {refusal.where: refusal.reason for refusal in run.scan.refused} | failed
    first = {series.case for series in first_echoes(run.scan.series)}
    others = [series for series in run.scan.series if series.case not in first]
    unnamed = first - {outcome.case for outcome in run.outcomes} if parts == 1 else set()
    files = [
        replace(file, state="refused", reason=failed[file.case]) if file.case in failed else file
        for file in run.scan.files
    ]
    content = {
        "msksam": __version__,
        "versions": package_versions(),
        "options": {key: value for key, value in plain.items() if key != "msksam"},
        "shard": f"{part}/{parts}",
        "seconds": round(run.seconds, 3),
        "segmented": [
            {
                "case": outcome.case,
                "resumed": outcome.resumed,
                "seconds": dict(outcome.record.seconds),
                "slices_encoded": 0 if outcome.resumed else outcome.record.slices_encoded,
                "slices_cached": 0 if outcome.resumed else outcome.record.slices_cached,
                "prompts": outcome.record.prompts,
                "device_memory": list(outcome.record.device_memory),
                "fit": dict(outcome.record.fit),
                "map": dict(outcome.record.map),
                "outputs": dict(outcome.record.outputs),
            }
            for outcome in segmented
        ],
        "refused": [{"case": case, "reason": reason} for case, reason in refused.items()],
        "not_exported": [{"case": one.where, "reason": one.reason} for one in run.not_exported],
        "skipped": [
            {"case": one.case, "reason": "a map, not an image" if one.is_map else "its first echo's labels are its own"}
            for one in others
        ]
        + [{"case": case, "reason": "not named by --only"} for case in sorted(unnamed)],
        "files": file_records(files),
    }
    write_json(run.folder / ("run.json" if parts == 1 else f"run-{part}-of-{parts}.json"), content)
