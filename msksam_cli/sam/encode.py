"""Slices to embeddings: the expensive half of the network, done once per slice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msksam_cli.embeddings import Embedding
from msksam_cli.errors import EnvironmentFault
from msksam_cli.sam.frame import FRAME_VERSION, Frame
from msksam_cli.sam.model import Sam
from msksam_cli.sam.threads import cores, map_over_cores

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_GPU_BATCH = 8
_BYTES_PER_CPU_WORKER = 5 * 1024**3  # segment-anything's global attention at 1024 px peaks below this


def model_input(sam: Sam, slices: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Normalised, padded images (B, 3, S, S) float32 on the network's device.

    Args:
        sam: the network whose side, mean and deviation are used.
        slices: B arrays (rows, columns) uint8, of any shapes.
    """
    side_px = sam.image_encoder.img_size
    images = torch.zeros((len(slices), 3, side_px, side_px), dtype=torch.float32, device=sam.device)
    for image, pixels in zip(images, slices, strict=True):
        rows, columns = pixels.shape
        resized = Frame((rows, columns), side_px).resize(pixels)
        grey = torch.from_numpy(resized.copy()).to(sam.device)[None]
        image[:, : grey.shape[1], : grey.shape[2]] = (grey - sam.pixel_mean) / sam.pixel_std
    return images


def encode_slices(
    sam: Sam, slices: Sequence[NDArray[np.uint8]], *, precision: str = "fp32", batch_size: int | None = None
) -> list[Embedding]:
    """Embeddings of slices, in their order.

    On a CPU each slice is embedded by itself, several at once on threads of their own, so that an embedding depends
    on nothing but its slice. Elsewhere slices go through in batches; when a batch does not fit the device's memory
    it is halved, down to one slice.

    Args:
        sam: the network.
        slices: arrays (rows, columns) uint8.
        precision: "fp32", or "bf16" or "fp16" for automatic mixed precision.
        batch_size: slices at once; chosen when None.

    Returns:
        One `Embedding` per slice, float16.

    Raises:
        EnvironmentFault: one slice alone does not fit the device's memory.
    """
    if sam.device.type == "cpu":
        workers = batch_size or _cpu_workers(sam)
        return map_over_cores(lambda pixels: _encode_batch(sam, [pixels], precision)[0], slices, workers)
    return encode_in_batches(lambda batch: _encode_batch(sam, batch, precision), slices, batch_size or _GPU_BATCH)


def encode_in_batches(
    encode: Callable[[Sequence[NDArray[np.uint8]]], list[Embedding]],
    slices: Sequence[NDArray[np.uint8]],
    batch_size: int,
) -> list[Embedding]:
    """Embeddings in order; a batch that does not fit the device's memory is halved, and stays so for the rest.

    Raises:
        EnvironmentFault: one slice alone does not fit.
    """
    embeddings: list[Embedding] = []
    while len(embeddings) < len(slices):
        batch = slices[len(embeddings) : len(embeddings) + batch_size]
        try:
            embeddings += encode(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                rows, columns = batch[0].shape
                raise EnvironmentFault(
                    f"one slice of {rows} x {columns} pixels does not fit the device's memory",
                    "Choose a smaller model or --device cpu",
                ) from error
            batch_size = len(batch) // 2
            torch.cuda.empty_cache()
    return embeddings


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


def _cpu_workers(sam: Sam) -> int:
    if sam.image_encoder.img_size < 1024 or not hasattr(os, "sysconf"):
        return cores()
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(min(cores(), free_bytes // _BYTES_PER_CPU_WORKER), 1)


def _encode_batch(sam: Sam, slices: Sequence[NDArray[np.uint8]], precision: str) -> list[Embedding]:
    with torch.inference_mode():
        images = model_input(sam, slices)
        with torch.autocast(sam.device.type, AUTOCAST_DTYPES.get(precision), enabled=precision != "fp32"):
            features = sam.image_encoder(images)
        arrays = features.to(torch.float16).cpu().numpy()
    return [Embedding(array, (pixels.shape[0], pixels.shape[1])) for array, pixels in zip(arrays, slices, strict=True)]
