"""What `prompts/<case>.json` says beside its prompts, so that the same labels can be made again from it alone.

Labels depend on the voxels and their grid, the prompts, the network and its arithmetic, the rules of fusion, and where
the prior takes part on the atlas and the body side it is placed by. All of it stands here, as values or as hashes;
paths and patient data do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msksam_cli import __version__
from msksam_cli.core.geometry import Grid
from msksam_cli.core.series import FormChoice, Series
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError
from msksam_cli.fusion import FusionRules
from msksam_cli.io.prompt_files import prompts_sha256, read_prompt_file
from msksam_cli.pipeline.environment import package_versions
from msksam_cli.pipeline.segment_case import Setup

_SECTION = "replay"


@dataclass(frozen=True, eq=False)
class ReplayRecord:
    """How the labels of one case were made.

    Attributes:
        case: its name.
        kind: "dicom" or "nifti".
        image: name of the volume's file: below the run folder for DICOM, else what the user's file was called.
        use_form: NIfTI transform that was chosen.
        grid: of the volume, exact where a NIfTI header rounds it to single precision.
        side: of the body, as the input said.
        body_part: as the input said.
        volume_sha256: over intensities, grid and side.
        tissues: what was wanted; names, values and groups.
        source: where prompts came from: "atlas", "labels" or "file".
        fusion: whether the prior took part in the masks.
        model: name of the network.
        model_sha256: of its checkpoint, "" when it came from none.
        atlas: name of the atlas, "" without one.
        atlas_sha256: of its files.
        device: "cpu", "cuda" or "mps".
        runtime: what ran the network.
        precision: arithmetic of the encoder.
        encode_side_px: side at which slices were encoded.
        batch_size: slices encoded at once, None when it was chosen.
        threads: of the registration.
        rules: of the fusion.
        prompt_kind: kind of prompt; the bones that thin tissues are laid along are asked for by it again.
        versions: package → version.
        labels_sha256: see `labels_sha256`.
        is_edited: whether the prompts are no longer those the labels were made from.
    """

    case: str
    kind: str
    image: str
    use_form: FormChoice
    grid: Grid
    side: str
    body_part: str
    volume_sha256: str
    tissues: TissueTable
    source: str
    fusion: bool
    model: str
    model_sha256: str
    atlas: str
    atlas_sha256: str
    device: str
    runtime: str
    precision: str
    encode_side_px: int
    batch_size: int | None
    threads: int
    rules: FusionRules
    prompt_kind: str
    versions: Mapping[str, str]
    labels_sha256: str
    is_edited: bool

    @property
    def needs_atlas(self) -> bool:
        """Whether the atlas's prior took part in the masks."""
        return self.source == "atlas" and self.fusion


def labels_sha256(labels: LabelMap) -> str:
    """Hex sha256 over shape and values as little-endian uint16, the last axis fastest, whatever their own type."""
    digest = hashlib.sha256(f"{labels.grid.shape}".encode())
    digest.update(np.ascontiguousarray(labels.values, dtype="<u2").data)
    return digest.hexdigest()


def replay_section(series: Series, volume: Volume, setup: Setup, source: str, labels: LabelMap) -> dict[str, object]:
    """The part of `prompts/<case>.json` that `read_replay_record` reads beside what stands there anyway.

    Args:
        series: the input.
        volume: what was segmented.
        setup: with what.
        source: "atlas", "labels" or "file".
        labels: what came of it.
    """
    model = setup.model
    is_nifti = series.kind == "nifti"
    return {
        _SECTION: {
            "kind": series.kind,
            "image": series.files[0].name if is_nifti else f"images/{series.case}.nii.gz",
            "use_form": series.use_form,
            "side": volume.side,
            "body_part": volume.body_part,
            "volume_sha256": volume.sha256,
            "labels_sha256": labels_sha256(labels),
            "source": source,
            "fusion": setup.fusion,
            "prompt_kind": setup.prompt_kind,
            "device": model.device.partition(":")[0],
            "runtime": model.runtime,
            "precision": model.precision,
            "encode_side_px": model.image_side_px,
            "batch_size": setup.batch_size,
            "threads": setup.threads,
            "rules": asdict(setup.rules),
            "tissues": [{"index": t.index, "name": t.name, "group": t.group} for t in setup.tissues],
            "versions": all_versions(),
        }
    }


def all_versions() -> dict[str, str]:
    """Package → version, msksam among them."""
    return {"msksam": __version__, **package_versions()}


def read_replay_record(path: Path) -> ReplayRecord:
    """How the labels of a file of prompts were made.

    Raises:
        InputError: no such file, not of this format, damaged, or written before such records were.
    """
    content = read_prompt_file(path)
    section = content.get(_SECTION)
    if not isinstance(section, dict):
        raise InputError(
            f"{path.name} does not say how its labels were made", "Segment the case again with this version of msksam"
        )
    try:
        return _record(content, section)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path.name} is damaged: {type(error).__name__} in what it says of its run") from error


def _record(content: Mapping[str, Any], section: Mapping[str, Any]) -> ReplayRecord:
    plain = {key: value for key, value in section.items() if key not in ("rules", "tissues")}
    named = {key: content[key] for key in ("case", "model", "model_sha256", "atlas", "atlas_sha256")}
    return ReplayRecord(
        **named,
        **plain,
        grid=Grid(tuple(content["grid"]["shape"]), np.array(content["grid"]["affine"])),
        tissues=TissueTable(tuple(Tissue(**tissue) for tissue in section["tissues"])),
        rules=FusionRules(**section["rules"]),
        is_edited=content["prompts_sha256"] != prompts_sha256(content["prompts"]),
    )
