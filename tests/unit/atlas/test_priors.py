from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.atlas.placed import WorkingProbabilities
from msksam_cli.atlas.priors import deepest_points, prompts_from_labels, prompts_from_priors, strongest_tissue
from msksam_cli.core.atlases import Fit, PlacedAtlas
from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError

GRID = Grid((120, 100, 8), np.diag([0.5, 0.7, 3.0, 1.0]))
TISSUES = TissueTable((Tissue(1, "bone-a", group="bone"), Tissue(2, "plate", group="cartilage")))


def _labels() -> LabelMap:
    values = np.zeros(GRID.shape, dtype=np.uint8)
    values[20:100, 30:60, 2:6] = 1
    values[20:100, 60:64, 2:6] = 2
    return LabelMap(values, GRID, TISSUES)


def _placed(probabilities: dict[int, np.ndarray]) -> PlacedAtlas:
    fit = Fit(0.3, 1.0, False, None, True)
    return PlacedAtlas(GRID, probabilities, {1: 1.0, 2: 1.0}, TISSUES, fit, "", "toy", "")


def _hard(scale: float = 1.0) -> PlacedAtlas:
    return _placed({i: _labels().mask(i).astype(np.float32) * np.float32(scale) for i in (1, 2)})


def test_one_box_per_slice_padded_by_two_millimetres() -> None:
    prompts = prompts_from_priors(_hard(), TISSUES.select(["bone-a"]), 2)
    assert [p.slice_index for p in prompts] == [2, 3, 4, 5]
    box = prompts[0].box
    assert box is not None
    np.testing.assert_allclose(box.xyxy, (30 - 2 / 0.7, 20 - 2 / 0.5, 59 + 2 / 0.7, 99 + 2 / 0.5))
    assert prompts[0].source == "atlas:toy"


def test_nothing_is_asked_where_the_atlas_hardly_believes() -> None:
    assert prompts_from_priors(_hard(0.29), TISSUES, 2) == ()
    assert prompts_from_priors(_hard(0.35), TISSUES, 2) != ()


def test_positive_points_lie_inside_and_negative_ones_in_the_rival() -> None:
    labels = _labels()
    for prompt in prompts_from_priors(_hard(), TISSUES, 2):
        assert prompt.points is not None
        for (x, y), inside in zip(prompt.points.xy, prompt.points.is_foreground, strict=True):
            value = labels.values[round(y), round(x), prompt.slice_index]
            assert value == prompt.tissue_index if inside else value not in (0, prompt.tissue_index)
    plates = [p for p in prompts_from_priors(_hard(), TISSUES, 2) if p.tissue_index == 2]
    assert all(p.points is not None and not all(p.points.is_foreground) for p in plates)


def test_a_plate_is_asked_for_in_tiles_of_at_most_25_mm_that_cover_it() -> None:
    prompts = [p for p in prompts_from_labels(_labels(), TISSUES, 2, jitter=0) if p.tissue_index == 2]
    covered = np.zeros(GRID.shape, dtype=bool)
    for prompt in prompts:
        assert prompt.box is not None
        x0, y0, x1, y1 = (round(v) for v in prompt.box.xyxy)
        assert (y1 - y0 + 1) * 0.5 <= 25.0
        covered[y0 : y1 + 1, x0 : x1 + 1, prompt.slice_index] = True
    assert covered[_labels().mask(2)].all()
    assert len(prompts) == 8


def test_two_parts_of_one_tissue_give_two_prompts() -> None:
    probability = np.zeros(GRID.shape, dtype=np.float32)
    probability[10:30, 10:30, 3] = 0.9
    probability[60:90, 50:80, 3] = 0.9
    prompts = prompts_from_priors(_placed({1: probability, 2: probability * 0}), TISSUES, 2)
    assert len(prompts) == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_prompts_lie_inside_slices_of_any_axis(axis: int) -> None:
    shape = tuple(n for a, n in enumerate(GRID.shape) if a != axis)
    prompts = prompts_from_priors(_hard(), TISSUES, axis)
    assert prompts
    for prompt in prompts:
        prompt.check_inside((shape[0], shape[1]))


@pytest.mark.parametrize(("kind", "has_box", "has_points"), [("box", True, False), ("point", False, True)])
def test_the_kind_is_what_was_asked_for(kind: str, has_box: bool, has_points: bool) -> None:
    for prompt in prompts_from_priors(_hard(), TISSUES, 2, kind):
        assert (prompt.box is not None, prompt.points is not None) == (has_box, has_points)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown kind of prompt 'scribble'"):
        prompts_from_priors(_hard(), TISSUES, 2, "scribble")


def test_jitter_is_small_repeatable_and_different_by_seed() -> None:
    def sides(prompts: tuple[Prompt, ...]) -> np.ndarray:
        return np.array([p.box.xyxy for p in prompts if p.box is not None])

    exact = sides(prompts_from_labels(_labels(), TISSUES, 2, jitter=0))
    jittered = sides(prompts_from_labels(_labels(), TISSUES, 2, jitter=0.05, seed=4))
    again = sides(prompts_from_labels(_labels(), TISSUES, 2, jitter=0.05, seed=4))
    other = sides(prompts_from_labels(_labels(), TISSUES, 2, jitter=0.05, seed=5))
    size = exact[:, 2:] - exact[:, :2] + 1
    assert (np.abs(jittered - exact) <= 0.05 * np.tile(size, 2) + 1e-9).all()
    assert np.abs(jittered - exact).max() > 0.5
    np.testing.assert_array_equal(jittered, again)
    assert np.abs(jittered - other).max() > 0.1


def test_doubt_widens_the_box() -> None:
    from scipy import ndimage

    soft = {i: ndimage.gaussian_filter(_labels().mask(i).astype(np.float32), (8, 6, 0)) for i in (1, 2)}
    hard = prompts_from_priors(_hard(), TISSUES.select(["bone-a"]), 2)[0].box
    blurred = prompts_from_priors(_placed(soft), TISSUES.select(["bone-a"]), 2)[0].box
    assert hard is not None
    assert blurred is not None
    assert blurred.xyxy[1] < hard.xyxy[1]


def test_the_deepest_point_comes_first_in_mm_not_pixels() -> None:
    mask = np.zeros((60, 60), dtype=bool)
    mask[5:15, 5:55] = True
    mask[30:55, 10:26] = True
    assert deepest_points(mask, (3.0, 0.5), 1)[0][1] < 15
    assert deepest_points(mask, (0.5, 0.5), 1)[0][1] > 29
    assert deepest_points(np.zeros((4, 4), dtype=bool), (1, 1), 3) == []


def test_the_strongest_tissue_wins_and_weak_ones_lose_to_background() -> None:
    first, second = np.zeros((2, 1, 1, 3), dtype=np.float32)
    first[0, 0], second[0, 0] = (0.6, 0.7, 0.4), (0.7, 0.2, 0.3)
    assert strongest_tissue({4: first, 9: second}, (1, 1, 3)).ravel().tolist() == [9, 4, 0]


def test_a_placement_on_a_working_grid_asks_as_one_that_holds_every_voxel() -> None:
    plain = _hard(0.9)
    working = WorkingProbabilities(plain.grid, plain.grid, {i: plain.probabilities[i] for i in plain.probabilities})
    whole = replace(plain, probabilities={index: working[index] for index in working})
    for axis in range(3):
        asked = prompts_from_priors(replace(plain, probabilities=working), TISSUES, axis)
        assert asked == prompts_from_priors(whole, TISSUES, axis)
        beside = [not all(prompt.points.is_foreground) for prompt in asked if prompt.points]
        assert any(beside) == (axis != 1), "slices along axis 1 show either bone or plate"
