from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.atlas.coarse_fit import COARSE_SIMILARITY, CoarseFit, coarse_fit
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.geometry import Grid
from msksam_cli.errors import AtlasError


@pytest.mark.parametrize("inverted", [False, True])
def test_the_shown_anatomy_fits_far_better_in_any_contrast_than_noise_of_the_same_levels(
    toy_atlas: Atlas, scan_toy, toy_grid: Grid, inverted: bool
):
    volume, _ = scan_toy(toy_grid, side="right", inverted=inverted)
    shuffled = np.random.default_rng(2).permutation(volume.intensities.ravel()).reshape(toy_grid.shape)
    shown, noise = coarse_fit(toy_atlas, volume), coarse_fit(toy_atlas, replace(volume, intensities=shuffled))
    assert shown.skeleton > 20 * noise.skeleton
    assert shown.score > 100 * noise.score


@pytest.mark.parametrize("side", ["left", ""])
def test_a_left_part_fits_the_mirrored_atlas_as_a_right_one_fits_the_atlas(toy_atlas, scan_toy, toy_grid, side):
    right, _ = scan_toy(toy_grid, side="right")
    left, _ = scan_toy(toy_grid, np.diag([-1.0, 1.0, 1.0, 1.0]), side=side)
    assert coarse_fit(toy_atlas, left).similarity == pytest.approx(coarse_fit(toy_atlas, right).similarity, rel=0.1)
    wrong = coarse_fit(toy_atlas, replace(left, side="right"))
    assert wrong.similarity < coarse_fit(toy_atlas, left).similarity


def test_the_score_is_a_share_of_what_the_quality_card_calls_usual(toy_atlas: Atlas, scan_toy, toy_grid: Grid):
    volume, _ = scan_toy(toy_grid, side="right")
    carded = replace(toy_atlas, provenance={"quality": {COARSE_SIMILARITY: 0.1}})
    assert coarse_fit(toy_atlas, volume).usual == 0.4
    assert coarse_fit(carded, volume).score == pytest.approx(4 * coarse_fit(toy_atlas, volume).score)
    assert CoarseFit(0.2, 0.05, 0.4).score == pytest.approx(0.025)


def test_a_volume_without_contrast_is_refused(toy_atlas: Atlas, scan_toy, toy_grid: Grid):
    volume, _ = scan_toy(toy_grid)
    with pytest.raises(AtlasError, match="no contrast"):
        coarse_fit(toy_atlas, replace(volume, intensities=np.full(toy_grid.shape, 7.0, np.float32)))
