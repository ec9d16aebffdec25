"""What a segmentation run is asked to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from msksam_cli.core.series import FormChoice
from msksam_cli.errors import UsageError
from msksam_cli.io.study import DEFAULT_MIN_SLICES, OUTPUT_FOLDER
from msksam_cli.pipeline.map_options import MapOptions

RUNTIMES = ("auto", "torch", "onnx", "openvino")
LAYOUTS = ("msksam", "bids")
PROMPT_KINDS = ("auto", "box", "point", "box+point")


@dataclass(frozen=True)
class SegmentOptions:
    """Options of `msksam segment`.

    Attributes:
        study: folder searched to any depth, or one NIfTI file.
        tissues: names of tissues or groups, or "all".
        output: folder to write; None for `msksam-out/<study's name>`.
        atlas: "auto", the name of an atlas or its folder.
        model: name of a model, a checkpoint file, or for "onnx" the folder of an export.
        prompts: "atlas", "labels:DIR" or "file:JSON".
        prompt_kind: "auto", "box", "point" or "box+point".
        device: "auto", "cpu", "cuda[:N]" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        runtime: "auto" (torch), "torch", "onnx" or "openvino".
        batch_size: slices encoded at once, None to choose.
        encode_size: side in pixels at which slices are encoded, None for the network's own; "slice" for the least
            that shows each volume's slices without making them smaller.
        cache: folder of embeddings, None for the user's own.
        use_cache: whether embeddings are kept on disk at all.
        fusion: whether the prior takes part in the masks.
        overwrite: redo cases that are done.
        dry_run: say what would be done and write nothing.
        shard: (I, N): only every N-th case, starting with the I-th, counted from 1.
        strict: doubts about side or placement fail the case.
        min_slices: volumes with fewer slices are skipped.
        use_form: NIfTI transform to trust where sform and qform disagree.
        maps: where quantitative maps come from and how they are fitted.
        only: review.csv, of which the cases to edit or rejected are segmented, or a list of cases; None for all.
        dicom_seg: also write a DICOM segmentation object of each DICOM case, with the patient's identifiers.
        layout: "msksam", or "bids" to add the labels as a BIDS derivative.
    """

    study: Path
    tissues: tuple[str, ...]
    output: Path | None = None
    atlas: str = "auto"
    model: str = "msksam-small"
    prompts: str = "atlas"
    prompt_kind: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    batch_size: int | None = None
    encode_size: int | str | None = None
    cache: Path | None = None
    use_cache: bool = True
    fusion: bool = True
    overwrite: bool = False
    dry_run: bool = False
    shard: tuple[int, int] = (1, 1)
    strict: bool = False
    min_slices: int = DEFAULT_MIN_SLICES
    use_form: FormChoice = ""
    maps: MapOptions = field(default_factory=MapOptions)
    only: Path | None = None
    dicom_seg: bool = False
    layout: str = "msksam"

    def __post_init__(self) -> None:
        part, parts = self.shard
        if not 1 <= part <= parts:
            raise UsageError(f"shard {part}/{parts} does not exist", "Use I/N with 1 ≤ I ≤ N")
        if self.runtime not in RUNTIMES:
            raise UsageError(f"unknown runtime {self.runtime!r}", f"Use {', '.join(RUNTIMES)}")
        if self.runtime == "onnx" and self.precision not in ("auto", "fp32"):
            raise UsageError(f"exported models run in fp32, not {self.precision!r}", "Leave --precision out")
        if isinstance(self.encode_size, str) and self.encode_size != "slice":
            raise UsageError(f"unknown encode size {self.encode_size!r}", "Use auto, slice or a number of pixels")
        if self.runtime == "onnx" and self.encode_size:
            raise UsageError("exported models see slices at one size", "Leave --encode-size out, or use torch")
        if not self.tissues:
            raise UsageError("no tissue was named", "Give --tissue with a tissue, a group or all")
        kind, _, path = self.prompts.partition(":")
        if self.prompts != "atlas" and (kind not in ("labels", "file") or not path):
            raise UsageError(f"unknown source of prompts {self.prompts!r}", "Use atlas, labels:DIR or file:JSON")
        if self.layout not in LAYOUTS:
            raise UsageError(f"unknown layout {self.layout!r}", f"Use one of {', '.join(LAYOUTS)}")
        if self.prompt_kind not in PROMPT_KINDS:
            raise UsageError(f"unknown kind of prompt {self.prompt_kind!r}", f"Use one of {', '.join(PROMPT_KINDS)}")

    def absolute(self) -> SegmentOptions:
        """The same for a process that works in another folder: paths begin at the root."""
        kind, _, path = self.prompts.partition(":")
        return replace(
            self,
            study=self.study.absolute(),
            output=self.output_folder.absolute(),
            atlas=_absolute(self.atlas),
            model=_absolute(self.model),
            prompts=f"{kind}:{Path(path).absolute()}" if path else kind,
            cache=self.cache and self.cache.absolute(),
            maps=replace(self.maps, files=self.maps.files and self.maps.files.absolute()),
            only=self.only and self.only.absolute(),
        )

    @property
    def output_folder(self) -> Path:
        """Where results go."""
        if self.output:
            return self.output
        name = self.study.resolve().name
        return Path(OUTPUT_FOLDER) / re.sub(r"\.nii(\.gz)?$", "", name)

    @property
    def prompt_folder(self) -> Path | None:
        """DIR of "labels:DIR" or the file of "file:JSON", None for prompts from the atlas."""
        kind, _, path = self.prompts.partition(":")
        return Path(path) if kind != "atlas" else None


def _absolute(name: str) -> str:
    """A name as it is, the path of what is there from the root."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N".

    >>> parse_shard("2/8")
    (2, 8)

    Raises:
        UsageError: not of that form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise UsageError(f"cannot read shard {text!r}", "Write it as I/N, such as 1/8")
    return int(match[1]), int(match[2])


def shard_file_name(stem: str, shard: tuple[int, int]) -> str:
    """Name of a file that each shard of a run has of its own.

    >>> shard_file_name("run", (1, 1)), shard_file_name("run", (2, 8))
    ('run.json', 'run-2-of-8.json')
    """
    part, parts = shard
    return f"{stem}.json" if parts == 1 else f"{stem}-{part}-of-{parts}.json"


def parse_size(text: str, what: str) -> int | None:
    """A size, None for "auto".

    >>> parse_size("512", "encode size")
    512

    Raises:
        UsageError: neither "auto" nor a number above 0.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"cannot read {what} {text!r}", "Write auto or a number above 0")
    return int(text)


def parse_encode_size(text: str) -> int | str | None:
    """Side at which slices are encoded, as in `SegmentOptions.encode_size`.

    >>> parse_encode_size("slice"), parse_encode_size("512"), parse_encode_size("auto")
    ('slice', 512, None)

    Raises:
        UsageError: neither "auto", "slice" nor a number above 0.
    """
    if text == "slice":
        return text
    try:
        return parse_size(text, "encode size")
    except UsageError as error:
        raise UsageError(error.message, "Write auto, slice or a number above 0") from None


def chosen_form(use_sform: bool, use_qform: bool) -> FormChoice:
    """The NIfTI transform two flags ask for.

    Raises:
        UsageError: both are set.
    """
    if use_sform and use_qform:
        raise UsageError("--use-sform and --use-qform contradict each other", "Give one of them")
    return "sform" if use_sform else "qform" if use_qform else ""
