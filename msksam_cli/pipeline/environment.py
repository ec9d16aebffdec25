"""What msksam runs on: versions, devices, folders. Asked by `msksam info`, kept in run records."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from msksam_cli import __version__
from msksam_cli.core.cores import cores
from msksam_cli.io.resources import cache_folder, is_offline, models_folder

PACKAGES = (
    "torch", "segment-anything", "numpy", "scipy", "SimpleITK", "nibabel", "pydicom", "dicom2nifti", "safetensors",
    "pillow", "onnxruntime", "onnxruntime-gpu", "onnx", "onnxscript", "openvino",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """Attributes name what they hold; folders are written with `~` for the user's home."""

    msksam: str
    python: str
    system: str
    cores: int
    devices: tuple[str, ...]
    packages: dict[str, str]
    models_folder: str
    cache_folder: str
    offline: bool


def describe_environment() -> Environment:
    """The environment as it is now; imports torch to ask for devices."""
    return Environment(
        msksam=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=cores(),
        devices=_devices(),
        packages=package_versions(),
        models_folder=_without_home(models_folder()),
        cache_folder=_without_home(cache_folder()),
        offline=is_offline(),
    )


def environment_text(environment: Environment) -> str:
    """Lines for people."""
    packages = (f"  {name} {version}" for name, version in environment.packages.items())
    lines = (
        f"msksam {environment.msksam}, Python {environment.python}, {environment.system}, {environment.cores} cores",
        f"devices: {', '.join(environment.devices)}",
        f"models:  {environment.models_folder}",
        f"cache:   {environment.cache_folder}",
        f"network: {'never (MSKSAM_OFFLINE)' if environment.offline else 'only by msksam models download'}",
        "packages:",
        *packages,
    )
    return "\n".join(lines)


def _devices() -> tuple[str, ...]:
    from msksam_cli.sam.runtime import available_devices

    return available_devices()


def package_versions() -> dict[str, str]:
    """Package → version, of those installed that results depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _without_home(folder: Path) -> str:
    return f"~/{folder.relative_to(Path.home())}" if folder.is_relative_to(Path.home()) else str(folder)
