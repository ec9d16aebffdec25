"""Which label volume of one folder belongs to which of another: by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.series import NIFTI_SUFFIXES
from msksam_cli.errors import InputError

_ENDING = re.compile(r"_(?:0000|seg|dseg|labels?|mask|pred|T2map|T2starmap|T1rhomap)$", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """Two label volumes of one case."""

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Unusable:
    """A case that was not evaluated, and why."""

    case: str
    reason: str


@dataclass(frozen=True)
class Pairing:
    """Pairs in order of case name, and what found no partner."""

    pairs: tuple[Pair, ...]
    unmatched: tuple[Unusable, ...]


def case_name(file_name: str) -> str:
    """A volume's name without its suffix and without endings that say what kind of file it is.

    >>> case_name("sub-01_T1w_dseg.nii.gz"), case_name("knee_0000.nii"), case_name("labels.nii.gz")
    ('sub-01_T1w', 'knee', 'labels')
    """
    name = re.sub(r"\.nii(\.gz)?$", "", file_name, flags=re.IGNORECASE)
    while shorter := _ENDING.sub("", name):
        if shorter == name:
            break
        name = shorter
    return name


def pair_volumes(predictions: Path, references: Path) -> Pairing:
    """Pairs of two folders by case name, or of two files whatever their names.

    A folder may be a run folder, whose `labels` are taken; beside a file a folder must hold exactly one volume.

    Raises:
        InputError: a path does not exist, holds no volume, or a file stands against a folder of several.
    """
    found = [label_volumes(predictions, "predictions"), label_volumes(references, "references")]
    if predictions.is_file() or references.is_file():
        if max(len(volumes) for volumes in found) > 1:
            raise InputError(
                "one file cannot be compared with a folder of several volumes", "Give two files or folders"
            )
        prediction, reference = found[0][0], found[1][0]
        return Pairing((Pair(case_name(prediction.name), prediction, reference),), ())
    by_case = [volumes_by_case(volumes) for volumes in found]
    pairs, unmatched = [], []
    for case in sorted(by_case[0] | by_case[1]):
        candidates = [side.get(case, []) for side in by_case]
        if all(len(files) == 1 for files in candidates):
            pairs.append(Pair(case, candidates[0][0], candidates[1][0]))
        else:
            unmatched.append(Unusable(case, _no_pair_reason(*candidates)))
    return Pairing(tuple(pairs), tuple(unmatched))


def label_volumes(path: Path, role: str) -> list[Path]:
    """The NIfTI files of a folder, of a run folder's `labels`, or the one file; `role` names them in messages.

    Raises:
        InputError: the path does not exist or holds no volume.
    """
    if path.is_file():
        return [path]
    folder = path / "labels" if (path / "labels").is_dir() else path
    if not folder.is_dir():
        raise InputError(f"the {role} {path.name!r} do not exist", "Give a folder of label volumes or one file")
    volumes = sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.name.lower().endswith(NIFTI_SUFFIXES) and not entry.name.startswith(".")
    )
    if not volumes:
        raise InputError(f"the {role} {path.name!r} hold no .nii or .nii.gz file", "Give the folder that holds them")
    return volumes


def volumes_by_case(volumes: list[Path]) -> dict[str, list[Path]]:
    """Files by case name; more than one file of a name is for the caller to judge."""
    cases: dict[str, list[Path]] = {}
    for volume in volumes:
        cases.setdefault(case_name(volume.name), []).append(volume)
    return cases


def _no_pair_reason(predictions: list[Path], references: list[Path]) -> str:
    if not references:
        return "no reference has this name"
    if not predictions:
        return "no prediction has this name"
    return f"{len(predictions)} predictions and {len(references)} references share this name"
