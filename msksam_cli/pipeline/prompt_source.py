"""Where a run's prompts come from: an atlas, existing labels, or a file of prompts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.prompts import Prompt
from msksam_cli.core.series import Series
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import Volume
from msksam_cli.errors import GridMismatchError, InputError, UsageError
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.prompt_files import read_prompts
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.io.weights import file_sha256
from msksam_cli.measure.regrid import reordered_labels
from msksam_cli.pipeline.atlas_choice import AtlasShelf, atlas_shelf
from msksam_cli.pipeline.case_matching import case_name, label_volumes, volumes_by_case
from msksam_cli.pipeline.segment_options import SegmentOptions


@dataclass(frozen=True, eq=False)
class PromptSource:
    """What gives the prompts, and the tissues that are wanted of it.

    Attributes:
        tissues: the wanted tissues of all cases; an atlas knows only its own of them.
        shelf: atlases to choose from; None when prompts come from `path`.
        path: folder or file of labels, or a file of prompts.
        table: names of the values of the label volumes under `path`.
    """

    tissues: TissueTable
    shelf: AtlasShelf | None = None
    path: Path | None = None
    table: TissueTable | None = None

    @property
    def sha256(self) -> str:
        """Hash of what the prompts of all cases depend on besides the image; see `case_inputs_sha256` for labels."""
        if self.shelf:
            return self.shelf.sha256
        return file_sha256(self.path) if self.path and self.path.is_file() else ""


def prompt_source(options: SegmentOptions) -> PromptSource:
    """The source the options name.

    Raises:
        UsageError: an unknown tissue, or a path that does not exist.
        AtlasError: no atlas has this name, or none is installed.
    """
    path = options.prompt_folder
    if path is None:
        shelf = atlas_shelf(options.atlas, options.tissues)
        return PromptSource(shelf.tissues, shelf)
    if not path.exists():
        raise UsageError(f"{path.name} does not exist", "Check --prompts")
    table = _table_beside(path)
    tissues = table.select(options.tissues) if table else atlas_shelf(options.atlas, options.tissues).tissues
    return PromptSource(tissues, None, path, table)


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


def case_inputs_sha256(series: Series, source: PromptSource, images_sha256: str) -> str:
    """Hash of everything the labels of one case are made from: its images, and the labels that prompt for it alone.

    Args:
        series: the case.
        source: of prompts.
        images_sha256: of its images, see `input_sha256`.

    Raises:
        InputError: a file cannot be read, or there are no labels for this case.
    """
    if source.path is None or source.path.is_file():
        return images_sha256
    return hashlib.sha256(f"{images_sha256} {file_sha256(_label_file(series, source.path))}".encode()).hexdigest()


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
