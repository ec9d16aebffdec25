from __future__ import annotations

import pytest

from msksam_cli.core.codes import Code, StructureCode, is_snomed, parse_structure_code, verhoeff_checksum
from msksam_cli.errors import InputError

FEMUR, MEDIAL = Code("SCT", "71341001"), Code("SCT", "255561001")
TEXTS = (
    "SCT:71341001",
    "SCT:44947003/SCT:7771000",
    "SCT:309312004@SCT:12611008",
    "SCT:309312004@SCT:12611008/SCT:255561001",
    "99MSKSAM:left-psoas/SCT:7771000@SCT:122496007/SCT:255561001",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_structure_code_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_structure_code(text)) == text


def test_modifiers_belong_to_what_stands_before_them() -> None:
    assert parse_structure_code("SCT:71341001/SCT:255561001") == StructureCode(FEMUR, kind_modifier=MEDIAL)
    found = parse_structure_code("99MSKSAM:x@SCT:71341001/SCT:255561001")
    assert found == StructureCode(Code("99MSKSAM", "x"), None, FEMUR, MEDIAL)
    assert found.codes == (Code("99MSKSAM", "x"), FEMUR, MEDIAL)


@pytest.mark.parametrize("text", ["", "71341001", "SCT:", ":71341001", "SCT:71341001/", "SCT:71341001@SCT:", "a:b:c"])
def test_a_code_without_scheme_or_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="lacks a part"):
        parse_structure_code(text)


@pytest.mark.parametrize("text", ["SCT:71341001@", "SCT:71341001@SCT:12611008@SCT:64234005"])
def test_a_second_or_empty_region_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not type"):
        parse_structure_code(text)


@pytest.mark.parametrize("digits", ["2363", "1428570", "758722", "123451", "84736430954837284567892"])
def test_verhoeff_accepts_published_examples(digits: str) -> None:
    assert verhoeff_checksum(digits) == 0


def test_verhoeff_finds_every_wrong_digit_and_every_swap_of_neighbours() -> None:
    right = "309312004"
    for place in range(len(right)):
        for digit in "0123456789":
            wrong = right[:place] + digit + right[place + 1 :]
            assert (verhoeff_checksum(wrong) == 0) == (wrong == right)
        swapped = right[:place] + right[place : place + 2][::-1] + right[place + 2 :]
        assert (verhoeff_checksum(swapped) == 0) == (swapped == right)


@pytest.mark.parametrize("value", ["", "0", "12345", "T-D1213", "71341002", "0309312004", "²363000", "1" * 19])
def test_what_is_no_snomed_identifier_is_told_apart(value: str) -> None:
    assert not is_snomed(value)


def test_a_snomed_code_with_a_wrong_check_digit_is_refused() -> None:
    with pytest.raises(InputError, match="SNOMED code 71341002 has a wrong check digit"):
        parse_structure_code("99MSKSAM:x@SCT:71341002")
