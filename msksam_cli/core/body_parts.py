"""Which regions of the body the name of a body part may mean."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_NAMES = {
    ("knee",): "knee patella",
    ("thigh",): "thigh femur upperleg backfemur",
    ("hip",): "hip pelvis buttock",
    ("shoulder",): "shoulder scapula clavicle humerus arm uparm upperarm upextremity",
    ("lumbar",): "lumbar lspine lumbarspine lsspine tlspine spine back abdomen",
    ("hip", "lumbar"): "sacrum sspine sijoint coccyx abdomenpelvis",
    ("knee", "thigh", "hip"): "leg lowextremity",
    ("knee", "thigh", "hip", "shoulder"): "extremity joint",
    (): "trunk wholebody",
}

REGIONS_BY_BODY_PART: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: regions for regions, names in _NAMES.items() for name in names.split()}
)
"""Name of a body part, as DICOM (PS3.16 CID 2 and annex L) and people write it → regions; () where it says nothing."""


def regions_of_body_part(name: str) -> tuple[str, ...]:
    """The regions that a body part's name may mean; () when it tells nothing.

    A name that stands in no table is a region of its own, so that an atlas of the ankle serves ankles alone.

    >>> regions_of_body_part("LSPINE"), regions_of_body_part("lumbar spine"), regions_of_body_part("ankle")
    (('lumbar',), ('lumbar',), ('ankle',))
    >>> regions_of_body_part("")
    ()
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return REGIONS_BY_BODY_PART.get(plain, (plain,) if plain else ())
