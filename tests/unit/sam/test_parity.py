from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.core.prompts import Box, MaskPrediction, Prompt
from msksam_cli.sam.asking import Layout, focus_for
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.onnx_network import OnnxNetwork
from msksam_cli.sam.parity import SHAPES, SMALLEST_IOU, _parity, measure_parity, parity_prompts, parity_slice
from msksam_cli.sam.runtime import Model


def test_a_network_is_its_own_equal(small_64: Model) -> None:
    found = measure_parity(small_64, small_64, SHAPES[:2])
    assert [parity.slice_shape for parity in found] == [SHAPES[0]] * 4 + [SHAPES[1]] * 4
    assert [parity.prompts for parity in found[:4]] == ["box", "points", "both", "small box"]
    for parity in found:
        assert (parity.mask_iou, parity.logit_difference, parity.embedding_difference) == (1.0, 0.0, 0.0)
        assert parity.pixels_apart == 0
        assert parity.holds
        assert parity.largest_logit > 0.1


def test_an_export_passes_on_every_shape_and_another_network_fails(
    small_64: Model, onnx_small: OnnxNetwork, tiny_vit: Model, onnx_vit: OnnxNetwork
) -> None:
    assert len(SHAPES) >= 6
    for found in (measure_parity(small_64, onnx_small), measure_parity(tiny_vit, onnx_vit)):
        assert len(found) == 4 * len(SHAPES)
        assert all(parity.holds for parity in found)
        assert max(parity.embedding_difference for parity in found) < 1e-3
    shifted = measure_parity(small_64, _with_threshold(onnx_small, 0.3), SHAPES[:1])
    assert min(parity.mask_iou for parity in shifted) < SMALLEST_IOU
    assert not all(parity.holds for parity in shifted)
    assert min(parity.logit_difference for parity in shifted) > 0.29


def _with_threshold(network: OnnxNetwork, threshold: float) -> OnnxNetwork:
    return replace(network, model=replace(network.model, mask_threshold=threshold))


@pytest.mark.parametrize(
    ("pixels", "apart", "holds"),
    [
        ([100, 100], [0, 0], True),
        ([100, 100], [1, 0], True),
        ([100, 100], [0, 2], False),
        ([5000, 100], [5, 1], True),
        ([5000, 100], [6, 0], False),
        ([1, 1], [1, 1], True),
    ],
)
def test_one_pixel_of_a_mask_is_let_pass_and_more_only_of_large_ones(
    pixels: list[int], apart: list[int], holds: bool
) -> None:
    logits = np.full((2, 2, 100, 100), -1.0, np.float32)
    for ours, theirs, inside, differing in zip(*logits, pixels, apart, strict=True):
        ours.flat[:inside] = theirs.flat[: inside - differing] = 1.0
    answers = [MaskPrediction(one, np.zeros(2, np.float32), Prompt(1, 0, box=Box((0, 0, 9, 9)))) for one in logits]
    found = _parity("box", answers[0], answers[1], 0.0)
    assert (found.holds, found.pixels_apart) == (holds, max(apart))
    assert found.mask_iou == pytest.approx(min(1 - one / of for one, of in zip(apart, pixels, strict=True)))


class _Turned:
    """A network whose every candidate has so many pixels turned over."""

    def __init__(self, network: Model, pixels: int) -> None:
        self.encode = network.encode
        self._network, self._pixels = network, pixels

    def decode_slices(self, asked):
        answers = self._network.decode_slices(asked)
        for answer in answers[0]:
            answer.logits.reshape(4, -1)[:, : self._pixels] *= -1
        return answers


def test_pixels_apart_are_counted_in_each_candidates_masks(small_64: Model) -> None:
    for pixels in (1, 2, 40):
        found = measure_parity(small_64, _Turned(small_64, pixels), SHAPES[:1])
        assert {parity.pixels_apart for parity in found} == {pixels}


def test_the_images_are_smooth_and_have_edges_and_the_small_box_gets_a_focus() -> None:
    for shape in SHAPES:
        pixels = parity_slice(shape)
        assert (pixels.dtype, pixels.shape) == (np.uint8, shape)
        assert pixels.max() - int(pixels.min()) > 150
        prompts = parity_prompts(shape)
        for layout, block_cells in ((Layout(384, 96), 8), (Layout(64, 16), 4)):
            frame = Frame(shape, layout.side_px)
            boxes = {kind: frame.to_model_xyxy([prompts[kind].box.xyxy])[0] for kind in ("box", "small box")}
            seen = {kind: focus_for(box, None, layout, block_cells) for kind, box in boxes.items()}
            shares = {kind: focus.rows * focus.columns / layout.cells**2 for kind, focus in seen.items()}
            assert shares["small box"] < shares["box"]
            assert shares["small box"] < 0.6
        for prompt in prompts.values():
            prompt.check_inside(shape)
    steps = np.abs(np.diff(parity_slice((384, 384)).astype(int), axis=0))
    assert steps.max() < 30
