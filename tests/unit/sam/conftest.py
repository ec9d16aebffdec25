"""Networks small enough for a test: segment-anything's own classes with few blocks and random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from msksam_cli.pipeline.models import load_model
from msksam_cli.sam.asking import Asking
from msksam_cli.sam.model import ARCHITECTURES, Architecture, build_sam, vit_encoder
from msksam_cli.sam.onnx_graphs import onnx_model_of, write_graphs
from msksam_cli.sam.onnx_network import OnnxNetwork, open_network
from msksam_cli.sam.runtime import Model, make_model

TINY_VIT = Architecture(
    "tiny_vit",
    image_side_px=256,
    stride_px=16,
    asking=Asking(),
    make_encoder=partial(vit_encoder, embed_dim=48, depth=2, num_heads=2, global_attn_indexes=(1,)),
)
TINY_VIT_1024 = Architecture(
    "tiny_vit_1024",
    image_side_px=1024,
    stride_px=16,
    asking=Asking(),
    make_encoder=partial(vit_encoder, embed_dim=16, depth=1, num_heads=2, global_attn_indexes=()),
)

SMALL_FOCUS = Asking(box_as_mask=True, block_cells=4)


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_operator() -> None:
    """Two threads inside an operator make these networks ten times slower beside a busy neighbour."""
    torch.set_num_threads(1)


def _random_model(architecture: Architecture, seed: int = 7) -> Model:
    """A model with random weights large enough for masks to have edges and for positions to matter."""
    torch.manual_seed(seed)
    sam = build_sam(architecture)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.2)
    return make_model(sam, architecture, name=architecture.name)


def _blobs(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A uint8 slice with smooth structure, unequal along its axes."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    waves = np.sin(9 * rows + 2) + np.cos(5 * columns * rows + seed) + generator.normal(scale=0.2, size=shape)
    return np.clip(60 * waves + 120, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session", params=[TINY_VIT, TINY_VIT_1024], ids=lambda architecture: architecture.name)
def vit(request: pytest.FixtureRequest) -> Model:
    """segment-anything's vision transformer, tiny, at 256 and at 1024 pixels."""
    return _random_model(request.param)


@pytest.fixture(scope="session")
def tiny_vit() -> Model:
    return _random_model(TINY_VIT)


@pytest.fixture(scope="session")
def small() -> Model:
    """The bundled architecture with random weights."""
    return _random_model(ARCHITECTURES["msksam_small"])


@pytest.fixture(scope="session")
def small_64(small_checkpoint: Path) -> Model:
    """The bundled architecture at 64 px, whose 16 × 16 cells are seen in 4 × 4 blocks away from a box."""
    return replace(load_model(str(small_checkpoint), device="cpu"), asking=SMALL_FOCUS)


@pytest.fixture(scope="session")
def small_64_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="session")
def onnx_small(small_64: Model, small_64_export: Path) -> OnnxNetwork:
    """`small_64` exported."""
    encoder, decoder = small_64_export / "encoder.onnx", small_64_export / "decoder.onnx"
    write_graphs(small_64.sam, small_64.asking, encoder, decoder, opset=18)
    return open_network(onnx_model_of(small_64, "imagenet"), encoder, decoder, "cpu")


@pytest.fixture(scope="session")
def vit_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vit")


@pytest.fixture(scope="session")
def onnx_vit(tiny_vit: Model, vit_export: Path) -> OnnxNetwork:
    """`tiny_vit` exported with its weights beside the graphs, as those of the largest networks are."""
    encoder, decoder = vit_export / "encoder.onnx", vit_export / "decoder.onnx"
    write_graphs(tiny_vit.sam, tiny_vit.asking, encoder, decoder, opset=18, largest_inline_bytes=0)
    return open_network(onnx_model_of(tiny_vit, "imagenet"), encoder, decoder, "cpu")


@pytest.fixture(scope="session")
def blobs() -> Callable[..., np.ndarray]:
    return _blobs
