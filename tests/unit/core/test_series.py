"""Names that may leave the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from msksam_cli.core.series import FileRecord, Refusal, Series, StudyScan


def test_nifti_names_are_shown_and_every_other_name_is_a_hash():
    assert FileRecord(Path("a/Knee 1.NII.GZ"), "used").public_name == "a/Knee 1.NII.GZ"
    hashed = FileRecord(Path("DOE^JANE/1.dcm"), "used").public_name
    assert "DOE" not in hashed
    assert hashed.startswith("file-")
    assert hashed != FileRecord(Path("DOE^JANE/2.dcm"), "used").public_name


def test_names_that_are_not_unicode_can_be_shown():
    assert FileRecord(Path("a\udcff.nii"), "used").public_name == "a\\udcff.nii"
    assert FileRecord(Path("a\udcff.dcm"), "used").public_name.startswith("file-")


def test_states_are_counted():
    files = (FileRecord(Path("a"), "used"), FileRecord(Path("b"), "refused"), FileRecord(Path("c"), "used"))
    scan = StudyScan((), (), files)
    assert [scan.count(state) for state in ("used", "skipped", "refused")] == [2, 0, 1]


def test_a_refusal_reads_as_a_sentence_with_its_hint():
    assert str(Refusal("series-1", "gap of 6 mm", "Export again")) == "series-1: gap of 6 mm. Export again"
    assert str(Refusal("series-1", "gap of 6 mm")) == "series-1: gap of 6 mm"


def test_a_series_needs_a_frame_for_each_file():
    with pytest.raises(ValueError, match="2 files and 1 frames"):
        Series("a", "dicom", (Path("1"), Path("2")), (0,), "")
