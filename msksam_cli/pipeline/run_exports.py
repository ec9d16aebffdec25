"""What a run leaves only where it is asked for, made from the labels it has written, and so the same after a resume."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msksam_cli.core.series import Refusal, Series
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError
from msksam_cli.io.bids import bids_files, write_case, write_dataset
from msksam_cli.io.dicom_seg import need_highdicom, write_dicom_seg
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.prompt_files import read_prompt_file
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.pipeline.segment_options import SegmentOptions

BIDS_FOLDER = "derivatives/msksam"
"""The BIDS derivative below the run folder."""


def check_exports(options: SegmentOptions) -> None:
    """Nothing, when what the options ask for can be written here.

    Raises:
        EnvironmentFault: a package is missing.
    """
    if options.dicom_seg:
        need_highdicom()


def exported_files(case: str) -> tuple[str, ...]:
    """Everything a case may leave on request, below the run folder; it goes when the case's labels go."""
    return (_seg_file(case), *(f"{BIDS_FOLDER}/{name}" for name in bids_files(case)))


def write_exports(
    folder: Path, options: SegmentOptions, done: Iterable[Series], tissues: TissueTable
) -> tuple[Refusal, ...]:
    """Write what the options ask for of every case that is done; returns what could not be written, and why.

    Args:
        folder: the run folder, with its tables.
        options: of the run.
        done: the cases whose labels are there.
        tissues: all that a case may hold.

    Raises:
        EnvironmentFault: the disk fails.
    """
    done = list(done)
    if options.layout == "bids" and done:
        _write_bids(folder, [series.case for series in done])
    refused = []
    for series in done if options.dicom_seg else ():
        try:
            _write_seg(folder, series, tissues, options)
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            refused.append(Refusal(series.case, f"no DICOM SEG: {error.message}", error.hint))
    return tuple(refused)


def _seg_file(case: str) -> str:
    return f"segmentations/{case}.dcm"


def _write_seg(folder: Path, series: Series, tissues: TissueTable, options: SegmentOptions) -> None:
    if series.kind != "dicom":
        raise InputError("it was made from NIfTI, which names no study", "Give the DICOM study")
    labels = read_label_map(folder / "labels" / f"{series.case}.nii.gz", tissues)
    is_automatic = options.prompts == "atlas"
    write_dicom_seg(folder / _seg_file(series.case), labels, series, is_automatic=is_automatic)


def _write_bids(folder: Path, cases: Iterable[str]) -> None:
    """The cases as a BIDS derivative, with the tissues of the run's own table."""
    tissues = read_tissue_table(folder / "labels.tsv")
    write_dataset(folder / BIDS_FOLDER)
    for case in cases:
        prompts = folder / "prompts" / f"{case}.json"
        said = read_prompt_file(prompts)
        facts = {
            "Case": case,
            "Model": str(said.get("model", "")),
            "ModelSHA256": str(said.get("model_sha256", "")),
            "Atlas": str(said.get("atlas", "")),
            "AtlasSHA256": str(said.get("atlas_sha256", "")),
        }
        labels = folder / "labels" / f"{case}.nii.gz"
        write_case(folder / BIDS_FOLDER, case, labels=labels, prompts=prompts, tissues=tissues, facts=facts)
