from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from msksam_cli.io.curves import Chart, Curve, Level, charts_png, ticks, write_charts

RED = "#ff0000"


def _chart(*points, **changes):
    return Chart("title", "step", "loss", (Curve("a", RED, points, **changes),))


def _red(chart):
    """Rows and columns of the line's own pixels, the legend left out."""
    pixels = np.asarray(Image.open(io.BytesIO(charts_png([chart])))).astype(int)[:340]
    return np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90))


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    rows, columns = _red(_chart((0, 0.0), (10, 1.0)))
    left, right = rows[columns < columns.min() + 5].mean(), rows[columns > columns.max() - 5].mean()
    assert left > right + 200
    assert columns.max() - columns.min() > 400


def test_a_point_lies_at_its_share_of_both_axes():
    rows, columns = _red(_chart((0, 0.0), (2.5, 1.0), (10, 0.0)))
    peak = columns[rows == rows.min()].mean()
    assert (peak - columns.min()) / (columns.max() - columns.min()) == pytest.approx(0.25, abs=0.01)


def test_a_single_point_is_seen_and_its_interval_is_drawn():
    assert _red(_chart((3, 0.5)))[0].size > 10
    rows, _ = _red(_chart((3, 0.5), intervals=((0.0, 1.0),)))
    assert rows.max() - rows.min() > 200


def _pixels(chart):
    return np.asarray(Image.open(io.BytesIO(charts_png([chart])))).astype(int)[:340]


def _levelled(*levels, **changes):
    return Chart("title", "mean", "difference", (Curve("", RED, ((0, -1.0), (10, 1.0)), **changes),), levels)


def test_points_without_a_line_are_dots_alone():
    rows, columns = _red(_levelled(dots=True, line=False))
    assert set(columns // 100) == {columns.min() // 100, columns.max() // 100}
    assert rows[columns > 300].max() < rows[columns < 300].min()


def test_a_level_crosses_the_whole_chart_at_its_value_and_widens_the_axis():
    blue = _pixels(_levelled(Level(3.0, "#0000ff")))
    rows, columns = np.nonzero((blue[..., 2] > 200) & (blue[..., 0] < 60))
    assert np.ptp(rows) < 4
    assert np.ptp(columns) > 400
    assert rows.mean() < _red(_levelled(Level(3.0, "#0000ff"), dots=True, line=False))[0].min()
    dashed = _pixels(_levelled(Level(3.0, "#0000ff", dashed=True)))
    assert 0.4 < ((dashed[..., 2] > 200) & (dashed[..., 0] < 60)).sum() / len(rows) < 0.8


def test_a_band_is_shaded_between_its_ends_and_cut_at_the_axes():
    shaded = [
        np.nonzero(_pixels(_levelled(Level(0.0, "#0000ff", band=band)))[:, 300, 0] == (6 * 255) // 7)[0]
        for band in ((-0.5, 0.5), (-1.0, 1.0), (-1e6, 1e6))
    ]
    assert len(shaded[1]) == pytest.approx(2 * len(shaded[0]), rel=0.1)
    assert 200 < len(shaded[2]) < 300  # the axis, not a millionfold of it


def test_a_label_is_written_beside_its_point_and_a_levels_text_above_or_below_it():
    def ink(chart):
        return (_pixels(chart).sum(axis=-1) < 250)[45:338, 70:520]  # inside the axes

    plain = ink(_levelled(dots=True))
    labelled = ink(_levelled(dots=True, labels=("case-a", ""))) & ~plain
    assert labelled.sum() > 30
    assert np.nonzero(labelled)[0].min() > 200  # beside the lower point
    above, below = (
        np.nonzero(ink(_levelled(Level(0.0, RED, "bias", text_below=low))) & ~plain)[0].mean() for low in (False, True)
    )
    assert above + 10 < below


def test_charts_stand_side_by_side_and_equal_input_gives_equal_bytes(tmp_path):
    two = [_chart((0, 1.0), (1, 2.0)), _chart((0, 2.0), (1, 1.0))]
    assert charts_png(two) == charts_png(two)
    alone, both = (Image.open(io.BytesIO(charts_png(charts))) for charts in (two[:1], two))
    assert both.size == (2 * alone.size[0], alone.size[1])
    write_charts(tmp_path / "c.png", two)
    assert (tmp_path / "c.png").read_bytes() == charts_png(two)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.87, 0.931), (5.0, 5.0), (-3.0, 4000.0), (1e-7, 3e-7), (0, 0)])
def test_ticks_span_the_values_in_few_even_steps(low, high):
    found = ticks(low, high)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    assert np.allclose(np.diff(found), found[1] - found[0])


@pytest.mark.parametrize("points", [(), ((0.0, float("nan")),), ((float("inf"), 1.0),)])
def test_nothing_and_what_is_not_finite_cannot_be_drawn(points):
    with pytest.raises(ValueError, match="finite"):
        charts_png([_chart(*points)])
