"""The scan as records and lines."""

from __future__ import annotations

import json

import pytest

from msksam_cli.errors import InputError
from msksam_cli.pipeline.scan import ScanOptions, exit_code, run_scan, scan_record, scan_text


def test_a_record_holds_every_series_refusal_and_file_and_survives_json(synthetic, tmp_path):
    synthetic(tags={"Laterality": "L", "BodyPartExamined": "KNEE"}).write(tmp_path / "ok")
    synthetic(series_uid="1.2.3").write(tmp_path / "gap", indices=[0, 1, 3, 4])
    (tmp_path / "Jane Doe.txt").write_text("x")
    scan = run_scan(ScanOptions(tmp_path))
    record = json.loads(json.dumps(scan_record(scan)))
    (series,) = record["series"]
    assert series["case"].startswith("series-4-")
    assert series["description"] == "MR 2D SE, TE 30 ms, TR 2500 ms"
    assert (series["shape"], series["slices"], series["side"], series["body_part"]) == ([8, 10, 6], 6, "left", "knee")
    assert series["spacing_mm"] == pytest.approx([0.7, 0.5, 3.0], abs=1e-5)
    assert "gap of 6.00 mm" in record["refused"][0]["reason"]
    assert sorted(file["state"] for file in record["files"]) == ["refused"] * 4 + ["skipped"] + ["used"] * 6
    assert all(file["file"].startswith("file-") for file in record["files"])
    assert exit_code(scan) == 3


def test_the_text_names_volumes_refusals_and_counts(synthetic, tmp_path):
    synthetic().write(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    scan = run_scan(ScanOptions(tmp_path))
    lines = scan_text(scan).splitlines()
    assert lines[0].startswith("volume   series-4-")
    assert "8×10×6" in lines[0]
    assert lines[1] == "skipped  1 file: neither DICOM nor NIfTI"
    assert lines[2] == "1 volumes, 0 refused; files: 6 used, 1 skipped, 0 refused"
    assert exit_code(scan) == 0


def test_a_study_with_nothing_usable_says_what_there_was_and_what_to_do(synthetic, tmp_path):
    folder = synthetic().write(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    with pytest.raises(InputError, match=r"nothing usable among 6 files \(6 × DICOM without its preamble.*dcmconv"):
        exit_code(run_scan(ScanOptions(tmp_path)))


def test_an_empty_folder_is_nothing_usable(tmp_path):
    with pytest.raises(InputError, match="nothing usable among 0 files"):
        exit_code(run_scan(ScanOptions(tmp_path)))
