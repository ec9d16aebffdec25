from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from msksam_cli.io.strip_figure import Dot, Strip, strip_png


def pixels(*strips):
    return np.asarray(Image.open(io.BytesIO(strip_png(strips, "Dice")))).astype(int)


def near(picture, color, within=60):
    return np.abs(picture - color).sum(axis=-1) < within


def dots(picture):
    """Middles (row, column) of the dots, from left to right."""
    spots, count = ndimage.label(near(picture, (33, 102, 172)))
    return sorted(ndimage.center_of_mass(spots > 0, spots, range(1, count + 1)), key=lambda place: place[1])


def test_dots_lie_at_their_share_of_the_axis_on_the_line_of_their_tissue():
    picture = pixels(
        Strip("femur", None, (Dot(0.0), Dot(0.25), Dot(1.0))),
        Strip("tibia", None, (Dot(0.5),)),
        Strip("fibula", None, ()),
    )
    places = dots(picture)
    columns = [column for _, column in places]
    assert len(places) == 4
    assert (columns[1] - columns[0]) / (columns[3] - columns[0]) == pytest.approx(0.25, abs=0.01)
    assert (columns[2] - columns[0]) / (columns[3] - columns[0]) == pytest.approx(0.5, abs=0.01)
    assert places[2][0] - places[0][0] == pytest.approx(44, abs=1)


def test_equal_cases_are_all_seen():
    picture = pixels(Strip("femur", None, (Dot(0.5), Dot(0.5), Dot(0.5), Dot(0.9))))
    assert len(dots(picture)) == 4


def test_the_box_spans_the_quartiles_with_the_median_in_it():
    picture = pixels(Strip("femur", (0.25, 0.4, 0.75), (Dot(0.0), Dot(1.0))))
    columns = [column for _, column in dots(picture)]
    span = columns[1] - columns[0]
    box = np.nonzero(near(picture, (214, 226, 240), within=8).any(axis=0))[0]
    assert (box.min() - columns[0]) / span == pytest.approx(0.25, abs=0.01)
    assert (box.max() - columns[0]) / span == pytest.approx(0.75, abs=0.01)
    dark = (picture[:, box.min() : box.max()].sum(axis=-1) < 200)[45:80].sum(axis=0)
    assert (box.min() + np.argmax(dark) - columns[0]) / span == pytest.approx(0.4, abs=0.01)


def test_an_absent_tissue_is_a_cross_and_a_name_stands_beside_its_case():
    plain, crossed, named = (
        pixels(Strip("femur", None, (Dot(0.2, label, cross), Dot(0.9))))
        for label, cross in (("", False), ("", True), ("case-7", False))
    )
    assert len(dots(crossed)) == 1
    assert near(crossed, (194, 87, 26)).sum() > 5 > near(plain, (194, 87, 26)).sum()
    written = np.nonzero((named != plain).any(axis=-1))[1]
    assert written.size > 30
    assert written.min() > dots(plain)[0][1]  # no room to its left at the lower end


def test_equal_input_gives_equal_bytes_and_nothing_cannot_be_drawn():
    strip = Strip("femur", (0.1, 0.2, 0.3), (Dot(0.2),))
    assert strip_png([strip], "Dice") == strip_png([strip], "Dice")
    with pytest.raises(ValueError, match="at least one dot"):
        strip_png([Strip("femur", None, ())], "Dice")
