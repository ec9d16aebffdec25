from pathlib import Path

import pytest

from msksam_cli.core.series import Series
from msksam_cli.errors import InputError
from msksam_cli.io.cases import CaseFiles, CaseFolder
from msksam_cli.pipeline.review import chosen_cases, without_rejected

SERIES = [Series(name, "nifti", (Path(f"{name}.nii.gz"),), (0,), "NIfTI") for name in "abcd"]
FOLDER = CaseFolder(tuple(CaseFiles(name, Path(name), Path(name)) for name in "abc"), ("d", "e"), ("f",), None)


@pytest.fixture
def review(tmp_path):
    def write(text):
        path = tmp_path / "review.csv"
        path.write_text(text)
        return path

    return write


def test_cases_to_edit_and_rejected_ones_are_segmented_again(review):
    path = review("case,decision\nd,reject\na,accept\nb,edit\nc,\n")
    assert [one.case for one in chosen_cases(SERIES, path)] == ["b", "d"]
    assert chosen_cases(SERIES, None) == SERIES


def test_a_review_of_another_study_and_one_without_work_are_refused(review):
    with pytest.raises(InputError, match="no x, y, which"):
        chosen_cases(SERIES, review("y\na\nx\n"))
    with pytest.raises(InputError, match="no case to edit"):
        chosen_cases(SERIES, review("case,decision\na,accept\n"))


def test_rejected_cases_are_not_learnt_from_and_those_to_edit_are(review):
    kept = without_rejected(FOLDER, review("case,decision\na,reject\nb,edit\nd,reject\nzz,reject\n"))
    assert [one.name for one in kept.cases] == ["b", "c"]
    assert (kept.without_labels, kept.without_image) == (("e",), ("f",))
    assert without_rejected(FOLDER, None) is FOLDER


def test_a_review_that_knows_no_case_or_leaves_none_is_refused(review):
    with pytest.raises(InputError, match="names none of the 3 cases"):
        without_rejected(FOLDER, review("case,decision\nzz,reject\n"))
    with pytest.raises(InputError, match="leaves none of the 3 cases"):
        without_rejected(FOLDER, review("a\nb\nc\n"))
