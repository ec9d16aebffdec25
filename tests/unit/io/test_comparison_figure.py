from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from msksam_cli.io.comparison_figure import Band, Mark, Style, comparison_png, write_comparison_figure

STYLES = (Style("atlas", "#2e8b57", "square"), Style("sam", "#2166ac", "circle"), Style("box", "#c2571a", "cross"))


def bands(*means):
    marks = tuple(
        Mark(style.name, mean, None if mean is None else (mean - 0.02, mean + 0.02), () if mean is None else (mean,))
        for style, mean in zip(STYLES, means, strict=True)
    )
    return (Band("femur", marks), Band("femoral-cartilage", marks))


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def columns_of(content, color):
    """Mean column of the pixels that have a colour."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    found = np.abs(pixels(content) - (red, green, blue)).sum(axis=-1) < 30
    found[-60:] = False
    return found.nonzero()[1].mean()


def test_a_larger_mean_lies_further_right_and_equal_means_below_one_another():
    picture = comparison_png(bands(0.6, 0.8, 0.9), STYLES, "Dice")
    places = [columns_of(picture, style.color) for style in STYLES]
    assert places[0] + 50 < places[1] < places[2] - 20
    level = comparison_png(bands(0.7, 0.7, 0.9), STYLES, "Dice")
    assert columns_of(level, STYLES[0].color) == pytest.approx(columns_of(level, STYLES[1].color), abs=2)


def test_height_grows_with_tissues_and_an_unknown_mean_leaves_its_line_empty():
    known, unknown = (comparison_png(bands(0.6, mean, 0.9), STYLES, "Dice") for mean in (0.8, None))
    assert pixels(known).shape == pixels(unknown).shape
    assert not np.array_equal(pixels(known), pixels(unknown))
    longer = comparison_png(bands(0.6, 0.8, 0.9) * 2, STYLES, "Dice")
    assert pixels(longer).shape[0] > pixels(known).shape[0] + 100


def test_equal_input_gives_equal_bytes_in_a_file_too(tmp_path):
    picture = comparison_png(bands(0.6, 0.8, 0.9), STYLES, "Dice")
    write_comparison_figure(tmp_path / "figure.png", bands(0.6, 0.8, 0.9), STYLES, "Dice")
    assert (tmp_path / "figure.png").read_bytes() == picture


def test_nothing_to_show_is_a_mistake():
    with pytest.raises(ValueError, match="at least one mean"):
        comparison_png(bands(None, None, None), STYLES, "Dice")
