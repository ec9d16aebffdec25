from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from msksam_cli.core.tissues import default_table
from msksam_cli.io.atomic import atomic_path
from msksam_cli.io.tables import read_tissue_table
from msksam_cli.io.weights import file_sha256
from msksam_cli.pipeline import run_record
from msksam_cli.pipeline.run_record import (
    CaseRecord,
    forget_case,
    is_done,
    read_record,
    read_records,
    setup_sha256,
    write_record,
    write_tables,
)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "labels" / "a.b.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"labels")
    return CaseRecord(
        "a.b", "setup", "input", {"labels/a.b.nii.gz": file_sha256(path)},
        metrics=[{"case": "a.b", "tissue": "label-1", "status": "complete", "voxels": 3}],
        flags=[{"case": "a.b", "tissue": "all", "flag": "atlas_fit_low", "text": "x"}], seconds={"read": 0.25},
    )  # fmt: skip


def test_a_record_comes_back_equal(record, tmp_path):
    write_record(tmp_path, record)
    assert read_record(tmp_path, "a.b") == record
    assert list(read_records(tmp_path)) == [record]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"case": "a.b"}', "null", '{"case": "a.b", "extra": 1}'])
def test_a_record_that_cannot_be_read_is_no_record(text, record, tmp_path):
    write_record(tmp_path, record)
    (tmp_path / "records" / "a.b.json").write_text(text)
    assert read_record(tmp_path, "a.b") is None
    assert list(read_records(tmp_path)) == []
    assert read_record(tmp_path, "absent") is None
    assert list(read_records(tmp_path / "absent")) == []


def test_a_record_that_another_shard_is_still_writing_is_not_counted_twice(record, tmp_path):
    write_record(tmp_path, record)
    with atomic_path(tmp_path / "records" / "a.b.json") as being_written:
        being_written.write_bytes((tmp_path / "records" / "a.b.json").read_bytes())
        assert list(read_records(tmp_path)) == [record]


def test_a_case_is_done_only_with_its_own_input_setup_and_outputs(record, tmp_path):
    assert is_done(record, tmp_path, "setup", "input")
    assert not is_done(None, tmp_path, "setup", "input")
    assert not is_done(record, tmp_path, "other", "input")
    assert not is_done(record, tmp_path, "setup", "other")
    assert not is_done(replace(record, outputs={**record.outputs, "labels/gone": "0"}), tmp_path, "setup", "input")
    (tmp_path / "labels" / "a.b.nii.gz").write_bytes(b"LABELS")
    assert not is_done(record, tmp_path, "setup", "input")


def test_a_setups_hash_does_not_depend_on_the_order_of_its_values():
    assert setup_sha256({"a": 1, "b": {"c": True}}) == setup_sha256({"b": {"c": True}, "a": 1})
    assert setup_sha256({"a": 1}) != setup_sha256({"a": "1"})


def test_a_forgotten_case_leaves_nothing_and_others_stay(record, tmp_path):
    write_record(tmp_path, record)
    write_record(tmp_path, replace(record, case="c"))
    forget_case(tmp_path, "a.b", ["labels/a.b.nii.gz", "images/never-written.nii.gz"])
    assert not (tmp_path / "labels" / "a.b.nii.gz").exists()
    assert [one.case for one in read_records(tmp_path)] == ["c"]


def _cases(path):
    with path.open(newline="") as stream:
        return [row["case"] for row in csv.DictReader(stream)]


def test_tables_are_made_from_all_records_in_order_and_are_there_without_any(record, tmp_path):
    write_tables(tmp_path, default_table([1]))
    assert _cases(tmp_path / "metrics.csv") == _cases(tmp_path / "qc.csv") == []
    for case in ("z", "a"):
        write_record(tmp_path, replace(record, case=case, metrics=[{**record.metrics[0], "case": case}]))
    write_tables(tmp_path, default_table([1]))
    assert _cases(tmp_path / "metrics.csv") == ["a", "z"]
    first = (tmp_path / "metrics.csv").read_bytes()
    write_tables(tmp_path, default_table([1]))
    assert (tmp_path / "metrics.csv").read_bytes() == first


def test_label_tables_name_what_some_case_was_asked_for_and_everything_before_the_first(record, tmp_path):
    write_tables(tmp_path, default_table([1, 2]))
    assert read_tissue_table(tmp_path / "labels.tsv").indices == (1, 2)
    write_record(tmp_path, record)
    write_tables(tmp_path, default_table([1, 2]))
    assert read_tissue_table(tmp_path / "labels.tsv").indices == (1,)


def test_a_case_another_shard_finishes_while_tables_are_written_is_not_lost(record, tmp_path, monkeypatch):
    write_record(tmp_path, record)
    real = run_record.write_csv

    def slow(path, columns, rows):
        real(path, columns, rows)
        if not (tmp_path / "records" / "z.json").exists():
            write_record(tmp_path, replace(record, case="z", metrics=[{**record.metrics[0], "case": "z"}]))

    monkeypatch.setattr(run_record, "write_csv", slow)
    write_tables(tmp_path, default_table([1]))
    assert _cases(tmp_path / "metrics.csv") == ["a.b", "z"]


def test_records_hold_plain_values_only(record, tmp_path):
    write_record(tmp_path, record)
    assert json.loads((tmp_path / "records" / "a.b.json").read_text())["seconds"] == {"read": 0.25}
