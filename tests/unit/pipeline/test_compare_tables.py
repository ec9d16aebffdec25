from __future__ import annotations

import pytest

from msksam_cli.measure.comparison import Comparison
from msksam_cli.pipeline.compare_case import ATLAS, ATLAS_PROMPTS, ELLIPSE, TRUE_PROMPTS, Compared, Way
from msksam_cli.pipeline.compare_tables import pairs, pools, summarize_ways, way_differences

NAMES = {1: ("femur", "bone"), 2: ("tibia", "bone"), 5: ("femoral-cartilage", "cartilage")}
SAM, ALONE = Way(ATLAS_PROMPTS, "a"), Way(ATLAS)


def compared(case, label, way, dice, assd_mm=None, *, status="compared"):
    name, group = NAMES[label]
    return Compared(way, group, False, "reliable", Comparison(case, label, name, status, dice=dice, assd_mm=assd_mm))


ROWS = (
    compared("one", 1, ALONE, 0.8, 1.0),
    compared("one", 2, ALONE, 0.6, 3.0),
    compared("two", 1, ALONE, 0.7, 2.0),
    compared("two", 2, ALONE, 0.0, status="missing"),
    compared("one", 1, SAM, 0.9, 0.5),
    compared("one", 2, SAM, 0.8, 2.0),
    compared("two", 1, SAM, 0.85, 1.0),
    compared("two", 2, SAM, 0.4, 4.0),
)


def summary(name, way):
    return next(s for s in summarize_ways(ROWS) if s.pool.name == name and s.way == way)


def difference(name, measure):
    return next(d for d in way_differences(ROWS) if d.pool.name == name and d.measure == measure)


def test_a_case_counts_once_by_its_mean_over_the_pools_tissues():
    every = summary("all", ALONE).measures["dice"]
    assert (every.cases, every.mean) == (2, pytest.approx((0.7 + 0.35) / 2))
    assert summary("femur", ALONE).measures["dice"].mean == pytest.approx(0.75)


def test_a_missing_tissue_counts_as_nought_in_dice_and_has_no_distance():
    tibia = summary("tibia", ALONE)
    assert tibia.measures["dice"].mean == pytest.approx(0.3)
    assert (tibia.measures["assd_mm"].cases, tibia.measures["assd_mm"].mean) == (1, 3.0)
    assert (tibia.missing, tibia.spurious) == (1, 0)


def test_differences_pair_cases_over_the_tissues_both_ways_have():
    assert difference("all", "dice").difference.mean == pytest.approx((0.15 + 0.275) / 2)
    distance = difference("all", "assd_mm").difference
    # Case one: both tissues on both sides; case two: the atlas has no tibia, so that only femurs are paired.
    assert (distance.cases, distance.mean) == (2, pytest.approx((-0.75 - 1.0) / 2))
    assert difference("tibia", "assd_mm").difference.cases == 1


def test_one_group_has_no_row_of_its_own_and_several_have():
    assert [pool.level for pool in pools(ROWS)] == ["tissue", "tissue", "all"]
    with_cartilage = (*ROWS, compared("one", 5, SAM, 0.5))
    assert [(p.name, p.level) for p in pools(with_cartilage)] == [
        ("femur", "tissue"),
        ("tibia", "tissue"),
        ("femoral-cartilage", "tissue"),
        ("bone", "group"),
        ("all", "all"),
    ]
    assert [pool.level for pool in pools(ROWS[:1])] == ["tissue"]


def test_every_model_is_set_against_the_first_and_every_column_against_what_it_should_beat():
    found = (ALONE, Way(ELLIPSE), *(Way(c, m) for m in ("a", "b") for c in (ATLAS_PROMPTS, TRUE_PROMPTS)))
    assert set(pairs(found)) == {
        (Way(ATLAS_PROMPTS, "a"), ALONE),
        (Way(ATLAS_PROMPTS, "b"), ALONE),
        (Way(TRUE_PROMPTS, "a"), Way(ELLIPSE)),
        (Way(TRUE_PROMPTS, "b"), Way(ELLIPSE)),
        (Way(TRUE_PROMPTS, "a"), Way(ATLAS_PROMPTS, "a")),
        (Way(TRUE_PROMPTS, "b"), Way(ATLAS_PROMPTS, "b")),
        (Way(ATLAS_PROMPTS, "b"), Way(ATLAS_PROMPTS, "a")),
        (Way(TRUE_PROMPTS, "b"), Way(TRUE_PROMPTS, "a")),
    }
    assert pairs((ALONE, SAM)) == ((SAM, ALONE),)


def test_rows_carry_every_column_they_promise():
    from msksam_cli.pipeline.compare_tables import PAIRED_COLUMNS, SUMMARY_COLUMNS

    (row, *_) = summary("tibia", ALONE).rows()
    assert tuple(row) == SUMMARY_COLUMNS
    assert (row["column"], row["model"], row["measure"], row["missing"]) == ("atlas", "", "dice", 1)
    row = difference("femur", "dice").row()
    assert tuple(row) == PAIRED_COLUMNS
    assert (row["column"], row["than_column"], row["n"]) == ("atlas-prompts", "atlas", 2)
