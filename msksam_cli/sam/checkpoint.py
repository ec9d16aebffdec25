"""Checkpoints: bytes of a file to a network, and back. Nothing in a checkpoint is ever executed.

Our own checkpoints are safetensors whose metadata says how to build the network and carries a sha256 over metadata
and tensors. PyTorch checkpoints (segment-anything, MedSAM and fine-tunes of them) are read with `weights_only=True`
and recognised by the shapes of their tensors.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from msksam_cli.core.quiet import without_warnings
from msksam_cli.errors import ModelError
from msksam_cli.sam.model import ARCHITECTURES, NORMALISATIONS, Architecture, Sam, build_sam
from msksam_cli.sam.resize import at_side, check_side

_ZIP_MAGIC, _PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, ImportError, OSError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip  # whatever torch's reader trips over in bytes that are no checkpoint
_HINT = "Get the file again, or choose another with --model"
_CONTENT_KEY = "content_sha256"
_THRESHOLD_KEY, _LARGEST_THRESHOLD = "mask_threshold", 10.0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and what is known about them.

    Attributes:
        architecture: how to build the network they belong to.
        image_side_px: side of the input they were trained for.
        tensors: name → tensor, as in `Sam.state_dict()`.
        metadata: what the file says about itself; empty for PyTorch checkpoints.
    """

    architecture: Architecture
    image_side_px: int
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def build(self, normalisation: str = "imagenet", side_px: int | None = None) -> Sam:
        """The network holding these weights, in float32 and evaluation mode.

        Args:
            normalisation: what the encoder expects of grey levels; the checkpoint's own metadata goes first.
            side_px: side of the square input; the checkpoint's own when None. For another one the positions of a
                vision transformer are interpolated, see `resize.at_side`.

        Raises:
            ModelError: tensors are missing, unknown, of another shape or not finite.
            UsageError: the encoder cannot have this side.
        """
        normalisation = self.metadata.get("normalisation", normalisation)
        if normalisation not in NORMALISATIONS:
            raise ModelError(f"unknown normalisation {normalisation!r}", f"Use {' or '.join(NORMALISATIONS)}")
        sam = build_sam(self.architecture, self.image_side_px, normalisation=normalisation)
        _check_tensors(self.architecture.name, sam.state_dict(), self.tensors)
        tensors = self.tensors
        if side_px and side_px != self.image_side_px:
            check_side(side_px, self.image_side_px)
            sam = build_sam(self.architecture, side_px, normalisation=normalisation)
            tensors = at_side(tensors, sam.state_dict())
        sam.load_state_dict(tensors)
        sam.mask_threshold = self.mask_threshold
        return sam

    @property
    def mask_threshold(self) -> float:
        """The logit above which a pixel is inside, 0 unless the checkpoint says otherwise.

        Raises:
            ModelError: what it says is no threshold.
        """
        text = self.metadata.get(_THRESHOLD_KEY, "0")
        try:
            threshold = float(text)
        except ValueError:
            threshold = math.nan
        if not abs(threshold) <= _LARGEST_THRESHOLD:
            raise ModelError(f"mask threshold {text!r} is no logit between ±{_LARGEST_THRESHOLD:g}", _HINT)
        return threshold


def parse_checkpoint(content: bytes, file_name: str) -> Checkpoint:
    """What a checkpoint file holds.

    Args:
        content: the whole file; a pinned hash must have been compared before.
        file_name: for messages.

    Raises:
        ModelError: the bytes are no checkpoint, are damaged, carry anything but tensors, or belong to no
            architecture msksam knows.
    """
    if not content:
        raise ModelError(f"{file_name} is empty", _HINT)
    if content.startswith((_ZIP_MAGIC, _PICKLE_MAGIC)):
        return _from_tensors(_parse_torch(content, file_name), {}, file_name)
    if content[8:9] == b"{":
        metadata, tensors = _parse_own(content, file_name)
        return _from_tensors(tensors, metadata, file_name)
    kind = "a web page" if re.match(rb"\s*<(!doctype|html|\?xml)", content[:200], re.IGNORECASE) else "unknown bytes"
    raise ModelError(f"{file_name} is {kind}, not a checkpoint", _HINT)


def dump_checkpoint(
    sam: Sam, architecture: str, *, name: str, preprocessing: str, half: bool = True, **extra: str
) -> bytes:
    """A safetensors file with the network's weights and what is needed to build it again.

    Args:
        sam: the network.
        architecture: its name in `ARCHITECTURES`.
        name: name of the model.
        preprocessing: version of the rules from volume to network input it was trained with.
        half: store floating-point tensors as float16.
        extra: further metadata, such as the licence or the fitted prior weight.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in sam.state_dict().items()}
    if half:
        tensors = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    metadata = {
        **extra,
        "arch": architecture,
        "image_side_px": str(sam.image_encoder.img_size),
        "name": name,
        "preprocessing": preprocessing,
    }
    if sam.mask_threshold:
        metadata[_THRESHOLD_KEY] = str(sam.mask_threshold)
    metadata[_CONTENT_KEY] = _content_sha256(metadata, tensors)
    return _with_sorted_header(dump_safetensors(tensors, metadata))


def _with_sorted_header(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order of key, so that equal networks give equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _content_sha256(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    plain = {key: value for key, value in metadata.items() if key != _CONTENT_KEY}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parse_own(content: bytes, file_name: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        tensors: dict[str, Tensor] = parse_safetensors(content)
        header_bytes = int.from_bytes(content[:8], "little")
        metadata: dict[str, str] = json.loads(content[8 : 8 + header_bytes]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{file_name} is damaged: not a complete safetensors file", _HINT) from error
    if _CONTENT_KEY in metadata and metadata[_CONTENT_KEY] != _content_sha256(metadata, tensors):
        raise ModelError(f"{file_name} is damaged: its content does not have the sha256 it was written with", _HINT)
    return metadata, tensors


def load_torch(content: bytes, file_name: str, device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote: tensors and plain values; nothing is executed.

    Args:
        content: the whole file.
        file_name: for messages.
        device: where the tensors go.

    Raises:
        ModelError: the bytes are damaged or hold anything else.
    """
    try:
        if content.startswith(_ZIP_MAGIC):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                broken = archive.testzip()  # torch itself does not compare the checksums
            if broken:
                raise ModelError(f"{file_name} is damaged: checksum of {broken} differs", _HINT)
        with without_warnings():  # about pickle protocols; what cannot be read raises
            return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except _UNREADABLE as error:
        reason = "it holds code, not only tensors" if "weights_only" in str(error).lower() else "it is damaged"
        raise ModelError(f"{file_name} was not loaded: {reason}", _HINT) from error


def _parse_torch(content: bytes, file_name: str) -> dict[str, Tensor]:
    loaded = load_torch(content, file_name)
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(f"{file_name} holds no plain table of tensors", _HINT)
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def _from_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file_name: str) -> Checkpoint:
    recognised = _recognise(tensors)
    name = metadata.get("arch", recognised)
    if name is None or name not in ARCHITECTURES:
        raise ModelError(
            f"{file_name} belongs to {'an unknown architecture' if name is None else name!r}",
            f"Use a checkpoint of {', '.join(ARCHITECTURES)}",
        )
    if recognised != name:
        raise ModelError(f"{file_name} says it is {name}, its tensors say {recognised or 'something else'}", _HINT)
    architecture = ARCHITECTURES[name]
    side = metadata.get("image_side_px", str(_side_px(tensors) or architecture.image_side_px))
    if not side.isdecimal() or not 64 <= int(side) <= 4096:
        raise ModelError(f"{file_name} gives its input side as {side!r} pixels", _HINT)
    return Checkpoint(architecture, int(side), tensors, metadata)


def _recognise(tensors: Mapping[str, Tensor]) -> str | None:
    """The architecture whose encoder has these tensors, or None."""
    if "image_encoder.stem.0.weight" in tensors:
        return "msksam_small"
    patches = tensors.get("image_encoder.patch_embed.proj.weight")
    if patches is None:
        return None
    blocks = {match[1] for name in tensors if (match := re.match(r"image_encoder\.blocks\.(\d+)\.", name))}
    by_size = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
    return by_size.get((patches.shape[0], len(blocks)))


def _side_px(tensors: Mapping[str, Tensor]) -> int | None:
    positions = tensors.get("image_encoder.pos_embed")
    return int(positions.shape[1]) * 16 if positions is not None and positions.ndim == 4 else None


def _check_tensors(arch: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(
            name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape
        ),
        "not finite": sorted(name for name, tensor in found.items() if not torch.isfinite(tensor).all()),
    }
    for problem, names in problems.items():
        if names:
            raise ModelError(
                f"weights do not fit {arch}: {len(names)} of {len(expected)} tensors {problem}, such as {names[0]}",
                _HINT,
            )
