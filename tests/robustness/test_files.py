"""Damaged files: what is read is true, what is not is refused, and nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

import crafted_series
import flipped_bits
import mutated_dicom
import mutated_nifti
import own_parsers
import pytest
from damage import MUST_BE_0

from msksam_cli.errors import InputError, ModelError, MsksamError
from msksam_cli.io.registry import read_pins, read_registry
from msksam_cli.io.tables import read_json
from msksam_cli.pipeline.quality_file import read_quality_file
from msksam_cli.pipeline.report import write_report
from msksam_cli.pipeline.run_record import read_record


def test_crafted_series_come_to_what_they_must_with_every_voxel_in_its_place(tmp_path):
    rows = list(crafted_series.own_rows(tmp_path))
    assert len(rows) >= 30
    assert [(row.name, row.expected, row.found, row.voxels) for row in rows if not row.agrees] == []


def test_mutated_dicom_files_never_crash_the_reader_nor_move_a_volume(tmp_path):
    counts = mutated_dicom.mutate_dicom(tmp_path, 150, seed=3)
    assert {name: counts[name] for name in MUST_BE_0} == dict.fromkeys(MUST_BE_0, 0)
    assert counts["read"] > 2
    assert counts["refused"] > 20


def test_mutated_nifti_files_never_crash_the_reader_and_a_checksum_is_believed(tmp_path):
    counts = mutated_nifti.mutate_nifti(tmp_path, 600, seed=3)
    assert {name: counts[name] for name in MUST_BE_0} == dict.fromkeys(MUST_BE_0, 0)
    assert counts["read"] > 100
    assert counts["refused"] > 200


def test_every_flipped_bit_of_caches_and_checkpoints_is_noticed(tmp_path):
    counts = flipped_bits.flip_bits(tmp_path, 40, seed=3)
    assert {name: (found["flips"], found["unnoticed"]) for name, found in counts.items()} == dict.fromkeys(
        counts, (8, 0)
    )


@pytest.mark.parametrize("name", own_parsers.TARGETS)
def test_only_expected_errors_come_out_of_our_own_parsers(name, tmp_path):
    (counts,) = own_parsers.attack(tmp_path, 60, seed=0, only=name).values()
    assert [outcome for outcome in counts if outcome.startswith("  ")] == []
    assert counts["read"] + counts["refused"] == 60


RECORDS = {
    "rows that are no list": {"metrics": 3},
    "a row that is text": {"flags": ["femur"]},
    "a column nobody knows": {"metrics": [{"case": "a", "tissue": "femur", "volume": 1}]},
    "a row without a tissue": {"metrics": [{"case": "a"}]},
    "a cell that is a table": {"slices": [{"case": {}}]},
    "a number that is none": {"metrics": [{"case": "a", "tissue": "femur", "volume_mm3": float("nan")}]},
    "outputs that are a list": {"outputs": ["labels/a.nii.gz"]},
    "times that are text": {"seconds": {"read": "long"}},
    "another case": {"case": "b"},
    "counts that are none": {"prompts": None},
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_a_record_that_is_none_is_not_believed_so_that_its_case_is_made_again(change, tmp_path):
    own_parsers._write_run(tmp_path)
    path = tmp_path / "records" / "a.json"
    assert read_record(tmp_path, "a") == own_parsers._record()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert read_record(tmp_path, "a") is None


def _refuses(read, error: type[MsksamError], match: str) -> None:
    with pytest.raises(error, match=match):
        read()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"7" * 5_000, b'{"a": 1' + b"0" * 5_000 + b"}", b"\xff\xfe{}"])
def test_json_without_end_and_numbers_without_end_are_refused(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    _refuses(lambda: read_json(path), InputError, r"a\.json cannot be read as JSON")


def _edited_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("signals", [[["dice"]], [{}], [None], "dice"])
def test_signals_that_are_no_names_are_refused(signals, tmp_path):
    own_parsers.TARGETS["qc.json"].write(tmp_path)
    _edited_json(tmp_path / "m.qc.json", signals=signals)
    _refuses(lambda: read_quality_file(tmp_path / "m.qc.json"), ModelError, "unknown signals")


@pytest.mark.parametrize("change", [{"sha256": 3}, {"sha256": ["a"]}, {"file": True}, {"name": None}, {"origin": {}}])
def test_pins_with_values_of_another_kind_are_refused(change, tmp_path):
    own_parsers.TARGETS["pin"].write(tmp_path)
    _edited_json(tmp_path / "m.pin.json", **change)
    _refuses(lambda: read_pins(tmp_path), ModelError, r"m\.pin\.json holds values of another kind")


@pytest.mark.parametrize(
    "content", [b"\xff\xff", b"model = 3", b'model = ["a"]', b"[[model]]\nname = 3", b"a=" + b"[" * 9999]
)
def test_a_registry_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "registry.toml"
    path.write_bytes(content)
    _refuses(lambda: read_registry(path), ModelError, r"model registry registry\.toml cannot be read")


def test_tables_of_a_report_that_lack_a_column_are_refused_and_cells_that_are_no_number_are_shown(tmp_path):
    own_parsers._write_run(tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text("case,tissue,status,voxels,volume_mm3\na,femur,complete,3,about two\n")
    assert "about two" in write_report(tmp_path).read_text(encoding="utf-8")
    path.write_text("case,tissue\na,femur\n")
    _refuses(lambda: write_report(tmp_path), InputError, r"metrics\.csv has no column status, voxels")
