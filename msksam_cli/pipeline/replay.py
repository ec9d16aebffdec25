"""Labels made again from a case's file of prompts, and compared bit for bit with those it was written beside.

Nothing is taken from the cache: the atlas is placed and every slice encoded anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.embeddings import MemoryStore
from msksam_cli.errors import AtlasError, GridMismatchError, InputError, ModelError, MsksamError
from msksam_cli.io.atlas_folder import find_atlas, read_atlas
from msksam_cli.io.nifti import NiftiForm, form_from_grid, read_label_map, read_volume, write_label_map
from msksam_cli.io.prompt_files import read_prompts
from msksam_cli.pipeline.networks import load_network
from msksam_cli.pipeline.replay_record import ReplayRecord, all_versions, labels_sha256, read_replay_record
from msksam_cli.pipeline.segment_case import Setup, segment_with_atlas, segment_with_prompts
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True)
class ReplayOptions:
    """Options of `msksam replay`.

    Attributes:
        prompts: `prompts/<case>.json` of a run.
        image: the volume, NIfTI; None for the one that a DICOM run left beside the prompts.
        output: label volume to write, None to write none.
        model: name or checkpoint file, "" for the recorded name.
        atlas: name or folder, "" for the recorded name.
        device: "" for the recorded one.
    """

    prompts: Path
    image: Path | None = None
    output: Path | None = None
    model: str = ""
    atlas: str = ""
    device: str = ""


@dataclass(frozen=True)
class Replay:
    """What came of it.

    Attributes:
        case: its name.
        labels_sha256: of the labels made now.
        recorded_sha256: of the labels the run made.
        voxels: of the volume.
        differing_voxels: how many have another label; None when the run's own labels are not there to compare with.
        notes: what is not as it was in the run, such as edited prompts or versions.
    """

    case: str
    labels_sha256: str
    recorded_sha256: str
    voxels: int
    differing_voxels: int | None
    notes: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """Whether every voxel has the label it had."""
        return self.labels_sha256 == self.recorded_sha256

    @property
    def exit_code(self) -> int:
        """0 when identical, else 3."""
        return 0 if self.is_identical else 3


def run_replay(options: ReplayOptions) -> Replay:
    """Make the labels of a case again.

    Raises:
        InputError: the prompts cannot be read or say too little, or the image is missing or another.
        ModelError: the model is missing or another.
        AtlasError: the atlas is missing or another.
        EnvironmentFault: the device is not there, or the labels cannot be written.
    """
    record = read_replay_record(options.prompts)
    volume, form = _volume(record, options)
    setup = _setup(record, options)
    atlas = _atlas(record, options) if record.needs_atlas else None
    prompts = read_prompts(options.prompts, volume.grid, record.tissues)
    if atlas:
        labels = segment_with_atlas(volume, atlas, setup, prompts=prompts).labels
    else:
        labels = segment_with_prompts(volume, prompts, setup).labels
    if options.output:
        write_label_map(options.output, labels, form)
    return Replay(
        case=record.case,
        labels_sha256=labels_sha256(labels),
        recorded_sha256=record.labels_sha256,
        voxels=labels.values.size,
        differing_voxels=_differing_voxels(labels, record, _run_folder(options)),
        notes=_notes(record, setup),
    )


def replay_text(replay: Replay) -> str:
    """What is said to people."""
    said = f"{replay.case}: identical, {replay.voxels} voxels, sha256 {replay.labels_sha256}"
    if not replay.is_identical:
        count = replay.differing_voxels
        many = "an unknown number" if count is None else str(count)
        said = (
            f"{replay.case}: different, {many} of {replay.voxels} voxels; sha256 {replay.labels_sha256}, "
            f"recorded {replay.recorded_sha256}"
        )
    return "\n".join([said, *(f"  {note}" for note in replay.notes)])


def replay_json(replay: Replay) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "case": replay.case,
            "identical": replay.is_identical,
            "voxels": replay.voxels,
            "differing_voxels": replay.differing_voxels,
            "labels_sha256": replay.labels_sha256,
            "recorded_sha256": replay.recorded_sha256,
            "notes": list(replay.notes),
            "exit_code": replay.exit_code,
        },
        indent=1,
        ensure_ascii=False,
    )


def _run_folder(options: ReplayOptions) -> Path:
    return options.prompts.resolve().parent.parent


def _volume(record: ReplayRecord, options: ReplayOptions) -> tuple[Volume, NiftiForm]:
    """The volume as it was segmented, on the grid of the run."""
    path = options.image
    if path is None:
        if record.kind != "dicom":
            raise InputError(f"{options.prompts.name} was made from {record.image}", "Name that file with --image")
        path = _run_folder(options) / record.image
    if not path.is_file():
        raise InputError(f"the image {path.name} of case {record.case} is not there", "Name it with --image")
    found, form = read_volume(path, record.use_form)
    if found.grid.shape != record.grid.shape or not found.grid.matches(record.grid):
        raise GridMismatchError(f"{path.name} does not lie on the grid of the run", "Give the image of that case")
    volume = Volume(found.intensities, record.grid, record.side, record.body_part)
    if (now := volume.sha256) != record.volume_sha256:
        raise InputError(
            f"{path.name} is another volume: sha256 {_short(now)} of voxels, grid and side, recorded "
            f"{_short(record.volume_sha256)}",
            "Give the image the run was made from",
        )
    return volume, form_from_grid(record.grid) if record.kind == "dicom" else form


def _setup(record: ReplayRecord, options: ReplayOptions) -> Setup:
    """What the run segmented with, without a cache."""
    asked = SegmentOptions(
        options.prompts,
        ("all",),
        model=options.model or record.model,
        device=options.device or record.device,
        precision=record.precision,
        runtime=record.runtime,
        use_cache=False,
    )
    side_px = None if record.runtime == "onnx" else record.encode_side_px
    try:
        model = load_network(asked, side_px)
    except MsksamError as error:
        if options.model:
            raise
        raise ModelError(f"model of the run: {error.message}", "Give the checkpoint with --model") from error
    if model.weights_sha256 != record.model_sha256:
        raise ModelError(
            f"labels were made with weights of sha256 {_short(record.model_sha256)} ({record.model}), model "
            f"{model.name} has {_short(model.weights_sha256)}",
            "Give the same checkpoint with --model",
        )
    return Setup(
        tissues=record.tissues,
        model=model,
        store=MemoryStore(),
        rules=record.rules,
        prompt_kind=record.prompt_kind,
        fusion=record.fusion,
        batch_size=record.batch_size,
        threads=record.threads,
    )


def _atlas(record: ReplayRecord, options: ReplayOptions) -> Atlas:
    atlas = read_atlas(find_atlas(options.atlas or record.atlas))
    if atlas.sha256 != record.atlas_sha256:
        raise AtlasError(
            f"labels were made with an atlas of sha256 {_short(record.atlas_sha256)} ({record.atlas}), atlas "
            f"{atlas.name} has {_short(atlas.sha256)}",
            "Give the same atlas with --atlas",
        )
    return atlas


def _differing_voxels(labels: LabelMap, record: ReplayRecord, run_folder: Path) -> int | None:
    path = run_folder / "labels" / f"{record.case}.nii.gz"
    if labels_sha256(labels) == record.labels_sha256:
        return 0
    if not path.is_file():
        return None
    before = read_label_map(path)
    return (
        int(np.count_nonzero(before.values != labels.values)) if labels_sha256(before) == record.labels_sha256 else None
    )


def _notes(record: ReplayRecord, setup: Setup) -> tuple[str, ...]:
    notes = ["the prompts were edited after the run"] if record.is_edited else []
    device = setup.model.device.partition(":")[0]
    if device != record.device:
        notes.append(f"the run was on {record.device}, this is {device}")
    now = all_versions()
    for name in sorted(record.versions.keys() | now.keys()):
        before, here = record.versions.get(name, "absent"), now.get(name, "absent")
        if before != here:
            notes.append(f"{name} was {before}, is {here}")
    return tuple(notes)


def _short(sha256: str) -> str:
    return f"{sha256[:16]}…" if sha256 else "unknown"
