"""What a run leaves only where it is asked for, made from the labels it has written, and so the same after a resume."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msksam_cli.core.series import Refusal, Series
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError
from msksam_cli.io.dicom_seg import need_highdicom, write_dicom_seg
from msksam_cli.io.nifti import read_label_map
from msksam_cli.pipeline.segment_options import SegmentOptions


def check_exports(options: SegmentOptions) -> None:
    """Nothing, when what the options ask for can be written here.

    Raises:
        EnvironmentFault: a package is missing.
    """
    if options.dicom_seg:
        need_highdicom()


def seg_file(case: str) -> str:
    """A case's DICOM segmentation below the run folder."""
    return f"segmentations/{case}.dcm"


def write_exports(
    folder: Path, options: SegmentOptions, done: Iterable[Series], tissues: TissueTable
) -> tuple[Refusal, ...]:
    """Write what the options ask for of every case that is done; returns what could not be written, and why.

    Raises:
        EnvironmentFault: the disk fails.
    """
    if not options.dicom_seg:
        return ()
    refused = []
    for series in done:
        try:
            _write_seg(folder, series, tissues, options)
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            refused.append(Refusal(series.case, f"no DICOM SEG: {error.message}", error.hint))
    return tuple(refused)


def _write_seg(folder: Path, series: Series, tissues: TissueTable, options: SegmentOptions) -> None:
    if series.kind != "dicom":
        raise InputError("it was made from NIfTI, which names no study", "Give the DICOM study")
    labels = read_label_map(folder / "labels" / f"{series.case}.nii.gz", tissues)
    is_automatic = options.prompts == "atlas"
    write_dicom_seg(folder / seg_file(series.case), labels, series, is_automatic=is_automatic)
