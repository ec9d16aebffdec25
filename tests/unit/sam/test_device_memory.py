"""Devices too small for a batch: what fits is found by halving, kept for the run, and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import DeviceMemoryFault, EnvironmentFault
from msksam_cli.sam import decode, encode
from msksam_cli.sam.device_memory import DeviceMemory
from msksam_cli.sam.encode import Launched, in_batches
from msksam_cli.sam.model import Sam
from msksam_cli.sam.onnx_network import OnnxNetwork
from msksam_cli.sam.runtime import Model
from msksam_cli.sam.seen import Planes


def test_what_a_device_was_found_to_hold_is_remembered_for_the_next_call() -> None:
    sizes, memory = list[int](), DeviceMemory()

    def launch(batch: Sequence[np.ndarray]) -> Launched:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Launched(lambda: np.array([pixels[0, 0] for pixels in batch], np.float16))

    slices = [np.full((2, 3), value, np.uint8) for value in range(7)]
    for expected in ([7, 3, 3, 1], [3, 3, 1]):
        assert [int(value) for value in in_batches(launch, iter(slices), 8, memory)] == list(range(7))
        assert sizes == expected
        sizes.clear()
    assert memory.notes == ("slices encoded 3 at once, more did not fit",)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Makes the network believe that it is on a GPU which holds so many slices or prompts; gives the sizes asked for.

    It holds every size once the network was moved to the CPU.
    """
    sizes: list[int] = []

    def hold(largest: int) -> list[int]:
        left = []
        embed, ask, to = encode.embed_images, decode.ask, torch.nn.Module.to

        def limited(number: int) -> None:
            sizes.append(number)
            if number > largest and not left:
                raise torch.OutOfMemoryError("CUDA out of memory")

        def embed_limited(sam: Sam, images: torch.Tensor, precision: str = "fp32") -> torch.Tensor:
            limited(len(images))
            return embed(sam, images, precision)

        def ask_limited(sam: Sam, images: Sequence[Planes], **how: Any) -> tuple[torch.Tensor, torch.Tensor]:
            limited(sum(len(image.cells) for image in images))
            return ask(sam, images, **how)

        def moved(module: torch.nn.Module, *where: Any, **how: Any) -> torch.nn.Module:
            left.extend(where)
            return to(module, *where, **how)

        monkeypatch.setattr(encode, "embed_images", embed_limited)
        monkeypatch.setattr(decode, "ask", ask_limited)
        for module in (encode, decode):
            monkeypatch.setattr(module, "is_on_cpu", lambda sam: bool(left))
        monkeypatch.setattr(torch.nn.Module, "to", moved)
        return sizes

    return hold


def close(one: Embedding, other: Embedding) -> bool:
    return bool(np.abs(one.features.astype(np.float32) - other.features.astype(np.float32)).max() < 0.01)


def test_a_model_halves_its_batches_on_a_device_that_is_too_small(
    small_64: Model, blobs: Callable[..., np.ndarray], gpu: Callable[[int], list[int]]
) -> None:
    slices = [blobs((60, 50), seed) for seed in range(5)]
    asked = [Prompt(1, 0, Box((5.0 + n, 5.0, 30.0, 40.0))) for n in range(9)]
    whole = small_64.encode(slices)
    answers = small_64.decode(whole[0], asked)
    model = replace(small_64, memory=DeviceMemory())
    sizes = gpu(2)
    assert all(map(close, model.encode(slices), whole))
    assert sizes == [5, 2, 2, 1]
    sizes.clear()
    again = model.decode(whole[0], asked)
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    for one, other in zip(again, answers, strict=True):
        assert np.abs(one.logits - other.logits).max() < 1e-3
        assert one.prompt == other.prompt
    assert model.memory_notes == (
        "slices encoded 2 at once, more did not fit",
        "prompts decoded 2 at once, more did not fit",
    )


def test_a_model_goes_to_the_cpu_when_not_even_one_slice_fits_and_only_if_it_may(
    small_64: Model, blobs: Callable[..., np.ndarray], gpu: Callable[[int], list[int]]
) -> None:
    slices = [blobs((60, 50), seed) for seed in range(3)]
    whole = small_64.encode(slices)
    gpu(0)
    for stays in (
        replace(small_64, memory=DeviceMemory()),
        replace(small_64, may_use_cpu=True, precision="fp16", memory=DeviceMemory()),
    ):
        with pytest.raises(DeviceMemoryFault, match="does not fit the device's memory"):
            stays.encode(slices)
    with pytest.raises(DeviceMemoryFault, match="one prompt does not fit"):
        replace(small_64, memory=DeviceMemory()).decode(whole[0], [Prompt(1, 0, Box((5.0, 5.0, 30.0, 40.0)))])
    goes = replace(small_64, may_use_cpu=True, memory=DeviceMemory())
    assert all(map(close, goes.encode(slices), whole))
    assert goes.memory_notes[-1] == "computed on the CPU, one slice did not fit the device"


def test_an_exported_network_halves_its_batches_too(
    onnx_small: OnnxNetwork, blobs: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [blobs((60, 50), seed) for seed in range(5)]
    whole = onnx_small.encode(slices)
    run, sizes = OnnxNetwork._run, list[int]()

    def limited(self: OnnxNetwork, session: Any, outputs: Any, arrays: Any) -> Any:
        sizes.append(len(arrays[0]))
        if sizes[-1] > 2:
            raise EnvironmentFault("onnxruntime failed on cuda:0, perhaps for want of memory")
        return run(self, session, outputs, arrays)

    monkeypatch.setattr(OnnxNetwork, "_run", limited)
    network = replace(onnx_small, device="cuda:0", memory=DeviceMemory())
    handed: dict[int, Any] = {}
    embeddings = network.encode(slices, keep=handed.__setitem__)
    assert all(map(close, embeddings, whole))
    assert [handed[number] for number in range(5)] == embeddings
    assert sizes == [4, 2, 2, 1]
    assert network.memory_notes == ("slices encoded 2 at once, more did not fit",)
