"""Labelled cases to learn from: all of them checked before the first step, and split by subject."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, InputError, MsksamError
from msksam_cli.io.cases import CaseFiles, find_cases
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.pipeline.finetune_options import FinetuneOptions
from msksam_cli.pipeline.review import without_rejected

_MOST_TISSUES = 255
_MOST_PROBLEMS = 20
_HINT = "Repair or remove these cases; nothing was trained"


@dataclass(frozen=True)
class Case:
    """A case that may be learnt from, by name.

    Attributes:
        files: where image and labels lie.
        subject: whom they show.
    """

    files: CaseFiles
    subject: str


@dataclass(frozen=True)
class CaseSet:
    """Sound cases, split by subject.

    Attributes:
        training: cases to learn from.
        validation: cases that decide when to stop.
        tissues: the wanted tissues.
        table: names of all label values; None when nobody named them.
        sha256: hash of all files and their part in the split.
        unmatched: names that lack image or labels.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    tissues: TissueTable
    table: TissueTable | None
    sha256: str
    unmatched: tuple[str, ...]


@dataclass(frozen=True)
class _Finding:
    """What one case turned out to hold; `problem` is "" when it can be used."""

    problem: str = ""
    values: frozenset[int] = frozenset()
    image_sha256: str = ""


def sound_cases(options: FinetuneOptions) -> CaseSet:
    """Check every case and split the subjects.

    Raises:
        InputError: the folder holds no cases, or some cannot be used; all of them are named with their reasons. Or
            the review cannot be read.
        UsageError: a wanted tissue is unknown.
    """
    folder = without_rejected(find_cases(options.cases), options.exclude)
    path = options.labels_table or folder.table
    table = read_tissue_table(path) if path else None
    wanted = table.select(options.tissues) if table else None
    findings = {files.name: _look_at(files, table, wanted) for files in folder.cases}
    subjects = {files.name: subject_of(files.name, options.subject) for files in folder.cases}
    problems = [f"{name}: {found.problem}" for name, found in findings.items() if found.problem]
    problems += [f"{name}: --subject finds no subject" for name, subject in subjects.items() if not subject]
    problems += _twins(findings, subjects)
    if table is None:
        problems += _mixed_labels(findings)
    if len(set(subjects.values())) < 2:
        problems.append("one subject alone cannot be split into training and validation")
    if problems:
        raise InputError(_listed(problems), _HINT)
    tissues = wanted or default_table({value for found in findings.values() for value in found.values}).select(
        options.tissues
    )
    if len(tissues) > _MOST_TISSUES:
        raise InputError(f"{len(tissues)} tissues are wanted, at most {_MOST_TISSUES} can be", "Give --tissue")
    kept = validation_subjects(sorted(set(subjects.values())), options.validation, options.seed)
    cases = [Case(files, subjects[files.name]) for files in folder.cases]
    return CaseSet(
        tuple(case for case in cases if case.subject not in kept),
        tuple(case for case in cases if case.subject in kept),
        tissues,
        table,
        _sha256(cases, kept),
        folder.without_labels + folder.without_image,
    )


def read_case(files: CaseFiles, table: TissueTable | None) -> tuple[Volume, LabelMap]:
    """Image and labels on the image's grid; flipped or exchanged axes of the labels are undone without loss.

    Raises:
        InputError: a file cannot be read, holds no labels, or a value has no name.
        GridMismatchError: image and labels lie on different grids.
    """
    volume, _ = read_volume(files.image)
    labels = read_label_map(files.labels, table)
    if labels.grid.matches(volume.grid):
        return volume, LabelMap(labels.values, volume.grid, labels.tissues)
    reordered = reordered_labels(labels, volume.grid)
    if reordered is None:
        raise GridMismatchError(f"image and labels lie on different grids: {_difference(volume.grid, labels.grid)}")
    return volume, reordered


def subject_of(name: str, pattern: str) -> str:
    """The subject a case's name tells of: the pattern's first group, else its whole match; "" when it finds nothing.

    >>> subject_of("knee07_left", "^[^_]+"), subject_of("knee07_left", ""), subject_of("a-07-b", r"-(\\d+)-")
    ('knee07', 'knee07_left', '07')
    """
    if not pattern:
        return name
    match = re.search(pattern, name)
    return "" if match is None else (match[1] or "") if match.re.groups else match[0]


def validation_subjects(subjects: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """The subjects kept for validation: a share of them, drawn by `seed`, at least one and not all."""
    count = min(max(round(share * len(subjects)), 1), len(subjects) - 1)
    order = np.random.default_rng(seed).permutation(len(subjects))
    return frozenset(subjects[number] for number in order[:count].tolist())


def _look_at(files: CaseFiles, table: TissueTable | None, wanted: TissueTable | None) -> _Finding:
    try:
        volume, labels = read_case(files, table)
    except MsksamError as error:
        if error.exit_code != InputError.exit_code:
            raise
        return _Finding(error.message)
    present = frozenset(labels.boxes)
    values = present & set(wanted.indices) if wanted else present
    if not values:
        return _Finding("no voxel of a wanted tissue is labelled" if wanted and present else "no voxel is labelled")
    if float(volume.intensities.min()) == float(volume.intensities.max()):
        return _Finding("the image has one intensity everywhere")
    return _Finding("", values, hashlib.sha256(np.ascontiguousarray(volume.intensities).data).hexdigest())


def _twins(findings: Mapping[str, _Finding], subjects: Mapping[str, str]) -> list[str]:
    """Cases of different subjects with one image, which would be on both sides of the split."""
    first: dict[str, str] = {}
    problems = []
    for name, found in findings.items():
        other = first.setdefault(found.image_sha256, name)
        if found.image_sha256 and subjects[other] != subjects[name]:
            problems.append(f"{name}: its image is that of {other}, another subject")
    return problems


def _mixed_labels(findings: Mapping[str, _Finding]) -> list[str]:
    """Without a table nothing tells a tissue that is absent from one that has another number elsewhere."""
    every = frozenset().union(*(found.values for found in findings.values()))
    return [
        f"{name}: no label {', '.join(map(str, sorted(every - found.values)))}, which other cases have, and no table "
        "(labels.tsv) says that all mean the same"
        for name, found in findings.items()
        if not found.problem and found.values != every
    ]


def _difference(image: Grid, labels: Grid) -> str:
    if image.shape != labels.shape:
        return f"{image.shape} voxels {image.orientation} and {labels.shape} voxels {labels.orientation}"
    return f"corners are up to {image.corner_offset_voxels(labels):.2f} voxels apart"


def _listed(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"{count}: {'; '.join(problems[:_MOST_PROBLEMS])}{more}"


def _sha256(cases: Sequence[Case], kept: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for case in cases:
        part = "validation" if case.subject in kept else "training"
        hashes = f"{file_sha256(case.files.image)} {file_sha256(case.files.labels)}"
        digest.update(f"{case.files.name} {case.subject} {part} {hashes}\n".encode())
    return digest.hexdigest()
