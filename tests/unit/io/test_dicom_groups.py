"""Which images make a volume, and what the volumes are called."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from msksam_cli.io.dicom_frames import FrameHeader
from msksam_cli.io.dicom_groups import Entry, group_entries

FRAME = FrameHeader(
    frame=0,
    study="study",
    series="series",
    instance="",
    short_series="0a1b2c3d",
    series_number=7,
    rows=12,
    columns=9,
    orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    position_mm=(0.0, 0.0, 0.0),
    spacing_mm=(0.5, 0.7),
    echo_time_ms=30.0,
    image_type="m",
    repeats=(None, None),
)


def stack(count=5, **changes):
    return [replace(FRAME, position_mm=(3.0 * k, 0.0, 0.0), instance=f"{k}", **changes) for k in range(count)]


def grouped(*stacks, min_slices=4, shuffle=None):
    frames = list(itertools.chain(*stacks))
    if shuffle is not None:
        random.Random(shuffle).shuffle(frames)
    return group_entries([Entry(number, frame) for number, frame in enumerate(frames)], min_slices)


def cases(found):
    return sorted(group.case for group in found.groups if group.error is None)


def test_one_volume_is_named_by_number_and_uid_alone():
    assert cases(grouped(stack())) == ["series-7-0a1b2c3d"]
    assert cases(grouped(stack(series_number=None))) == ["series-unnumbered-0a1b2c3d"]


def test_echoes_are_numbered_by_echo_time_and_share_a_group():
    found = grouped(stack(echo_time_ms=40.0), stack(echo_time_ms=10.0), stack(echo_time_ms=10.3))
    by_case = {group.case: group for group in found.groups}
    times = {case.rsplit("-", 1)[1]: group.echo_time_ms for case, group in by_case.items()}
    assert times == {"1": 10.0, "2": 10.3, "3": 40.0}
    assert {group.echo_group for group in found.groups} == {"series-7-0a1b2c3d"}


def test_echo_times_that_differ_by_rounding_are_one_echo():
    assert cases(grouped(stack(3), stack(6, echo_time_ms=30.001)[3:])) == ["series-7-0a1b2c3d"]


@pytest.mark.parametrize(
    "change",
    [
        {"image_type": "p"},
        {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)},
        {"rows": 24},
        {"spacing_mm": (0.25, 0.7)},
        {"study": "other", "series": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_complete_stacks_that_differ_in_one_thing_are_parts(change):
    second = stack(**change)
    if "orientation" in change:
        second = [replace(frame, position_mm=(0.0, 3.0 * k, 0.0)) for k, frame in enumerate(second)]
    found = grouped(stack(), second)
    assert cases(found) == ["series-7-0a1b2c3d-part-1", "series-7-0a1b2c3d-part-2"]
    assert all(len(group.entries) == 5 for group in found.groups)


def test_parts_and_echoes_combine():
    found = grouped(stack(), stack(echo_time_ms=60.0), stack(image_type="p"))
    assert cases(found) == [
        "series-7-0a1b2c3d-part-1-echo-1",
        "series-7-0a1b2c3d-part-1-echo-2",
        "series-7-0a1b2c3d-part-2",
    ]


def test_names_do_not_depend_on_the_order_of_files():
    stacks = [stack(), stack(image_type="p"), stack(echo_time_ms=60.0), stack(repeats=(None, 2.0)), stack(rows=24)]
    wanted = None
    for shuffle in range(6):
        found = grouped(*stacks, shuffle=shuffle)
        names = {group.case: [entry.header for entry in group.entries] for group in found.groups}
        wanted = wanted or names
        assert names == wanted


def test_repeated_positions_are_split_only_into_complete_volumes():
    twice = grouped(stack(repeats=(None, 1.0)), stack(repeats=(None, 2.0)))
    assert cases(twice) == ["series-7-0a1b2c3d-part-1", "series-7-0a1b2c3d-part-2"]
    uneven = grouped(stack(repeats=(None, 1.0)), stack(4, repeats=(None, 2.0)))
    assert cases(uneven) == []
    assert "4 of 9 slices repeat another's position" in uneven.groups[0].error.message


def test_a_gap_in_one_echo_leaves_the_other_echo_alone():
    found = grouped(stack(), [frame for frame in stack(echo_time_ms=60.0) if frame.instance != "2"])
    outcome = {group.case.rsplit("-", 2)[1:][1]: group.error for group in found.groups}
    assert outcome["1"] is None
    assert "gap of 6.00 mm" in outcome["2"].message


def test_a_defect_outranks_every_other_verdict():
    found = grouped(stack(3), [replace(FRAME, defect="mosaic", hint="Split it")])
    assert found.groups[0].error.message == "mosaic (in 1 of 4 images)"
    assert found.groups[0].error.hint == "Split it"
    assert found.set_aside == []


def test_every_image_has_exactly_one_end():
    stacks = (stack(), stack(2, echo_time_ms=1.0), stack(1, is_localizer=True), stack(3, series="s", image_type="x"))
    found = grouped(*stacks)
    ends = [entry.file for group in found.groups for entry in group.entries]
    ends += [entry.file for entry, _ in found.set_aside]
    assert sorted(ends) == list(range(sum(map(len, stacks))))
