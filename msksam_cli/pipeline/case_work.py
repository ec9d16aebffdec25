"""One case of a study, as work that this process or another does: from its files to labels, tables and a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from msksam_cli import __version__
from msksam_cli.core.atlases import PlacedAtlas
from msksam_cli.core.cores import cores
from msksam_cli.core.series import Series
from msksam_cli.core.volume import Volume
from msksam_cli.embeddings import MemoryStore
from msksam_cli.errors import EnvironmentFault, MsksamError, UnlikeOthers
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.nifti import NiftiForm
from msksam_cli.io.privacy import install_privacy_filter
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.pipeline.atlas_choice import AtlasChoice
from msksam_cli.pipeline.case_files import CaseFiles, every_file, write_case_files
from msksam_cli.pipeline.environment import package_versions
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.kept import Kept
from msksam_cli.pipeline.measured_case import measured_case, refuse_doubts
from msksam_cli.pipeline.networks import load_network, network_for
from msksam_cli.pipeline.prompt_source import PromptSource, case_inputs_sha256, given_prompts, prompt_source
from msksam_cli.pipeline.quality import quality_model
from msksam_cli.pipeline.reading import CaseItem
from msksam_cli.pipeline.run_record import CaseRecord, forget_case, is_done, read_record, setup_sha256, write_record
from msksam_cli.pipeline.segment_case import Segmentation, Setup, Tally, segment_with_atlas, segment_with_prompts
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True)
class Segmented:
    """A case whose labels are written; `resumed` when an earlier run had done it."""

    case: str
    folder: Path
    resumed: bool = False

    @property
    def record(self) -> CaseRecord:
        """What is known about it, from the run folder.

        Raises:
            EnvironmentFault: it has gone since.
        """
        record = read_record(self.folder, self.case)
        if record is None:
            raise EnvironmentFault(f"the record of {self.case} is gone or damaged", "Run the same command again")
        return record


@dataclass(frozen=True)
class Failed:
    """A case that could not be segmented, and why."""

    case: str
    reason: str


SeriesOutcome = Segmented | Failed


@dataclass(frozen=True)
class JobFacts:
    """What must be equal wherever cases of one run are worked on.

    Attributes:
        plain: everything labels and tables depend on besides the input, as plain values without paths.
        versions: package → version.
    """

    plain: Mapping[str, object]
    versions: Mapping[str, str]

    @property
    def setup_sha256(self) -> str:
        """Hash of what labels and tables depend on besides the input."""
        return setup_sha256(self.plain)

    def difference(self, other: JobFacts) -> str:
        """The first thing in which two differ, with both values; "" when none does."""
        mine, others = {**self.versions, **self.plain}, {**other.versions, **other.plain}
        names = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
        return f"{names[0]} {mine.get(names[0])} and {others.get(names[0])}" if names else ""


@dataclass(frozen=True, eq=False)
class Job:
    """What every case of a run needs: what was asked, and with what.

    Attributes:
        options: of the run.
        source: of prompts.
        setup: what cases share.
        quality: what tells the expected Dice, None without.
        facts: what another worker's job must share.
    """

    options: SegmentOptions
    source: PromptSource
    setup: Setup
    quality: QualityModel | None
    facts: JobFacts

    @property
    def folder(self) -> Path:
        """Where results go."""
        return self.options.output_folder

    def for_case(self, volume: Volume, choice: AtlasChoice | None) -> Job:
        """The same with the tissues that the atlas of a case knows, and the network for its slices."""
        setup = replace(self.setup, model=network_for(volume, self.options, self.setup.model))
        return replace(self, setup=replace(setup, tissues=choice.tissues) if choice else setup)


@dataclass(frozen=True)
class CaseWork:
    """The work on a case, for an executor to send.

    Attributes:
        options: of the run, with absolute paths where another process works.
        agreed: what all workers must share.
    """

    options: SegmentOptions
    agreed: JobFacts

    def __call__(self, item: CaseItem) -> SeriesOutcome:
        """The one attempt at a case: its failure is its result, a fault of the machine is raised.

        Raises:
            EnvironmentFault: the disk or the device fails, or this worker differs from those the run began with.
        """
        job = shared_job(self.options)
        if difference := self.agreed.difference(job.facts):
            raise UnlikeOthers(f"it is not like the run's first workers: {difference}", "Give it their environment")
        try:
            inputs = case_inputs(item, job)
            if done := earlier(item, job, self.agreed.setup_sha256, inputs):
                return done
            forget_case(job.folder, item.case, every_file(item.case))
            write_record(job.folder, _segment_series(item, inputs, job))
            return Segmented(item.case, job.folder)
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            return Failed(item.case, str(error))


def case_inputs(item: CaseItem, job: Job) -> str:
    """Hash of all files that a case is made of.

    Raises:
        InputError: a file cannot be read, or there are no labels for this case.
    """
    images_sha256 = item.images_sha256()
    return item.maps.inputs_sha256(item.series, case_inputs_sha256(item.series, job.source, images_sha256))


def earlier(item: CaseItem, job: Job, setup: str, inputs: str) -> Segmented | None:
    """What an earlier run has done of a case, where that still stands and is not to be done again."""
    if job.options.overwrite or not is_done(read_record(job.folder, item.case), job.folder, setup, inputs):
        return None
    return Segmented(item.case, job.folder, resumed=True)


@lru_cache(maxsize=1)
def shared_job(options: SegmentOptions) -> Job:
    """The job of a run, made once in a process and kept until `forget_job`.

    Raises:
        UsageError: unknown tissues, model, device or precision.
        ModelError: the model cannot be loaded.
        AtlasError: no atlas knows the tissues.
        EnvironmentFault: the device is not there.
    """
    source = prompt_source(options)
    setup = _setup(options, source)
    quality = quality_model(options.model, setup.model)
    facts = JobFacts(_plain_setup(options, source, setup, quality), package_versions())
    return Job(options, source, setup, quality, facts)


def forget_job() -> None:
    """Let go of the network and atlases of the last run in this process."""
    shared_job.cache_clear()


def fresh_facts(options: SegmentOptions) -> JobFacts:
    """What the job of this process is now, whatever an earlier run left in it; raises what `shared_job` raises.

    From then on nothing that other libraries say of files leaves this process, which may be one of a cluster.
    """
    install_privacy_filter()
    forget_job()
    return shared_job(options).facts


@dataclass(frozen=True, eq=False)
class OpenCase:
    """A case whose volume is read, the atlas chosen for it, and what is kept about it."""

    series: Series
    volume: Volume
    form: NiftiForm
    choice: AtlasChoice | None
    kept: Kept


def open_case(item: CaseItem, job: Job, tally: Tally) -> OpenCase:
    """Read a case and choose its atlas.

    Raises:
        InputError: a file cannot be read.
        AtlasError: no atlas may serve it.
    """
    with tally.timed("read"):
        volume, form = item.read()
    with tally.timed("choose"):
        kept = Kept.of(volume, job.setup.results)
        choice = job.source.shelf.choose(volume, kept) if job.source.shelf else None
    return OpenCase(item.series, volume, form, choice, kept)


def _segment_series(item: CaseItem, inputs: str, job: Job) -> CaseRecord:
    before = Tally()
    case = open_case(item, job, before)
    series, volume, choice = case.series, case.volume, case.choice
    job = job.for_case(volume, choice)
    segmentation = _segmentation(case, job)
    tally, placed, wanted = segmentation.tally, segmentation.placed, job.setup.tissues
    tally.seconds |= before.seconds
    with tally.timed("map"):
        on_map = item.maps.of_case(series, volume)
    with tally.timed("measure"):
        found = measured_case(series.case, volume, segmentation, wanted, quality=job.quality, on_map=on_map)
        if job.options.strict:
            refuse_doubts(found.flags)
    with tally.timed("write"):
        image = item.image(volume, case.form) if item.keeps_image else None
        written = CaseFiles(series, volume, case.form, segmentation, choice, on_map, found.surfaces, image)
        outputs = write_case_files(written, job.folder, job.setup, job.options.prompts.partition(":")[0])
    return CaseRecord(
        case=series.case,
        setup_sha256=job.facts.setup_sha256,
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


def _segmentation(case: OpenCase, job: Job) -> Segmentation:
    if case.choice:
        return segment_with_atlas(case.volume, case.choice.atlas, job.setup, case.kept)
    tally = Tally()
    with tally.timed("prompts"):
        prompts = given_prompts(case.series, case.volume, job.options, job.source)
    return segment_with_prompts(case.volume, prompts, job.setup, tally=tally)


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
