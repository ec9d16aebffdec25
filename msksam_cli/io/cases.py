"""Folders of labelled cases: `images/` and `labels/` with equal names, or nnU-Net's `imagesTr/` and `labelsTr/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msksam_cli.errors import InputError

_LAYOUTS = (("images", "labels"), ("imagesTr", "labelsTr"))
_SUFFIXES = (".nii.gz", ".nii")
_FIRST_CHANNEL = "_0000"


@dataclass(frozen=True)
class CaseFiles:
    """Where one labelled case lies.

    Attributes:
        name: file name without suffix and channel.
        image: NIfTI intensities.
        labels: NIfTI labels on the same grid.
    """

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class CaseFolder:
    """Labelled cases in order of name, and the names that lack their partner.

    Attributes:
        cases: images with labels.
        without_labels: names of images nobody labelled.
        without_image: names of labels whose image is missing.
        table: `labels.tsv` or `tissues.tsv` beside the folders, None when there is none.
    """

    cases: tuple[CaseFiles, ...]
    without_labels: tuple[str, ...]
    without_image: tuple[str, ...]
    table: Path | None


def find_cases(folder: Path) -> CaseFolder:
    """The labelled cases of a folder.

    Raises:
        InputError: the folder has no known layout, two files claim one name, or no image has labels.
    """
    for images, labels in _LAYOUTS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return _matched(folder, _by_name(folder / images), _by_name(folder / labels))
    raise InputError(
        f"{folder.name} holds neither images/ and labels/ nor imagesTr/ and labelsTr/",
        "Put images and labels of equal names into two such folders",
    )


def _matched(folder: Path, images: dict[str, Path], labels: dict[str, Path]) -> CaseFolder:
    names = sorted(set(images) & set(labels))
    if not names:
        raise InputError(
            f"none of {len(images)} images and {len(labels)} label files in {folder.name} share a name",
            "Give image and labels of a case the same file name",
        )
    tables = (folder / name for name in ("labels.tsv", "tissues.tsv", "dseg.tsv"))
    return CaseFolder(
        cases=tuple(CaseFiles(name, images[name], labels[name]) for name in names),
        without_labels=tuple(sorted(set(images) - set(labels))),
        without_image=tuple(sorted(set(labels) - set(images))),
        table=next((table for table in tables if table.is_file()), None),
    )


def _by_name(folder: Path) -> dict[str, Path]:
    """Case name → file; of several channels only the first counts."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = _stem(path)
        if stem is None:
            continue
        name = stem.removesuffix(_FIRST_CHANNEL)
        if _is_later_channel(stem, folder):
            continue
        if name in found:
            raise InputError(f"{found[name].name} and {path.name} claim the same case", "Remove one of them")
        found[name] = path
    return found


def _stem(path: Path) -> str | None:
    if path.name.startswith(".") or not path.is_file():
        return None
    return next((path.name.removesuffix(suffix) for suffix in _SUFFIXES if path.name.endswith(suffix)), None)


def _is_later_channel(stem: str, folder: Path) -> bool:
    """Whether a stem ends in _0001 or more and a _0000 of the same case lies beside it."""
    base, _, channel = stem.rpartition("_")
    if len(channel) != 4 or not channel.isdigit() or channel == "0000":
        return False
    return any((folder / f"{base}{_FIRST_CHANNEL}{suffix}").exists() for suffix in _SUFFIXES)
