"""A BIDS derivative by the specification's own rules, and by its validator where that is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.io.bids import bids_files, bids_name, write_case, write_dataset

CASES = (
    "knee07", "knee07_left", "knee07-left", "series-1-2ec22c31", "Müller", "sub-01_ses-2_acq-fs_run-1_T2w",
    "sub-01_ses-2_acq-fs_run-1_PDw", "sub-01_T1w", "sub-02_run-1_ses-2_T1w",
)  # fmt: skip
VALIDATOR = os.environ.get("BIDS_VALIDATOR") or shutil.which("bids-validator-deno")
# BIDS 1.10, derivative anatomical segmentations: entities in this order, each once, letters and digits only.
ORDER = ["sub", "ses", "sample", "acq", "ce", "trc", "rec", "run", "echo", "space", "seg", "res", "den", "desc"]


@pytest.fixture
def dataset(tmp_path):
    """The cases written with the labels of the demo's anatomy, a tumour, an implant and a tissue of a user's own."""
    source = tmp_path / "labels.nii.gz"
    _write_nifti(source)
    prompts = tmp_path / "p.json"
    prompts.write_text("{}")
    tissues = TissueTable((*TISSUES, Tissue(900, "my own")))
    folder = tmp_path / "derivatives" / "msksam"
    write_dataset(folder)
    for case in CASES:
        facts = {"Model": "msksam-small", "Atlas": ""}
        write_case(folder, case, labels=source, prompts=prompts, tissues=tissues, facts=facts)
    return folder


def _write_nifti(path):
    import numpy as np

    from msksam_cli.core.geometry import Grid
    from msksam_cli.core.volume import LabelMap
    from msksam_cli.io.nifti import form_from_grid, write_label_map

    grid = Grid((4, 5, 6), np.diag([0.5, 0.7, 3.0, 1.0]))
    write_label_map(path, LabelMap(np.ones(grid.shape, np.uint8), grid, TISSUES), form_from_grid(grid))


def rows_of(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    return [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]


def test_no_two_cases_share_a_name_and_names_have_the_specified_form():
    assert len({bids_name(case).stem for case in CASES}) == len(CASES)
    for case in CASES:
        name = bids_name(case)
        pairs = [part.split("-") for part in name.stem.split("_")]
        assert all(re.fullmatch("[A-Za-z0-9]+", label) for _, label in pairs)
        places = [ORDER.index(key) for key, _ in pairs]
        assert places == sorted(set(places))
        folders = [f"{key}-{label}" for key, label in pairs if key in ("sub", "ses")]
        assert name.folder == "/".join([*folders, "anat"])


def test_bids_names_keep_their_parts_and_other_names_become_the_subject():
    assert bids_files("sub-01_ses-2_acq-fs_run-1_T2w")[0] == (
        "sub-01/ses-2/anat/sub-01_ses-2_acq-fs_run-1_desc-msksamT2w_dseg.nii.gz"
    )
    assert bids_name("knee07").stem == "sub-knee07_desc-msksam"
    assert re.fullmatch(r"sub-knee07left[0-9a-f]{6}_desc-msksam", bids_name("knee07_left").stem)
    assert bids_name("sub-02_run-1_ses-2_T1w").folder.startswith("sub-sub02run1ses2T1w")


def test_the_data_set_describes_itself_as_a_derivative(dataset):
    said = json.loads((dataset / "dataset_description.json").read_text())
    assert said["DatasetType"] == "derivative"
    assert {"Name", "BIDSVersion", "GeneratedBy"} <= set(said)
    assert said["GeneratedBy"][0]["Name"] == "msksam"


def test_the_table_has_integers_where_bids_has_integers_and_codes_beside(dataset):
    rows = {row["name"]: row for row in rows_of(dataset / bids_files("knee07")[1])}
    assert len(rows) == len(TISSUES) + 1
    for row in rows.values():
        assert re.fullmatch(r"\d+", row["index"])
        assert re.fullmatch(r"#[0-9a-f]{6}", row["color"])
        assert row["mapping"] == "n/a" or 0 <= int(row["mapping"]) <= 11
        assert all(row.values())
    assert (rows["femur"]["mapping"], rows["femur"]["code"]) == ("4", "SCT:71341001")
    assert rows["medial-meniscus"]["mapping"] == "5"
    assert rows["tumour"]["mapping"] == "7"
    assert (rows["my own"]["mapping"], rows["my own"]["code"]) == ("n/a", "n/a")


def test_every_column_that_bids_does_not_know_is_described(dataset):
    labels, table, sidecar, _ = bids_files("knee07")
    said = json.loads((dataset / sidecar).read_text())
    extra = set(rows_of(dataset / table)[0]) - {"index", "name", "abbreviation", "color", "mapping"}
    assert extra <= {name for name, value in said.items() if isinstance(value, dict) and value["Description"]}
    assert (said["Manual"], said["Model"]) == (False, "msksam-small")
    assert "Atlas" not in said
    assert (dataset / labels).read_bytes() == (dataset.parents[1] / "labels.nii.gz").read_bytes()


@pytest.mark.skipif(not VALIDATOR, reason="bids-validator-deno is not installed (BIDS_VALIDATOR may name it)")
def test_the_validator_finds_no_error(dataset):
    table = dataset / bids_files("knee07")[1]
    assert _errors(dataset) == []
    table.write_text(table.read_text().replace("\t4\t", "\tSCT:1\t"))
    assert _errors(dataset) == ["TSV_VALUE_INCORRECT_TYPE"]


def _errors(folder):
    done = subprocess.run(
        [VALIDATOR, "--format", "json", str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return sorted({issue["code"] for issue in issues if issue["severity"] == "error"})
