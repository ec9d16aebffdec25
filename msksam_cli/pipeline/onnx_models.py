"""Exported models by name, checkpoint or folder: where they are, and loaded for onnxruntime. Never imports torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msksam_cli.errors import ModelError
from msksam_cli.io.onnx_folder import DECODER_FILE, ENCODER_FILE, find_onnx_folder, is_onnx_folder, read_onnx_folder
from msksam_cli.io.resources import models_folder
from msksam_cli.io.weights import file_sha256
from msksam_cli.pipeline.models import locate_model
from msksam_cli.sam.onnx_network import OnnxNetwork, open_network, parse_onnx_model

_HASH_DIGITS = 8


def exports_folder() -> Path:
    """Where exports are kept that nobody gave another place: `onnx` in the folder of models."""
    return models_folder() / "onnx"


def export_folder(name: str, weights_sha256: str) -> Path:
    """Where the export of a model is kept; another checkpoint of its name gets another folder."""
    return exports_folder() / f"{name}-{weights_sha256[:_HASH_DIGITS]}"


def locate_export(name_or_path: str) -> Path:
    """The export meant by its folder, or by the name or checkpoint file of the model it was made from.

    Raises:
        UsageError: no model has this name.
        ModelError: the model's checkpoint is not here, or it is not exported.
    """
    if is_onnx_folder(Path(name_or_path)):
        return Path(name_or_path)
    located = locate_model(name_or_path)
    wanted = {
        "weights_sha256": located.sha256 or file_sha256(located.path),
        "normalisation": located.normalisation,
    }
    folder = find_onnx_folder(exports_folder(), wanted)
    if folder is None:
        name = name_or_path if name_or_path == located.name else located.path.name
        raise ModelError(f"model {located.name} is not exported", f"Run `msksam export-onnx --model {name}`")
    return folder


def load_onnx_network(name_or_path: str, device: str = "auto") -> OnnxNetwork:
    """An exported network ready to run; the hash of every file is compared before any is opened.

    An export named by its folder brings the fusion weights that its model had; one found by a model's name or file
    leaves them to what belongs to that model now.

    Raises:
        UsageError: an unknown model or device.
        ModelError: it is not exported, or a file of the export is missing, changed or damaged.
        EnvironmentFault: onnxruntime cannot use the device.
    """
    folder = locate_export(name_or_path)
    content = read_onnx_folder(folder)
    model = parse_onnx_model(content["model"], f"parity.json in {folder.name}")
    fusion = content.get("fusion")
    if folder == Path(name_or_path) and isinstance(fusion, dict):
        model = replace(model, metadata={**model.metadata, **fusion})
    return open_network(model, folder / ENCODER_FILE, folder / DECODER_FILE, device)
