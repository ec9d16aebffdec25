"""An exported network run by onnxruntime: encoder and decoder graphs, numpy round them, torch nowhere."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from msksam_cli.core.cores import cores, cores_with_memory, spread_over_cores
from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import EnvironmentFault, ModelError, UsageError
from msksam_cli.network import Keep, keep_nothing
from msksam_cli.sam.asking import (
    LOW_RES_PER_EMBEDDING,
    Asking,
    Layout,
    Questions,
    answer_prompts,
    box_as_logits,
    seen_by,
)
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.frame import Frame

ENCODER_INPUTS, ENCODER_OUTPUTS = ("slices", "resized_shapes"), ("embeddings",)
_DECODER_INPUTS = ("embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
_SEEN_INPUTS = ("near_cells", "far_blocks", "log_counts")
DECODER_OUTPUTS = ("low_res_logits", "iou_predictions")
NO_POINT, FIRST_CORNER, LAST_CORNER = -1, 2, 3

_CUDA = "CUDAExecutionProvider"
_GPU_SLICES, _GPU_PROMPTS = 4, 16
_LARGE_SIDE_PX = 1024
_BYTES_PER_LARGE_SLICE = 5 * 1024**3  # segment-anything's global attention at 1024 px peaks below this
_DATA_SUFFIX = ".data"  # of the weights beside a graph that are too large for it
_NO_GRAPH = (faults.InvalidProtobuf, faults.InvalidGraph, faults.NotImplemented, faults.NoSuchFile)
_FAILED = (faults.RuntimeException, faults.EPFail, faults.Fail, RuntimeError, MemoryError)
_SILENT, _WARNINGS = 4, 2

Session = Any  # onnxruntime.InferenceSession; the package carries no types


@dataclass(frozen=True)
class OnnxModel:
    """What an exported network says of itself.

    Attributes:
        name: what the user called the model it was exported from.
        architecture: name of the architecture.
        image_side_px: side of the square input.
        cells: rows and columns of an embedding.
        asking: how prompts are put to the decoder.
        normalisation: what the encoder graph takes grey levels for, "imagenet" or "unit", unless the metadata says it.
        mask_threshold: logit above which a pixel is inside; the graphs do not take it off.
        weights_sha256: hash of the checkpoint file it was exported from.
        encoder_sha256: hash of what an embedding owes to the network.
        metadata: what that checkpoint says about itself.
    """

    name: str
    architecture: str
    image_side_px: int
    cells: int
    asking: Asking
    normalisation: str
    mask_threshold: float
    weights_sha256: str
    encoder_sha256: str
    metadata: Mapping[str, str]

    @property
    def layout(self) -> Layout:
        """How its embeddings lie in its input."""
        return Layout(self.image_side_px, self.cells)

    @property
    def block_cells(self) -> int | None:
        """Side of the blocks of cells that may be seen as one."""
        return self.asking.block_in(self.cells)


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """An exported network on a device, ready to embed and to decode: a `network.Network`.

    Attributes:
        model: what it is.
        device: "cpu" or "cuda:N".
        encoder: session of the encoder graph.
        decoder: session of the decoder graph.
        memory: what the device was found to hold.
    """

    model: OnnxModel
    device: str
    encoder: Session = field(repr=False)
    decoder: Session = field(repr=False)
    memory: DeviceMemory = field(default_factory=DeviceMemory, repr=False)

    @property
    def name(self) -> str:
        """What the user called the model it was exported from."""
        return self.model.name

    @property
    def image_side_px(self) -> int:
        """Side of the square input."""
        return self.model.image_side_px

    @property
    def runtime(self) -> str:
        """What runs it."""
        return "onnx"

    @property
    def precision(self) -> str:
        """Arithmetic of the encoder."""
        return "fp32"

    @property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint file it was exported from."""
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
        """What did not fit the device's memory, and what was done about it."""
        return self.memory.notes

    @property
    def providers(self) -> tuple[str, ...]:
        """What onnxruntime really runs the encoder with, the first before the others."""
        return tuple(self.encoder.get_providers())

    def encode(
        self, slices: Sequence[NDArray[np.uint8]], batch_size: int | None = None, keep: Keep = keep_nothing
    ) -> list[Embedding]:
        """Embeddings of (rows, columns) uint8 slices, in their order; each is given to `keep` as soon as it is there.

        On a CPU each slice is embedded by itself, several at once; elsewhere `batch_size` go through together, or half
        as many for the rest of the run when the device fails over them, down to one.

        Raises:
            EnvironmentFault: the device fails over one slice, as when its memory is used up.
        """
        if self.device == "cpu":
            large = self.image_side_px >= _LARGE_SIDE_PX
            workers = batch_size or (cores_with_memory(_BYTES_PER_LARGE_SLICE) if large else cores())

            def alone(number: int) -> Embedding:
                (embedding,) = self._encode_batch([slices[number]])
                keep(number, embedding)
                return embedding

            return spread_over_cores(alone, range(len(slices)), workers)
        embeddings: list[Embedding] = []
        while len(embeddings) < len(slices):
            size = self.memory.slices_at_once(batch_size or _GPU_SLICES)
            batch = slices[len(embeddings) : len(embeddings) + size]
            try:
                fresh = self._encode_batch(batch)
            except EnvironmentFault:
                if len(batch) == 1:
                    raise
                self.memory.slices = len(batch) // 2
                continue
            for number, embedding in enumerate(fresh, start=len(embeddings)):
                keep(number, embedding)
            embeddings += fresh
        return embeddings

    def decode_slices(self, asked: Sequence[tuple[Embedding, Sequence[Prompt]]]) -> list[list[MaskPrediction]]:
        """Candidate masks for every prompt of some slices, in their order, at each slice's own size, above 0 inside.

        Raises:
            ValueError: a prompt lies outside its slice, or an embedding has another side than the network's.
            EnvironmentFault: the device fails.
        """
        on_cpu = self.device == "cpu"
        features = [embedding.features.astype(np.float32) for embedding, _ in asked]

        def answer(questions: Questions) -> list[MaskPrediction]:
            return self._answer([features[number] for number in questions.slice_numbers], questions)

        return answer_prompts(
            asked,
            self.model.layout,
            self.model.asking,
            together=1 if on_cpu else _GPU_PROMPTS,
            answer_all=lambda batches: spread_over_cores(answer, batches, None if on_cpu else 1),
        )

    def decode(self, embedding: Embedding, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Candidate masks for every prompt of one slice, see `decode_slices`."""
        return self.decode_slices([(embedding, prompts)])[0]

    def _encode_batch(self, slices: Sequence[NDArray[np.uint8]]) -> list[Embedding]:
        shapes = [(pixels.shape[0], pixels.shape[1]) for pixels in slices]
        frames = [Frame(shape, self.image_side_px) for shape in shapes]
        images = np.zeros((len(slices), self.image_side_px, self.image_side_px), dtype=np.uint8)
        for image, pixels, frame in zip(images, slices, frames, strict=True):
            rows, columns = frame.resized_shape
            image[:rows, :columns] = frame.resize(pixels)
        resized_shapes = np.array([frame.resized_shape for frame in frames], dtype=np.int64)
        (features,) = self._run(self.encoder, ENCODER_OUTPUTS, (images, resized_shapes))
        return [Embedding(one.astype(np.float16), shape) for one, shape in zip(features, shapes, strict=True)]

    def _answer(self, features: Sequence[NDArray[np.float32]], questions: Questions) -> list[MaskPrediction]:
        frame, block_cells = Frame(questions.slice_shape, self.image_side_px), self.model.block_cells
        inputs: list[NDArray[Any]] = [np.stack(features), *sparse_prompts(questions), *self._mask_prompts(questions)]
        if block_cells:
            seen = seen_by(questions.focuses, self.model.cells, block_cells)
            inputs += [seen.near, seen.far, seen.log_counts]
        low_res, scores = self._run(self.decoder, DECODER_OUTPUTS, inputs)
        threshold = np.float32(self.model.mask_threshold)
        return [
            MaskPrediction(on_slice(logits, frame) - threshold, score, prompt)
            for logits, score, prompt in zip(low_res, scores, questions.prompts, strict=True)
        ]

    def _mask_prompts(self, questions: Questions) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes as (N, 1, 4h, 4h) logits and (N,) whether they count."""
        number, side = len(questions.prompts), self.model.cells * LOW_RES_PER_EMBEDDING
        if questions.boxes_xyxy is None or not self.model.asking.box_as_mask:
            return np.zeros((number, 1, side, side), np.float32), np.zeros(number, np.float32)
        low_res_px = self.model.layout.stride_px / LOW_RES_PER_EMBEDDING
        starts_px = np.arange(side, dtype=np.float32) * low_res_px
        logits: NDArray[np.float32] = box_as_logits(questions.boxes_xyxy, starts_px, low_res_px)
        return logits.astype(np.float32, copy=False), np.ones(number, np.float32)

    def _run(self, session: Session, outputs: Sequence[str], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        names = [one.name for one in session.get_inputs()]
        try:
            results: list[NDArray[Any]] = session.run(list(outputs), dict(zip(names, arrays, strict=True)))
        except _FAILED as error:
            raise EnvironmentFault(
                f"onnxruntime failed on {self.device} ({type(error).__name__}), perhaps for want of memory",
                "Give a smaller --batch-size or another --device",
            ) from error
        return results


def decoder_inputs(asking: Asking) -> tuple[str, ...]:
    """Names of what a decoder graph takes."""
    return (*_DECODER_INPUTS, *(() if asking.block_cells is None else _SEEN_INPUTS))


def parse_onnx_model(values: object, where: str) -> OnnxModel:
    """What an exported network says of itself, from plain values as `dataclasses.asdict` gives them.

    Raises:
        ModelError: something is missing, unknown or of another kind; the message begins with `where`.
    """
    try:
        fields: dict[str, Any] = dict(values)  # type: ignore[call-overload]  # what is no mapping raises
        asking, metadata = Asking(**fields.pop("asking")), dict(fields.pop("metadata"))
        model = OnnxModel(asking=asking, metadata=metadata, **fields)
        whole = (model.image_side_px, model.cells, *([asking.block_cells] if asking.block_cells is not None else []))
        texts = (
            model.name,
            model.normalisation,
            model.weights_sha256,
            model.encoder_sha256,
            *metadata,
            *metadata.values(),
        )
        is_sound = all(isinstance(n, int) and n > 0 for n in whole) and all(isinstance(text, str) for text in texts)
        is_sound = is_sound and model.image_side_px % model.cells == 0 and abs(model.mask_threshold) < float("inf")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _no_export(where) from error
    if not is_sound:
        raise _no_export(where)
    return model


def open_network(model: OnnxModel, encoder: Path, decoder: Path, device: str = "auto") -> OnnxNetwork:
    """The network of two graph files, on a device that really runs it.

    Args:
        model: what the graphs are.
        encoder: graph with `ENCODER_INPUTS` and `ENCODER_OUTPUTS`.
        decoder: graph with `decoder_inputs` and `DECODER_OUTPUTS`.
        device: "auto" (the first GPU if onnxruntime can use it, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: the device means nothing here.
        EnvironmentFault: onnxruntime cannot use the device.
        ModelError: a file is no such graph.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"device {device!r} is none that onnxruntime can be given", "Use auto, cpu, cuda or cuda:N")
    if kind != "cpu":
        place = f"cuda:{int(number or 0)}"
        try:
            return _opened(model, encoder, decoder, place)
        except EnvironmentFault:
            if kind == "cuda":
                raise
    return _opened(model, encoder, decoder, "cpu")


def sparse_prompts(questions: Questions) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points and boxes as (N, K, 2) coordinates and (N, K) labels in segment-anything's convention.

    Points come first; behind them a box's corners, or where there is no box one point that is none.
    """
    points, number = questions.points_xy, len(questions.prompts)
    labels = questions.is_foreground.astype(np.int64)
    if questions.boxes_xyxy is None:
        behind, kinds = np.zeros((number, 1, 2), np.float32), [NO_POINT]
    else:
        behind, kinds = questions.boxes_xyxy.reshape(number, 2, 2), [FIRST_CORNER, LAST_CORNER]
    more_labels = np.tile(np.array(kinds, dtype=np.int64), (number, 1))
    return np.concatenate([points, behind], axis=1), np.concatenate([labels, more_labels], axis=1)


def on_slice(low_res: NDArray[np.float32], frame: Frame) -> NDArray[np.float32]:
    """Low-res logits (C, h, h) at the slice's own size (C, rows, columns): what `Sam.postprocess_masks` computes.

    Bilinear up to the model's input, cut to what the slice takes up in it, bilinear down to the slice; each axis by
    itself, which is the same.
    """
    planes = low_res
    for axis in (1, 2):
        inside, wanted = frame.resized_shape[axis - 1], frame.slice_shape[axis - 1]
        planes = stretched(stretched(planes, axis, frame.side_px, inside), axis, wanted, wanted)
    return planes


def stretched(planes: NDArray[np.float32], axis: int, length: int, kept: int) -> NDArray[np.float32]:
    """Planes with an axis resized bilinearly to `length`, of which the first `kept` are computed.

    Pixel centres lie at a half and places are found in single precision, as in torch's `interpolate`.

    >>> stretched(np.array([0.0, 4.0], dtype=np.float32), 0, 4, 3)
    array([0., 1., 3.], dtype=float32)
    """
    before = planes.shape[axis]
    if before == length:
        return planes.take(range(kept), axis) if kept < length else planes
    half, scale = np.float32(0.5), np.float32(before) / np.float32(length)
    places = np.maximum((np.arange(kept, dtype=np.float32) + half) * scale - half, np.float32(0.0))
    first = places.astype(np.intp)
    share = (places - first.astype(np.float32)).reshape(-1, *[1] * (planes.ndim - 1 - axis))
    second = np.minimum(first + 1, before - 1)
    mixed: NDArray[np.float32] = (
        planes.take(first, axis) * (np.float32(1.0) - share) + planes.take(second, axis) * share
    )
    return mixed


def _opened(model: OnnxModel, encoder: Path, decoder: Path, device: str) -> OnnxNetwork:
    return OnnxNetwork(
        model,
        device,
        decoder=_session(decoder, device, decoder_inputs(model.asking), DECODER_OUTPUTS),
        encoder=_session(encoder, device, ENCODER_INPUTS, ENCODER_OUTPUTS),
    )


def _refuse_foreign_files(path: Path) -> None:
    """Raise when a graph takes tensors from any file but `<its name>.data` beside it, or is no graph at all."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise _no_graph(path) from error
    for location in _external_locations(graph):
        if location != path.name + _DATA_SUFFIX:
            raise ModelError(
                f"{path.name} wants tensors from another file than {path.name}{_DATA_SUFFIX}",
                "Run `msksam export-onnx` again",
            )


def _external_locations(message: Any) -> Iterator[str]:
    """Where tensors at any depth of a protobuf message say that they lie outside of it; "" where they do not say."""
    if message.DESCRIPTOR.name == "TensorProto":
        if message.external_data or message.data_location:
            yield next((entry.value for entry in message.external_data if entry.key == "location"), "")
        return
    for field_, value in message.ListFields():
        if field_.message_type:
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                if hasattr(part, "DESCRIPTOR"):
                    yield from _external_locations(part)


def _no_graph(path: Path) -> ModelError:
    return ModelError(f"{path.name} is no graph that onnxruntime can run", "Run `msksam export-onnx` again")


def _session(path: Path, device: str, inputs: Sequence[str], outputs: Sequence[str]) -> Session:
    _refuse_foreign_files(path)
    options = onnxruntime.SessionOptions()
    kind, _, number = device.partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        if _CUDA not in onnxruntime.get_available_providers():
            raise _no_device(device)
        providers.insert(0, (_CUDA, {"device_id": number, "use_tf32": "0"}))
    else:  # one thread inside operators, see `cores`; the arena would keep gigabytes from one slice to the next
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
    try:
        with _silent_onnxruntime(kind == "cuda"):
            session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except (*_NO_GRAPH, faults.InvalidArgument, *_FAILED) as error:
        if kind == "cuda" and not isinstance(error, _NO_GRAPH):
            raise _no_device(device) from error
        raise _no_graph(path) from error
    if kind == "cuda" and _CUDA not in session.get_providers():
        raise _no_device(device)
    found = [tuple(one.name for one in some) for some in (session.get_inputs(), session.get_outputs())]
    if found != [tuple(inputs), tuple(outputs)]:
        raise ModelError(f"{path.name} was not exported by msksam: it has other inputs or outputs", "Check --model")
    return session


@contextlib.contextmanager
def _silent_onnxruntime(for_cuda: bool) -> Iterator[None]:
    """Without what onnxruntime logs and prints where CUDA is absent; whether it is absent is asked afterwards."""
    if not for_cuda:
        yield
        return
    onnxruntime.set_default_logger_severity(_SILENT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)


def _no_device(device: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"device {device} is not there for onnxruntime {onnxruntime.__version__}: it runs on the CPU alone",
        "Use --device cpu, or install the CUDA and cuDNN libraries it was built for",
    )


def _no_export(where: str) -> ModelError:
    return ModelError(f"{where} does not describe an exported model", "Run `msksam export-onnx` again")
