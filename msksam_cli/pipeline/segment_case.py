"""One volume to labels: place, ask, encode, decode, fuse, measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from msksam_cli.atlas.appearance import SharpeningRules, sharpen_placement
from msksam_cli.atlas.attached import anchors, attach_to_bones, bones_to_find
from msksam_cli.atlas.priors import prompts_from_priors
from msksam_cli.core.atlases import Atlas, PlacedAtlas
from msksam_cli.core.boxed import Boxed
from msksam_cli.core.cores import spread_over_cores
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.core.slicing import PREPROCESSING_VERSION, slice_uint8, take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.embeddings import Embedding, EmbeddingKey, EmbeddingStore
from msksam_cli.fusion import FusionRules, clean_labels, fuse_slice, join_answers
from msksam_cli.io.result_store import ResultStore
from msksam_cli.measure.slice_signals import DecoderSigns, PlaneOf, SliceSignals, slice_signals, stability
from msksam_cli.network import Network, arithmetic
from msksam_cli.pipeline.kept import Kept
from msksam_cli.sam.choose import candidate_scores

_SLICES_AT_ONCE = 8
SLICES_AT_ONCE_ON_GPU = 64  # some batches, so that one is prepared while another is computed
_SLICES_DECODED_AT_ONCE = 4
_FILES_AT_ONCE = 8
_LOOK_AGAIN_S = 0.02
_SURER = SharpeningRules(blur_mm=0.5)
"""A placement along found bones is off by less."""

Plane = NDArray[np.float32]
Values = NDArray[np.uint16]
Quantised = Mapping[int, Boxed]


@dataclass(frozen=True, eq=False)
class Setup:
    """What all cases of a run share.

    Attributes:
        tissues: what is wanted.
        model: the network.
        store: where embeddings are kept.
        rules: how masks and priors are fused.
        prompt_kind: "auto", "box", "point" or "box+point".
        fusion: whether the prior takes part in the masks.
        batch_size: slices encoded at once, None to choose.
        threads: threads the registration may use.
        results: where placements are kept, None to keep none.
    """

    tissues: TissueTable
    model: Network
    store: EmbeddingStore
    rules: FusionRules
    prompt_kind: str = "auto"
    fusion: bool = True
    batch_size: int | None = None
    threads: int = 1
    results: ResultStore | None = None


@dataclass
class Tally:
    """Counts and times gathered while a case is worked on."""

    seconds: dict[str, float] = field(default_factory=dict)
    slices_encoded: int = 0
    slices_cached: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - started


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one volume and how they came about.

    Attributes:
        labels: on the volume's own grid.
        prompts: what the decoder was asked.
        iou_predictions: the decoder's own guess for each prompt's chosen mask.
        placed: the atlas on the volume, None when prompts came from elsewhere.
        tally: counts and times.
        signals: of every tissue on every slice that shows it.
    """

    labels: LabelMap
    prompts: tuple[Prompt, ...]
    iou_predictions: tuple[float, ...]
    placed: PlacedAtlas | None
    tally: Tally
    signals: tuple[SliceSignals, ...] = ()

    def mean_iou_prediction(self, tissue_index: int) -> float | None:
        """Mean of the IoU predictions of a tissue's prompts, None when it was not asked for."""
        found = [
            iou
            for prompt, iou in zip(self.prompts, self.iou_predictions, strict=True)
            if prompt.tissue_index == tissue_index
        ]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about one slice before it is decided what it shows.

    Attributes:
        slice_index: index along the slice axis.
        shape: (rows, columns).
        logits: label value → logits (rows, columns) joined over its prompts, for every tissue asked for.
        priors: label value → P (rows, columns) in 0…1 for every wanted tissue; None when the prior is left out.
        prompts: what was asked.
        iou_predictions: the decoder's guess for the mask chosen for each prompt.
    """

    slice_index: int
    shape: tuple[int, int]
    logits: Mapping[int, Plane]
    priors: Mapping[int, Plane] | None
    prompts: tuple[Prompt, ...]
    iou_predictions: tuple[float, ...]

    def signs(self) -> Iterator[tuple[tuple[int, int], DecoderSigns]]:
        """(Slice index, label value) and what the decoder said of that tissue."""
        for index, logits in self.logits.items():
            pairs = zip(self.prompts, self.iou_predictions, strict=True)
            guesses = [iou for prompt, iou in pairs if prompt.tissue_index == index]
            yield (self.slice_index, index), DecoderSigns(float(np.mean(guesses)), stability(logits))


def segment_with_atlas(
    volume: Volume,
    atlas: Atlas,
    setup: Setup,
    kept: Kept | None = None,
    *,
    prompts: Sequence[Prompt] | None = None,
) -> Segmentation:
    """Labels from prompts that an atlas gives.

    Args:
        volume: what to segment.
        atlas: what to look for.
        setup: what all cases share.
        kept: what is known about the volume from before.
        prompts: what is asked in place of the atlas's own prompts.

    Raises:
        AtlasError: the atlas cannot be placed at all.
    """
    tally, kept = Tally(), kept or Kept.of(volume, setup.results)
    with tally.timed("place"):
        placed = kept.placement(atlas, volume, setup.threads)
    prompting = prompting_placement(
        volume, placed, lambda: refined_placement(volume, placed, tally), setup, tally=tally, kept=kept
    )
    done = segment_placed(volume, prompting, setup, tally, prompts=prompts)
    if prompts is None and setup.tissues == TissueTable(anchors(placed.tissues)):
        kept.keep_bones(placed, _asked(setup), done.labels)
    return done


def refined_placement(volume: Volume, placed: PlacedAtlas, tally: Tally | None = None) -> PlacedAtlas:
    """The placed atlas made sharper by what its tissues look like in the volume."""
    with (tally or Tally()).timed("refine"):
        return sharpen_placement(placed, volume)


def prompting_placement(
    volume: Volume,
    placed: PlacedAtlas,
    sharpened: Callable[[], PlacedAtlas],
    setup: Setup,
    *,
    tally: Tally | None = None,
    kept: Kept | None = None,
) -> PlacedAtlas:
    """The placement that prompts a model: made sharper, and thin tissues, where wanted, laid along the found bones.

    Args:
        volume: what to segment.
        placed: the atlas as placed.
        sharpened: gives the same made sharper by `refined_placement`; bones that are not known yet are asked for by it.
        setup: model, store, wanted tissues and rules.
        tally: where counts and times are added.
        kept: what is known about the volume from before.
    """
    bones = bones_to_find(placed.tissues, setup.tissues)
    if not bones:
        return sharpened()
    tally, kept = tally or Tally(), kept or Kept.of(volume, setup.results)
    asking = replace(setup, tissues=TissueTable(bones))
    found = kept.bones(placed, _asked(asking))
    if found is None:
        found = segment_placed(volume, sharpened(), asking, tally).labels
        kept.keep_bones(placed, _asked(asking), found)
    with tally.timed("refine"):
        attached = attach_to_bones(placed, {bone.index: found.boxed(bone.index) for bone in bones})
        if attached is not placed:
            return sharpen_placement(attached, volume, _SURER)
    return sharpened()


def _asked(setup: Setup) -> str:
    """All that the labels of a placed volume depend on besides volume and placement; "" where that has no name."""
    model = setup.model
    if not model.weights_sha256:
        return ""
    network = model.weights_sha256, model.encoder_sha256, arithmetic(model), model.device.partition(":")[0]
    tissues = [(tissue.index, tissue.group) for tissue in setup.tissues]
    return json.dumps([network, asdict(setup.rules), setup.prompt_kind, setup.fusion, tissues], sort_keys=True)


def segment_placed(
    volume: Volume,
    placed: PlacedAtlas,
    setup: Setup,
    tally: Tally | None = None,
    *,
    prompts: Sequence[Prompt] | None = None,
) -> Segmentation:
    """Labels from the prompts of an atlas that lies on the volume already, or from given ones beside its priors."""
    tally = tally or Tally()
    with tally.timed("prompts"):
        own, priors = placed_questions(volume, placed, setup)
    known = priors if setup.fusion else None
    asked = own if prompts is None else prompts
    done = segment_with_prompts(volume, asked, setup, priors=known, tally=tally)
    return replace(done, placed=placed)


def placed_questions(volume: Volume, placed: PlacedAtlas, setup: Setup) -> tuple[tuple[Prompt, ...], Quantised]:
    """Prompts for the wanted tissues, and label value → P (I, J, K) as `Boxed` of uint8, 255 meaning 1."""
    prompts = prompts_from_priors(placed, setup.tissues, volume.grid.slice_axis, setup.prompt_kind)
    return prompts, {index: placed.boxed(index).quantised() for index in setup.tissues.indices}


def segment_with_prompts(
    volume: Volume,
    prompts: Sequence[Prompt],
    setup: Setup,
    *,
    priors: Quantised | None = None,
    tally: Tally | None = None,
) -> Segmentation:
    """Labels from given prompts.

    Args:
        volume: what to segment.
        prompts: in order of slice.
        setup: model, store, wanted tissues and rules.
        priors: label value → P (I, J, K) as `Boxed` of uint8, 255 meaning 1; None to leave the prior out.
        tally: where counts and times are added.
    """
    tally = tally or Tally()
    iou_predictions: list[float] = []
    asked: list[Prompt] = []
    signs: dict[tuple[int, int], DecoderSigns] = {}

    def noted() -> Iterator[Evidence]:
        for evidence in gather_evidence(volume, prompts, setup, priors, tally):
            iou_predictions.extend(evidence.iou_predictions)
            asked.extend(evidence.prompts)
            signs.update(evidence.signs())
            yield evidence

    labels = labels_from_evidence(noted(), volume.grid, setup.tissues, setup.rules, tally)
    with tally.timed("signals"):
        signals = slice_signals(labels, signs, _planes_of(priors, volume.grid.slice_axis) if priors else None)
    return Segmentation(labels, tuple(asked), tuple(iou_predictions), placed=None, tally=tally, signals=signals)


def labels_from_evidence(
    evidence: Iterable[Evidence], grid: Grid, tissues: TissueTable, rules: FusionRules, tally: Tally | None = None
) -> LabelMap:
    """Labels of a volume from what is known about its slices."""
    tally = tally or Tally()
    values = np.zeros(grid.shape, dtype=np.uint8 if max(tissues.indices) < 256 else np.uint16)
    weights = rules.weights(tissues)
    for known in evidence:
        with tally.timed("decode"):
            labels = fuse_slice(known.logits, known.priors, known.shape, rules, weights)
            take_slice(values, grid.slice_axis, known.slice_index)[...] = labels
    with tally.timed("clean"):
        values = clean_labels(values, grid, rules)
    return LabelMap(values, grid, tissues)


def gather_evidence(
    volume: Volume, prompts: Sequence[Prompt], setup: Setup, priors: Quantised | None, tally: Tally
) -> Iterator[Evidence]:
    """What network and prior say about every slice that is asked about, in order of slice; see `segment_with_prompts`.

    Nothing in it depends on how much the prior weighs, so that one pass serves any number of fusions.
    """
    axis, window = volume.grid.slice_axis, volume.window
    by_slice: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        by_slice.setdefault(prompt.slice_index, []).append(prompt)
    asked = sorted(by_slice)
    with tqdm(total=len(asked), desc="slices", unit="slice", leave=False, disable=None) as bar:
        step = _SLICES_AT_ONCE if setup.model.device == "cpu" else SLICES_AT_ONCE_ON_GPU
        for start in range(0, len(asked), step):
            chunk = asked[start : start + step]
            planes = [slice_uint8(take_slice(volume.intensities, axis, index), window) for index in chunk]
            with tally.timed("encode"):
                embeddings = embed(planes, setup, tally)
            pairs = [(embedding, by_slice[index]) for index, embedding in zip(chunk, embeddings, strict=True)]
            for first in range(0, len(pairs), _SLICES_DECODED_AT_ONCE):
                some = pairs[first : first + _SLICES_DECODED_AT_ONCE]
                with tally.timed("decode"):
                    answers = list(zip(chunk[first:], setup.model.decode_slices(some), strict=False))
                    found = spread_over_cores(lambda one: _slice_evidence(*one, priors, axis, setup.rules), answers)
                for evidence in found:
                    bar.update()
                    yield evidence


def embed(planes: Sequence[NDArray[np.uint8]], setup: Setup, tally: Tally) -> list[Embedding]:
    """Embeddings of slices, from the store where it has them; what is missing is encoded and kept.

    What another process is encoding is waited for, and encoded here when that process goes away.
    """
    model, store = setup.model, setup.store
    keys = [EmbeddingKey.of_slice(p, model.encoder_sha256, PREPROCESSING_VERSION, arithmetic(model)) for p in planes]
    found, encoded = spread_over_cores(store.get, keys, _FILES_AT_ONCE), 0
    while missing := [number for number, embedding in enumerate(found) if embedding is None]:
        ours = [number for number in missing if store.claim(keys[number])]
        for number, embedding in _encoded(ours, planes, keys, setup):
            found[number] = embedding
        encoded += len(ours)
        if not ours:
            time.sleep(_LOOK_AGAIN_S)
        for number in missing:
            found[number] = found[number] or store.get(keys[number])
    tally.slices_encoded += encoded
    tally.slices_cached += len(planes) - encoded
    return [embedding for embedding in found if embedding is not None]


def _encoded(
    ours: Sequence[int], planes: Sequence[NDArray[np.uint8]], keys: Sequence[EmbeddingKey], setup: Setup
) -> list[tuple[int, Embedding]]:
    """Numbers of the claimed slices with their embeddings, which the store then has; the claims are given back."""

    def keep(place: int, embedding: Embedding) -> None:
        setup.store.put(keys[ours[place]], embedding)

    try:
        encoded = setup.model.encode([planes[number] for number in ours], setup.batch_size, keep) if ours else []
        return list(zip(ours, encoded, strict=True))
    finally:
        for number in ours:
            setup.store.release(keys[number])


def _slice_evidence(
    slice_index: int, predictions: Sequence[MaskPrediction], quantised: Quantised | None, axis: int, rules: FusionRules
) -> Evidence:
    priors = _plane_priors(quantised, axis, slice_index)
    answers: dict[int, list[tuple[Prompt, Plane]]] = {}
    chosen_iou = []
    for prediction in predictions:
        index = prediction.prompt.tissue_index
        best = int(np.argmax(candidate_scores(prediction, priors[index] if priors else None)))
        answers.setdefault(index, []).append((prediction.prompt, prediction.logits[best]))
        chosen_iou.append(float(prediction.iou_predictions[best]))
    rows, columns = predictions[0].logits.shape[1:]
    joined = {index: join_answers(of_tissue, (rows, columns), rules) for index, of_tissue in answers.items()}
    prompts = tuple(prediction.prompt for prediction in predictions)
    return Evidence(slice_index, (rows, columns), joined, priors, prompts, tuple(chosen_iou))


def _plane_priors(priors: Quantised | None, axis: int, index: int) -> dict[int, Plane] | None:
    if priors is None:
        return None
    return {tissue: plane_of(index) for tissue, plane_of in _planes_of(priors, axis).items()}


def _planes_of(priors: Quantised, axis: int) -> dict[int, PlaneOf]:
    """Label value → the planes of its prior, P (rows, columns) in 0…1."""

    def planes(values: Boxed) -> PlaneOf:
        return lambda index: values.plane(axis, index).astype(np.float32) / np.float32(255)

    return {tissue: planes(values) for tissue, values in priors.items()}
