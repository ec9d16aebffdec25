from __future__ import annotations

import pytest

from msksam_cli.errors import ModelError
from msksam_cli.io.fusion_file import FusionWeights, fusion_weights, read_fusion_file, write_fusion_file


def test_what_is_written_is_read(tmp_path):
    weights = FusionWeights(1.5, {"bone": 0.0, "disc": 2.25}, "ab" * 32, {"cases": 6, "dice_before": {"bone": 0.91}})
    write_fusion_file(tmp_path / "m.fusion.toml", weights)
    assert read_fusion_file(tmp_path / "m.fusion.toml") == weights


def test_a_table_with_nothing_in_it_weighs_every_group_by_one():
    assert fusion_weights({}, "here") == FusionWeights(1.0, {}, "", {})


@pytest.mark.parametrize("value", [-0.1, 101, "much", True, float("nan"), None])
def test_a_weight_that_means_nothing_is_refused_by_name(value):
    with pytest.raises(ModelError, match="registry: fusion weight"):
        fusion_weights({"groups": {"bone": value}}, "registry")
    with pytest.raises(ModelError, match="fusion weight"):
        fusion_weights({"prior_weight": value}, "registry")


def test_an_unknown_group_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ModelError, match="'bones'") as refusal:
        fusion_weights({"groups": {"bones": 1.0}}, "m.fusion.toml")
    assert "cartilage" in refusal.value.hint


@pytest.mark.parametrize("content", [b"prior_weight = ", b"\xff\xfe", b"groups = 3\n"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "m.fusion.toml").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.fusion\.toml"):
        read_fusion_file(tmp_path / "m.fusion.toml")


def test_a_fusion_that_is_no_table_is_refused():
    with pytest.raises(ModelError, match="no table"):
        fusion_weights([1.0], "x")
