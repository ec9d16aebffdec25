"""What a run writes on request: after the run, after a resume, and nothing of it unasked."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import nibabel
import numpy as np
import pydicom
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import EnvironmentFault, InputError, UsageError
from msksam_cli.io.nifti import write_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.pipeline.case_matching import label_volumes
from msksam_cli.pipeline.case_work import Segmented
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.pipeline.segment_text import run_json, run_text

pytest.importorskip("highdicom", reason="the extra dicomseg is not installed")

SENTINEL = "ZEBRAFINCH"


@pytest.fixture
def dicom_study(synthetic, small_study, make_bones):
    """A DICOM series full of sentinels, with labels to prompt from; `write(slices=…)` writes it anew."""

    def write(shift_px=0, **changes):
        volume, labels = make_bones(Grid((26, 22, 6), np.eye(4)), shift_px=shift_px)
        voxels = np.asarray(volume.intensities).transpose(2, 1, 0).astype(np.int16)
        tags = {
            "FrameOfReferenceUID": "1.2.3", "PatientName": SENTINEL, "PatientID": SENTINEL, "StudyID": SENTINEL,
            "AccessionNumber": SENTINEL, "InstitutionName": SENTINEL, "SeriesDescription": SENTINEL, **changes,
        }  # fmt: skip
        synthetic(6, 22, 26, voxels=voxels, tags=tags).write(small_study.images)
        (series,) = scan_study(small_study.images).series
        read, form = read_series(series)
        truth = dataclasses.replace(labels, grid=read.grid)
        write_label_map(small_study.labels / f"{series.case}.nii.gz", truth, form)
        return series.case

    return write


@pytest.fixture
def segment(small_study, small_checkpoint, tmp_path):
    defaults = SegmentOptions(
        small_study.images, ("bone",), tmp_path / "out", model=str(small_checkpoint), device="cpu",
        prompts=f"labels:{small_study.labels}", cache=tmp_path / "cache",
    )  # fmt: skip
    return lambda **changes: run_segment(dataclasses.replace(defaults, **changes))


def files_with(sentinel, folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert not any(sentinel in path.as_posix() for path in paths)
    return sorted(p.relative_to(folder).as_posix() for p in paths if sentinel.encode() in p.read_bytes())


def test_a_segmentation_object_is_written_only_where_it_is_asked_for_and_alone_names_the_patient(
    dicom_study, segment, tmp_path
):
    """The exception to the rule that no output names the patient: it must, to be filed with its study."""
    case, out = dicom_study(), tmp_path / "out"
    segment()
    assert not (out / "segmentations").exists()
    assert files_with(SENTINEL, out) == []
    run = segment(dicom_seg=True)
    assert (run.exit_code, [outcome.resumed for outcome in run.outcomes]) == (0, [True])
    assert files_with(SENTINEL, out) == [f"segmentations/{case}.dcm"]
    assert SENTINEL not in run_text(run) + run_json(run)
    ds = pydicom.dcmread(out / "segmentations" / f"{case}.dcm")
    assert (ds.PatientID, ds.StudyID, ds.get("InstitutionName")) == (SENTINEL, SENTINEL, None)
    values = np.asanyarray(nibabel.load(out / "labels" / f"{case}.nii.gz").dataobj)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    assert bits.sum() == np.count_nonzero(values) > 50
    assert [one.SegmentAlgorithmType for one in ds.SegmentSequence] == ["SEMIAUTOMATIC"] * 2


def test_a_segmentation_object_never_outlives_its_labels(dicom_study, segment, tmp_path):
    case = dicom_study()
    path = tmp_path / "out" / "segmentations" / f"{case}.dcm"
    segment(dicom_seg=True)
    before = path.read_bytes()
    segment(dicom_seg=True)
    assert path.read_bytes() == before
    segment(overwrite=True, fusion=False)
    assert not path.exists()
    segment(dicom_seg=True, fusion=False)
    dicom_study(shift_px=1)
    segment(dicom_seg=True, fusion=False)
    assert path.read_bytes() != before


def test_what_cannot_be_written_is_said_and_costs_exit_3(dicom_study, small_study, segment, tmp_path):
    case = dicom_study(FrameOfReferenceUID=None)
    small_study.add("a")
    run = segment(dicom_seg=True)
    assert all(isinstance(outcome, Segmented) for outcome in run.outcomes)
    assert run.exit_code == 3
    told = {one.where: one.reason for one in run.not_exported}
    assert told == {
        "a": "no DICOM SEG: it was made from NIfTI, which names no study",
        case: "no DICOM SEG: the images name no frame of reference, which a DICOM SEG lies in",
    }
    assert "missing    a: no DICOM SEG: it was made from NIfTI" in run_text(run)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {one["case"]: one["reason"] for one in record["not_exported"]} == told
    assert json.loads(run_json(run))["not_exported"] == record["not_exported"]


def test_a_missing_package_is_said_before_anything_is_done(small_study, segment, tmp_path, monkeypatch):
    small_study.add("a")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install \"msksam\[dicomseg\]\""):
        segment(dicom_seg=True)
    assert not (tmp_path / "out").exists()


def test_the_bids_layout_copies_labels_and_prompts_and_goes_when_they_go(small_study, segment, tmp_path):
    small_study.add("knee07")
    small_study.add("sub-01_T1w")
    segment()
    bids = tmp_path / "out" / "derivatives" / "msksam"
    assert not bids.exists()
    run = segment(layout="bids")
    assert (run.exit_code, {outcome.resumed for outcome in run.outcomes}) == (0, {True})
    copied = bids / "sub-01" / "anat" / "sub-01_desc-msksamT1w_dseg.nii.gz"
    assert copied.read_bytes() == (tmp_path / "out" / "labels" / "sub-01_T1w.nii.gz").read_bytes()
    said = json.loads((copied.parent / "sub-01_desc-msksamT1w_dseg.json").read_text())
    assert (said["Case"], said["Model"], len(said["ModelSHA256"])) == ("sub-01_T1w", "random", 64)
    table = (copied.parent / "sub-01_desc-msksamT1w_dseg.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in table] == [["index", "name"], ["2", "femur"], ["5", "tibia"]]
    assert str(tmp_path) not in "".join(p.read_text() for p in bids.rglob("*") if p.suffix in (".json", ".tsv", ".md"))
    segment(overwrite=True, fusion=False)
    assert [path.name for path in bids.rglob("*dseg*")] == []
    segment(layout="bids", fusion=False, shard=(1, 2))
    assert {path.parent.parent.name for path in bids.rglob("*dseg*")} == {"sub-knee07"}


def test_a_bids_folder_is_no_folder_of_labels_to_measure(small_study, segment, tmp_path):
    small_study.add("a")
    segment(layout="bids")
    with pytest.raises(InputError, match=r"hold no \.nii or \.nii\.gz file"):
        label_volumes(tmp_path / "out" / "derivatives" / "msksam", "labels")
    assert [path.name for path in label_volumes(tmp_path / "out", "labels")] == ["a.nii.gz"]
    assert scan_study(tmp_path).count("used") == 2  # the image, and the labels it was prompted by


def test_an_unknown_layout_is_refused(segment):
    with pytest.raises(UsageError, match="unknown layout 'nested'"):
        segment(layout="nested")
