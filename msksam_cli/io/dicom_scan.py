"""Files of a study to DICOM series: headers read, copies found, groups made, every file accounted for."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msksam_cli.core.series import FileRecord, FileState, Refusal, Series
from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FileHeader, FrameHeader
from msksam_cli.io.dicom_groups import Entry, Group, group_entries
from msksam_cli.io.dicom_reader import read_headers
from msksam_cli.io.memory import check_fits_memory

_VOXEL_BYTES = 24

End = tuple[FileState, str, str]  # state, reason, case


@dataclass(frozen=True, eq=False)
class DicomScan:
    """Series, refusals and one record for each file that was given."""

    series: tuple[Series, ...]
    refused: tuple[Refusal, ...]
    records: tuple[FileRecord, ...]
    hints: tuple[str, ...]


def scan_dicom(root: Path, paths: Sequence[Path], min_slices: int) -> DicomScan:
    """What the files (relative to `root`) hold; no pixel is decoded."""
    headers = read_headers([root / path for path in paths])
    copies, clashes = _find_copies(root, paths, headers)
    entries = [
        Entry(number, _with_clash(frame, clashes))
        for number, header in enumerate(headers)
        for frame in header.frames
        if number not in copies
    ]
    found = group_entries(entries, min_slices)
    judged = [(group, _refusal(group)) for group in found.groups]
    ends = _ends_of_files(headers, copies, judged, found.set_aside)
    return DicomScan(
        series=tuple(_series(root, paths, group) for group, refusal in judged if refusal is None),
        refused=(*(refusal for _, refusal in judged if refusal is not None), *_orphans(headers)),
        records=tuple(FileRecord(path, *_one_end(ends[number])) for number, path in enumerate(paths)),
        hints=tuple(dict.fromkeys(header.hint for header in headers if header.verdict == "skip" and header.hint)),
    )


def _ends_of_files(
    headers: Sequence[FileHeader],
    copies: set[int],
    judged: Sequence[tuple[Group, Refusal | None]],
    set_aside: Sequence[tuple[Entry, str]],
) -> dict[int, list[End]]:
    """What became of each file's images; one file can hold images of several volumes."""
    ends: dict[int, list[End]] = defaultdict(list)
    for group, refusal in judged:
        for entry in group.entries:
            ends[entry.file].append(
                ("used", "", group.case) if refusal is None else ("refused", refusal.reason, group.case)
            )
    for entry, reason in set_aside:
        ends[entry.file].append(("skipped", reason, ""))
    for number, header in enumerate(headers):
        if header.verdict != "image":
            ends[number].append(("skipped" if header.verdict == "skip" else "refused", header.reason, ""))
        elif number in copies:
            ends[number].append(("skipped", "copy of another file", ""))
    return ends


def _find_copies(root: Path, paths: Sequence[Path], headers: Sequence[FileHeader]) -> tuple[set[int], set[str]]:
    """Files that repeat another byte for byte, and the series in which one instance UID names different contents."""
    same_instance: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, header in enumerate(headers):
        if header.frames:
            same_instance[header.frames[0].series, header.frames[0].instance].append(number)
    copies: set[int] = set()
    clashes: set[str] = set()
    for (series, instance), numbers in same_instance.items():
        if len(numbers) == 1:
            continue
        contents: dict[str, int] = {}
        for number in sorted(numbers, key=lambda n: paths[n]):
            digest = file_sha256(root / paths[number])
            if digest in contents:
                copies.add(number)
            contents.setdefault(digest, number)
        if len(contents) > 1 and instance:
            clashes.add(series)
    return copies, clashes


def _with_clash(frame: FrameHeader, clashes: Iterable[str]) -> FrameHeader:
    if frame.series not in clashes or frame.defect:
        return frame
    return replace(
        frame,
        defect="files of different content carry one SOP instance UID",
        hint="Keep one version of each image",
    )


def file_sha256(path: Path) -> str:
    """Sha256 of a file's content, hexadecimal.

    Raises:
        SeriesError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SeriesError("a file of the study cannot be read", "Check the disk and its permissions") from error


def _refusal(group: Group) -> Refusal | None:
    if group.error is not None:
        return Refusal(group.case, group.error.message, group.error.hint)
    header = group.entries[0].header
    if header.quantity and len({(entry.header.unit, entry.header.real_world) for entry in group.entries}) > 1:
        return Refusal(group.case, f"slices of a {header.quantity} map to real-world values in different ways")
    reason = check_fits_memory((header.columns, header.rows, len(group.entries)), _VOXEL_BYTES)
    return Refusal(group.case, reason) if reason else None


def _series(root: Path, paths: Sequence[Path], group: Group) -> Series:
    header = group.entries[0].header
    grid = group.stack.grid if group.stack else None
    sides = {entry.header.side for entry in group.entries}
    return Series(
        case=group.case,
        kind="dicom",
        files=tuple(root / paths[entry.file] for entry in group.entries),
        frames=tuple(entry.header.frame for entry in group.entries),
        description=_describe(header),
        echo_time_ms=header.echo_time_ms,
        side="left" if sides == {"left"} else "right" if sides == {"right"} else "",
        body_part=header.body_part,
        grid=grid,
        study=header.study,
        echo_group=group.echo_group,
        decay=header.decay,
        quantity=header.quantity,
        unit=header.unit,
        real_world=header.real_world,
    )


def _describe(header: FrameHeader) -> str:
    words = " ".join(word for word in (header.modality, header.acquisition, header.sequence, header.quantity) if word)
    times = (("TE", header.echo_time_ms), ("TR", header.repetition_time_ms))
    return ", ".join([words, *(f"{name} {value:g} ms" for name, value in times if value is not None)])


def _one_end(ends: Sequence[End]) -> End:
    """One end for a file whose images met several: used before refused before skipped."""
    order = ("used", "refused", "skipped")
    return min(ends, key=lambda end: order.index(end[0]), default=("skipped", "holds no image", ""))


def _orphans(headers: Sequence[FileHeader]) -> list[Refusal]:
    """Refused files whose series is unknown, counted by reason."""
    counts = Counter((header.reason, header.hint) for header in headers if header.verdict == "refuse")
    return [
        Refusal(f"{count} file{'s' if count > 1 else ''}", reason, hint) for (reason, hint), count in counts.items()
    ]
