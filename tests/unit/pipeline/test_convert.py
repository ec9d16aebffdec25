"""Conversion of whole studies."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from msksam_cli.errors import EnvironmentFault, InputError, UsageError
from msksam_cli.io.nifti import read_volume, write_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.pipeline.convert import ConvertOptions, conversion_text, run_convert


def test_every_volume_is_written_once_and_equals_its_series(synthetic, tmp_path):
    first, second = synthetic(), synthetic(series_uid="1.2.3", rows=7, columns=12)
    first.write(tmp_path / "study" / "a")
    second.write(tmp_path / "study" / "b")
    result = run_convert(ConvertOptions(tmp_path / "study", tmp_path / "out"))
    assert result.exit_code == 0
    volumes = {series.files[0].parent.name: read_volume(tmp_path / "out" / name)[0] for series, name in result.written}
    first.assert_equals(volumes["a"])
    second.assert_equals(volumes["b"])
    assert conversion_text(result).splitlines()[-1] == "2 volumes written; files: 12 used, 0 skipped, 0 refused"


def test_rescaled_values_are_written_as_single_precision(synthetic, tmp_path):
    series = synthetic(tags={"RescaleSlope": 0.37, "RescaleIntercept": -4})
    series.write(tmp_path / "study")
    ((_, name),) = run_convert(ConvertOptions(tmp_path / "study", tmp_path / "out")).written
    series.assert_equals(read_volume(tmp_path / "out" / name)[0], series.voxels * 0.37 - 4)


def test_a_series_that_cannot_be_decoded_is_recorded_and_the_others_go_on(synthetic, tmp_path):
    good, bad = synthetic(), synthetic(series_uid="1.2.3", rows=32, columns=32)
    good.write(tmp_path / "study" / "good")
    bad.voxels = bad.voxels.astype(np.uint16)
    bad.write(tmp_path / "study" / "bad", lambda ds, _: ds.compress(JPEG2000Lossless, generate_instance_uid=False))
    for path in (tmp_path / "study" / "bad").iterdir():
        path.write_bytes(path.read_bytes().replace(b"\xff\x4f\xff\x51", bytes(4)))
    result = run_convert(ConvertOptions(tmp_path / "study", tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(result.written) == len(record["series"]) == 1
    good.assert_equals(read_volume(tmp_path / "out" / result.written[0][1])[0])
    assert result.exit_code == 3
    assert "pixels cannot be decoded" in record["refused"][0]["reason"]
    assert sorted(file["state"] for file in record["files"]) == ["refused"] * 6 + ["used"] * 6


def test_runs_give_equal_bytes_and_leave_nothing_temporary(synthetic, tmp_path):
    synthetic().write(tmp_path / "study")
    contents = []
    for _ in range(2):
        run_convert(ConvertOptions(tmp_path / "study", tmp_path / "out"))
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    assert sorted(name.split(".", 1)[1] for name in contents[0]) == ["json", "nii.gz"]


def test_a_study_without_dicom_or_with_nothing_usable_is_an_error(synthetic, tmp_path):
    series = synthetic()
    series.write(tmp_path / "dicom")
    (found,) = scan_study(tmp_path / "dicom").series
    write_volume(tmp_path / "nifti" / "a.nii.gz", *read_series(found))
    with pytest.raises(InputError, match="holds only NIfTI files"):
        run_convert(ConvertOptions(tmp_path / "nifti", tmp_path / "out"))
    series.write(tmp_path / "gap", indices=[0, 1, 4, 5])
    with pytest.raises(InputError, match=r"nothing usable among 4 files \(4 × gap of 9\.00 mm"):
        run_convert(ConvertOptions(tmp_path / "gap", tmp_path / "out"))
    assert not (tmp_path / "out" / "run.json").exists()


def test_output_inside_the_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match="output folder lies inside the study"):
        run_convert(ConvertOptions(tmp_path, tmp_path / "out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_environment_fault(synthetic, tmp_path):
    synthetic().write(tmp_path / "study")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(EnvironmentFault, match="cannot write"):
        run_convert(ConvertOptions(tmp_path / "study", tmp_path / "out"))
