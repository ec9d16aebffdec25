"""Thickness of cartilages in colour, each seen from where its surface lies open: one PNG for a case."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LIMITS_MM = (0.0, 4.0)

_FRONT, _ABOVE = 1, 2  # axes of the world: right to left, back to front, feet to head
_SIDES = (("from the left", "from the right"), ("from behind", "from the front"), ("from below", "from above"))
_ENDS = ("LR", "PA", "IS")
_KNOWN = {
    "femoral-cartilage": (_ABOVE, -1),
    "medial-tibial-cartilage": (_ABOVE, 1),
    "lateral-tibial-cartilage": (_ABOVE, 1),
    "patellar-cartilage": (_FRONT, -1),
}
_STOPS = np.array([(40, 20, 90), (40, 90, 150), (50, 160, 130), (150, 205, 70), (250, 230, 60)])
_TILE_PX, _TITLE_PX, _SCALE_PX, _DOT_MM = 300, 26, 34, 0.6
_PAPER, _INK = (255, 255, 255), (40, 44, 52)


@dataclass(frozen=True, eq=False)
class Surface:
    """Where one tissue's thickness was measured.

    Attributes:
        name: of the tissue.
        points_mm: (N, 3) places in world mm (RAS+), N ≥ 1.
        values_mm: (N,) thickness there; 0 where bone is bare.
    """

    name: str
    points_mm: NDArray[np.float64]
    values_mm: NDArray[np.float64]


def thickness_png(surfaces: Sequence[Surface], limits_mm: tuple[float, float] = LIMITS_MM) -> bytes:
    """The surfaces beside one another at one scale, and the colours' meaning below; equal input gives equal bytes.

    Raises:
        ValueError: there is no surface.
    """
    if not surfaces:
        raise ValueError("there is nothing to draw")
    views = [_view(surface) for surface in surfaces]
    flats = [_flat(surface.points_mm, *view) for surface, view in zip(surfaces, views, strict=True)]
    widest_mm = max(float(np.ptp(flat[:, :2], axis=0).max()) for flat in flats)
    px_per_mm = (_TILE_PX - 20) / max(widest_mm, 1.0)
    page = Image.new("RGB", (_TILE_PX * len(surfaces), _TITLE_PX + _TILE_PX + _SCALE_PX), _PAPER)
    pen = ImageDraw.Draw(page)
    for number, (surface, (axis, sign), flat) in enumerate(zip(surfaces, views, flats, strict=True)):
        middle = (flat[:, :2].min(axis=0) + flat[:, :2].max(axis=0)) / 2
        at = (flat[:, :2] - middle) * (px_per_mm, -px_per_mm) + (_TILE_PX * (number + 0.5), _TITLE_PX + _TILE_PX / 2)
        colours = colours_of(surface.values_mm, limits_mm)
        half = max(1.0, _DOT_MM * px_per_mm / 2)
        for index in np.argsort(flat[:, 2], kind="stable").tolist():
            x, y = at[index]
            pen.rectangle((x - half, y - half, x + half, y + half), fill=tuple(colours[index].tolist()))
        side = _SIDES[axis][int(sign > 0)]
        pen.text((_TILE_PX * number + 8, 6), f"{surface.name}, {side}", fill=_INK, font=_font(13))
        across = _directions(axis, sign)[0]
        letter = _ENDS[int(np.argmax(np.abs(across)))][int(across.sum() < 0)]  # what lies on the left of the picture
        pen.text((_TILE_PX * number + 4, _TITLE_PX + _TILE_PX // 2), letter, fill=_INK, font=_font(13))
    _draw_scale(pen, _TITLE_PX + _TILE_PX, limits_mm)
    stream = io.BytesIO()
    page.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def colours_of(values_mm: NDArray[np.float64], limits_mm: tuple[float, float] = LIMITS_MM) -> NDArray[np.uint8]:
    """(N, 3) colours: dark blue for thin, green, then yellow for thick; grey for none.

    >>> colours_of(np.array([0.0, 4.0, 9.0])).tolist()
    [[190, 190, 190], [250, 230, 60], [250, 230, 60]]
    """
    share = (np.asarray(values_mm, dtype=np.float64) - limits_mm[0]) / (limits_mm[1] - limits_mm[0])
    place = np.clip(share, 0, 1) * (len(_STOPS) - 1)
    colours = np.stack([np.interp(place, range(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)], axis=1)
    colours[np.asarray(values_mm) == 0] = 190
    return np.asarray(np.rint(colours), dtype=np.uint8)


def _view(surface: Surface) -> tuple[int, int]:
    """World axis to look along, and from which of its ends: the one along which the surface is flattest."""
    known = _KNOWN.get(surface.name)
    return known or (int(np.argmin(np.ptp(surface.points_mm, axis=0))), 1)


def _flat(points_mm: NDArray[np.float64], axis: int, sign: int) -> NDArray[np.float64]:
    """(N, 3) as seen: to the right, up, and towards the eye; up is the head, or the front when seen along the body."""
    return points_mm @ _directions(axis, sign).T


def _directions(axis: int, sign: int) -> NDArray[np.float64]:
    """(3, 3) world directions to the right, up and towards the eye.

    From above the patient's right is on the right, from below and from the front on the left.

    >>> _directions(2, 1)[0].tolist(), _directions(2, -1)[0].tolist(), _directions(1, 1)[0].tolist()
    ([1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0])
    """
    eye, up = sign * np.eye(3)[axis], np.eye(3)[_FRONT if axis == _ABOVE else _ABOVE]
    return np.stack([np.cross(up, eye), up, eye]) + 0.0


def _draw_scale(pen: ImageDraw.ImageDraw, top_px: int, limits_mm: tuple[float, float]) -> None:
    low, high = limits_mm
    for step, colour in enumerate(colours_of(np.linspace(max(low, 1e-6), high, 200), limits_mm).tolist()):
        pen.rectangle((8 + step * 0.6, top_px + 8, 9 + step * 0.6, top_px + 20), fill=tuple(colour))
    pen.text((138, top_px + 6), f"{low:g} to {high:g} mm; grey: bare bone", fill=_INK, font=_font(13))


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
