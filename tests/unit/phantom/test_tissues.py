from __future__ import annotations

import itertools

import numpy as np

from msksam_cli.phantom.tissues import FEMUR, FIBULA, KNEE_TISSUES


def test_bones_come_first_and_indices_have_no_gap() -> None:
    assert KNEE_TISSUES.indices == tuple(range(1, len(KNEE_TISSUES) + 1))
    assert [t.group for t in KNEE_TISSUES][:FIBULA] == ["bone"] * (FIBULA - FEMUR + 1)
    assert all(t.group != "bone" for t in list(KNEE_TISSUES)[FIBULA:])


def test_colours_can_be_told_apart() -> None:
    for first, second in itertools.combinations(KNEE_TISSUES, 2):
        assert np.abs(np.subtract(first.rgb, second.rgb)).sum() > 24, (first.name, second.name)


def test_sides_follow_names_and_abbreviations_are_unique() -> None:
    for tissue in KNEE_TISSUES:
        assert tissue.side == next((side for side in ("medial", "lateral") if tissue.name.startswith(side)), "")
    assert len({tissue.abbreviation for tissue in KNEE_TISSUES}) == len(KNEE_TISSUES)


def test_groups_select_what_a_user_expects() -> None:
    names = [tissue.name for tissue in KNEE_TISSUES.select(["cartilages", "patella"])]
    assert names == [
        "patella",
        "femoral-cartilage",
        "medial-tibial-cartilage",
        "lateral-tibial-cartilage",
        "patellar-cartilage",
    ]
