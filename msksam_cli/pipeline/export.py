"""A model exported to ONNX: graphs written, run beside torch, and kept only if they give the same masks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msksam_cli import __version__
from msksam_cli.errors import EnvironmentFault, ParityError, UsageError
from msksam_cli.io.atomic import atomic_folder, clean_temporaries
from msksam_cli.io.onnx_folder import DECODER_FILE, ENCODER_FILE, PARITY_FILE, graph_hashes, other_files
from msksam_cli.io.tables import write_json
from msksam_cli.pipeline.environment import package_versions
from msksam_cli.pipeline.fusion_weights import as_metadata, fusion_rules
from msksam_cli.pipeline.models import DEFAULT_MODEL, load_model, locate_model
from msksam_cli.pipeline.onnx_models import export_folder
from msksam_cli.sam.onnx_network import OnnxModel, OnnxNetwork, open_network
from msksam_cli.sam.parity import SMALLEST_IOU, Parity, measure_parity

if TYPE_CHECKING:
    from msksam_cli.sam.runtime import Model

DEFAULT_OPSET = 18

WriteGraphs = Callable[["Model", Path, Path, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `msksam export-onnx`.

    Attributes:
        model: name of a model or a checkpoint file.
        output: folder to write; None for the model's own in the folder of models, where `segment` finds it.
        opset: ONNX operator set.
    """

    model: str = DEFAULT_MODEL
    output: Path | None = None
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True)
class DeviceParity:
    """What was found on one device.

    Attributes:
        device: "cpu" or "cuda:N".
        providers: what onnxruntime really ran there.
        found: differences from torch by slice and kind of prompt.
    """

    device: str
    providers: tuple[str, ...]
    found: tuple[Parity, ...]

    @property
    def smallest_iou(self) -> float:
        """Smallest IoU of two masks that should be one."""
        return min(parity.mask_iou for parity in self.found)

    @property
    def largest_logit_difference(self) -> float:
        """Largest difference of two logits that should be one."""
        return max(parity.logit_difference for parity in self.found)

    @property
    def largest_embedding_difference(self) -> float:
        """Largest relative L2 distance of two embeddings that should be one."""
        return max(parity.embedding_difference for parity in self.found)


@dataclass(frozen=True)
class Exported:
    """An export that is written.

    Attributes:
        folder: where it is.
        model: what it is.
        parity: what was found on each device it was run on.
        file_bytes: name → size of each file.
        seconds: it took.
    """

    folder: Path
    model: OnnxModel
    parity: tuple[DeviceParity, ...]
    file_bytes: dict[str, int]
    seconds: float


def export_onnx(options: ExportOptions, *, write: WriteGraphs | None = None) -> Exported:
    """Export a model; nothing is left behind unless every mask is torch's own.

    Args:
        options: what is wanted.
        write: what writes the graphs of a model into two files, for an operator set; msksam's own when None.

    Raises:
        UsageError: an unknown model or operator set, or a folder that holds other files.
        ModelError: the checkpoint is missing or damaged.
        ParityError: a mask differs from torch's.
        EnvironmentFault: the folder cannot be written.
    """
    from msksam_cli.sam.onnx_graphs import onnx_model_of

    started = time.monotonic()
    model = load_model(options.model, device="cpu", precision="fp32")
    described = onnx_model_of(model, locate_model(options.model).normalisation)
    folder = options.output or export_folder(model.name, model.weights_sha256)
    _prepare(folder)
    with atomic_folder(folder, PARITY_FILE) as temporary:
        encoder, decoder = temporary / ENCODER_FILE, temporary / DECODER_FILE
        (write or _write_graphs)(model, encoder, decoder, options.opset)
        parity = tuple(_parity(model, network) for network in _networks(described, encoder, decoder))
        _refuse_differences(parity)
        content = {
            "msksam": __version__,
            "model": asdict(described),
            "files": graph_hashes(temporary),
            "opset": options.opset,
            "smallest_iou_allowed": SMALLEST_IOU,
            "parity": [asdict(one) for one in parity],
            "fusion": as_metadata(fusion_rules(options.model, model)),
            "versions": package_versions(),
        }
        write_json(temporary / PARITY_FILE, content)
        file_bytes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    return Exported(folder, described, parity, file_bytes, time.monotonic() - started)


def export_values(exported: Exported) -> dict[str, object]:
    """The result as plain values."""
    return {
        "folder": str(exported.folder),
        "model": exported.model.name,
        "files": exported.file_bytes,
        "seconds": round(exported.seconds, 1),
        "parity": [asdict(one) for one in exported.parity],
    }


def export_text(exported: Exported) -> str:
    """The result for people: what was found on each device, then each file, then the folder."""
    devices = [
        f"{one.device} ({', '.join(one.providers)}): smallest mask IoU {one.smallest_iou:.5f}, "
        f"largest logit difference {one.largest_logit_difference:.1e}, "
        f"embedding difference {one.largest_embedding_difference:.1e}"
        for one in exported.parity
    ]
    files = [f"{size / 1e6:8.1f} MB  {name}" for name, size in exported.file_bytes.items()]
    return "\n".join((*devices, *files, str(exported.folder)))


def _prepare(folder: Path) -> None:
    """Clear what a killed export left; refuse a folder that is used for something else."""
    if folder.is_dir():
        clean_temporaries(folder)
    others = other_files(folder)
    if others:
        raise UsageError(f"folder {folder.name} holds other files, such as {others[0]}", "Choose another with -o")


def _write_graphs(model: Model, encoder: Path, decoder: Path, opset: int) -> None:
    from msksam_cli.sam.onnx_graphs import write_graphs

    write_graphs(model.sam, model.asking, encoder, decoder, opset=opset)


def _networks(model: OnnxModel, encoder: Path, decoder: Path) -> Sequence[OnnxNetwork]:
    """The export on the CPU, and on a GPU too where onnxruntime can use one."""
    on_cpu = open_network(model, encoder, decoder, "cpu")
    try:
        return on_cpu, open_network(model, encoder, decoder, "cuda")
    except EnvironmentFault:
        return (on_cpu,)


def _parity(model: Model, network: OnnxNetwork) -> DeviceParity:
    return DeviceParity(network.device, network.providers, measure_parity(model, network))


def _refuse_differences(parity: Sequence[DeviceParity]) -> None:
    for one in parity:
        worst = min(one.found, key=lambda found: (found.holds, found.mask_iou))
        if not worst.holds:
            rows, columns = worst.slice_shape
            raise ParityError(
                f"masks of the exported model differ from torch's on {one.device}: IoU {worst.mask_iou:.4f}, "
                f"{worst.pixels_apart} pixels, where {SMALLEST_IOU} or one pixel is allowed (slice of "
                f"{rows} x {columns}, prompts: {worst.prompts})",
                "Use the model with --runtime torch",
            )
