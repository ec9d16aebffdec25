"""The models msksam knows by name, and the pins of those a user downloaded or imported."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msksam_cli.errors import ModelError
from msksam_cli.io.atomic import write_text

PIN_SUFFIX = ".pin.json"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: what the user calls it.
        arch: architecture of the network.
        file: name of the checkpoint; for a bundled model its path inside `models/`.
        licence: SPDX identifier of the weights' licence.
        summary: one line.
        url: where to download it; "" for a bundled model.
        sha256: pinned hash, "" when nobody citable published one.
        sha256_source: where the hash is published.
        size_bytes: size of the file, 0 when unknown.
        card: model card, a path inside `models/`.
        normalisation: what the encoder expects of grey levels, "imagenet" or "unit".
        fusion: how the prior weighs beside this model's logits, see `io.fusion_file`; empty when nobody fitted it.
    """

    name: str
    arch: str
    file: str
    licence: str
    summary: str
    url: str = ""
    sha256: str = ""
    sha256_source: str = ""
    size_bytes: int = 0
    card: str = ""
    normalisation: str = "imagenet"
    fusion: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_bundled(self) -> bool:
        """Whether the checkpoint comes with msksam."""
        return not self.url

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ModelError(f"model name {self.name!r} is not made of a-z, 0-9, dot, dash and underscore")
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise ModelError(f"model {self.name} has a sha256 that is not 64 hex digits")
        if self.url and not self.url.startswith("https://"):
            raise ModelError(f"model {self.name} has an address that is not https")


@dataclass(frozen=True)
class Pin:
    """A checkpoint in the user's folder and the hash it had when it came there.

    Attributes:
        name: what the user calls it.
        file: its name in the folder.
        sha256: hex digest, compared before every use.
        size_bytes: its size.
        origin: "registry", "first use" or "import".
        normalisation: what the encoder expects of grey levels, "imagenet" or "unit".
    """

    name: str
    file: str
    sha256: str
    size_bytes: int
    origin: str
    normalisation: str = "imagenet"


def read_registry(path: Path) -> tuple[ModelEntry, ...]:
    """Entries of a `registry.toml`, in its order.

    Raises:
        ModelError: the file cannot be read or an entry is not complete.
    """
    try:
        tables: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        entries = tuple(ModelEntry(**table) for table in tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"model registry {path.name} cannot be read: {error}", "Install msksam again") from error
    return entries


def read_pins(folder: Path) -> tuple[Pin, ...]:
    """Pins in the user's folder of models, by name.

    Raises:
        ModelError: a pin cannot be read.
    """
    return tuple(_read_pin(path) for path in sorted(folder.glob("*" + PIN_SUFFIX)))


def write_pin(folder: Path, pin: Pin) -> None:
    """Write a pin beside its checkpoint.

    Raises:
        ModelError: the name is not made of a-z, 0-9, dot, dash and underscore.
    """
    if not _NAME.fullmatch(pin.name):
        raise ModelError(
            f"model name {pin.name!r} is not made of a-z, 0-9, dot, dash and underscore", "Give another with --name"
        )
    write_text(folder / (pin.name + PIN_SUFFIX), json.dumps(asdict(pin), indent=1) + "\n")


def _read_pin(path: Path) -> Pin:
    try:
        pin = Pin(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read", "Delete it and import the model again") from error
    if not all(isinstance(text, str) for text in (pin.name, pin.file, pin.sha256, pin.origin, pin.normalisation)):
        raise ModelError(f"{path.name} holds values of another kind", "Delete it and import the model again")
    if not _SHA256.fullmatch(pin.sha256) or Path(pin.file).name != pin.file:
        raise ModelError(f"{path.name} names no file of its folder with a sha256", "Import the model again")
    return pin
