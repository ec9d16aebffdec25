"""Where msksam's own data and the user's folders are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent.parent


def bundled(relative: str = "") -> Path:
    """A file or folder of `models/`, whether installed from a wheel or run from the repository.

    A wheel carries the folder inside the package; an editable install has it beside the package.
    """
    inside = _PACKAGE / "models"
    return (inside if inside.is_dir() else _PACKAGE.parent / "models") / relative


def models_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of downloaded and imported checkpoints: `MSKSAM_MODELS`, else the platform's place for data."""
    chosen = environment.get("MSKSAM_MODELS")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("msksam") / "models"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Folder of the embedding cache: `MSKSAM_CACHE`, else the platform's place for caches."""
    chosen = environment.get("MSKSAM_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("msksam") / "embeddings"


def is_offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `MSKSAM_OFFLINE` forbids the network; "", "0" and "false" do not."""
    return environment.get("MSKSAM_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")
