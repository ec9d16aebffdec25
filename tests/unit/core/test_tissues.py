from __future__ import annotations

import pytest

from msksam_cli.core.tissues import Tissue, TissueTable, default_table, distinct_color
from msksam_cli.errors import InputError, UsageError

TABLE = TissueTable(
    (
        Tissue(9, "patella", group="bone"),
        Tissue(2, "femur", group="bone", color="#0a10FF"),
        Tissue(4, "medial-meniscus", side="medial", group="meniscus"),
        Tissue(300, "l4-l5", group="disc"),
    )
)


def test_a_table_is_in_order_of_index_whatever_order_it_was_given_in():
    assert TABLE.indices == (2, 4, 9, 300)
    assert [tissue.name for tissue in TABLE] == ["femur", "medial-meniscus", "patella", "l4-l5"]
    assert len(TABLE) == 4
    assert TissueTable(tuple(reversed(TABLE.tissues))) == TABLE
    assert TABLE.groups == ("bone", "meniscus", "disc")


def test_tissues_are_found_by_index_and_by_name():
    assert TABLE.by_index(300).name == "l4-l5"
    assert TABLE.by_name("patella").index == 9
    assert TABLE.by_name("fibula") is None
    assert TABLE.by_index(2).rgb == (10, 16, 255)
    with pytest.raises(KeyError, match="3"):
        TABLE.by_index(3)


@pytest.mark.parametrize(
    ("names", "indices"),
    [
        (["femur"], (2,)),
        (["bone"], (2, 9)),
        (["bones"], (2, 9)),
        (["discs", "meniscus"], (4, 300)),
        (["all"], (2, 4, 9, 300)),
        (["patella", "bone", "femur"], (2, 9)),
        ([], ()),
    ],
)
def test_names_groups_and_all_select_each_tissue_once(names, indices):
    assert TABLE.select(names).indices == indices


def test_an_unknown_name_is_answered_with_what_is_known():
    known = r"unknown tissue 'humerus'.*femur, medial-meniscus.*groups bone, meniscus, disc"
    with pytest.raises(UsageError, match=known):
        TABLE.select(["femur", "humerus"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"index": 0}, "index 0, outside"),
        ({"index": 65536}, "index 65536, outside"),
        ({"name": ""}, "no usable name"),
        ({"name": " femur"}, "no usable name"),
        ({"color": "red"}, "colour 'red'"),
        ({"color": "#12345"}, "colour '#12345'"),
        ({"color": "#123456\n"}, "colour"),
        ({"group": "bones"}, "group 'bones'"),
        ({"side": "links"}, "side 'links'"),
    ],
    ids=str,
)
def test_a_row_that_says_nothing_usable_is_refused_by_its_field(fields, message):
    with pytest.raises(InputError, match=message):
        Tissue(**{"index": 1, "name": "femur", **fields})


def test_two_tissues_with_one_index_or_one_name_are_refused():
    with pytest.raises(InputError, match="index 1 more than once"):
        TissueTable((Tissue(1, "a"), Tissue(1, "b")))
    with pytest.raises(InputError, match="name a more than once"):
        TissueTable((Tissue(1, "a"), Tissue(2, "a")))


def test_labels_nobody_named_get_names_and_colours_that_differ():
    table = default_table([3, 1, 3, 65535])
    assert table.indices == (1, 3, 65535)
    assert table.by_index(3).name == "label-3"
    assert len({distinct_color(index) for index in range(1, 60)}) == 59
    assert default_table([]).indices == ()
