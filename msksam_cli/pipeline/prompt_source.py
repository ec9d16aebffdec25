"""Where a run's prompts come from: an atlas, existing labels, or a file of prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.series import Series
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.errors import AtlasError, GridMismatchError, InputError, UsageError
from msksam_cli.io.atlas_folder import find_atlas, list_atlases, read_atlas
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.prompt_files import read_prompts
from msksam_cli.io.study import input_sha256
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.pipeline.case_matching import case_name, label_volumes, volumes_by_case
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True, eq=False)
class PromptSource:
    """What gives the prompts, and the tissues that are wanted of it.

    Attributes:
        tissues: the wanted tissues.
        atlases: atlases that know them all; empty when prompts come from `path`.
        path: folder or file of labels, or a file of prompts.
        table: names of the values of the label volumes under `path`.
    """

    tissues: TissueTable
    atlases: tuple[Atlas, ...] = ()
    path: Path | None = None
    table: TissueTable | None = None

    @property
    def sha256(self) -> str:
        """Hash of what the prompts of all cases depend on besides the image; see `case_inputs_sha256` for labels."""
        digest = hashlib.sha256()
        for atlas in sorted(self.atlases, key=lambda one: one.name):
            digest.update(atlas.sha256.encode())
        if self.path and self.path.is_file():
            digest.update(file_sha256(self.path).encode())
        return digest.hexdigest()


def prompt_source(options: SegmentOptions) -> PromptSource:
    """The source the options name.

    Raises:
        UsageError: an unknown tissue, or a path that does not exist.
        AtlasError: no atlas has this name, or none is installed.
    """
    path = options.prompt_folder
    if path is None:
        atlases = _atlases(options)
        return PromptSource(atlases[0].tissues.select(options.tissues), atlases)
    if not path.exists():
        raise UsageError(f"{path.name} does not exist", "Check --prompts")
    table = _table_beside(path) or _atlases(options)[0].tissues
    return PromptSource(table.select(options.tissues), (), path, table)


def atlas_for(volume: Volume, atlases: tuple[Atlas, ...]) -> Atlas:
    """The atlas of the volume's body part, else the first."""
    return next((a for a in atlases if volume.body_part and a.body_part == volume.body_part), atlases[0])


def given_prompts(series: Series, volume: Volume, options: SegmentOptions, source: PromptSource) -> tuple[Prompt, ...]:
    """Prompts of one case from the labels or the file of prompts that the options name.

    Raises:
        InputError: no labels for this case, or labels or prompts of another grid.
    """
    path = source.path
    if path is None:
        raise ValueError("these prompts come from a path")
    if options.prompts.startswith("file:"):
        return read_prompts(path, volume.grid, source.tissues)
    labels = reordered_labels(read_label_map(_label_file(series, path), source.table), volume.grid)
    if labels is None:
        raise GridMismatchError("the labels lie on another grid than the image", "Resample them to the image")
    return prompts_from_labels(labels, source.tissues, volume.grid.slice_axis, options.prompt_kind)


def case_inputs_sha256(series: Series, source: PromptSource) -> str:
    """Hash of everything the labels of one case are made from: its images, and the labels that prompt for it alone.

    Raises:
        InputError: a file cannot be read, or there are no labels for this case.
    """
    images = input_sha256(series)
    if source.path is None or source.path.is_file():
        return images
    return hashlib.sha256(f"{images} {file_sha256(_label_file(series, source.path))}".encode()).hexdigest()


def _label_file(series: Series, path: Path) -> Path:
    files = label_volumes(path, "prompts")
    found = files if path.is_file() else volumes_by_case(files).get(case_name(series.case), [])
    if len(found) != 1:
        raise InputError(f"{len(found)} label volumes for case {series.case}", f"Name one {series.case}.nii.gz")
    return found[0]


def _table_beside(path: Path) -> TissueTable | None:
    folder = path if path.is_dir() else path.parent
    table = next((t for t in (folder / "labels.tsv", folder.parent / "labels.tsv") if t.is_file()), None)
    return read_tissue_table(table) if table else None


def _atlases(options: SegmentOptions) -> tuple[Atlas, ...]:
    """The atlases that know every wanted tissue; the named one alone when one is named.

    All of them must mean the same by it, since a run has one table of labels.
    """
    if options.atlas != "auto":
        atlas = read_atlas(find_atlas(options.atlas))
        atlas.tissues.select(options.tissues)
        return (atlas,)
    fitting = []
    refusal: UsageError | None = None
    for folder in list_atlases().values():
        atlas = read_atlas(folder)
        try:
            atlas.tissues.select(options.tissues)
            fitting.append(atlas)
        except UsageError as error:
            refusal = error
    if not fitting:
        raise refusal or AtlasError("no atlas is installed", "Build one with `msksam atlas build`")
    if len({atlas.tissues.select(options.tissues) for atlas in fitting}) > 1:
        names = ", ".join(atlas.name for atlas in fitting)
        raise UsageError(
            f"atlases {names} know these tissues under different numbers or names", "Name one with --atlas"
        )
    return tuple(fitting)
