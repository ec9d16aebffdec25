"""The image encoder run by OpenVINO on a CPU, several slices side by side; masks are decoded by torch.

The encoder is translated as it stands, with the one shape it is made for, and its arithmetic is named, never left to
OpenVINO's choice. One thread of Python at a time puts slices in and takes features out, and OpenVINO's own threads do
the rest. Asked by several at once for the first time, version 2026.4 may never answer (they wait for each other in
`Type.to_dtype`), and where threads that ask and requests come and go, memory is overwritten. So requests are made once.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msksam_cli.core.cores import spread_over_cores
from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import EnvironmentFault
from msksam_cli.network import Keep, keep_nothing
from msksam_cli.sam.encode import model_input
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import Sam
from msksam_cli.sam.quiet_exporter import quiet_exporter
from msksam_cli.sam.runtime import Model, choose_precision

OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}

Graph = Any  # openvino.Model
InferRequest = Any  # openvino.InferRequest


@dataclass(frozen=True, eq=False)
class CompiledEncoder:
    """An encoder made ready for this CPU, (1, 3, S, S) float32 to (1, 256, h, w) float32.

    Attributes:
        requests: what carries one slice each; they compute side by side.
        turn: held by the thread that asks.
    """

    requests: tuple[InferRequest, ...]
    turn: threading.Lock = field(default_factory=threading.Lock)

    def features(self, images: Iterable[NDArray[np.float32]], together: int | None = None) -> list[NDArray[np.float16]]:
        """Features (256, h, w) of images (1, 3, S, S), in their order.

        Args:
            images: taken one by one, each while others are being computed.
            together: how many are computed at any time; as many as there are requests when None.

        Raises:
            EnvironmentFault: OpenVINO fails, as when memory is used up.
        """
        with self.turn:
            try:
                return list(_in_turns(self.requests[:together], images))
            except (RuntimeError, MemoryError) as error:
                raise EnvironmentFault(
                    "openvino failed while it encoded, perhaps for want of memory", "Use --runtime torch"
                ) from error


def _in_turns(requests: Sequence[InferRequest], images: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float16]]:
    free, busy = list(requests), deque[InferRequest]()
    for image in images:
        if not free:
            yield _features(busy[0])
            free.append(busy.popleft())
        busy.append(free.pop())
        busy[-1].start_async([image])
    for request in busy:
        yield _features(request)


def _features(request: InferRequest) -> NDArray[np.float16]:
    request.wait()
    return np.array(request.get_output_tensor().data[0], dtype=np.float16)


@dataclass(frozen=True, eq=False)
class OpenVinoNetwork:
    """A network whose encoder is OpenVINO's and whose decoder is torch's: a `network.Network`.

    Attributes:
        model: the network in torch, on the CPU.
        precision: "fp32" or "bf16", arithmetic of the encoder.
        encoder: compiled in this precision.
    """

    model: Model
    precision: str
    encoder: CompiledEncoder = field(repr=False)

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.model.name

    @property
    def image_side_px(self) -> int:
        """Side of the square input."""
        return self.model.image_side_px

    @property
    def device(self) -> str:
        """Where it runs."""
        return "cpu"

    @property
    def runtime(self) -> str:
        """What runs the encoder."""
        return "openvino"

    @property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint file, "" when it came from none."""
        return self.model.weights_sha256

    @property
    def encoder_sha256(self) -> str:
        """Hash of what an embedding owes to the network."""
        return self.model.encoder_sha256

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the checkpoint says about itself."""
        return self.model.metadata

    @property
    def memory_notes(self) -> tuple[str, ...]:
        """Nothing: the CPU takes each slice by itself."""
        return ()

    def encode(
        self, slices: Sequence[NDArray[np.uint8]], batch_size: int | None = None, keep: Keep = keep_nothing
    ) -> list[Embedding]:
        """Embeddings of (rows, columns) uint8 slices, in their order; `batch_size` at once, no more than cores.

        They are given to `keep` when all are there.

        Raises:
            EnvironmentFault: OpenVINO fails, as when memory is used up.
        """
        arrays = self.encoder.features((self._model_input(pixels) for pixels in slices), batch_size)
        shapes = [(pixels.shape[0], pixels.shape[1]) for pixels in slices]
        embeddings = [Embedding(one, shape) for one, shape in zip(arrays, shapes, strict=True)]
        spread_over_cores(lambda number: keep(number, embeddings[number]), range(len(embeddings)))
        return embeddings

    def decode_slices(self, asked: Sequence[tuple[Embedding, Sequence[Prompt]]]) -> list[list[MaskPrediction]]:
        """Candidate masks for every prompt of some slices, in their order, at each slice's own size."""
        return self.model.decode_slices(asked)

    def _model_input(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        resized = Frame((pixels.shape[0], pixels.shape[1]), self.image_side_px).resize(pixels)
        with torch.inference_mode():
            return np.asarray(model_input(self.model.sam, [resized]).numpy())


def import_openvino() -> Any:
    """The package `openvino`, kept from telling anybody about its use.

    On import and on conversion it would report to its makers without having asked; it does not where the package that
    reports cannot be imported.

    Raises:
        EnvironmentFault: it is not installed, or cannot be loaded.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is what forbids an import
    try:
        import openvino
    except ImportError as error:
        raise EnvironmentFault(
            "openvino is not installed, or cannot be loaded", 'Run `pip install "msksam[openvino]"`'
        ) from error
    return openvino


def choose_openvino_precision(wanted: str, has_bf16: bool) -> str:
    """The precision meant by "auto": bf16 on a CPU that has it, else fp32.

    Raises:
        UsageError: the name means nothing, or fp16.
    """
    chosen = choose_precision(wanted, "cpu")
    return "bf16" if wanted == "auto" and has_bf16 else chosen


def converted(sam: Sam) -> Graph:
    """The encoder as a graph of OpenVINO, (1, 3, S, S) float32 to (1, 256, h, w) float32.

    Raises:
        EnvironmentFault: openvino is not installed.
    """
    openvino = import_openvino()
    encoder, side_px = sam.image_encoder, sam.image_encoder.img_size
    example = torch.zeros((1, 3, side_px, side_px))
    with torch.no_grad(), quiet_exporter():
        program = torch.export.export(encoder, (example,))
        return openvino.convert_model(program)


def save_graph(graph: Graph, path: Path) -> None:
    """Write a graph as PATH.xml and its weights beside it as .bin, in single precision.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    try:
        import_openvino().save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"openvino cannot write {path.name}") from error


def compiled(graph: Graph | Path, precision: str, streams: int) -> CompiledEncoder:
    """A graph, or the file of one, made ready for this CPU.

    Args:
        graph: what `converted` gives or `save_graph` wrote.
        precision: "fp32" or "bf16".
        streams: slices at once, one thread each.

    Raises:
        EnvironmentFault: openvino is not installed, cannot compile the graph, or cannot compute in this precision here.
    """
    hint = OPENVINO_PRECISIONS[precision]
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,
    }
    openvino = import_openvino()
    try:
        encoder = openvino.Core().compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        raise EnvironmentFault("openvino cannot run the encoder on this CPU", "Use --runtime torch") from error
    if encoder.get_property("INFERENCE_PRECISION_HINT").get_type_name() != hint:
        raise EnvironmentFault(f"openvino cannot compute in {precision} on this CPU", "Use --precision fp32")
    return CompiledEncoder(tuple(encoder.create_infer_request() for _ in range(streams)))
