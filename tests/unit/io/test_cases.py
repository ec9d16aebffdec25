from __future__ import annotations

from pathlib import Path

import pytest

from msksam_cli.errors import InputError
from msksam_cli.io.cases import find_cases


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_equal_names_make_cases_in_order_and_the_rest_is_listed(tmp_path: Path) -> None:
    _touch(tmp_path / "images", "b.nii.gz", "a.nii", "lonely.nii.gz", ".hidden.nii", "notes.txt")
    _touch(tmp_path / "labels", "a.nii.gz", "b.nii.gz", "orphan.nii.gz")
    folder = find_cases(tmp_path)
    assert [(c.name, c.image.name, c.labels.name) for c in folder.cases] == [
        ("a", "a.nii", "a.nii.gz"),
        ("b", "b.nii.gz", "b.nii.gz"),
    ]
    assert folder.without_labels == ("lonely",)
    assert folder.without_image == ("orphan",)
    assert folder.table is None


def test_nnunet_folders_lose_their_channel_and_later_channels_are_left_out(tmp_path: Path) -> None:
    _touch(tmp_path / "imagesTr", "k_001_0000.nii.gz", "k_001_0001.nii.gz", "k_002_0000.nii.gz", "scan_2024.nii.gz")
    _touch(tmp_path / "labelsTr", "k_001.nii.gz", "k_002.nii.gz", "scan_2024.nii.gz")
    folder = find_cases(tmp_path)
    assert [c.name for c in folder.cases] == ["k_001", "k_002", "scan_2024"]
    assert folder.cases[0].image.name == "k_001_0000.nii.gz"


def test_a_table_beside_the_folders_is_found(tmp_path: Path) -> None:
    _touch(tmp_path / "images", "a.nii.gz")
    _touch(tmp_path / "labels", "a.nii.gz")
    _touch(tmp_path, "labels.tsv")
    assert find_cases(tmp_path).table == tmp_path / "labels.tsv"


def test_two_files_of_one_case_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path / "images", "a.nii", "a.nii.gz")
    _touch(tmp_path / "labels", "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii and a\.nii\.gz claim the same case"):
        find_cases(tmp_path)


def test_unknown_layouts_and_unrelated_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither images/ and labels/"):
        find_cases(tmp_path)
    _touch(tmp_path / "images", "a.nii.gz")
    _touch(tmp_path / "labels", "b.nii.gz", "c.nii.gz")
    with pytest.raises(InputError, match="none of 1 images and 2 label files"):
        find_cases(tmp_path)
