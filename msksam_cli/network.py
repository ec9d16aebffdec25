"""What the pipeline asks of a network, whatever runs it: embed slices, answer prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.prompts import MaskPrediction, Prompt
from msksam_cli.embeddings import Embedding

Keep = Callable[[int, Embedding], object]
"""Is given the number of a slice and its embedding, by several threads, while others are computed."""


def keep_nothing(number: int, embedding: Embedding) -> None:
    """A `Keep` for whoever wants the embeddings alone."""


class Network(Protocol):
    """A promptable network with its weights; it remembers no image."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def image_side_px(self) -> int:
        """Side of the square input."""

    @property
    def device(self) -> str:
        """Where it runs, such as "cpu" or "cuda:0"."""

    @property
    def runtime(self) -> str:
        """What runs it, such as "torch" or "onnx"."""

    @property
    def precision(self) -> str:
        """Arithmetic of the encoder: "fp32", "bf16" or "fp16"."""

    @property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint file, "" when it came from none."""

    @property
    def encoder_sha256(self) -> str:
        """Hash of what an embedding owes to the network."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the checkpoint says about itself, such as its preprocessing or a fitted prior weight."""

    @property
    def memory_notes(self) -> tuple[str, ...]:
        """What did not fit the device's memory, and what was done about it; empty when everything did."""

    def encode(
        self, slices: Sequence[NDArray[np.uint8]], batch_size: int | None = None, keep: Keep = keep_nothing
    ) -> list[Embedding]:
        """Embeddings of (rows, columns) uint8 slices, in their order; each is given to `keep` once it is there."""

    def decode_slices(self, asked: Sequence[tuple[Embedding, Sequence[Prompt]]]) -> list[list[MaskPrediction]]:
        """Candidate masks for every prompt of some slices, in their order, at each slice's own size."""


def arithmetic(network: Network) -> str:
    """What an embedding owes to the way it was computed: the precision, and the runtime where it is not torch."""
    return network.precision if network.runtime == "torch" else f"{network.precision} {network.runtime}"
