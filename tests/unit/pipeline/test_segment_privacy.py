"""Sentinels in tags, folders and file names against all that a segmentation leaves, crashes in every step included."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid

SENTINELS = (
    "ZEBRAFINCH", "QUETZALBIRD", "19470228", "PID-88-77-66", "Dr.Kestrel", "Nightjar Clinic", "ACC4711X",
    "Hoatzin Street", "SN-00-LORIKEET", "Operator Wryneck", "Cassowary knee", "555-0199-JAY",
)  # fmt: skip
TAGS = (
    "PatientName PatientID PatientBirthDate OtherPatientNames ReferringPhysicianName InstitutionName AccessionNumber "
    "PatientAddress DeviceSerialNumber OperatorsName SeriesDescription PatientTelephoneNumbers StudyDescription "
    "ProtocolName SequenceName ImageComments StudyID StationName PatientComments PatientMotherBirthName "
    "PatientBirthName MedicalRecordLocator EthnicGroup Occupation AdditionalPatientHistory InstitutionAddress "
    "InstitutionalDepartmentName PerformingPhysicianName RequestingPhysician NameOfPhysiciansReadingStudy "
    "StudyDate SeriesDate PerformedProcedureStepDescription"
)
DATES = {"PatientBirthDate", "StudyDate", "SeriesDate"}
STEPS = (
    "msksam_cli.pipeline.segment.run_scan",
    "msksam_cli.pipeline.reading.read_series",
    "msksam_cli.pipeline.case_work.segment_with_atlas",
    "msksam_cli.pipeline.case_work.measured_case",
    "msksam_cli.pipeline.case_files.write_label_map",
    "msksam_cli.pipeline.segment.write_report",
)
PROGRAM = """
import importlib, sys, warnings
from msksam_cli.app import main
step, sentinel = sys.argv.pop(1), sys.argv.pop(1)
if step:
    module, name = step.rsplit(".", 1)
    def crash(*arguments, **options):
        warnings.warn_explicit(sentinel, UserWarning, f"/home/{sentinel}/site-packages/pydicom/valuerep.py", 1)
        try:
            open(f"/{sentinel}/{sentinel}.dcm")
        except OSError as error:
            raise KeyError(sentinel) from error
    setattr(importlib.import_module(module), name, crash)
main()
"""


@pytest.fixture
def study(synthetic, make_bones, tmp_path) -> Path:
    """A DICOM series of the two bones with every tag planted, beside one that cannot be read, in folders named so."""
    root = tmp_path / SENTINELS[0] / f"{SENTINELS[1]}^{SENTINELS[3]}"
    volume, _ = make_bones(Grid((26, 22, 6), np.diag([0.7, 0.5, 3.0, 1.0])))
    voxels = np.moveaxis(volume.intensities, (0, 1, 2), (2, 1, 0)).astype(np.int16)

    def plant(ds, index):
        for number, keyword in enumerate(TAGS.split()):
            sentinel = SENTINELS[2] if keyword in DATES else SENTINELS[number % len(SENTINELS)]
            setattr(ds, keyword, sentinel)

    def cut(ds, index):
        plant(ds, index)
        ds.PixelData = ds.PixelData[:9]

    whole = synthetic(rows=22, columns=26, slices=6, voxels=voxels, series_uid="1.2.840.1")
    whole.write(root / SENTINELS[4], plant, name=lambda index: f"{SENTINELS[0]}_{index}.dcm")
    synthetic(series_uid="1.2.840.2").write(root / SENTINELS[5], cut, name=lambda index: f"{SENTINELS[1]}_{index}")
    return root


def leaks(content: bytes) -> list[str]:
    """Sentinels in bytes, as UTF-8 or UTF-16, whatever their case."""
    lowered = content.lower()
    return [
        sentinel
        for sentinel in SENTINELS
        if sentinel.lower().encode() in lowered or sentinel.lower().encode("utf-16-le") in lowered
    ]


@pytest.mark.parametrize("step", ["", *STEPS])
def test_nothing_planted_comes_out_of_a_segmentation_not_even_of_one_that_crashes(
    step, study, small_checkpoint, small_atlas, tmp_path
):
    assert len(TAGS.split()) >= 30
    output, cache = tmp_path / "out", tmp_path / "cache"
    arguments = [
        "segment", study, "--tissue", "bone", "-o", output, "--cache", cache, "--model", small_checkpoint,
        "--atlas", small_atlas, "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, step, SENTINELS[0], *map(str, arguments)],
        capture_output=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == (1 if step else 3), done.stderr
    assert leaks(done.stdout) == []
    assert leaks(done.stderr) == []
    if step:
        assert b"internal error (KeyError from FileNotFoundError)" in done.stderr
    left = [path for folder in (output, cache) for path in folder.rglob("*")]
    assert step or [path for path in left if path.name.endswith(".nii.gz")]
    for path in left:
        assert leaks(str(path.relative_to(tmp_path)).encode()) == []
        if path.is_file():
            content = path.read_bytes()
            assert leaks(gzip.decompress(content) if path.suffix == ".gz" else content) == [], path.name
