"""A labelled set, and what an atlas knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, InputError, UsageError
from msksam_cli.io.atlas_folder import find_atlas, list_atlases, read_atlas, read_atlas_header
from msksam_cli.io.cases import CaseFiles, find_cases
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.pipeline.atlas_choice import best_fitting
from msksam_cli.pipeline.build_atlas import LABEL_HASHES
from msksam_cli.pipeline.label_matching import ValueNames, value_names


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Cases with truth, and the atlas they are compared with.

    Attributes:
        cases: where they lie.
        atlas: the atlas that knows most of their tissues, or the one that was named.
        tissues: what is compared, under the atlas's numbers.
        names: value in the label files → tissue name.
        in_atlas: names of the cases the atlas was built from.
        notes: what else the user should know.
    """

    cases: tuple[CaseFiles, ...]
    atlas: Atlas
    tissues: TissueTable
    names: ValueNames
    in_atlas: frozenset[str]
    notes: tuple[str, ...] = ()


def labelled_set(
    folder: Path, *, atlas: str = "auto", tissues: tuple[str, ...] = ("all",), names: str = ""
) -> LabelledSet:
    """The cases of a folder and the tissues that truth and atlas share.

    Args:
        folder: images/ and labels/ with equal names, or imagesTr/ and labelsTr/.
        atlas: name or folder of an atlas, or "auto" for the installed one that knows most of the set's tissues and, of
            several, fits its first case best.
        tissues: names of tissues or groups, or "all".
        names: names of the label values, "1=femur,2=tibia" or a TSV file; "" looks for labels.tsv in the folder.

    Raises:
        InputError: no labelled cases, or truth and atlas share no tissue.
        UsageError: values without names and no named atlas, an unknown tissue, or only cases the atlas was built from.
        AtlasError: the atlas is not there.
    """
    found = find_cases(folder)
    given = value_names(names or (str(found.table) if found.table else ""), folder)
    if given is None and atlas == "auto":
        raise UsageError(
            "nothing names the label values of these cases", "Give --map, put a labels.tsv there, or name the atlas"
        )
    present = {index for files in found.cases for index in read_label_map(files.labels).tissues.indices}
    chosen = read_atlas(find_atlas(atlas)) if atlas != "auto" else _chosen(given or {}, present, found.cases[0])
    by_value = given if given is not None else {t.index: t.name for t in chosen.tissues}
    labelled = {by_value[value] for value in present if value in by_value}
    wanted = TissueTable(tuple(t for t in chosen.tissues.select(tissues) if t.name in labelled))
    if not len(wanted):
        raise InputError(
            f"the truth labels {', '.join(sorted(labelled)) or 'nothing that has a name'}; atlas {chosen.name} knows "
            f"{', '.join(t.name for t in chosen.tissues)}",
            "Name the label values as the atlas does, or choose another atlas",
        )
    hashes = chosen.provenance.get(LABEL_HASHES, ())
    known = set(hashes) if isinstance(hashes, list | tuple) else set()
    seen = frozenset(files.name for files in found.cases if known and file_sha256(files.labels) in known)
    if len(seen) == len(found.cases):
        raise UsageError(
            f"atlas {chosen.name} was built from all {len(seen)} cases, which proves nothing", "Compare other cases"
        )
    return LabelledSet(
        found.cases, chosen, wanted, by_value, seen, _notes(found.without_labels, labelled, chosen, seen)
    )


def read_case(files: CaseFiles, labelled: LabelledSet) -> tuple[Volume, LabelMap]:
    """Intensities of a case and its truth on the same grid, under the atlas's numbers; other tissues are left out.

    Raises:
        InputError: a file cannot be read.
        GridMismatchError: image and labels lie on different grids.
    """
    volume, _ = read_volume(files.image)
    truth = reordered_labels(read_label_map(files.labels), volume.grid)
    if truth is None:
        raise GridMismatchError("image and labels lie on different grids", "Resample the labels onto the image")
    lookup = np.zeros(int(truth.values.max()) + 1, dtype=np.uint16)
    for value, name in labelled.names.items():
        tissue = labelled.tissues.by_name(name)
        if tissue is not None and value < lookup.size:
            lookup[value] = tissue.index
    return volume, LabelMap(lookup[truth.values], volume.grid, labelled.tissues)


def _chosen(names: ValueNames, present: set[int], first: CaseFiles) -> Atlas:
    """The installed atlas that knows most of the set's tissues; of several, the one that fits its first case best."""
    labelled = {names.get(value, "") for value in present}
    installed = [read_atlas_header(folder) for folder in list_atlases().values()]
    if not installed:
        raise InputError("no atlas is installed", "Build one with `msksam atlas build`")
    known = [len(labelled & {tissue.name for tissue in header.tissues}) for header in installed]
    best = [header for header, count in zip(installed, known, strict=True) if count == max(known)]
    if len(best) == 1 or not max(known):
        return read_atlas(best[0].folder)
    return best_fitting(best, read_volume(first.image)[0])[0]


def _notes(without_labels: tuple[str, ...], labelled: set[str], atlas: Atlas, seen: frozenset[str]) -> tuple[str, ...]:
    unknown = sorted(labelled - {tissue.name for tissue in atlas.tissues})
    said: Mapping[str, object] = {
        f"not compared, atlas {atlas.name} does not know: {', '.join(unknown)}": unknown,
        f"{len(without_labels)} images have no labels: {', '.join(without_labels[:6])}": without_labels,
        f"left out of every mean, atlas {atlas.name} was built from them: {', '.join(sorted(seen))}": seen,
    }
    return tuple(text for text, present in said.items() if present)
