from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from msksam_cli.errors import UsageError
from msksam_cli.sam.asking import Asking, Focus, seen_by
from msksam_cli.sam.decode import ask
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.onnx_graphs import TwoPassGroupNorm, write_graphs
from msksam_cli.sam.onnx_network import ENCODER_INPUTS, OnnxNetwork, decoder_inputs
from msksam_cli.sam.runtime import Model
from msksam_cli.sam.seen import Planes

RELATIVE = 2e-6
WHOLE = Focus(0, 0, 16, 16)
FOCUSES = {
    "whole": [WHOLE] * 3,
    "equal": [Focus(4, 8, 8, 4), Focus(0, 0, 4, 8), Focus(8, 8, 4, 8)],
    "unequal": [Focus(4, 4, 8, 12), Focus(12, 12, 4, 4), WHOLE],
}


def model_frame(network: OnnxNetwork, *slices: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of the encoder graph."""
    side = network.image_side_px
    frames = [Frame(pixels.shape, side) for pixels in slices]
    images = np.zeros((len(slices), side, side), np.uint8)
    for image, pixels, frame in zip(images, slices, frames, strict=True):
        image[: frame.resized_shape[0], : frame.resized_shape[1]] = frame.resize(pixels)
    return dict(zip(ENCODER_INPUTS, (images, np.array([frame.resized_shape for frame in frames])), strict=True))


def questions(focuses: list[Focus], points: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of the decoder graph of `onnx_small`, all kinds of points and masks among them."""
    generator, prompts, cells = np.random.default_rng(seed), len(focuses), 16
    seen = seen_by(focuses, cells, 4)
    arrays = (
        generator.normal(size=(prompts, 256, cells, cells)).astype(np.float32),
        generator.uniform(0, 4 * cells, (prompts, points, 2)).astype(np.float32),
        generator.integers(-1, 4, (prompts, points)),
        generator.normal(size=(prompts, 1, 4 * cells, 4 * cells)).astype(np.float32),
        np.arange(prompts, dtype=np.float32) % 2,
        *(seen.near, seen.far, seen.log_counts),
    )
    return dict(zip(decoder_inputs(Asking(block_cells=4)), arrays, strict=True))


def test_slices_in_one_batch_are_embedded_as_one_by_one(onnx_vit: OnnxNetwork, onnx_small: OnnxNetwork, blobs) -> None:
    slices = [blobs(shape, seed) for seed, shape in enumerate([(64, 96), (130, 90), (20, 20)])]
    for network in (onnx_vit, onnx_small):
        together = network.encoder.run(None, model_frame(network, *slices))[0]
        assert np.abs(together[0] - together[1]).max() > 0.1
        for features, pixels in zip(together, slices, strict=True):
            alone = network.encoder.run(None, model_frame(network, pixels))[0][0]
            np.testing.assert_allclose(features, alone, atol=1e-5)


def test_what_lies_outside_the_resized_slice_does_not_matter(onnx_small: OnnxNetwork, blobs) -> None:
    clean = model_frame(onnx_small, blobs((60, 40)))
    rows, columns = clean["resized_shapes"][0]
    assert (rows, columns) == (64, 43)
    dirty = {**clean, "slices": np.full_like(clean["slices"], 200)}
    dirty["slices"][:, :rows, :columns] = clean["slices"][:, :rows, :columns]
    narrow = {**clean, "resized_shapes": clean["resized_shapes"] - 8}
    answers = [onnx_small.encoder.run(None, inputs)[0] for inputs in (clean, dirty, narrow)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 0.1


@pytest.mark.parametrize("focuses", FOCUSES.values(), ids=FOCUSES)
@pytest.mark.parametrize("points", [1, 2, 7])
def test_prompts_in_one_batch_are_answered_as_one_by_one_whatever_they_see(
    onnx_small: OnnxNetwork, focuses: list[Focus], points: int
) -> None:
    asked = questions(focuses, points, seed=points)
    logits, scores = onnx_small.decoder.run(None, asked)
    assert logits.shape == (3, 4, 64, 64)
    assert np.abs(logits[0] - logits[1]).max() > 1e-2
    for n, focus in enumerate(focuses):
        alone = {name: values[n : n + 1] for name, values in asked.items()}
        seen = seen_by([focus], 16, 4)
        alone.update(near_cells=seen.near, far_blocks=seen.far, log_counts=seen.log_counts)
        assert (seen.far.shape[1] == 0) == (focus == WHOLE)
        alone_logits, alone_scores = onnx_small.decoder.run(None, alone)
        np.testing.assert_allclose(logits[n], alone_logits[0], atol=1e-5)
        np.testing.assert_allclose(scores[n], alone_scores[0], atol=1e-5)
        assert (logits[n, 0] > -15).sum() == 16 * focus.rows * focus.columns


@torch.inference_mode()
@pytest.mark.parametrize("focuses", FOCUSES.values(), ids=FOCUSES)
def test_the_exported_decoder_answers_as_torch_whatever_is_seen(
    onnx_small: OnnxNetwork, small_64: Model, focuses: list[Focus]
) -> None:
    asked = questions(focuses, 2, seed=3)
    asked["point_labels"][:], asked["has_mask_input"][:] = (2, 3), 1
    logits, scores = onnx_small.decoder.run(None, asked)
    wanted, wanted_scores = ask(
        small_64.sam,
        [Planes.of(torch.from_numpy(asked["embeddings"]), 4)],
        points=None,
        boxes=torch.from_numpy(asked["point_coords"]).flatten(1),
        mask_prompts=torch.from_numpy(asked["mask_input"]),
        seen=seen_by(focuses, 16, 4),
    )
    assert wanted.std() > 0.05
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(scores, wanted_scores.numpy(), atol=1e-5)


def test_a_mask_counts_only_where_it_is_said_to(onnx_small: OnnxNetwork) -> None:
    asked = questions(FOCUSES["equal"][:2], 2)
    other = {**asked, "mask_input": asked["mask_input"] + 3}
    before, after = (onnx_small.decoder.run(None, inputs)[0] for inputs in (asked, other))
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_a_group_normalisation_in_two_passes_equals_torchs_and_is_as_exact() -> None:
    torch.manual_seed(2)
    norm = nn.GroupNorm(4, 12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    features = torch.randn(2, 12, 30, 20) + 30
    exact = norm.double()(features.double())
    single = TwoPassGroupNorm(norm.float())(features)
    assert ((single - exact).norm() / exact.norm()).item() < RELATIVE
    np.testing.assert_allclose(TwoPassGroupNorm(norm.double())(features.double()).detach(), exact.detach(), atol=1e-12)


def test_the_exported_encoder_is_as_exact_as_torch_and_the_network_stays_as_it_was(
    onnx_small: OnnxNetwork, small_64: Model, blobs
) -> None:
    inputs = model_frame(onnx_small, blobs((64, 64)))
    images = (torch.from_numpy(inputs["slices"])[:, None].double() - small_64.sam.pixel_mean) / small_64.sam.pixel_std
    assert not any(isinstance(module, TwoPassGroupNorm) for module in small_64.sam.modules())
    with torch.no_grad():
        single = small_64.sam.image_encoder(images.float()).numpy()
        exact = small_64.sam.image_encoder.double()(images).numpy()
    small_64.sam.image_encoder.float()
    exported = onnx_small.encoder.run(None, inputs)[0]
    assert np.linalg.norm(single - exact) / np.linalg.norm(exact) < RELATIVE
    assert np.linalg.norm(exported - exact) / np.linalg.norm(exact) < RELATIVE


def test_weights_too_large_for_a_graph_lie_beside_it(
    onnx_vit: OnnxNetwork, vit_export: Path, onnx_small: OnnxNetwork, small_64_export: Path
) -> None:
    assert onnx_vit.encoder.get_inputs()
    assert onnx_small.encoder.get_inputs()
    names = {"encoder.onnx", "decoder.onnx"}
    assert {path.name for path in vit_export.iterdir()} == names | {f"{name}.data" for name in names}
    assert {path.name for path in small_64_export.iterdir()} == names
    assert (vit_export / "decoder.onnx").stat().st_size < (small_64_export / "decoder.onnx").stat().st_size / 10


def test_an_operator_set_the_exporter_does_not_know_is_refused_before_anything_is_written(
    small_64: Model, tmp_path: Path
) -> None:
    for opset in (9, 99):
        with pytest.raises(UsageError, match=f"operator set {opset} cannot be exported to"):
            write_graphs(small_64.sam, small_64.asking, tmp_path / "e", tmp_path / "d", opset=opset)
    assert list(tmp_path.iterdir()) == []
