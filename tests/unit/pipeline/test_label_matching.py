import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import default_table
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import InputError, UsageError
from msksam_cli.pipeline.label_matching import match_labels, tissue_table, value_names

PREDICTED = {11: "femur", 12: "tibia", 14: "fibula"}
TRUTH = {1: "femur", 2: "tibia", 3: "patella"}


def label_map(dtype, *values):
    array = np.array(values, dtype=dtype).reshape(-1, 1, 1)
    return LabelMap(array, Grid(array.shape, np.eye(4)), default_table(v for v in values if v))


def test_names_on_both_sides_decide_and_the_references_values_are_kept():
    matching = match_labels(PREDICTED, TRUTH, "auto")
    assert matching.by_name
    assert matching.names == {1: "femur", 2: "tibia"}
    predicted = matching.common_prediction(label_map(np.uint8, 0, 11, 12, 14, 99))
    assert predicted.ravel().tolist() == [0, 1, 2, 0, 0]
    reference = matching.common_reference(label_map(np.uint16, 0, 1, 2, 3, 40000))
    assert reference.ravel().tolist() == [0, 1, 2, 0, 0]


def test_tissues_only_one_side_knows_are_named_in_notes():
    assert match_labels(PREDICTED, TRUTH, "auto").notes == (
        "not evaluated, only the predictions know: fibula",
        "not evaluated, only the references know: patella",
    )


def test_values_that_share_a_name_are_compared_together():
    matching = match_labels({1: "tibial-cartilage"}, {4: "tibial-cartilage", 3: "tibial-cartilage"}, "auto")
    assert matching.names == {3: "tibial-cartilage"}
    assert matching.common_prediction(label_map(np.uint8, 0, 1)).ravel().tolist() == [0, 3]
    assert matching.common_reference(label_map(np.uint8, 3, 4)).ravel().tolist() == [3, 3]


@pytest.mark.parametrize(("predicted", "truth"), [(None, TRUTH), (PREDICTED, None), (None, None)])
def test_without_names_on_both_sides_values_decide(predicted, truth):
    matching = match_labels(predicted, truth, "auto")
    assert not matching.by_name
    assert matching.names == {**(predicted or {}), **(truth or {})}
    assert matching.common_prediction(label_map(np.uint8, 0, 7)).ravel().tolist() == [0, 7]
    with pytest.raises(UsageError, match="have no label names"):
        match_labels(predicted, truth, "name")


def test_values_can_be_made_to_decide():
    matching = match_labels({1: "femur"}, {1: "thigh bone"}, "value")
    assert (matching.by_name, matching.names) == (False, {1: "thigh bone"})


def test_no_common_name_is_an_error_that_lists_both_sides():
    with pytest.raises(InputError, match="predictions have disc; references have femur"):
        match_labels({1: "disc"}, {1: "femur"}, "auto")


def test_an_unknown_way_is_a_usage_error():
    with pytest.raises(UsageError, match="'nearest'"):
        match_labels(None, None, "nearest")


def test_names_are_read_from_pairs_a_file_or_a_table_beside_or_above(tmp_path):
    volumes = tmp_path / "run" / "labels"
    volumes.mkdir(parents=True)
    assert value_names("", volumes) is None
    (tmp_path / "run" / "labels.tsv").write_text("index\tname\n5\tabove\n")
    assert value_names("", volumes) == {5: "above"}
    assert value_names("", tmp_path / "run") == {5: "above"}
    (volumes / "labels.tsv").write_text("index\tname\n6\tbeside\n")
    (volumes / "a.nii.gz").write_bytes(b"")
    assert value_names("", volumes / "a.nii.gz") == {6: "beside"}
    (tmp_path / "own.tsv").write_text("index\tname\n7\town\n")
    assert value_names(str(tmp_path / "own.tsv"), volumes) == {7: "own"}
    assert value_names(" 1=femur, 2 = tibia", volumes) == {1: "femur", 2: "tibia"}


@pytest.mark.parametrize("text", ["femur=1", "1=", "1=a,1=b", "0=background", "70000=a", "1=a,,2=b", "-1=a"])
def test_pairs_that_cannot_be_meant_are_usage_errors(tmp_path, text):
    with pytest.raises(UsageError, match="in the label names"):
        value_names(text, tmp_path)


def test_a_file_that_does_not_exist_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"'none\.tsv' is no table of labels"):
        tissue_table(str(tmp_path / "none.tsv"), tmp_path)


def test_a_tissue_table_from_pairs_has_their_names_and_colours_that_differ(tmp_path):
    table = tissue_table("3=patella,1=femur", tmp_path)
    assert [(tissue.index, tissue.name) for tissue in table] == [(1, "femur"), (3, "patella")]
    assert len({tissue.color for tissue in table}) == 2
