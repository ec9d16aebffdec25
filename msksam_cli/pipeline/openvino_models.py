"""Models whose encoder OpenVINO runs: when it does, and the translated encoder kept from run to run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

from msksam_cli.core.cores import cores, cores_with_memory
from msksam_cli.errors import UsageError
from msksam_cli.io.openvino_folder import keep_graph, kept_graph
from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.openvino_encoder import (
    Graph,
    OpenVinoNetwork,
    choose_openvino_precision,
    compiled,
    converted,
    import_openvino,
    save_graph,
)
from msksam_cli.sam.runtime import Model, choose_device, cpu_capabilities, has_bf16

_TRANSLATION = "1"  # to be raised when encoders are translated in another way
_LARGE_SIDE_PX = 1024
_BYTES_PER_LARGE_SLICE = 3 * 1024**3 // 2  # ViT-B takes 1 GiB in single precision
_KEY_DIGITS = 32


def load_openvino_network(
    name_or_file: str,
    *,
    device: str = "auto",
    precision: str = "auto",
    image_side_px: int | None = None,
    keep_in: Path | None = None,
) -> OpenVinoNetwork:
    """A network whose encoder OpenVINO runs on the CPU; see `load_model` and `open_openvino_network`.

    Raises:
        UsageError: an unknown model, device or precision, a device that is no CPU, or a side it cannot have.
        EnvironmentFault: openvino is not installed or fails, or its files cannot be written.
        ModelError: the checkpoint is missing, changed or damaged.
    """
    found = choose_device(device)
    if found != "cpu":
        raise UsageError(f"openvino encodes on the CPU, not on {found}", "Use --device cpu, or --runtime torch")
    import_openvino()
    precision = choose_openvino_precision(precision, has_bf16(cpu_capabilities()))
    model = load_model(name_or_file, device="cpu", image_side_px=image_side_px)
    return open_openvino_network(model, precision, keep_in)


def open_openvino_network(model: Model, precision: str, keep_in: Path | None = None) -> OpenVinoNetwork:
    """A loaded network with its encoder translated for OpenVINO.

    Args:
        model: the network in torch, on the CPU.
        precision: "fp32" or "bf16".
        keep_in: folder in which translated encoders are kept, one folder each; None to keep none.

    Raises:
        EnvironmentFault: openvino is not installed or fails, or the folder cannot be written.
    """
    is_large = model.image_side_px >= _LARGE_SIDE_PX
    streams = cores_with_memory(_BYTES_PER_LARGE_SLICE) if is_large else cores()
    graph = converted(model.sam) if keep_in is None else _kept(model, keep_in)
    return OpenVinoNetwork(model, precision, compiled(graph, precision, streams))


def _kept(model: Model, keep_in: Path) -> Graph | Path:
    """The file of a translated encoder; made when there is none, or none that is intact."""
    versions = (importlib.metadata.version(name) for name in ("openvino", "torch"))
    owed_to = (_TRANSLATION, model.encoder_sha256, str(model.image_side_px), *versions)
    folder = keep_in / hashlib.sha256("\n".join(owed_to).encode()).hexdigest()[:_KEY_DIGITS]
    return kept_graph(folder) or keep_graph(folder, lambda path: save_graph(converted(model.sam), path))
