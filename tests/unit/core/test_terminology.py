from __future__ import annotations

import itertools
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr._concepts_dict import concepts

from msksam_cli.core.codes import PRIVATE, SNOMED, Code, parse_structure_code
from msksam_cli.core.terminology import REGIONS, TISSUES, described, tissues_of
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues as constants

ROOT = Path(__file__).parents[3]

# What each code must mean in pydicom's dictionary; the rest of the table has private types.
MEANINGS = {
    "femur": ("Femur",),
    "tibia": ("Tibia",),
    "patella": ("Patella",),
    "fibula": ("Fibula",),
    "femoral-cartilage": ("Cartilage", "Distal Femur"),
    "medial-tibial-cartilage": ("Cartilage", "Tibia", "Medial"),
    "lateral-tibial-cartilage": ("Cartilage", "Tibia", "Lateral"),
    "patellar-cartilage": ("Cartilage", "Patella"),
    "medial-meniscus": ("Meniscus", "Knee joint", "Medial"),
    "lateral-meniscus": ("Meniscus", "Knee joint", "Lateral"),
    "patellar-ligament": ("Structure of patellar ligament (body structure)",),
    "fat": ("Fat",),
    "skin": ("Skin",),
    "popliteal-vessels": ("Blood Vessel", "Popliteal fossa"),
    "femoral-vessels": ("Blood Vessel", "Thigh"),
    "sacrum": ("Sacrum",),
    "femoral-head-cartilage": ("Cartilage", "Head of Femur"),
    "acetabular-cartilage": ("Cartilage", "Acetabulum"),
    "pelvic-organs": ("Organ", "Pelvis"),
    "bladder": ("Bladder",),
    "humerus": ("Humerus",),
    "scapula": ("Scapula",),
    "clavicle": ("Clavicle",),
    "humeral-cartilage": ("Cartilage", "Proximal Humerus"),
    "glenoid-cartilage": ("Cartilage", "Glenoid cavity of scapula"),
    "supraspinatus": ("Supraspinatus muscle",),
    "infraspinatus": ("Infraspinatus muscle",),
    "subscapularis": ("Subscapularis muscle",),
    "teres-minor": ("Teres minor muscle",),
    "deltoid": ("Deltoid muscle",),
    "teres-major": ("Teres major muscle",),
    "pectoralis-major": ("Pectoralis major muscle",),
    "chest-wall": ("Chest wall",),
    "lung": ("Lung",),
    "trapezius": ("Trapezius muscle",),
    "axillary-vessels": ("Blood Vessel", "Axilla"),
    "disc-t12-l1": ("T12/L1 disc",),
    "disc-l1-l2": ("L1/L2 disc",),
    "disc-l2-l3": ("L2/L3 disc",),
    "disc-l3-l4": ("L3/L4 disc",),
    "disc-l4-l5": ("L4/L5 disc",),
    "disc-l5-s1": ("L5/S1 disc",),
    "posterior-elements": ("Arch of vertebra", "Lumbar spine"),
    "spinal-canal": ("Spinal canal structure (body structure)",),
    "spinal-cord": ("Spinal cord",),
    "epidural-fat": ("Fat", "Spinal canal structure (body structure)"),
    "left-erector-spinae": ("Erector spinae muscle", "Left"),
    "right-erector-spinae": ("Erector spinae muscle", "Right"),
    "aorta": ("Aorta",),
    "vena-cava": ("Inferior vena cava",),
    "abdominal-organs": ("Organ", "Abdomen"),
    "disc-t11-t12": ("T11/T12 disc",),
    "implant": ("Implant",),
    "tumour": ("Tumor",),
}


@cache
def dictionary() -> dict[str, set[str]]:
    """Every meaning of every SNOMED code that pydicom knows."""
    found: dict[str, set[str]] = {}
    for entries in concepts[SNOMED].values():
        for value, (meaning, *_) in entries.items():
            found.setdefault(value, set()).add(meaning)
    return found


@pytest.mark.parametrize("tissue", TISSUES.tissues, ids=lambda tissue: tissue.name)
def test_every_code_is_in_pydicoms_dictionary_and_means_the_tissue(tissue: Tissue) -> None:
    code = parse_structure_code(tissue.mapping)
    for one in code.codes:
        assert one.scheme == PRIVATE or one.value in dictionary(), one
    if code.kind.scheme == PRIVATE:
        assert code.kind == Code(PRIVATE, tissue.name)
        assert tissue.name not in MEANINGS
        return
    assert len(MEANINGS[tissue.name]) == len(code.codes)
    for meaning, one in zip(MEANINGS[tissue.name], code.codes, strict=True):
        assert meaning in dictionary()[one.value], one


def test_cartilage_and_meniscus_are_coded_as_tissue_and_region_with_their_side() -> None:
    parts = [tissue for tissue in TISSUES if tissue.group in ("cartilage", "meniscus")]
    assert len(parts) == 10
    for tissue in parts:
        code = parse_structure_code(tissue.mapping)
        assert dictionary()[code.kind.value] & {tissue.group.capitalize()}
        assert code.region is not None
        side = code.region_modifier and dictionary()[code.region_modifier.value]
        assert side == ({tissue.side.capitalize()} if tissue.side else None)


def test_codes_are_unique() -> None:
    assert len({tissue.mapping for tissue in TISSUES}) == len(TISSUES)


@pytest.mark.parametrize("region", REGIONS)
def test_colours_and_abbreviations_can_be_told_apart_within_a_region(region: str) -> None:
    table = tissues_of(region, findings=True)
    assert len({tissue.abbreviation for tissue in table}) == len(table)
    for first, second in itertools.combinations(table, 2):
        assert np.abs(np.subtract(first.rgb, second.rgb)).sum() > 24, (first.name, second.name)


def test_each_region_holds_what_belongs_there() -> None:
    names = {region: {tissue.name for tissue in tissues_of(region)} for region in REGIONS}
    assert {"femur", "patellar-cartilage", "medial-meniscus", "fat"} <= names["knee"]
    assert {"femur", "rectus-femoris", "semitendinosus", "intermuscular-fat"} <= names["thigh"]
    assert {"femur", "hip-bone", "sacrum", "acetabular-labrum", "gluteus-medius"} <= names["hip"]
    assert {"humerus", "glenoid-labrum", "supraspinatus-tendon", "deltoid"} <= names["shoulder"]
    assert {"l5-vertebral-body", "disc-l5-s1", "sacrum", "left-psoas", "spinal-cord"} <= names["lumbar"]
    assert names["shoulder"] & names["lumbar"] == {"fat", "skin"}


def test_findings_come_only_when_asked_for() -> None:
    added = set(tissues_of("lumbar", findings=True).indices) - set(tissues_of("lumbar").indices)
    assert added == {constants.IMPLANT, constants.TUMOUR}


def test_every_row_has_a_known_region_and_a_side_that_its_name_says() -> None:
    for tissue in TISSUES:
        assert tissue.regions
        assert set(tissue.regions) <= {*REGIONS, "any"}, tissue.name
        said = tissue.name.split("-")[0]
        assert tissue.side == (said if said in ("left", "right", "medial", "lateral") else ""), tissue.name


def test_every_constant_is_the_label_value_of_its_name() -> None:
    values = {name: value for name, value in vars(constants).items() if name.isupper() and isinstance(value, int)}
    assert sorted(values.values()) == list(TISSUES.indices)
    short = {"anterior-cruciate-ligament", "posterior-cruciate-ligament"}
    short |= {"medial-collateral-ligament", "lateral-collateral-ligament"}
    for name, value in values.items():
        tissue = TISSUES.by_index(value).name
        expected = tissue.removesuffix("-ligament") if tissue in short else tissue.removesuffix("-vertebral-body")
        assert name == expected.upper().replace("-", "_")


def test_a_known_name_brings_group_side_and_region_and_keeps_what_was_given() -> None:
    given = (
        Tissue(4, "lateral-meniscus"),
        Tissue(5, "psoas-mine"),
        Tissue(6, "femur", group="muscle"),
        Tissue(7, "tibia", side="left", region="calf"),
    )
    found = [(tissue.index, tissue.group, tissue.side, tissue.region) for tissue in described(TissueTable(given))]
    assert found == [
        (4, "meniscus", "lateral", "knee"),
        (5, "other", "", ""),
        (6, "muscle", "", ""),
        (7, "bone", "left", "calf"),
    ]


def test_an_unknown_region_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown region 'elbow'") as refused:
        tissues_of("elbow")
    assert "knee, thigh, hip, shoulder, lumbar" in refused.value.hint


def test_the_wheel_takes_the_whole_package_with_its_table() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["msksam_cli"]
    assert "exclude" not in wheel
    assert (ROOT / "msksam_cli" / "core" / "tissues.tsv").is_file()
