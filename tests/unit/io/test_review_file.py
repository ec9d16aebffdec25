import pytest

from msksam_cli.errors import InputError
from msksam_cli.io.review_file import EDIT, REJECT, read_review


def read(folder, text, name="review.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return read_review(folder / name)


def test_a_review_gives_the_cases_with_a_decision(tmp_path):
    text = '\ufeffcase,decision,note\na,accept,\nb,edit,"too thin, and\nfrayed"\nc,reject,\nd,,\n'
    review = read(tmp_path, text)
    assert review.listed(EDIT, REJECT) == {"b", "c"}
    assert review.listed(REJECT) == {"c"}
    assert set(review.decisions) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("text", ["case\nknee 1\nb\n", "knee 1\nb\n", "\nknee 1\n\nb"])
def test_a_list_means_every_case_on_it(tmp_path, text):
    assert read(tmp_path, text, "cases.txt").listed(REJECT) == {"knee 1", "b"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("case,decision\na,accept\na,reject\n", "row 3: twice 'a'"),
        ("case,decision\na,acept\n", "row 2: unknown decision 'acept'"),
        ("case,decision\n,edit\n", "row 2: no case"),
        ("name,decision\na,edit\n", "no column case"),
        ("case,decision\n", "names no case"),
        ("", "names no case"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, why):
    with pytest.raises(InputError, match=why):
        read(tmp_path, text)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_review(tmp_path / "review.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00case")
    with pytest.raises(InputError, match="cannot be read"):
        read_review(tmp_path / "b.csv")
