"""From the images of a study to volumes: which images belong together, which are set aside, which refuse a series.

Pure: no file is opened here. An `Entry` is one image plane with the index of its file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FrameHeader
from msksam_cli.io.dicom_geometry import ORIENTATION_TOLERANCE, Stack, check_frame, stack_slices

_RELATIVE_SPACING_TOLERANCE = 1e-3
_ECHO_TOLERANCE_MS = 0.005

Item = TypeVar("Item")


@dataclass(frozen=True)
class Entry:
    """One image plane and the index of the file that holds it."""

    file: int
    header: FrameHeader


@dataclass(frozen=True, eq=False)
class Group:
    """Images that make one volume, or were meant to.

    Attributes:
        case: name, unique in the study once `name_groups` has run.
        entries: in geometric order when there is a stack.
        stack: the geometry, None for a refused group.
        error: why it is refused, None when it is not.
        part: everything that tells it from the other volumes of its series, but for the echo time.
        echo_group: name shared by the echoes of one acquisition, "" for a single echo.
    """

    case: str
    entries: tuple[Entry, ...]
    stack: Stack | None = None
    error: SeriesError | None = None
    part: tuple[Hashable, ...] = ()
    echo_group: str = ""

    @property
    def echo_time_ms(self) -> float | None:
        """Echo time of its first image."""
        return self.entries[0].header.echo_time_ms


@dataclass(eq=False)
class Sorted:
    """What grouping found: volumes and refusals in `groups`, and images set aside with a reason each."""

    groups: list[Group] = field(default_factory=list)
    set_aside: list[tuple[Entry, str]] = field(default_factory=list)

    def skip(self, entries: Iterable[Entry], reason: str) -> None:
        """Set images aside."""
        self.set_aside.extend((entry, reason) for entry in entries)


def group_entries(entries: Sequence[Entry], min_slices: int) -> Sorted:
    """Volumes of a study: by series, orientation, matrix, pixel spacing, image type, echo time, then repeats."""
    found = Sorted()
    for series in _partition(sorted(entries, key=_file_order_free), lambda entry: entry.header.series):
        _group_series(series, min_slices, found)
    found.groups = name_groups(found.groups)
    return found


def _file_order_free(entry: Entry) -> tuple[object, ...]:
    """A sorting key that depends on the images alone, so that renamed files change nothing."""
    header = entry.header
    return header.series, header.orientation or (), header.position_mm or (), header.instance, header.frame


def refuse(entries: Sequence[Entry], reason: str, hint: str = "") -> Group:
    """A group that cannot be used."""
    return Group(_base_name(entries[0].header), tuple(entries), error=SeriesError(reason, hint))


def _group_series(entries: Sequence[Entry], min_slices: int, found: Sorted) -> None:
    localizers = [entry for entry in entries if entry.header.is_localizer and not entry.header.defect]
    found.skip(localizers, "localizer")
    entries = [entry for entry in entries if not (entry.header.is_localizer and not entry.header.defect)]
    if not entries:
        return
    faults = [(entry, entry.header.defect or check_frame(entry.header)) for entry in entries]
    faulty = [(entry, fault) for entry, fault in faults if fault]
    if faulty:
        count = f" (in {len(faulty)} of {len(entries)} images)"
        found.groups.append(refuse(entries, faulty[0][1] + count, faulty[0][0].header.hint))
        return
    by_orientation = _cluster(entries, _same_orientation)
    for number, parallel in enumerate(by_orientation):
        if len(parallel) < min_slices and len(by_orientation) > 1:
            found.skip(parallel, f"another orientation than its series, {_slices(parallel)}")
        else:
            _group_parallel(parallel, number, min_slices, found)


def _group_parallel(entries: Sequence[Entry], orientation: int, min_slices: int, found: Sorted) -> None:
    by_matrix = _cluster(entries, _same_matrix)
    smallest = min(by_matrix, key=len)
    if len(by_matrix) > 1 and len(smallest) < min_slices:
        largest = max(by_matrix, key=len)
        reason = f"{_slices(smallest)} of {_matrix(smallest)} among {len(largest)} of {_matrix(largest)}"
        found.groups.append(refuse(entries, reason, "Export images of another matrix as their own series"))
        return
    for number, alike in enumerate(by_matrix):
        for same_type in _partition(alike, lambda entry: entry.header.image_type):
            for echo in _cluster(same_type, _same_echo):
                part = (orientation, number, same_type[0].header.image_type)
                _group_echo(echo, part, min_slices, found)


def _group_echo(entries: Sequence[Entry], part: tuple[Hashable, ...], min_slices: int, found: Sorted) -> None:
    if len(entries) < min_slices:
        found.skip(entries, f"fewer than {min_slices} slices: {len(entries)}")
        return
    for number, volume in enumerate(_split_repeats(entries, min_slices)):
        base, key = _base_name(volume[0].header), (*part, number)
        try:
            stack = stack_slices([entry.header for entry in volume])
        except SeriesError as error:
            found.groups.append(Group(base, tuple(volume), error=error, part=key))
        else:
            found.groups.append(Group(base, tuple(volume[i] for i in stack.order), stack, part=key))


def _split_repeats(entries: Sequence[Entry], min_slices: int) -> list[list[Entry]]:
    """Split repeated positions by the first tag that yields equally long volumes with no repeats, else not at all."""
    positions = _position_count(entries)
    if positions == len(entries) or positions < min_slices:
        return [list(entries)]
    for tag in range(len(entries[0].header.repeats)):
        values = sorted({entry.header.repeats[tag] for entry in entries}, key=lambda v: (v is None, v or 0.0))
        volumes = [[entry for entry in entries if entry.header.repeats[tag] == value] for value in values]
        if all(len(volume) == positions == _position_count(volume) for volume in volumes):
            return volumes
    return [list(entries)]


def _position_count(entries: Sequence[Entry]) -> int:
    return len({tuple(round(x, 2) for x in entry.header.position_mm or ()) for entry in entries})


def name_groups(groups: Sequence[Group]) -> list[Group]:
    """Give every group a unique case name: -part-N and -echo-N only where one series yields several volumes."""
    named: list[Group] = []
    for same_base in _partition(groups, lambda group: group.case):
        parts = _partition(same_base, lambda group: (group.entries[0].header.series, group.part))
        parts.sort(key=lambda part: (part[0].entries[0].header.series, tuple(map(str, part[0].part))))
        for number, part in enumerate(parts, start=1):
            base = part[0].case + (f"-part-{number}" if len(parts) > 1 else "")
            echoes = sorted(part, key=lambda group: (group.echo_time_ms is None, group.echo_time_ms or 0.0))
            for echo, group in enumerate(echoes, start=1):
                several = len(echoes) > 1
                case = f"{base}-echo-{echo}" if several else base
                named.append(replace(group, case=case, echo_group=base if several else ""))
    return named


def _base_name(header: FrameHeader) -> str:
    number = "unnumbered" if header.series_number is None else str(header.series_number)
    return f"series-{number}-{header.short_series}"


def _same_orientation(a: Entry, b: Entry) -> bool:
    difference = np.subtract(a.header.orientation or (), b.header.orientation or ())
    return bool(np.abs(difference).max() <= ORIENTATION_TOLERANCE)


def _same_matrix(a: Entry, b: Entry) -> bool:
    if (a.header.rows, a.header.columns) != (b.header.rows, b.header.columns):
        return False
    return bool(np.allclose(a.header.spacing_mm or (), b.header.spacing_mm or (), rtol=_RELATIVE_SPACING_TOLERANCE))


def _same_echo(a: Entry, b: Entry) -> bool:
    first, second = a.header.echo_time_ms, b.header.echo_time_ms
    if first is None or second is None:
        return first is second
    return abs(first - second) <= _ECHO_TOLERANCE_MS


def _slices(entries: Sequence[Entry]) -> str:
    return f"{len(entries)} slice" + ("s" if len(entries) > 1 else "")


def _matrix(entries: Sequence[Entry]) -> str:
    header = entries[0].header
    row_spacing, column_spacing = header.spacing_mm or (0.0, 0.0)
    return f"{header.rows} × {header.columns} pixels at {row_spacing:g} × {column_spacing:g} mm"


def _cluster(entries: Iterable[Entry], same: Callable[[Entry, Entry], bool]) -> list[list[Entry]]:
    """Entries alike within a tolerance; each joins the first cluster whose first member it resembles."""
    clusters: list[list[Entry]] = []
    for entry in entries:
        home = next((cluster for cluster in clusters if same(cluster[0], entry)), None)
        if home is None:
            clusters.append([entry])
        else:
            home.append(entry)
    return clusters


def _partition(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Items with equal keys together, in order of first appearance."""
    parts: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        parts[key(item)].append(item)
    return list(parts.values())
