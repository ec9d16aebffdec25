"""Models by name or file: listed, downloaded, imported, verified and loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from msksam_cli.errors import ModelError, MsksamError, UsageError
from msksam_cli.io.atomic import atomic_path
from msksam_cli.io.registry import ModelEntry, Pin, read_pins, read_registry, write_pin
from msksam_cli.io.resources import bundled, is_offline, models_folder
from msksam_cli.io.weights import Progress, download, file_sha256, hash_mismatch, read_weights

if TYPE_CHECKING:
    from msksam_cli.sam.runtime import Model

DEFAULT_MODEL = "msksam-small"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")


@dataclass(frozen=True)
class ModelState:
    """A model msksam knows by name, and whether its checkpoint is here.

    Attributes:
        name: what the user calls it.
        state: "bundled", "ready" or "not downloaded".
        arch: architecture, "" for an imported model.
        licence: SPDX identifier, "" for an imported model.
        size_bytes: size of the checkpoint.
        sha256: pinned hash, "" when none is pinned yet.
        summary: one line.
    """

    name: str
    state: str
    arch: str
    licence: str
    size_bytes: int
    sha256: str
    summary: str


@dataclass(frozen=True)
class LocatedModel:
    """Where a model's checkpoint is and what must be true of it.

    Attributes:
        name: what the user called it, or the file's stem.
        path: the checkpoint.
        sha256: pinned hash, "" for a file the user named directly.
        normalisation: what its encoder expects of grey levels.
        fusion: table of fusion weights that the registry has for it, empty when it has none.
    """

    name: str
    path: Path
    sha256: str
    normalisation: str = "imagenet"
    fusion: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """Whether a checkpoint here still has its pinned hash; `problem` is "" when it has."""

    name: str
    problem: str


def list_models(folder: Path | None = None) -> tuple[ModelState, ...]:
    """Every model of the registry, then every imported one.

    Raises:
        ModelError: the registry or a pin cannot be read.
    """
    registry = _registry()
    pins = {pin.name: pin for pin in read_pins(folder or models_folder())}
    known = [_state_of(entry, pins.get(entry.name)) for entry in registry]
    names = {entry.name for entry in registry}
    imported = [
        ModelState(pin.name, "ready", "", "", pin.size_bytes, pin.sha256, f"imported as {pin.file}")
        for pin in pins.values()
        if pin.name not in names
    ]
    return (*known, *imported)


def models_text(models: tuple[ModelState, ...]) -> str:
    """A table for people, one line per model."""
    width = max(len(model.name) for model in models)
    rows = ((f"{m.name:<{width}}", f"{m.state:<14}", _size_text(m.size_bytes), m.licence, m.summary) for m in models)
    return "\n".join("  ".join(row) for row in rows)


def locate_model(name_or_file: str, folder: Path | None = None) -> LocatedModel:
    """The checkpoint meant by a model's name or by a path; nothing is downloaded.

    Raises:
        UsageError: no model has this name and no file is there.
        ModelError: the model is known but its checkpoint is not here.
    """
    path = Path(name_or_file)
    if is_file_name(name_or_file):
        if not path.is_file():
            raise ModelError(f"checkpoint {path.name} is not there", "Check --model")
        return LocatedModel(path.stem, path, "")
    folder = folder or models_folder()
    pin = next((pin for pin in read_pins(folder) if pin.name == name_or_file), None)
    if pin:
        return LocatedModel(pin.name, folder / pin.file, pin.sha256, pin.normalisation)
    entry = _entry(name_or_file)
    if not entry.is_bundled:
        raise ModelError(f"model {entry.name} is not downloaded", f"Run `msksam models download {entry.name}`")
    return LocatedModel(entry.name, bundled(entry.file), entry.sha256, entry.normalisation, entry.fusion)


def is_file_name(name_or_file: str) -> bool:
    """Whether what a user calls a model is a checkpoint file rather than a name."""
    path = Path(name_or_file)
    return path.is_file() or path.suffix in CHECKPOINT_SUFFIXES


def load_model(
    name_or_file: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    precision: str = "auto",
    image_side_px: int | None = None,
) -> Model:
    """A network ready to run.

    The file's hash is compared before anything in it is read, and the bytes hashed are the bytes parsed.

    Args:
        name_or_file: a model's name, or a checkpoint file.
        device: see `choose_device`.
        precision: see `choose_precision`.
        image_side_px: side of the square input; the checkpoint's own when None.

    Raises:
        UsageError: an unknown model, device or precision, or a side the network cannot have.
        EnvironmentFault: the device is not there.
        ModelError: the checkpoint is missing, changed, damaged or of no architecture msksam knows.
    """
    from msksam_cli.sam.checkpoint import parse_checkpoint
    from msksam_cli.sam.runtime import choose_device, choose_precision, make_model
    from msksam_cli.sam.vit import is_vit

    torch_device = choose_device(device)
    choose_precision(precision, torch_device)  # refuses what nothing can run before the file is read
    located = locate_model(name_or_file)
    weights = read_weights(located.path, located.sha256)
    checkpoint = parse_checkpoint(weights.content, weights.name)
    sam = checkpoint.build(located.normalisation, image_side_px)
    return make_model(
        sam,
        checkpoint.architecture,
        name=located.name,
        device=torch_device,
        precision=choose_precision(precision, torch_device, is_vit=is_vit(sam.image_encoder)),
        weights_sha256=weights.sha256,
        metadata=checkpoint.metadata,
        may_use_cpu=device == "auto",
    )


def download_model(
    name: str,
    *,
    accept_unverified: bool = False,
    folder: Path | None = None,
    progress: Progress | None = None,
    fetch: Callable[..., str] = download,
) -> Path:
    """Download a model of the registry into the user's folder and pin its hash; return its path.

    Args:
        name: a name in the registry.
        accept_unverified: take a file whose hash nobody citable published; the hash found is pinned.
        folder: the user's folder of models.
        progress: told bytes so far and in all.
        fetch: what fetches, with the signature of `io.weights.download`.

    Raises:
        UsageError: the name is unknown.
        ModelError: offline, bundled, unverified without consent, or the transfer failed.
        EnvironmentFault: the folder cannot be written.
    """
    entry = _entry(name)
    if entry.is_bundled:
        raise ModelError(f"model {name} comes with msksam", "Use it without downloading")
    if is_offline():
        raise ModelError(f"model {name} was not downloaded: MSKSAM_OFFLINE is set", "Unset it, or import a file")
    if not entry.sha256 and not accept_unverified:
        raise ModelError(
            f"nobody citable has published the sha256 of {name}",
            f"Run `msksam models download {name} --unverified` to trust the first download and pin it",
        )
    folder = folder or models_folder()
    target = folder / entry.file
    found = fetch(entry.url, target, entry.sha256, progress=progress)
    origin = "registry" if entry.sha256 else "first use"
    write_pin(folder, Pin(name, entry.file, found, target.stat().st_size, origin, entry.normalisation))
    return target


def download_with_bar(name: str, *, accept_unverified: bool = False) -> Path:
    """`download_model` with a progress bar on stderr."""
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, desc=name, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return download_model(name, accept_unverified=accept_unverified, progress=show)


def import_model(
    file: Path,
    *,
    name: str = "",
    sha256: str = "",
    normalisation: str = "",
    folder: Path | None = None,
) -> Pin:
    """Copy a checkpoint into the user's folder, after proving that it loads, and pin its hash.

    A file named like one of the registry, or given its name, must have the registry's hash if there is one.

    Raises:
        ModelError: the file cannot be read, has another hash, or is no checkpoint msksam can build.
        UsageError: the name belongs to a bundled model.
        EnvironmentFault: the folder cannot be written.
    """
    from msksam_cli.sam.checkpoint import parse_checkpoint

    entry = next((entry for entry in _registry() if name == entry.name or (not name and file.name == entry.file)), None)
    if entry and entry.is_bundled:
        raise UsageError(f"{entry.name} is the name of the bundled model", "Give another with --name")
    weights = read_weights(file, sha256.lower() or (entry.sha256 if entry else ""))
    grey_levels = normalisation or (entry.normalisation if entry else "imagenet")
    parse_checkpoint(weights.content, weights.name).build(grey_levels)
    name = name or (entry.name if entry else file.stem.lower().replace(" ", "-"))
    folder = folder or models_folder()
    pin = Pin(name, name + file.suffix, weights.sha256, len(weights.content), "import", grey_levels)
    write_pin(folder, pin)
    with atomic_path(folder / pin.file) as temporary:
        shutil.copyfile(file, temporary)
    if file_sha256(folder / pin.file) != weights.sha256:
        raise ModelError(f"{file.name} changed while it was imported", "Import it again")
    return pin


def verify_models(folder: Path | None = None) -> tuple[Verification, ...]:
    """Compare the hash of every checkpoint here with its pin."""
    folder = folder or models_folder()
    here = [LocatedModel(pin.name, folder / pin.file, pin.sha256) for pin in read_pins(folder)]
    here += [LocatedModel(entry.name, bundled(entry.file), entry.sha256) for entry in _registry() if entry.is_bundled]
    return tuple(Verification(located.name, _problem(located)) for located in here)


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:4.0f} MB" if size_bytes else "   ? MB"


def _problem(located: LocatedModel) -> str:
    try:
        found = file_sha256(located.path)
        if located.sha256 and found != located.sha256:
            raise hash_mismatch(located.path.name, located.sha256, found)
    except MsksamError as error:
        return str(error)
    return "" if located.sha256 else "no hash is pinned"


def _registry() -> tuple[ModelEntry, ...]:
    return read_registry(bundled("registry.toml"))


def _entry(name: str) -> ModelEntry:
    registry = _registry()
    for entry in registry:
        if entry.name == name:
            return entry
    raise UsageError(
        f"no model is called {name!r}",
        f"Use {', '.join(entry.name for entry in registry)}, an imported model or a checkpoint file",
    )


def _state_of(entry: ModelEntry, pin: Pin | None) -> ModelState:
    state = "bundled" if entry.is_bundled else "ready" if pin else "not downloaded"
    known = ModelState(entry.name, state, entry.arch, entry.licence, entry.size_bytes, entry.sha256, entry.summary)
    if entry.is_bundled and bundled(entry.file).is_file():
        return replace(known, size_bytes=bundled(entry.file).stat().st_size)
    return replace(known, size_bytes=pin.size_bytes, sha256=pin.sha256) if pin else known
