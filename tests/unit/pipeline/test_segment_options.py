from __future__ import annotations

from pathlib import Path

import pytest

from msksam_cli.atlas import priors
from msksam_cli.errors import UsageError
from msksam_cli.pipeline.segment_options import (
    PROMPT_KINDS,
    SegmentOptions,
    chosen_form,
    parse_shard,
    parse_size,
)


def _options(**changes):
    return SegmentOptions(**{"study": Path("knee"), "tissues": ("bone",), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": (0, 2)}, "shard 0/2 does not exist"),
        ({"shard": (3, 2)}, "shard 3/2 does not exist"),
        ({"runtime": "tensorflow"}, "unknown runtime 'tensorflow'"),
        ({"tissues": ()}, "no tissue was named"),
        ({"prompts": "guess"}, "unknown source of prompts 'guess'"),
        ({"prompts": "atlas:x"}, "unknown source of prompts"),
        ({"prompts": "labels:"}, "unknown source of prompts 'labels:'"),
        ({"prompts": "file"}, "unknown source of prompts 'file'"),
        ({"prompt_kind": "circle"}, "unknown kind of prompt 'circle'"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        _options(**changes)
    assert raised.value.exit_code == 2


def test_the_kinds_of_prompts_are_those_that_can_be_made():
    assert PROMPT_KINDS == priors.PROMPT_KINDS


@pytest.mark.parametrize(
    ("study", "folder"),
    [("a/knee 7", "knee 7"), ("x/left.nii.gz", "left"), ("x/v1.2.nii", "v1.2"), ("s.nii.d", "s.nii.d")],
)
def test_results_go_to_a_folder_named_like_the_study_unless_one_is_given(study, folder):
    assert _options(study=Path(study)).output_folder == Path("msksam-out") / folder
    assert _options(study=Path(study), output=Path("out")).output_folder == Path("out")


def test_a_study_named_by_a_dot_gives_its_folders_own_name(tmp_path, monkeypatch):
    (tmp_path / "knees").mkdir()
    monkeypatch.chdir(tmp_path / "knees")
    assert _options(study=Path(".")).output_folder == Path("msksam-out/knees")


def test_the_path_of_prompts_may_hold_colons():
    assert _options(prompts="labels:/a:b/c").prompt_folder == Path("/a:b/c")
    assert _options().prompt_folder is None


@pytest.mark.parametrize("text", ["", "1", "1/", "/2", "a/b", "-1/2", "1/2/3", "1.0/2"])
def test_a_shard_is_two_whole_numbers(text):
    assert parse_shard("3/12") == (3, 12)
    with pytest.raises(UsageError, match="cannot read shard"):
        parse_shard(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²"])
def test_a_size_is_auto_or_a_number_above_0(text):
    assert parse_size("auto", "batch size") is None
    assert parse_size("16", "batch size") == 16
    with pytest.raises(UsageError, match="cannot read batch size"):
        parse_size(text, "batch size")


def test_an_encode_size_is_a_number_or_that_of_the_slices():
    assert [_options(encode_size=size).encode_size for size in (None, 256, "slice")] == [None, 256, "slice"]
    with pytest.raises(UsageError, match="unknown encode size 'small'"):
        _options(encode_size="small")
    with pytest.raises(UsageError, match="exported models see slices at one size"):
        _options(encode_size=256, runtime="onnx")


def test_one_form_can_be_chosen_and_not_both():
    assert [chosen_form(False, False), chosen_form(True, False), chosen_form(False, True)] == ["", "sform", "qform"]
    with pytest.raises(UsageError, match="contradict"):
        chosen_form(True, True)
