"""The demo: a procedural knee as a DICOM study, segmented with what ships, evaluated against its truth."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.core.series import Series
from msksam_cli.errors import EnvironmentFault, InputError
from msksam_cli.io.atomic import write_text
from msksam_cli.io.dicom_write import SeriesToWrite, write_dicom_study
from msksam_cli.io.nifti import form_from_grid, write_label_map
from msksam_cli.io.study import scan_study
from msksam_cli.io.tables import write_tissue_table
from msksam_cli.phantom.acquisition import Scan, demo_study
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.evaluate import EvaluateOptions, Evaluation, evaluate
from msksam_cli.pipeline.evaluation_page import evaluation_text
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.pipeline.segment_run import SegmentRun
from msksam_cli.pipeline.segment_text import run_text

_TISSUES = ("bone", "cartilage", "meniscus")
_SERIES = ("pd-fs-tse", "t2-multi-echo")
_MARKER = ".msksam-demo"
_PARTS = ("study", "truth", "segmentation", "evaluation")


@dataclass(frozen=True)
class DemoOptions:
    """Options of `msksam demo`.

    Attributes:
        output: folder for study, truth, labels and evaluation.
        seed: which knee to draw.
        device: where the network runs.
    """

    output: Path
    seed: int = 7
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo did."""

    folder: Path
    run: SegmentRun
    evaluation: Evaluation
    seconds: float

    @property
    def exit_code(self) -> int:
        """The worse of segmentation and evaluation."""
        return max(self.run.exit_code, self.evaluation.exit_code)


def run_demo(options: DemoOptions) -> Demo:
    """Draw, write, segment and evaluate.

    Raises:
        InputError: the folder holds something that is not a demo.
        EnvironmentFault: the folder cannot be written.
    """
    started = time.monotonic()
    folder = options.output
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARKER).is_file():
        raise InputError("the folder for the demo holds other files", "Name an empty or a new one with -o")
    _clear(folder)
    write_text(folder / _MARKER, f"{options.seed}\n")
    scans = [scan for scan in demo_study(options.seed) if scan.sequence.name in _SERIES]
    write_dicom_study(folder / "study", [_to_write(scan) for scan in scans], options.seed)
    _write_truth(folder, scans)
    run = run_segment(
        SegmentOptions(folder / "study", _TISSUES, folder / "segmentation", device=options.device, overwrite=True)
    )
    evaluation = evaluate(EvaluateOptions(folder / "segmentation", folder / "truth", folder / "evaluation"))
    return Demo(folder, run, evaluation, time.monotonic() - started)


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left, which may have shown another knee."""
    for name in _PARTS:
        try:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
        except OSError as error:
            raise EnvironmentFault(f"cannot remove {name} of an earlier demo: {error.strerror}") from error


def demo_text(demo: Demo) -> str:
    """What was done and how well, for people."""
    return "\n".join(
        [
            run_text(demo.run),
            "",
            evaluation_text(demo.evaluation.summaries),
            "",
            f"Drawn, segmented and evaluated in {demo.seconds:.0f} s. Open {demo.folder / 'segmentation/report.html'}",
        ]
    )


def _to_write(scan: Scan) -> SeriesToWrite:
    sequence = scan.sequence
    return SeriesToWrite(
        scan.description,
        scan.echoes,
        sequence.echo_times_ms,
        sequence.repetition_time_ms,
        sequence.flip_angle_deg,
        scan.protocol.slice_thickness_mm,
        "SE" if sequence.kind == "spin-echo" else "GR",
    )


def _write_truth(folder: Path, scans: list[Scan]) -> None:
    """Write the truth of each series under the name of its case."""
    cases = first_echoes(scan_study(folder / "study").series)
    for scan in scans:
        grid = scan.labels.grid
        case = next(series.case for series in cases if series.grid and _same_lattice(series, scan))
        write_label_map(folder / "truth" / "labels" / f"{case}.nii.gz", scan.labels, form_from_grid(grid))
    write_tissue_table(folder / "truth" / "labels.tsv", scans[0].labels.tissues)


def _same_lattice(series: Series, scan: Scan) -> bool:
    return series.grid is not None and sorted(series.grid.shape) == sorted(scan.labels.grid.shape)
