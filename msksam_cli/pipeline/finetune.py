"""`msksam finetune`: a network made one's own with a few labelled cases.

check → read → embed → train, watched on volumes → save → score before and after → curves, figure, card
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from msksam_cli import __version__
from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.embeddings import EmbeddingKey, EmbeddingStore, MemoryStore
from msksam_cli.errors import CacheError, UsageError
from msksam_cli.fusion import FusionRules
from msksam_cli.io.atomic import write_atomic, write_text
from msksam_cli.io.curves import write_charts
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.tables import read_csv
from msksam_cli.pipeline.finetune_cases import CaseSet, read_case, sound_cases
from msksam_cli.pipeline.finetune_options import FinetuneOptions
from msksam_cli.pipeline.finetune_report import FinetuneFacts, card_text, training_charts
from msksam_cli.pipeline.finetune_scores import (
    SCORED_SLICES,
    WATCHED_SLICES,
    Labelled,
    by_tissue,
    mean_dice,
    volume_dice,
    watched,
)
from msksam_cli.pipeline.finetune_work import plain_setup, prepare_work
from msksam_cli.pipeline.models import list_models, load_model
from msksam_cli.pipeline.segment_case import Setup, Tally, embed
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.encode import encoder_sha256
from msksam_cli.sam.model import NORMALISATIONS, Sam
from msksam_cli.sam.runtime import Model
from msksam_cli.training.distributed import Peers, peers_of, together
from msksam_cli.training.loop import LOG_FILE, Recipe, Stage, Validation, train
from msksam_cli.training.parts import LEARNING_RATES, is_half, let_learn, plain
from msksam_cli.training.slices import SliceBatches, TrainingSlice, training_slices

_SLICES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Finetuned:
    """What a run left.

    Attributes:
        checkpoint: the file.
        facts: everything its card says.
        unmatched: names that lack image or labels and were not used.
    """

    checkpoint: Path
    facts: FinetuneFacts
    unmatched: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Job:
    """What the steps of a run share."""

    options: FinetuneOptions
    cases: CaseSet
    model: Model
    store: EmbeddingStore
    peers: Peers


def finetune(options: FinetuneOptions) -> Finetuned | None:
    """Train on labelled cases and write the checkpoint with its curves and card; a killed run resumes.

    Returns:
        What was done; None in those processes of torchrun that do not write.

    Raises:
        InputError: cases that cannot be used, all of them listed, before the first step.
        UsageError: options contradict each other, or another run's state or checkpoint is in the way.
        ModelError: the model to start from cannot be loaded.
        EnvironmentFault: the disk or the device fails; the run can be resumed.
    """
    started = time.monotonic()
    peers = peers_of()
    if peers.count > 1 and not options.use_cache:
        raise UsageError("several processes share embeddings through the cache", "Leave out --no-cache")
    cases = sound_cases(options)
    model = load_model(options.model, device=peers.device(options.device), precision=options.precision)
    store = DiskStore(options.cache or cache_folder()) if options.use_cache else MemoryStore()
    job = _Job(options, cases, model, store, peers)
    with together(peers, model.device):
        if peers.writes:
            prepare_work(options, plain_setup(options, cases, model, peers))
        slices = _slices(job)
        watch = list(_labelled(job, WATCHED_SLICES)) if peers.writes else []
        peers.wait()
        sam, weights = _train(job, slices, watch)
    return _finish(job, sam, len(slices), weights, started) if peers.writes else None


def _train(job: _Job, slices: Sequence[TrainingSlice], watch: Sequence[Labelled]) -> tuple[Sam, int]:
    """The trained network, and how many of its weights learnt; the job's model stays as it was."""
    options, model, recipe = job.options, job.model, recipe_of(job.options, job.model.image_side_px)
    sam = copy.deepcopy(model.sam)
    weights = let_learn(sam, options.train, rank=options.rank, seed=options.seed)
    frozen = options.train == "decoder"
    if frozen:
        _embed(job, slices[job.peers.rank :: job.peers.count])
        job.peers.wait()

    def dataset_of(stage: Stage) -> SliceBatches:
        return SliceBatches(
            slices,
            job.cases.tissues,
            side_px=stage.side_px,
            images=stage.images,
            questions=stage.questions,
            length=recipe.batches(job.peers.count),
            seed=options.seed,
            features_of=_Lookup(job) if frozen else None,
        )

    def score(averaged: Sam) -> float:
        now = _with_network(model, averaged)
        store = job.store if frozen else MemoryStore()
        return mean_dice([volume_dice(now, store, case, job.cases.tissues) for case in watch])

    trained = train(
        sam,
        recipe,
        dataset_of,
        options.work,
        device=model.device,
        workers=0,
        asking=model.asking,
        validation=Validation(score, options.validate_every, options.patience),
        peers=job.peers,
    )
    return plain(trained), weights


def recipe_of(options: FinetuneOptions, side_px: int) -> Recipe:
    """The recipe the options stand for: a short warm-up, then half a cosine down to zero."""
    warmup_steps = max(1, min(50, options.steps // 10))
    return Recipe(
        stages=(Stage(side_px, options.images, options.questions, options.steps),),
        learning_rate=options.learning_rate or LEARNING_RATES[options.train],
        warmup_steps=warmup_steps,
        decay_steps=max(1, options.steps - warmup_steps),
        cosine=True,
        ema_decay=0.99,
        accumulate=options.accumulate,
        rounds=options.rounds,
        seed=options.seed,
        save_every=options.validate_every,
        log_every=10,
        bf16=options.precision != "fp32",
    )


def _slices(job: _Job) -> list[TrainingSlice]:
    """Slices of the training cases, read one case after the other."""
    low_res_side = int(job.model.sam.prompt_encoder.mask_input_size[0])
    slices: list[TrainingSlice] = []
    for case in tqdm(job.cases.training, "read", unit="case", leave=False, disable=None):
        volume, labels = read_case(case.files, job.cases.table)
        slices += training_slices(
            case.subject, volume, labels, job.cases.tissues, low_res_side=low_res_side, most=job.options.slices
        )
    if not slices:
        raise UsageError("no slice shows enough of a wanted tissue to ask for it", "Choose other tissues")
    return slices


def _labelled(job: _Job, most: int) -> Iterator[Labelled]:
    """The validation volumes, each with about `most` of its labelled slices."""
    for case in job.cases.validation:
        yield watched(Labelled(*read_case(case.files, job.cases.table)), job.cases.tissues, most)


def _embed(job: _Job, slices: Sequence[TrainingSlice]) -> None:
    """Make sure that the store holds an embedding of every slice."""
    setup = Setup(job.cases.tissues, job.model, job.store, FusionRules())
    with tqdm(total=len(slices), desc="embed", unit="slice", leave=False, disable=None) as bar:
        for start in range(0, len(slices), _SLICES_AT_ONCE):
            chunk = slices[start : start + _SLICES_AT_ONCE]
            embed([one.pixels for one in chunk], setup, Tally())
            bar.update(len(chunk))


@dataclass(frozen=True, eq=False)
class _Lookup:
    """Looks embeddings up by their pixels."""

    job: _Job

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        model = self.job.model
        key = EmbeddingKey.of_slice(pixels, model.encoder_sha256, PREPROCESSING_VERSION, model.precision)
        found = self.job.store.get(key)
        if found is None:
            raise CacheError("an embedding has gone from the cache during training", "Run the command again to resume")
        return found.features


def _with_network(model: Model, sam: Sam) -> Model:
    """The model with other weights of the same architecture."""
    return replace(model, sam=sam, encoder_sha256=encoder_sha256(sam, model.architecture), weights_sha256="")


def _finish(job: _Job, sam: Sam, slices: int, weights: int, started: float) -> Finetuned:
    """Write the checkpoint, score it as it was written against what it came from, and write what goes with it."""
    options = job.options
    write_checkpoint(options.output, job, sam)
    saved = load_model(str(options.output), device=job.model.device, precision=job.model.precision)
    before, after = (
        [volume_dice(model, job.store, case, job.cases.tissues) for case in _labelled(job, SCORED_SLICES)]
        for model in (job.model, saved)
    )
    log = read_csv(options.work / LOG_FILE)
    facts = replace(
        _facts(job, log),
        sha256=saved.weights_sha256,
        slices=slices,
        weights=weights,
        before=by_tissue(before),
        after=by_tissue(after),
        mean_before=mean_dice(before),
        mean_after=mean_dice(after),
        minutes=(time.monotonic() - started) / 60,
    )
    write_text(options.mate(".csv"), (options.work / LOG_FILE).read_text(encoding="utf-8"))
    write_charts(options.mate(".png"), training_charts(log))
    write_text(options.mate(".md"), card_text(facts))
    return Finetuned(options.output, facts, job.cases.unmatched)


def write_checkpoint(path: Path, job: _Job, sam: Sam) -> None:
    """Write the network with what is needed to use it, and where it came from."""
    model, options, tissues = job.model, job.options, job.cases.tissues
    content = dump_checkpoint(
        sam,
        model.architecture,
        name=path.stem,
        preprocessing=PREPROCESSING_VERSION,
        half=is_half(model.sam),
        normalisation=normalisation_of(model.sam),
        parent=model.name,
        parent_sha256=model.weights_sha256,
        trained=options.train,
        tissues=json.dumps({str(tissue.index): tissue.name for tissue in tissues}),
        data_sha256=job.cases.sha256,
        licence=options.licence,
        msksam=__version__,
    )
    write_atomic(path, lambda stream: stream.write(content))


def normalisation_of(sam: Sam) -> str:
    """The key of `NORMALISATIONS` a network was built with."""
    mean = tuple(round(float(value), 3) for value in sam.pixel_mean.flatten())
    return next(name for name, (means, _) in NORMALISATIONS.items() if mean == means)


def _facts(job: _Job, log: Sequence[Mapping[str, str]]) -> FinetuneFacts:
    """What is known of a run besides its result."""
    options, model = job.options, job.model
    parent = next((known for known in list_models() if known.name == options.model), None)
    looks = [(int(row["step"]), float(row["validation"])) for row in log if row["validation"]]
    return FinetuneFacts(
        name=options.output.stem,
        architecture=model.architecture,
        parent=model.name,
        parent_sha256=model.weights_sha256,
        parent_licence=(parent.licence if parent else "") or model.metadata.get("licence", ""),
        licence=options.licence,
        part=options.train,
        training_subjects=len({case.subject for case in job.cases.training}),
        training_cases=len(job.cases.training),
        validation_subjects=len({case.subject for case in job.cases.validation}),
        validation_cases=len(job.cases.validation),
        data_sha256=job.cases.sha256,
        preprocessing=PREPROCESSING_VERSION,
        normalisation=normalisation_of(model.sam),
        recipe=recipe_of(options, model.image_side_px),
        steps_done=int(log[-1]["step"]),
        best_step=max(looks, key=lambda look: (look[1], -look[0]))[0],
        tissues=job.cases.tissues,
    )
