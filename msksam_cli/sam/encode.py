"""Slices to embeddings with torch: the expensive half of the network, done once per slice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msksam_cli.core.cores import cores, cores_with_memory
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import DeviceMemoryFault
from msksam_cli.network import Keep, keep_nothing
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.frame import FRAME_VERSION, Frame
from msksam_cli.sam.model import Sam
from msksam_cli.sam.threads import map_over_cores
from msksam_cli.sam.vit import is_vit, vit_features

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_GPU_BATCH = 16
_BYTES_PER_CPU_WORKER = 1024**3  # what one 1024 px slice takes at most, ViT-H included


def model_input(sam: Sam, resized: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Normalised, padded images (B, 3, S, S) float32 on the network's device.

    Args:
        sam: the network whose side, mean and deviation are used.
        resized: B arrays (rows, columns) uint8, each as `Frame.resize` gives it.
    """
    side_px = sam.image_encoder.img_size
    grey = torch.zeros((len(resized), side_px, side_px), dtype=torch.uint8)
    for plane, pixels in zip(grey, resized, strict=True):
        plane[: pixels.shape[0], : pixels.shape[1]] = torch.from_numpy(pixels.copy())
    images: Tensor = (_sent(grey, sam.device)[:, None] - sam.pixel_mean) / sam.pixel_std
    for image, pixels in zip(images, resized, strict=True):
        image[:, pixels.shape[0] :] = 0.0
        image[:, :, pixels.shape[1] :] = 0.0
    return images


def encode_slices(
    sam: Sam,
    slices: Sequence[NDArray[np.uint8]],
    *,
    precision: str = "fp32",
    batch_size: int | None = None,
    memory: DeviceMemory | None = None,
    keep: Keep = keep_nothing,
) -> list[Embedding]:
    """Embeddings of slices, in their order.

    On a CPU each slice is embedded by itself, several at once on threads of their own, so that an embedding depends
    on nothing but its slice. Elsewhere slices go through in batches, prepared by threads while the device computes;
    when a batch does not fit the device's memory it is halved, down to one slice.

    Args:
        sam: the network.
        slices: arrays (rows, columns) uint8, of any shapes.
        precision: "fp32", or "bf16" or "fp16" for automatic mixed precision.
        batch_size: slices at once; chosen when None.
        memory: what the device was found to hold, for later calls to begin with.

        keep: is given each embedding as soon as it is there.

    Returns:
        One `Embedding` per slice, float16.

    Raises:
        DeviceMemoryFault: one slice alone does not fit the device's memory.
    """

    def resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return Frame(_shape(pixels), sam.image_encoder.img_size).resize(pixels)

    def embedded(number: int, features: NDArray[np.float16]) -> Embedding:
        embedding = Embedding(features, _shape(slices[number]))
        keep(number, embedding)
        return embedding

    if is_on_cpu(sam):

        def alone(number: int) -> Embedding:
            return embedded(number, np.asarray(_features(sam, [resized(slices[number])], precision).numpy()[0]))

        return map_over_cores(alone, range(len(slices)), batch_size or cores_with_memory(_BYTES_PER_CPU_WORKER))
    with ThreadPoolExecutor(cores()) as pool:
        launch = _launcher(sam, precision)
        features = in_batches(launch, pool.map(resized, slices), batch_size or _GPU_BATCH, memory)
        copies = pool.map(lambda pair: embedded(pair[0], np.array(pair[1])), enumerate(features))
        return list(copies)  # copied out of memory that belongs to the device's driver


@dataclass(frozen=True, eq=False)
class Launched:
    """A batch on its way: the device may still be computing it."""

    wait: Callable[[], NDArray[np.float16]]


def is_on_cpu(sam: Sam) -> bool:
    """Whether the network is where each slice and prompt is computed by itself."""
    return bool(sam.device.type == "cpu")


def in_batches(
    launch: Callable[[Sequence[NDArray[np.uint8]]], Launched],
    resized: Iterator[NDArray[np.uint8]],
    batch_size: int,
    memory: DeviceMemory | None = None,
) -> Iterator[NDArray[np.float16]]:
    """Features of slices in order, one batch being launched before the last one is waited for.

    A batch that does not fit the device's memory is halved, and stays so for the rest.

    Args:
        launch: begins the work on a batch.
        resized: slices in the model frame.
        batch_size: slices at once.
        memory: what the device was found to hold; told when that is less.

    Raises:
        DeviceMemoryFault: one slice alone does not fit.
    """
    memory = memory or DeviceMemory()
    batch_size = memory.slices_at_once(batch_size)
    before: Launched | None = None
    waiting = list(islice(resized, batch_size))
    while waiting:
        batch = waiting[:batch_size]
        try:
            launched = launch(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                rows, columns = batch[0].shape
                raise DeviceMemoryFault(
                    f"one slice of {rows} x {columns} pixels does not fit the device's memory",
                    "Choose a smaller model or --device cpu",
                ) from error
            memory.slices = batch_size = len(batch) // 2
            torch.cuda.empty_cache()
            continue
        if before:
            yield from before.wait()
        before = launched
        waiting = waiting[len(batch) :]
        waiting += islice(resized, max(batch_size - len(waiting), 0))
    if before:
        yield from before.wait()


def encoder_sha256(sam: Sam, arch: str) -> str:
    """Hex sha256 of everything an embedding owes to the network: encoder tensors, architecture, frame, normalisation.

    The prompt encoder and the mask decoder do not enter, so that a fine-tune of the decoder shares the cache.
    """
    digest = hashlib.sha256(f"{arch} {sam.image_encoder.img_size} {FRAME_VERSION}".encode())
    tensors = {**sam.image_encoder.state_dict(), "pixel_mean": sam.pixel_mean, "pixel_std": sam.pixel_std}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
    return digest.hexdigest()


def embed_images(sam: Sam, images: Tensor, precision: str = "fp32") -> Tensor:
    """Features (B, 256, h, w) of what `model_input` gives, in the precision asked for."""
    with torch.autocast(sam.device.type, AUTOCAST_DTYPES.get(precision), enabled=precision != "fp32"):
        features: Tensor = (
            vit_features(sam.image_encoder, images) if is_vit(sam.image_encoder) else sam.image_encoder(images)
        )
    return features


def _features(sam: Sam, resized: Sequence[NDArray[np.uint8]], precision: str) -> Tensor:
    with torch.inference_mode():
        return embed_images(sam, model_input(sam, resized), precision).to(torch.float16)


def _launcher(sam: Sam, precision: str) -> Callable[[Sequence[NDArray[np.uint8]]], Launched]:
    """What begins a batch on a GPU; the copy back to the host is queued behind the work, and waited for later."""

    def launch(batch: Sequence[NDArray[np.uint8]]) -> Launched:
        features = _features(sam, batch, precision)
        if not features.is_cuda:
            return Launched(lambda: features.cpu().numpy())
        host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        host.copy_(features, non_blocking=True)
        done = torch.cuda.current_stream(features.device).record_event()

        def wait() -> NDArray[np.float16]:
            done.synchronize()
            return np.asarray(host.numpy())

        return Launched(wait)

    return launch


def _sent(grey: Tensor, device: torch.device) -> Tensor:
    return grey.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else grey.to(device)


def _shape(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
