"""A network as two ONNX graphs: an encoder of slices and a decoder of prompts, with every size left open that varies.

segment-anything's own export bakes the size of the image into its decoder, which is right for one size alone; here the
number of slices, of prompts, of points and of the cells that prompts see stay open.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.onnx import ONNXProgram

from msksam_cli.errors import UsageError
from msksam_cli.sam.asking import EMBEDDING_CHANNELS, LOW_RES_PER_EMBEDDING, Asking, Focus, seen_by
from msksam_cli.sam.decode import layout_of, positions_of
from msksam_cli.sam.model import Sam
from msksam_cli.sam.onnx_network import (
    DECODER_OUTPUTS,
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    OnnxModel,
    decoder_inputs,
)
from msksam_cli.sam.quiet_exporter import quiet_exporter
from msksam_cli.sam.runtime import Model
from msksam_cli.sam.seen import Planes, SeenCells, dense_prompts, masks_of

OPSETS = range(18, 24)
LARGEST_INLINE_BYTES = 1_800_000_000
"""Weights above go into a file beside the graph: a protobuf holds at most 2 GiB."""


class EncoderGraph(nn.Module):
    """Embeddings of grey levels; what `encode.model_input` does before the encoder is inside.

    Args:
        sam: the network.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder = _with_two_pass_norms(sam.image_encoder)
        self.register_buffer("mean", sam.pixel_mean)
        self.register_buffer("deviation", sam.pixel_std)

    def forward(self, slices: Tensor, resized_shapes: Tensor) -> Tensor:
        """Embeddings (B, 256, h, h) float32.

        Args:
            slices: (B, S, S) uint8 grey levels in the model frame; what lies outside `resized_shapes` does not matter.
            resized_shapes: (B, 2) int64, rows and columns that the resized slice takes up in the square.
        """
        places = torch.arange(slices.shape[-1])
        rows, columns = (places < resized_shapes[:, axis, None] for axis in (0, 1))
        is_inside = rows[:, None, :, None] & columns[:, None, None, :]
        images = (slices[:, None].to(torch.float32) - self.mean) / self.deviation
        embeddings: Tensor = self.encoder(torch.where(is_inside, images, 0.0))
        return embeddings


class DecoderGraph(nn.Module):
    """Masks for prompts, each in an embedding of its own.

    Args:
        sam: the network.
        asking: how prompts are put to it.
    """

    positions: Tensor
    block_positions: Tensor

    def __init__(self, sam: Sam, asking: Asking) -> None:
        super().__init__()
        layout = layout_of(sam)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.side_px = layout.side_px
        self.block_cells = asking.block_in(layout.cells)
        positions = positions_of(sam, layout.cells, self.block_cells)
        self.register_buffer("positions", positions.cells)
        self.register_buffer("block_positions", positions.blocks)

    def forward(  # noqa: PLR0917  # a graph's inputs come in an order
        self,
        embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        near_cells: Tensor | None = None,
        far_blocks: Tensor | None = None,
        log_counts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Low-res logits (N, 4, 4h, 4h) with no threshold taken off, and IoU predictions (N, 4).

        Args:
            embeddings: (N, 256, h, h).
            point_coords: (N, K, 2) x and y in pixels of the model frame.
            point_labels: (N, K) int64: 0 background, 1 foreground, 2 and 3 a box's first and last corner, -1 no point.
            mask_input: (N, 1, 4h, 4h) logits.
            has_mask_input: (N,) 1 where `mask_input` counts, 0 where it does not.
            near_cells: (N, n) int64, where blocks of cells may be seen as one, like the next two; see `asking.Seen`.
            far_blocks: (N, f) int64.
            log_counts: (N, n + f).
        """
        prompts = self.prompt_encoder
        kinds = torch.cat([prompts.not_a_point_embed.weight, *(kind.weight for kind in prompts.point_embeddings)])
        places = self._positions((point_coords + 0.5) / self.side_px)
        sparse = torch.where(point_labels[..., None] < 0, 0.0, places) + kinds[point_labels + 1]
        look = None
        if near_cells is not None and far_blocks is not None and log_counts is not None:
            look = SeenCells(near_cells, far_blocks, log_counts)
        dense = torch.where(
            has_mask_input[:, None, None] > 0,
            dense_prompts(prompts, mask_input, look, self.block_positions.shape[-1]),
            prompts.no_mask_embed.weight[None],
        )
        image = Planes.of(embeddings, self.block_cells)
        positions = Planes(self.positions, self.block_positions)
        return masks_of(self.mask_decoder, [image], positions, dense=dense, sparse=sparse, seen=look)

    def _positions(self, shares_xy: Tensor) -> Tensor:
        """Random Fourier features (…, 256) of places 0…1 across the embedding (Tancik et al., NeurIPS 2020)."""
        turns = (2.0 * shares_xy - 1.0) @ self.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
        return torch.cat([torch.sin(2.0 * math.pi * turns), torch.cos(2.0 * math.pi * turns)], dim=-1)


def onnx_model_of(model: Model, normalisation: str) -> OnnxModel:
    """What the export of a model says of itself.

    Args:
        model: the model.
        normalisation: what its encoder was taken to expect of grey levels.
    """
    return OnnxModel(
        name=model.name,
        architecture=model.architecture,
        image_side_px=model.image_side_px,
        cells=layout_of(model.sam).cells,
        asking=model.asking,
        normalisation=normalisation,
        mask_threshold=float(model.sam.mask_threshold),
        weights_sha256=model.weights_sha256,
        encoder_sha256=model.encoder_sha256,
        metadata=dict(model.metadata),
    )


class TwoPassGroupNorm(nn.Module):
    """A group normalisation that gives a graph of means, in two passes and along one axis after the other.

    torch's exporter makes an InstanceNormalization of it, whose sums over a group are a hundred times less exact in
    onnxruntime (4e-5 of an embedding instead of 4e-7): enough to move masks.

    Args:
        norm: what it stands for; the weights are shared.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features of the same shape (B, C, h, w)."""
        norm, (batch, channels, height, width) = self.norm, features.shape
        groups = features.reshape(batch, norm.num_groups, channels // norm.num_groups, height, width)
        centred = groups - _mean(groups)
        even = (centred * torch.rsqrt(_mean(centred * centred) + norm.eps)).reshape(features.shape)
        return even * norm.weight[:, None, None] + norm.bias[:, None, None]


def write_graphs(
    sam: Sam,
    asking: Asking,
    encoder: Path,
    decoder: Path,
    *,
    opset: int,
    largest_inline_bytes: int = LARGEST_INLINE_BYTES,
) -> None:
    """Write the graphs of a network that is on the CPU.

    Args:
        sam: the network.
        asking: how prompts are put to it.
        encoder: file for the encoder; weights that are too large for it go beside it, into `<encoder>.data`.
        decoder: file for the decoder.
        opset: ONNX operator set.
        largest_inline_bytes: weights up to this size go into the graph itself.

    Raises:
        UsageError: torch's exporter does not know the operator set.
    """
    if opset not in OPSETS:
        raise UsageError(f"operator set {opset} cannot be exported to", f"Use {OPSETS[0]} to {OPSETS[-1]}")
    for path, make_program in ((encoder, _encoder_program), (decoder, partial(_decoder_program, asking=asking))):
        program = make_program(sam, opset)
        sizes = (value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value)
        program.save(path, external_data=sum(sizes) > largest_inline_bytes)


def _mean(groups: Tensor) -> Tensor:
    """Means (B, G, 1, 1, 1) of groups (B, G, C, h, w)."""
    return groups.mean(-1, keepdim=True).mean(-2, keepdim=True).mean(-3, keepdim=True)


def _with_two_pass_norms(encoder: nn.Module) -> nn.Module:
    """The encoder, or where it has group normalisations a copy in which they are `TwoPassGroupNorm`."""
    if not any(isinstance(module, nn.GroupNorm) for module in encoder.modules()):
        return encoder
    copied = copy.deepcopy(encoder)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, TwoPassGroupNorm(child))
    return copied


def _encoder_program(sam: Sam, opset: int) -> ONNXProgram:
    side_px, batch = int(sam.image_encoder.img_size), Dim("slices")
    example = (torch.zeros((2, side_px, side_px), dtype=torch.uint8), torch.full((2, 2), side_px))
    return _program(EncoderGraph(sam), example, ({0: batch}, {0: batch}), (ENCODER_INPUTS, ENCODER_OUTPUTS), opset)


def _decoder_program(sam: Sam, opset: int, asking: Asking) -> ONNXProgram:
    prompts, points, layout = 3, 4, layout_of(sam)
    cells, low_res = layout.cells, layout.cells * LOW_RES_PER_EMBEDDING
    example = [
        torch.zeros((prompts, EMBEDDING_CHANNELS, cells, cells)),
        torch.zeros((prompts, points, 2)),
        torch.ones((prompts, points), dtype=torch.int64),
        torch.zeros((prompts, 1, low_res, low_res)),
        torch.zeros(prompts),
    ]
    n, k = Dim("prompts"), Dim("points")
    shapes: list[Mapping[int, Dim]] = [{0: n}, {0: n, 1: k}, {0: n, 1: k}, {0: n}, {0: n}]
    block_cells = asking.block_in(cells)
    if block_cells:
        seen = seen_by([Focus(0, 0, block_cells, block_cells)] * prompts, cells, block_cells)
        example += [torch.from_numpy(values) for values in (seen.near, seen.far, seen.log_counts)]
        shapes += [{0: n, 1: Dim("near")}, {0: n, 1: Dim("far")}, {0: n, 1: Dim.DYNAMIC}]
    names = decoder_inputs(asking), DECODER_OUTPUTS
    return _program(DecoderGraph(sam, asking), tuple(example), tuple(shapes), names, opset)


def _program(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    dynamic_shapes: tuple[Mapping[int, Dim], ...],
    names: tuple[Sequence[str], Sequence[str]],
    opset: int,
) -> ONNXProgram:
    """The graph of a module, its inputs and outputs called by `names`."""
    with torch.no_grad(), quiet_exporter():
        program = torch.onnx.export(
            graph.eval(), example, dynamo=True, opset_version=opset, dynamic_shapes=dynamic_shapes,
            input_names=names[0], output_names=names[1], verbose=False,
        )  # fmt: skip
    if program is None:
        raise ValueError("torch.onnx.export gives a program unless it is told to write it")
    return program
