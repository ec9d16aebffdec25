"""Embeddings of slices and where they are kept.

An embedding belongs to the pixels it was computed from, the encoder's weights, the preprocessing and the precision,
and to nothing else: tissues, prompts and decoder-only fine-tunes share it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EmbeddingKey:
    """What an embedding depends on; equal keys may share one.

    Attributes:
        pixels_sha256: hex digest of the slice's 8-bit pixels and shape.
        encoder_sha256: hex digest of the encoder's tensors and architecture.
        preprocessing: version of the rules from volume to network input.
        precision: "fp32", "bf16" or "fp16", the arithmetic of the encoder.
    """

    pixels_sha256: str
    encoder_sha256: str
    preprocessing: str
    precision: str

    @classmethod
    def of_slice(
        cls, pixels: NDArray[np.uint8], encoder_sha256: str, preprocessing: str, precision: str
    ) -> EmbeddingKey:
        """The key of (rows, columns) uint8 pixels."""
        digest = hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
        return cls(digest, encoder_sha256, preprocessing, precision)

    @property
    def digest(self) -> str:
        """Hex sha256 over all fields: the entry's name in a store."""
        text = "\n".join((self.pixels_sha256, self.encoder_sha256, self.preprocessing, self.precision))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the encoder made of one slice.

    Attributes:
        features: (256, h, w) float16.
        slice_shape: (rows, columns) of the slice it was made from; with the model's input side this is the frame.
    """

    features: NDArray[np.float16]
    slice_shape: tuple[int, int]


class EmbeddingStore(Protocol):
    """Anything that keeps embeddings by key."""

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding, verified, or None when there is none that can be trusted."""
        ...

    def put(self, key: EmbeddingKey, embedding: Embedding) -> None:
        """Keep an embedding; a second put of the same key is harmless."""
        ...

    def claim(self, key: EmbeddingKey) -> bool:
        """Whether the caller should compute an embedding; False while another process is at it."""
        ...

    def release(self, key: EmbeddingKey) -> None:
        """Give a claim back, whether or not the embedding was put."""
        ...


class MemoryStore:
    """An `EmbeddingStore` that lives as long as the object."""

    def __init__(self) -> None:
        self._entries: dict[EmbeddingKey, Embedding] = {}

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding or None."""
        return self._entries.get(key)

    def put(self, key: EmbeddingKey, embedding: Embedding) -> None:
        """Keep an embedding."""
        self._entries[key] = embedding

    def claim(self, key: EmbeddingKey) -> bool:
        """Always: nobody else puts anything here."""
        del key
        return True

    def release(self, key: EmbeddingKey) -> None:
        """Nothing to give back."""
