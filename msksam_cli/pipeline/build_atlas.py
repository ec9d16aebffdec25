"""`msksam atlas`: build an atlas from a folder of labelled cases, and look at the ones there are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from msksam_cli import __version__
from msksam_cli.atlas.build import AtlasCase, Naming, align_cases, atlas_case, atlas_from_sums, case_sums, total
from msksam_cli.atlas.evidence import total_probability
from msksam_cli.atlas.quality import QualityCard, card_values, leave_one_out
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.errors import AtlasError, InputError, UsageError
from msksam_cli.io.atlas_folder import find_atlas, list_atlases, read_atlas, write_atlas
from msksam_cli.io.cases import CaseFiles, find_cases
from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.tables import aligned_text, read_tissue_table
from msksam_cli.io.weights import file_sha256

SIDES = ("", "left", "right")


LABEL_HASHES = "label_sha256"
"""Key of an atlas's provenance: hashes of the label files it was built from, so that no case proves its own atlas."""


@dataclass(frozen=True)
class BuildAtlasOptions:
    """What `msksam atlas build` was asked for.

    Attributes:
        cases: folder with images/ and labels/, or imagesTr/ and labelsTr/.
        output: folder to write; its name is the atlas's name unless `name` says otherwise.
        labels_table: BIDS dseg TSV that names the label values; else labels.tsv beside the folders, else numbers.
        name: of the atlas.
        body_part: lower case, such as "knee".
        side: the side all cases show, "" where the part has none or cases differ.
        spacing_mm: of the atlas's grid.
        deformable: bend the cases onto the mean shape before averaging.
        left_out: most cases used for the quality card.
        threads: threads for the registration.
    """

    cases: Path
    output: Path
    labels_table: Path | None = None
    name: str = ""
    body_part: str = ""
    side: str = ""
    spacing_mm: float = 1.5
    deformable: bool = False
    left_out: int = 4
    threads: int = 1

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise UsageError(f"unknown side {self.side!r}", "Use left or right")
        if not 0.3 <= self.spacing_mm <= 6.0:
            raise UsageError(f"atlas spacing of {self.spacing_mm:g} mm", "Use 0.3 to 6 mm")


@dataclass(frozen=True, eq=False)
class BuiltAtlas:
    """What a build left.

    Attributes:
        atlas: as a reader will see it.
        folder: where it lies.
        card: its quality.
        unmatched: names that lack image or labels.
        seconds: wall time.
    """

    atlas: Atlas
    folder: Path
    card: QualityCard
    unmatched: tuple[str, ...]
    seconds: float


def build_atlas(options: BuildAtlasOptions) -> BuiltAtlas:
    """Read the cases, build the atlas with its quality card and write it.

    Raises:
        InputError: the folder has no labelled cases, or one of them cannot be read.
        AtlasError: the cases share no tissue.
        EnvironmentFault: the output cannot be written.
    """
    start = time.perf_counter()
    folder = find_cases(options.cases)
    table = _table(options.labels_table or folder.table, folder.cases)
    cases = [_read_case(files, table, options) for files in tqdm(folder.cases, "cases", leave=False, disable=None)]
    hashes = {LABEL_HASHES: [file_sha256(files.labels) for files in folder.cases]}
    naming = Naming(options.name or options.output.name, options.body_part.lower(), options.side, hashes)
    atlas, card = build_from_cases(cases, naming, options)
    written = write_atlas(options.output, atlas)
    unmatched = folder.without_labels + folder.without_image
    return BuiltAtlas(written, options.output, card, unmatched, time.perf_counter() - start)


def build_from_cases(
    cases: Sequence[AtlasCase], naming: Naming, options: BuildAtlasOptions
) -> tuple[Atlas, QualityCard]:
    """The atlas of thinned cases, its provenance holding the quality card."""
    with tqdm(desc="atlas", bar_format="{desc} {elapsed}", leave=False, disable=None) as bar:
        alignment = align_cases(
            cases,
            naming.side,
            spacing_mm=options.spacing_mm,
            deformable=options.deformable,
            threads=options.threads,
            report=bar.set_description,
        )
        sums = [case_sums(alignment, number) for number in range(len(cases))]
        everything = total(sums)
        card = leave_one_out(alignment, sums, everything, naming, most=options.left_out, report=bar.set_description)
    provenance = {
        "software": f"msksam {__version__}",
        "cases": len(cases),
        "contrasts": sorted({case.contrast for case in cases}),
        "spacing_mm": options.spacing_mm,
        "alignment": "affine and deformable" if options.deformable else "affine",
        **naming.provenance,
        "quality": card_values(card),
    }
    return atlas_from_sums(alignment, everything, replace(naming, provenance=provenance)), card


def installed_atlases() -> list[Atlas]:
    """Every atlas found by name; a damaged one raises AtlasError."""
    return [read_atlas(folder) for folder in list_atlases().values()]


def load_atlas(name: str) -> Atlas:
    """The atlas given by name or folder.

    Raises:
        AtlasError: there is none, or it is damaged.
    """
    return read_atlas(find_atlas(name))


def check_atlas(name: str) -> list[str]:
    """What is wrong with an atlas, in words; empty when nothing is.

    Raises:
        AtlasError: it cannot be read or its hash does not match.
    """
    atlas = load_atlas(name)
    complaints = []
    most = float(total_probability(atlas).max())
    if most > 1.02:
        complaints.append(f"probabilities add up to {most:.2f}, more than 1")
    for tissue in atlas.tissues:
        if float(atlas.probabilities[tissue.index].max()) < 0.3:
            complaints.append(f"{tissue.name} is nowhere likelier than 0.3: no prompt can come from it")
    quality = atlas.provenance.get("quality")
    if not isinstance(quality, dict) or not quality.get("left_out"):
        complaints.append("it has no leave-one-out quality card")
    return complaints


def atlas_list_text(atlases: Iterable[Atlas]) -> str:
    """A table with one line per atlas."""
    rows = [
        (
            a.name,
            a.body_part or "-",
            a.side or "-",
            str(len(a.tissues)),
            str(a.provenance.get("cases", "-")),
            a.sha256[:12],
        )
        for a in atlases
    ]
    return aligned_text(("atlas", "body part", "side", "tissues", "cases", "sha256"), rows)


def atlas_text(atlas: Atlas) -> str:
    """Everything about one atlas that a reader wants on one screen."""
    quality = atlas.provenance.get("quality", {})
    tissues = quality.get("tissues", {}) if isinstance(quality, dict) else {}
    rows = []
    for tissue in atlas.tissues:
        size, row = atlas.populations.get(tissue.index), tissues.get(str(tissue.index), {})
        rows.append(
            (
                tissue.name,
                str(tissue.index),
                tissue.group,
                f"{size.volume_mean_mm3 / 1000:.1f} ± {size.volume_sd_mm3 / 1000:.1f}" if size else "-",
                *(f"{row[key]:.2f}" if key in row else "-" for key in ("dice_mean", "dice_least", "box_recall")),
            )
        )
    shape, spacing = " × ".join(map(str, atlas.grid.shape)), atlas.grid.spacing_mm[0]
    head = [
        f"{atlas.name}: {atlas.body_part or 'body part not given'}{', ' + atlas.side if atlas.side else ''}",
        f"{atlas.provenance.get('cases', '?')} cases, templates {', '.join(atlas.templates)}",
        f"{shape} voxels at {spacing:g} mm",
        f"sha256 {atlas.sha256}",
        f"leave-one-out over {quality.get('left_out', 0) if isinstance(quality, dict) else 0} cases",
    ]
    columns = ("tissue", "label", "group", "volume ml", "dice", "worst", "box recall")
    return "\n".join(head) + "\n" + aligned_text(columns, rows)


def _table(path: Path | None, cases: Sequence[CaseFiles]) -> TissueTable:
    """The table given, else one that numbers the labels that occur."""
    if path is not None:
        return read_tissue_table(path)
    present = {index for files in cases for index in read_label_map(files.labels).tissues.indices}
    if not present:
        raise AtlasError("no case has any label", "Check the label files")
    return default_table(present)


def _read_case(files: CaseFiles, table: TissueTable, options: BuildAtlasOptions) -> AtlasCase:
    try:
        volume, _ = read_volume(files.image)
        labels = read_label_map(files.labels, table)
        return atlas_case(replace(volume, side=options.side), labels, options.spacing_mm)
    except InputError as error:
        raise type(error)(f"case {files.name}: {error.message}", error.hint) from error
