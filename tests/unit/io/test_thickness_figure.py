"""Thickness in colour: equal bytes for equal input, colours where the surface is, no mirrored views."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from msksam_cli.io.thickness_figure import Surface, colours_of, thickness_png

THIN, THICK = (np.array(colours_of(np.array([v]))[0], dtype=int) for v in (0.5, 3.5))


def _plate(name: str = "medial-tibial-cartilage") -> Surface:
    """A level plate 60 mm wide and 40 mm deep: thin on the patient's right, thick on the left."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(-30, 30, 0.5), np.arange(-20, 20, 0.5)))
    points = np.stack([x, y, np.full_like(x, 7.0)], axis=1)
    return Surface(name, points, np.where(x < 0, 3.5, 0.5))  # RAS+: x below 0 is the patient's left


def _pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=int)


def _near(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(pixels - colour).sum(axis=2) < 6


def test_from_above_the_patients_right_is_on_the_right() -> None:
    tile = _pixels(thickness_png([_plate()]))[30:320]
    thin, thick = (np.argwhere(_near(tile, colour))[:, 1] for colour in (THIN, THICK))
    assert thin.size > 5000
    assert thick.size > 5000
    assert thick.max() < thin.min() + 3, "thick is the patient's left"


def test_from_below_the_patients_right_is_on_the_left() -> None:
    tile = _pixels(thickness_png([_plate("femoral-cartilage")]))[30:320]
    thin, thick = (np.argwhere(_near(tile, colour))[:, 1].mean() for colour in (THIN, THICK))
    assert thin < thick


def test_what_lies_nearer_hides_what_lies_behind() -> None:
    upper = _plate()
    lower = upper.points_mm - (0, 0, 5)
    both = Surface(
        upper.name, np.concatenate([upper.points_mm, lower]), np.concatenate([upper.values_mm, upper.values_mm * 0])
    )
    tile = _pixels(thickness_png([both]))[30:320]
    assert not _near(tile, np.array([190, 190, 190])).any()


def test_equal_input_gives_equal_bytes_and_every_surface_has_a_tile() -> None:
    one, two = thickness_png([_plate()]), thickness_png([_plate(), _plate("femoral-cartilage")])
    assert one == thickness_png([_plate()])
    assert _pixels(two).shape[1] == 2 * _pixels(one).shape[1]


def test_nothing_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        thickness_png([])
