"""What a slice says of itself, on shapes whose answers are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.measure.overlap import dice
from msksam_cli.measure.slice_signals import DecoderSigns, slice_signals, stability

GRID = Grid((20, 16, 9), np.diag([0.5, 0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(3, "femur", group="bone"), Tissue(8, "disc", group="disc")))


def _labels() -> LabelMap:
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[2:12, 4:8, 1:7] = 3  # 40 pixels on slices 1 … 6
    values[2:7, 4:8, 6] = 0  # the last of them shows half
    values[15:18, 10:12, 4] = 8  # on one slice only
    return LabelMap(values, GRID, TISSUES)


def test_the_stability_of_logits_is_the_share_that_a_raised_threshold_keeps() -> None:
    assert stability(np.array([[-0.5, 0.5], [2.0, -4.0]], dtype=np.float32)) == pytest.approx(1 / 3)
    assert stability(np.full((2, 2), -3.0, np.float32)) is None


def test_each_slice_that_shows_a_tissue_has_its_signals_and_no_other() -> None:
    found = slice_signals(_labels(), {})
    assert [(one.tissue.name, one.slice_index) for one in found] == [*(("femur", n) for n in range(1, 7)), ("disc", 4)]
    assert found[0].area_mm2 == pytest.approx(40 * 0.35)
    assert found[0].signals.size_log_mm2 == pytest.approx(np.log(14.0))
    assert found[-1].area_mm2 == pytest.approx(6 * 0.35)


def test_decoder_and_prior_are_told_slice_by_slice_and_are_unknown_without_them() -> None:
    labels = _labels()
    signs = {(4, 3): DecoderSigns(0.8, 0.9), (4, 8): DecoderSigns(0.4, None)}

    def prior(index: int) -> np.ndarray:
        plane = np.zeros(GRID.shape[:2], dtype=np.float32)
        plane[2:12, 4:6] = 0.9 if index == 4 else 0.4  # half of the femur, sure of it on slice 4 only
        return plane

    found = {
        (one.slice_index, one.tissue.index): one.signals for one in slice_signals(labels, signs, {3: prior, 8: prior})
    }
    here, beside = found[4, 3], found[3, 3]
    assert (here.iou_prediction, here.stability) == (0.8, 0.9)
    assert here.prior_dice == pytest.approx(2 * 20 / 60)
    assert (beside.iou_prediction, beside.stability) == (None, None)
    assert beside.prior_dice == 0.0
    alone = slice_signals(labels, signs)[0].signals
    assert alone.prior_dice is None


def test_slices_are_those_of_the_slice_axis_wherever_it_lies() -> None:
    turned = LabelMap(_labels().values.transpose(2, 0, 1), Grid((9, 20, 16), np.diag([3.0, 0.5, 0.7, 1.0])), TISSUES)
    kept = [(one.slice_index, one.area_mm2, one.signals) for one in slice_signals(_labels(), {})]
    assert [(one.slice_index, one.area_mm2, one.signals) for one in slice_signals(turned, {})] == kept


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dice_with_the_prior_is_that_of_whole_slices_at_borders_and_for_single_pixels(axis: int) -> None:
    rng = np.random.default_rng(5)
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[0:7, 9:16, 0:9], values[19, 0, 8] = 3, 8
    believed = rng.random(GRID.shape).astype(np.float32)
    spacing_mm = np.where(np.arange(3) == axis, 3.0, 0.5)
    labels = LabelMap(values, Grid(GRID.shape, np.diag([*spacing_mm, 1.0])), TISSUES)
    found = slice_signals(labels, {}, dict.fromkeys((3, 8), lambda index: believed.take(index, axis)))
    assert {one.tissue.index for one in found} == {3, 8}
    for one in found:
        mask = labels.mask(one.tissue.index).take(one.slice_index, axis)
        assert one.signals.prior_dice == dice(mask, believed.take(one.slice_index, axis) > 0.5)
