"""The files of one case: labels, prompts, figures, image and map, and their names below the run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.cores import spread_over_cores
from msksam_cli.core.series import Series
from msksam_cli.core.volume import Volume
from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.figures import write_overlay
from msksam_cli.io.nifti import NiftiForm, write_label_map, write_packed
from msksam_cli.io.prompt_files import write_prompts
from msksam_cli.io.thickness_figure import Surface, thickness_png
from msksam_cli.io.weights import file_sha256
from msksam_cli.pipeline.atlas_choice import AtlasChoice
from msksam_cli.pipeline.maps import CaseMap, map_files, write_case_map
from msksam_cli.pipeline.replay_record import replay_section
from msksam_cli.pipeline.report_cases import FIGURES_FOLDER
from msksam_cli.pipeline.run_exports import exported_files
from msksam_cli.pipeline.segment_case import Segmentation, Setup


@dataclass(frozen=True, eq=False)
class CaseFiles:
    """What is written of a case; `image` is the packed volume, None where a run keeps none."""

    series: Series
    volume: Volume
    form: NiftiForm
    segmentation: Segmentation
    choice: AtlasChoice | None
    on_map: CaseMap
    surfaces: tuple[Surface, ...]
    image: bytes | None


def write_case_files(case: CaseFiles, folder: Path, setup: Setup, prompted_by: str) -> dict[str, str]:
    """Write the files of a case; returns path below the run folder → sha256.

    Args:
        case: what is written.
        folder: of the run.
        setup: model and tissues of the case.
        prompted_by: "atlas", "labels" or "file".

    Raises:
        EnvironmentFault: the disk fails.
    """
    name, done, placed = case.series.case, case.segmentation, case.segmentation.placed
    provenance = {
        "case": name,
        "model": setup.model.name,
        "model_sha256": setup.model.weights_sha256,
        "atlas": placed.atlas_name if placed else "",
        "atlas_sha256": placed.atlas_sha256 if placed else "",
        "atlas_reason": case.choice.reason if case.choice else "",
        **replay_section(case.series, case.volume, setup, prompted_by, done.labels),
    }
    labels, prompts, figure, image, thickness = _names(name)
    grid = case.volume.grid
    writers: dict[str, Callable[[Path], object]] = {}
    if case.image is not None:
        content = case.image
        writers[image] = lambda path: write_packed(path, content, grid, case.form)
    writers |= {
        labels: lambda path: write_label_map(path, done.labels, case.form),
        prompts: lambda path: write_prompts(
            path, done.prompts, done.iou_predictions, grid=grid, tissues=setup.tissues, provenance=provenance
        ),
        figure: lambda path: write_overlay(path, case.volume, done.labels, title=name),
    }
    if case.surfaces:
        writers[thickness] = lambda path: write_atomic(path, lambda stream: stream.write(thickness_png(case.surfaces)))
    spread_over_cores(lambda written: writers[written](folder / written), list(writers))
    written = [*writers, *write_case_map(folder, name, case.on_map, case.form)]
    return {path: file_sha256(folder / path) for path in written}


def _names(case: str) -> tuple[str, str, str, str, str]:
    """Labels, prompts, figure, image and figure of thickness of a case below the run folder."""
    figure = f"{FIGURES_FOLDER}/{case}"
    return (
        f"labels/{case}.nii.gz",
        f"prompts/{case}.json",
        f"{figure}.png",
        f"images/{case}.nii.gz",
        f"{figure}-thickness.png",
    )


def every_file(case: str) -> tuple[str, ...]:
    """All that a run may have written of a case, below the run folder."""
    return *_names(case), *map_files(case), *exported_files(case)
