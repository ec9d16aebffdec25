"""What a DICOM header says about a quantity: a ready-made map of it and its unit, or a decay to be fitted.

Runs inside the reading process. Only words of closed lists leave it; a description itself never does.
"""

from __future__ import annotations

import re

from msksam_cli.core.quantity import Quantity
from msksam_cli.io.dicom_values import FrameValues, number, read_rescale, sequence_items, tag_value, text

# DICOM PS3.3 C.8.13.3.1 names T2_MAP and T2_STAR_MAP for the fourth value of Image Type; vendors write blanks as well.
_GAP, _MAP = r"[ _-]?", r"[ _-]?map(?![a-z])"
_MAPS: tuple[tuple[Quantity, re.Pattern[str]], ...] = (
    ("T1rhomap", re.compile(rf"\bt1{_GAP}(?:rho|r|ρ){_MAP}", re.IGNORECASE)),
    ("T2starmap", re.compile(rf"\bt2{_GAP}(?:star|s|\*){_MAP}", re.IGNORECASE)),
    ("T2map", re.compile(rf"\bt2{_MAP}", re.IGNORECASE)),
)
_MAPPING = "RealWorldValueMappingSequence"
_SPIN_LOCK = re.compile(r"\bt1[ _-]?(?:rho|r|ρ)(?![a-z])|spin[ _-]?lock|\btsl(?![a-z])", re.IGNORECASE)
_UNITS = {"ms": "ms", "s": "s", "1/s": "1/s", "s-1": "1/s", "%": "%", "mm2/s": "mm2/s"}  # UCUM codes → as written


def ready_made(value: FrameValues, image_type: tuple[str, ...]) -> Quantity:
    """The quantity whose map an image is, "" for none.

    By a value of its Image Type, or by the series' description where Image Type says that the image is derived: the
    source images of a map are often described by its name too.
    """
    for quantity, pattern in _MAPS:
        if any(pattern.fullmatch(term.strip()) for term in image_type):
            return quantity
    derived = bool(image_type) and image_type[0].strip().upper() == "DERIVED"
    return _named(text(value.header, "SeriesDescription")) if derived else ""


def _named(description: str) -> Quantity:
    plain = description.replace("_", " ")
    return next((quantity for quantity, pattern in _MAPS if pattern.search(plain)), "")


def decay_of(value: FrameValues, sequence: str) -> Quantity:
    """What the images of a series fade by when they differ in Echo Time, "" when the header does not say.

    Spin-lock times stand in Echo Time too, as in GE's 3D MAPSS and CubeQuant series, so that only a name tells them.
    """
    names = " ".join(text(value.header, name) for name in ("SeriesDescription", "ProtocolName", "SequenceName"))
    if _SPIN_LOCK.search(names.replace("_", " ")):
        return "T1rhomap"
    terms = {*sequence.split("/"), text(value.header, "EchoPulseSequence")}  # the latter in enhanced objects
    return "T2map" if terms & {"SE", "SPIN", "BOTH"} else "T2starmap" if terms & {"GR", "GRADIENT"} else ""


def real_world_values(value: FrameValues) -> tuple[str, tuple[float, float] | None]:
    """Unit of a frame's real-world values, and the slope and intercept that make them of its rescaled values.

    Real World Value Mapping (PS3.3 C.7.6.16.2.11) starts from stored values, the reader from those after the rescale.
    """
    found = [item for group in (*value.groups, value.header) for item in sequence_items(group, _MAPPING)]
    if not found:
        return "", None
    mapping = found[0]
    units = sequence_items(mapping, "MeasurementUnitsCodeSequence")
    unit = _UNITS.get(text(units[0], "CodeValue"), "") if units else ""
    slope, intercept = (number(tag_value(mapping, f"RealWorldValue{part}")) for part in ("Slope", "Intercept"))
    if slope is None or intercept is None:
        return unit, None
    try:
        rescale_slope, rescale_intercept = read_rescale(value)
    except (ValueError, TypeError):
        return unit, None
    return unit, (slope / rescale_slope, intercept - rescale_intercept * slope / rescale_slope)
