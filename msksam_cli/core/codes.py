"""Codes of structures in medical terminologies, written as one short text.

SCT:71341001                                a type: femur
SCT:309312004@SCT:12611008/SCT:255561001    a type at a region, the region with a modifier: cartilage, tibia, medial
SCT:44947003/SCT:7771000                    a type with a modifier: erector spinae, left
99MSKSAM:rectus-femoris@SCT:68367000        a private type at a region: what has no code of its own, in the thigh

The four parts are those of a DICOM segment (PS3.3 C.8.20.4): property type, modifier, anatomic region, modifier.
`SCT` is SNOMED CT, whose last digit is a check digit; `99MSKSAM` is private to msksam, and its values are the names of
the tissue table.
"""

from __future__ import annotations

from dataclasses import dataclass

from msksam_cli.errors import InputError

SNOMED, PRIVATE = "SCT", "99MSKSAM"

_VERHOEFF_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


@dataclass(frozen=True)
class Code:
    """One code.

    Attributes:
        scheme: coding scheme designator of DICOM, "SCT" or a private one that begins with 99.
        value: code value.

    Raises:
        InputError: a part is missing, or a SNOMED code is not 6 to 18 digits with their check digit.
    """

    scheme: str
    value: str

    def __post_init__(self) -> None:
        if not self.scheme or not self.value or any(character in "@/: \t" for character in self.scheme + self.value):
            raise InputError(f"code {self.scheme}:{self.value} lacks a part", "Write codes as SCT:71341001")
        if self.scheme == SNOMED and not is_snomed(self.value):
            raise InputError(f"SNOMED code {self.value} has a wrong check digit", "Look the code up again")

    def __str__(self) -> str:
        return f"{self.scheme}:{self.value}"


@dataclass(frozen=True)
class StructureCode:
    """What a structure is and where.

    Attributes:
        kind: property type.
        kind_modifier: of the type, such as a side.
        region: anatomic region.
        region_modifier: of the region, such as "medial".
    """

    kind: Code
    kind_modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None

    def __str__(self) -> str:
        parts = [f"{self.kind}"]
        parts += [f"/{self.kind_modifier}"] if self.kind_modifier else []
        parts += [f"@{self.region}"] if self.region else []
        parts += [f"/{self.region_modifier}"] if self.region_modifier else []
        return "".join(parts)

    @property
    def codes(self) -> tuple[Code, ...]:
        """The codes it is made of, the type first."""
        return tuple(
            code for code in (self.kind, self.kind_modifier, self.region, self.region_modifier) if code is not None
        )


def parse_structure_code(text: str) -> StructureCode:
    """The codes in a text of the form `type[/modifier][@region[/modifier]]`.

    >>> parse_structure_code("SCT:309312004@SCT:12611008/SCT:255561001").region
    Code(scheme='SCT', value='12611008')

    Raises:
        InputError: the text has another form, or a SNOMED code has a wrong check digit.
    """
    kind, _, region = text.partition("@")
    if "@" in region or text.endswith("@"):
        raise InputError(f"{text!r} is not type[/modifier][@region[/modifier]]", "Write at most one @")
    return StructureCode(*_code_and_modifier(kind), *(_code_and_modifier(region) if region else (None, None)))


def is_snomed(value: str) -> bool:
    """Whether a text has the form of a SNOMED CT identifier: 6 to 18 digits that Verhoeff's check accepts.

    >>> is_snomed("71341001"), is_snomed("71341002"), is_snomed("71314001")
    (True, False, False)
    """
    is_number = value.isascii() and value.isdigit() and not value.startswith("0")
    return is_number and 6 <= len(value) <= 18 and verhoeff_checksum(value) == 0


def verhoeff_checksum(digits: str) -> int:
    """Verhoeff's checksum of digits, 0 when the last digit is the right one (Verhoeff 1969, Math. Centre Tracts 29).

    The digits are permuted by their place and multiplied in the dihedral group of the pentagon, so that every single
    wrong digit and every swap of neighbours shows.

    >>> verhoeff_checksum("2363")
    0
    """
    checksum = 0
    for place, character in enumerate(reversed(digits)):
        digit = int(character)
        for _ in range(place % 8):
            digit = _VERHOEFF_STEP[digit]
        checksum = _pentagon_product(checksum, digit)
    return checksum


def _pentagon_product(first: int, second: int) -> int:
    """Product of two symmetries of the pentagon: 0 to 4 turn it, 5 to 9 mirror it."""
    turn = first - second if first >= 5 else first + second
    return turn % 5 + 5 * ((first >= 5) != (second >= 5))


def _code_and_modifier(text: str) -> tuple[Code, Code | None]:
    code, slash, modifier = text.partition("/")
    return _code(code), _code(modifier) if slash else None


def _code(text: str) -> Code:
    scheme, _, value = text.partition(":")
    return Code(scheme, value)
