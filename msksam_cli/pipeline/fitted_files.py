"""Files of what was fitted for a checkpoint: where they are kept, and whether they belong to it."""

from __future__ import annotations

from pathlib import Path

from msksam_cli.errors import ModelError
from msksam_cli.io.resources import models_folder
from msksam_cli.network import Network
from msksam_cli.pipeline.models import is_file_name


def path_beside(name_or_file: str, suffix: str, folder: Path | None = None) -> Path:
    """Beside a checkpoint file, else by the model's name in a folder, the user's folder of models when None."""
    if is_file_name(name_or_file):
        file = Path(name_or_file)
        return file.with_name(file.name + suffix)
    return (folder or models_folder()) / (name_or_file + suffix)


def check_fitted_for(path: Path, weights_sha256: str, model: Network, command: str) -> None:
    """Refuse what was fitted for another checkpoint.

    Args:
        path: the file.
        weights_sha256: what it says it was fitted for.
        model: what it is to be used with.
        command: what fits it again.

    Raises:
        ModelError: they differ.
    """
    if weights_sha256 != model.weights_sha256:
        raise ModelError(
            f"{path.name} was fitted for weights {weights_sha256[:16]}…, {model.name} has {model.weights_sha256[:16]}…",
            f"Delete it or fit again with `{command}`",
        )
