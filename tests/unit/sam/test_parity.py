from __future__ import annotations

from dataclasses import replace

import numpy as np

from msksam_cli.sam.asking import Layout, window_for
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.onnx_network import OnnxNetwork
from msksam_cli.sam.parity import SHAPES, SMALLEST_IOU, measure_parity, parity_prompts, parity_slice
from msksam_cli.sam.runtime import Model


def test_a_network_is_its_own_equal(small_64: Model) -> None:
    found = measure_parity(small_64, small_64, SHAPES[:2])
    assert [parity.slice_shape for parity in found] == [SHAPES[0]] * 4 + [SHAPES[1]] * 4
    assert [parity.prompts for parity in found[:4]] == ["box", "points", "both", "small box"]
    for parity in found:
        assert (parity.mask_iou, parity.logit_difference, parity.embedding_difference) == (1.0, 0.0, 0.0)
        assert parity.largest_logit > 0.1


def test_an_export_passes_on_every_shape_and_another_network_fails(
    small_64: Model, onnx_small: OnnxNetwork, tiny_vit: Model, onnx_vit: OnnxNetwork
) -> None:
    assert len(SHAPES) >= 6
    for found in (measure_parity(small_64, onnx_small), measure_parity(tiny_vit, onnx_vit)):
        assert len(found) == 4 * len(SHAPES)
        assert min(parity.mask_iou for parity in found) >= SMALLEST_IOU
        assert max(parity.embedding_difference for parity in found) < 1e-3
    shifted = measure_parity(small_64, _with_threshold(onnx_small, 0.3), SHAPES[:1])
    assert min(parity.mask_iou for parity in shifted) < SMALLEST_IOU
    assert min(parity.logit_difference for parity in shifted) > 0.29


def _with_threshold(network: OnnxNetwork, threshold: float) -> OnnxNetwork:
    return replace(network, model=replace(network.model, mask_threshold=threshold))


def test_the_images_are_smooth_and_have_edges_and_the_small_box_gets_a_window() -> None:
    for shape in SHAPES:
        pixels = parity_slice(shape)
        assert (pixels.dtype, pixels.shape) == (np.uint8, shape)
        assert pixels.max() - int(pixels.min()) > 150
        frame, prompts = Frame(shape, 384), parity_prompts(shape)
        windows = {
            kind: window_for(frame.to_model_xyxy([prompt.box.xyxy])[0], None, Layout(384, 96), 64).side
            for kind, prompt in prompts.items()
            if prompt.box
        }
        assert windows["small box"] == 64
        for prompt in prompts.values():
            prompt.check_inside(shape)
    steps = np.abs(np.diff(parity_slice((384, 384)).astype(int), axis=0))
    assert steps.max() < 30
