"""Names of tissues: the table that gives a label value its meaning."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from msksam_cli.errors import InputError, UsageError

GROUPS = ("bone", "cartilage", "meniscus", "ligament", "muscle", "fat", "skin", "fluid", "vertebra", "disc", "other")
SIDES = ("", "left", "right", "medial", "lateral")


@dataclass(frozen=True)
class Tissue:
    """One row of a tissue table.

    Attributes:
        index: label value, 1 or more.
        name: lower case with hyphens, unique in its table, such as "femoral-cartilage".
        abbreviation: short form for figures.
        color: "#rrggbb".
        side: one of `SIDES`.
        group: one of `GROUPS`.
        mapping: code in another terminology, empty when there is none.
        region: regions of the body where it lies, separated by spaces, such as "knee thigh hip"; "any"
            for what may lie in all of them, empty when unknown.
    """

    index: int
    name: str
    abbreviation: str = ""
    color: str = "#808080"
    side: str = ""
    group: str = "other"
    mapping: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.index <= 65535:
            raise InputError(f"tissue {self.name!r} has index {self.index}, outside 1…65535")
        if not self.name or self.name != self.name.strip():
            raise InputError(f"tissue {self.index} has no usable name: {self.name!r}")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.color):
            raise InputError(f"tissue {self.name!r} has colour {self.color!r}", "Write colours as #rrggbb")
        if self.group not in GROUPS:
            raise InputError(f"tissue {self.name!r} has group {self.group!r}", f"Use one of {', '.join(GROUPS)}")
        if self.side not in SIDES:
            raise InputError(f"tissue {self.name!r} has side {self.side!r}", f"Use one of {', '.join(SIDES[1:])}")

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the body where it lies; empty when unknown."""
        return tuple(self.region.split())

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0…255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True)
class TissueTable:
    """Tissues with unique indices and names, in order of index.

    Raises:
        InputError: two tissues share an index or a name.
    """

    tissues: tuple[Tissue, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.tissues, key=lambda tissue: tissue.index))
        for field in ("index", "name"):
            values = [getattr(tissue, field) for tissue in ordered]
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise InputError(f"tissue table has {field} {', '.join(twice)} more than once")
        object.__setattr__(self, "tissues", ordered)

    def __iter__(self) -> Iterator[Tissue]:
        return iter(self.tissues)

    def __len__(self) -> int:
        return len(self.tissues)

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """Label values in ascending order."""
        return tuple(tissue.index for tissue in self.tissues)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that occur, in the order of `GROUPS`."""
        return tuple(group for group in GROUPS if any(tissue.group == group for tissue in self.tissues))

    def by_index(self, index: int) -> Tissue:
        """The tissue with this label value.

        Raises:
            KeyError: no tissue has it.
        """
        for tissue in self.tissues:
            if tissue.index == index:
                return tissue
        raise KeyError(index)

    def by_name(self, name: str) -> Tissue | None:
        """The tissue with this name, or None."""
        return next((tissue for tissue in self.tissues if tissue.name == name), None)

    def select(self, names: Iterable[str]) -> TissueTable:
        """The tissues meant by names, group names or "all".

        Raises:
            UsageError: a name is unknown; the message lists what is known.
        """
        wanted: set[int] = set()
        for name in names:
            found = {t.index for t in self.tissues if name in ("all", t.name, t.group) or name == t.group + "s"}
            if not found:
                raise UsageError(
                    f"unknown tissue {name!r}",
                    f"Use tissues {', '.join(t.name for t in self.tissues)}; groups {', '.join(self.groups)}; or all",
                )
            wanted |= found
        return TissueTable(tuple(t for t in self.tissues if t.index in wanted))


def default_table(indices: Iterable[int]) -> TissueTable:
    """A table for labels nobody has named: "label-3" and so on, with colours spread round the colour circle.

    >>> [t.name for t in default_table([1, 4])]
    ['label-1', 'label-4']
    """
    return TissueTable(
        tuple(Tissue(index, f"label-{index}", f"L{index}", distinct_color(index)) for index in sorted(set(indices)))
    )


def distinct_color(index: int) -> str:
    """A colour "#rrggbb" for a label value; neighbours differ by the golden angle in hue.

    >>> distinct_color(1) != distinct_color(2)
    True
    """
    red, green, blue = colorsys.hsv_to_rgb((index * 0.61803398875) % 1.0, 0.65, 0.95)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
