from __future__ import annotations

import pytest

from msksam_cli.core.body_parts import REGIONS_BY_BODY_PART, regions_of_body_part
from msksam_cli.core.terminology import REGIONS


@pytest.mark.parametrize(
    ("name", "regions"),
    [
        ("KNEE", ("knee",)),
        ("Pelvis", ("hip",)),
        ("femur", ("thigh",)),
        ("lspine", ("lumbar",)),
        ("Lumbar spine", ("lumbar",)),
        ("sacrum", ("hip", "lumbar")),
        ("leg", ("knee", "thigh", "hip")),
        ("wholebody", ()),
        ("", ()),
    ],
)
def test_what_scanners_and_people_call_a_region_leads_to_it(name, regions):
    assert regions_of_body_part(name) == regions


def test_a_name_in_no_table_is_a_region_of_its_own():
    assert regions_of_body_part("Ankle") == ("ankle",)


def test_each_region_is_a_name_of_itself_and_the_table_names_no_other():
    for region in REGIONS:
        assert regions_of_body_part(region) == (region,)
    assert {region for regions in REGIONS_BY_BODY_PART.values() for region in regions} == set(REGIONS)
