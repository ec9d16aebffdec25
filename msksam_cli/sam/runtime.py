"""Where and how the network runs: device, precision, and the `Model` the pipeline holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import DeviceMemoryFault, EnvironmentFault, UsageError
from msksam_cli.network import Keep, keep_nothing
from msksam_cli.sam.asking import Asking
from msksam_cli.sam.decode import decode_slices
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.encode import encode_slices, encoder_sha256
from msksam_cli.sam.model import Architecture, Sam

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights, on a device, ready to embed and to decode; it remembers no image.

    Attributes:
        name: what the user calls it.
        architecture: name of the architecture.
        image_side_px: side of the square input.
        device: torch device, such as "cpu" or "cuda:0".
        precision: "fp32", "bf16" or "fp16", arithmetic of the encoder; the decoder always runs in fp32.
        weights_sha256: hash of the checkpoint file, "" when it came from none.
        encoder_sha256: hash of what an embedding owes to the network.
        asking: how prompts are put to the decoder.
        metadata: what the checkpoint says about itself, such as its preprocessing or a fitted prior weight.
        sam: the torch module.
        may_use_cpu: whether the network is moved to the CPU when one slice or prompt does not fit the device.
        memory: what the device was found to hold.
    """

    name: str
    architecture: str
    image_side_px: int
    device: str
    precision: str
    weights_sha256: str
    encoder_sha256: str
    asking: Asking
    metadata: Mapping[str, str]
    sam: Sam = field(repr=False)
    may_use_cpu: bool = False
    memory: DeviceMemory = field(default_factory=DeviceMemory, repr=False)

    @property
    def runtime(self) -> str:
        """What runs it."""
        return "torch"

    def encode(
        self, slices: Sequence[NDArray[np.uint8]], batch_size: int | None = None, keep: Keep = keep_nothing
    ) -> list[Embedding]:
        """Embeddings of (rows, columns) uint8 slices, in their order; each is given to `keep` as soon as it is there.

        Raises:
            DeviceMemoryFault: one slice alone does not fit the device's memory, and the CPU may not be used.
        """
        return self._where_it_fits(
            lambda: encode_slices(
                self.sam, slices, precision=self.precision, batch_size=batch_size, memory=self.memory, keep=keep
            )
        )

    def decode_slices(self, asked: Sequence[tuple[Embedding, Sequence[Prompt]]]) -> list[list[MaskPrediction]]:
        """Candidate masks for every prompt of some slices, in their order, at each slice's own size.

        Raises:
            DeviceMemoryFault: one prompt alone does not fit the device's memory, and the CPU may not be used.
        """
        return self._where_it_fits(lambda: decode_slices(self.sam, asked, asking=self.asking, memory=self.memory))

    def decode(self, embedding: Embedding, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Candidate masks for every prompt of one slice, see `decode_slices`."""
        return self.decode_slices([(embedding, prompts)])[0]

    @property
    def memory_notes(self) -> tuple[str, ...]:
        """What did not fit the device's memory, and what was done about it."""
        return self.memory.notes

    def _where_it_fits(self, compute: Callable[[], _Result]) -> _Result:
        """The result, from the CPU when the device cannot hold the least of it; the network then stays there."""
        try:
            return compute()
        except DeviceMemoryFault:
            if not self.may_use_cpu or self.precision == "fp16":  # which CPUs compute many times slower
                raise
        self.sam.to("cpu")
        self.memory.left_for_cpu = True
        return compute()


def make_model(
    sam: Sam,
    architecture: Architecture,
    *,
    name: str,
    device: str = "cpu",
    precision: str = "fp32",
    weights_sha256: str = "",
    metadata: Mapping[str, str] | None = None,
    may_use_cpu: bool = False,
) -> Model:
    """A `Model` round a network, moved to the device.

    Args:
        sam: network with its weights; it must not be trained on afterwards.
        architecture: how it was built.
        name: what the user calls it.
        device: torch device, already checked by `choose_device`.
        precision: already resolved by `choose_precision`.
        weights_sha256: hash of the file the weights came from.
        metadata: what that file says about itself.
        may_use_cpu: see `Model`.
    """
    sam = sam.to(device).eval()
    return Model(
        name=name,
        architecture=architecture.name,
        image_side_px=sam.image_encoder.img_size,
        device=device,
        precision=precision,
        weights_sha256=weights_sha256,
        encoder_sha256=encoder_sha256(sam, architecture.name),
        asking=architecture.asking,
        metadata=MappingProxyType(dict(metadata or {})),
        sam=sam,
        may_use_cpu=may_use_cpu,
    )


def choose_device(wanted: str = "auto") -> str:
    """The torch device meant by "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" takes the first GPU there is, else the CPU.

    Raises:
        UsageError: the name means nothing.
        EnvironmentFault: this machine has no such device.
    """
    kind, _, number = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"unknown device {wanted!r}", "Use auto, cpu, cuda, cuda:N or mps")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if kind == "auto":
        return "cuda:0" if gpus else "mps" if has_mps else "cpu"
    if kind == "cuda" and int(number or 0) >= gpus:
        raise EnvironmentFault(f"device {wanted} is not there: torch sees {gpus} CUDA devices", "Use --device cpu")
    if kind == "mps" and not has_mps:
        raise EnvironmentFault("device mps is not there", "Use --device cpu")
    return f"cuda:{int(number or 0)}" if kind == "cuda" else kind


def choose_precision(wanted: str, device: str, *, is_vit: bool = False) -> str:
    """The precision meant by "auto": bf16 where it pays, else fp32.

    It pays on a CUDA device that has it, and for a vision transformer on a CPU that has it, where encoding is nearly
    all of the time.

    Args:
        wanted: "auto", "fp32", "bf16" or "fp16".
        device: torch device, as from `choose_device`.
        is_vit: whether the encoder is segment-anything's vision transformer.

    Raises:
        UsageError: the name means nothing, or fp16 on a CPU, where it is many times slower than fp32.
    """
    if wanted not in PRECISIONS:
        raise UsageError(f"unknown precision {wanted!r}", f"Use {', '.join(PRECISIONS)}")
    if wanted == "fp16" and device == "cpu":
        raise UsageError("fp16 on a CPU is slower than fp32", "Use --precision bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "bf16" if is_vit and has_bf16(cpu_capabilities()) else "fp32"
    return "bf16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "fp32"


def has_bf16(capabilities: Mapping[str, object]) -> bool:
    """Whether a CPU with these capabilities multiplies in bf16.

    >>> has_bf16({"avx512_bf16": True, "amx_bf16": False}), has_bf16({"avx512_f": True})
    (True, False)
    """
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def cpu_capabilities() -> Mapping[str, object]:
    """What torch knows of this CPU, nothing where this torch cannot be asked."""
    ask = getattr(torch.cpu, "get_capabilities", dict)
    capabilities: Mapping[str, object] = ask()
    return capabilities


def available_devices() -> tuple[str, ...]:
    """What `choose_device` can choose here, with names of GPUs: ("cuda:0 (NVIDIA H200)", "cpu")."""
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    named = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in gpus]
    return (*named, *(["mps"] if torch.backends.mps.is_available() else []), "cpu")
