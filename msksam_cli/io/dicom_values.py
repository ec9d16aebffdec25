"""Tags of a DICOM data set as plain Python values, None where they are absent or cannot be understood.

Runs inside the reading process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class FrameValues:
    """Looks a tag up in a frame's functional groups, then in the shared ones, then in the data set itself."""

    header: Dataset
    groups: tuple[Dataset, ...]

    def get(self, sequence: str, keyword: str, plain_keyword: str | None = None) -> Any:
        """The tag's value or None."""
        for group in self.groups:
            for item in sequence_items(group, sequence)[:1] if sequence else ():
                value = tag_value(item, keyword)
                if value is not None:
                    return value
        plain = keyword if plain_keyword is None else plain_keyword
        return tag_value(self.header, plain) if plain else None


def frame_values(header: Dataset, count: int) -> list[FrameValues]:
    """One `FrameValues` for each of `count` frames."""
    own = sequence_items(header, "PerFrameFunctionalGroupsSequence")
    shared = tuple(sequence_items(header, "SharedFunctionalGroupsSequence")[:1])
    return [FrameValues(header, (*own[index : index + 1], *shared)) for index in range(count)]


def read_rescale(value: FrameValues) -> tuple[float, float]:
    """Slope and intercept of one frame, 1 and 0 when absent.

    Raises:
        ValueError: one of them is not a number, or the slope is 0.
    """
    slope, intercept = (
        value.get("PixelValueTransformationSequence", name) for name in ("RescaleSlope", "RescaleIntercept")
    )
    pair = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    if not all(math.isfinite(number) for number in pair) or pair[0] == 0:
        raise ValueError(f"rescale slope {pair[0]:g} and intercept {pair[1]:g}")
    return pair


def tag_value(header: Dataset, keyword: str) -> Any:
    """A tag's value, None when it is absent, empty or cannot be understood."""
    try:
        value = header.get(keyword)
    except (ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, AttributeError):
        return None
    return None if value is None or value == "" else value


def sequence_items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, none when it is absent or no sequence."""
    value = tag_value(header, keyword)
    return list(value) if isinstance(value, pydicom.sequence.Sequence) else []


def strings(value: Any) -> tuple[str, ...]:
    """A value of any multiplicity as texts."""
    if value is None:
        return ()
    return (str(value),) if isinstance(value, str | float | int) else tuple(str(part) for part in value)


def text(header: Dataset, keyword: str) -> str:
    """A tag's text without surrounding spaces, "" when there is none."""
    value = tag_value(header, keyword)
    return value.strip() if isinstance(value, str) else ""


def floats(value: Any, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None


def number(value: Any) -> float | None:
    """One finite number, or None."""
    numbers = floats(value if isinstance(value, list | tuple) else [value], 1)
    return numbers[0] if numbers else None


def optional_integer(header: Dataset, keyword: str) -> int | None:
    """A tag's whole number, or None."""
    try:
        return int(tag_value(header, keyword))
    except (TypeError, ValueError, OverflowError):
        return None


def integer(header: Dataset, keyword: str, missing: int) -> int:
    """A tag's whole number, or `missing`."""
    value = optional_integer(header, keyword)
    return missing if value is None else value


def listed(term: str, allowed: frozenset[str]) -> str:
    """A term that stands in a closed list, "" for any other."""
    return term if term in allowed else ""
