import pytest

from msksam_cli.errors import InputError
from msksam_cli.pipeline.case_matching import case_name, pair_volumes


def folder(path, *names):
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_bytes(b"")
    return path


@pytest.mark.parametrize("ending", ["", "_0000", "_seg", "_dseg", "_label", "_labels", "_mask", "_pred", "_DSEG"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_known_endings_and_suffixes_are_left_out(ending, suffix):
    assert case_name(f"sub-01_T1w{ending}{suffix}") == "sub-01_T1w"


@pytest.mark.parametrize(
    ("file_name", "case"),
    [
        ("knee_0000_seg.nii.gz", "knee"),
        ("labels.nii.gz", "labels"),
        ("mask_01.nii", "mask_01"),
        ("knee_0001.nii.gz", "knee_0001"),
        ("bonemask.nii.gz", "bonemask"),
        ("a.nii.b_pred.nii.gz", "a.nii.b"),
        ("_seg.nii.gz", "_seg"),
    ],
)
def test_only_endings_are_left_out_and_a_name_is_never_empty(file_name, case):
    assert case_name(file_name) == case


def test_folders_are_paired_by_case_and_the_rest_is_listed_with_its_side(tmp_path):
    predictions = folder(tmp_path / "p", "b.nii.gz", "a_pred.nii", "only.nii.gz", "notes.txt", ".hidden.nii.gz")
    references = folder(tmp_path / "r", "a_seg.nii.gz", "b_labels.nii.gz", "truth.nii")
    pairing = pair_volumes(predictions, references)
    assert [(p.case, p.prediction.name, p.reference.name) for p in pairing.pairs] == [
        ("a", "a_pred.nii", "a_seg.nii.gz"),
        ("b", "b.nii.gz", "b_labels.nii.gz"),
    ]
    assert [(u.case, u.reason) for u in pairing.unmatched] == [
        ("only", "no reference has this name"),
        ("truth", "no prediction has this name"),
    ]


def test_names_that_collide_are_not_guessed(tmp_path):
    predictions = folder(tmp_path / "p", "a_pred.nii.gz", "a_seg.nii.gz")
    pairing = pair_volumes(predictions, folder(tmp_path / "r", "a.nii.gz"))
    assert pairing.pairs == ()
    assert "2 predictions and 1 references share this name" in pairing.unmatched[0].reason


def test_a_run_folder_stands_for_its_labels(tmp_path):
    folder(tmp_path / "run" / "labels", "a.nii.gz")
    folder(tmp_path / "run" / "images", "a.nii.gz")
    (pair,) = pair_volumes(tmp_path / "run", folder(tmp_path / "r", "a.nii.gz")).pairs
    assert pair.prediction == tmp_path / "run" / "labels" / "a.nii.gz"


def test_two_files_are_a_pair_whatever_their_names_and_so_are_a_file_and_a_folder_of_one(tmp_path):
    predictions = folder(tmp_path / "p", "series-3_pred.nii.gz")
    truth = folder(tmp_path / "r", "labels.nii.gz") / "labels.nii.gz"
    for side in (predictions, predictions / "series-3_pred.nii.gz"):
        (pair,) = pair_volumes(side, truth).pairs
        assert (pair.case, pair.reference) == ("series-3", truth)


def test_a_file_against_a_folder_of_several_is_refused(tmp_path):
    predictions = folder(tmp_path / "p", "a.nii.gz", "b.nii.gz")
    truth = folder(tmp_path / "r", "a.nii.gz") / "a.nii.gz"
    with pytest.raises(InputError, match="folder of several"):
        pair_volumes(predictions, truth)


def test_paths_without_volumes_are_refused(tmp_path):
    filled, bare = folder(tmp_path / "p", "a.nii.gz"), folder(tmp_path / "r", "a.txt")
    with pytest.raises(InputError, match=r"references 'r' hold no \.nii"):
        pair_volumes(filled, bare)
    with pytest.raises(InputError, match="predictions 'none' do not exist"):
        pair_volumes(tmp_path / "none", filled)
