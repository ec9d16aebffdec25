import pytest

from msksam_cli.core.terminology import TISSUES as KNOWN
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import InputError
from msksam_cli.io.tables import (
    cell_text,
    read_csv,
    read_json,
    read_tissue_table,
    write_csv,
    write_itksnap_labels,
    write_json,
    write_slicer_colors,
    write_tissue_table,
)

TISSUES = TissueTable(
    (
        Tissue(300, "disc L4-5", "L45", "#010203", "", "disc"),
        Tissue(1, "femur", "F", "#ff8000", "", "bone", "SCT:71341001", "knee thigh hip"),
        Tissue(2, "medial-meniscus", "", "#00ff7f", "medial", "meniscus"),
    )
)


def test_csv_leaves_unknown_cells_empty_and_keeps_0(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(
        path, ("case", "dice", "voxels"), [{"case": "a, b", "dice": None, "voxels": 0}, {"case": "c", "dice": 1 / 3}]
    )
    assert path.read_bytes() == b'case,dice,voxels\n"a, b",,0\nc,0.333333333,\n'
    assert read_csv(path) == [
        {"case": "a, b", "dice": "", "voxels": "0"},
        {"case": "c", "dice": "0.333333333", "voxels": ""},
    ]


def test_a_row_with_an_unknown_column_or_a_number_that_is_none_is_a_mistake_and_writes_nothing(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(ValueError, match="surplus"):
        write_csv(path, ("case",), [{"surplus": 1}])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="does not belong in a table"):
            write_csv(path, ("case",), [{"case": bad}])
    assert list(tmp_path.iterdir()) == []


def test_numbers_keep_their_size_whatever_it_is():
    assert [cell_text(value) for value in (172676.46388896, 1e-7, -0.5, 3.0)] == ["172676.464", "1e-07", "-0.5", "3"]


def test_labels_tsv_has_the_bids_columns_in_order_and_n_a_for_what_is_missing(tmp_path):
    path = tmp_path / "labels.tsv"
    write_tissue_table(path, TISSUES)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "index\tname\tabbreviation\tcolor\tside\tgroup\tregion\tmapping",
        "1\tfemur\tF\t#ff8000\tn/a\tbone\tknee thigh hip\tSCT:71341001",
        "2\tmedial-meniscus\tn/a\t#00ff7f\tmedial\tmeniscus\tn/a\tn/a",
        "300\tdisc L4-5\tL45\t#010203\tn/a\tdisc\tn/a\tn/a",
    ]


def test_a_tissue_table_comes_back_as_it_was_written(tmp_path):
    write_tissue_table(tmp_path / "labels.tsv", TISSUES)
    assert read_tissue_table(tmp_path / "labels.tsv") == TISSUES


def test_a_foreign_table_needs_only_index_and_name_in_any_order(tmp_path):
    path = tmp_path / "dseg.tsv"
    path.write_bytes("\ufeffname\tother\tindex\r\nbackground\tx\t0\r\nGray Matter\tx\t7\r\n\r\n".encode())
    (tissue,) = read_tissue_table(path)
    assert (tissue.index, tissue.name, tissue.group, tissue.side) == (7, "Gray Matter", "other", "")
    assert len(tissue.color) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows with columns index and name"),
        ("index,name\n1,femur\n", "no rows with columns index and name"),
        ("index\tname\n1.5\tfemur\n", r"line 2: index '1.5' is not a whole number"),
        ("index\tname\n1\tfemur\n2\ttibia\textra\n", "line 3: 3 cells under 2 columns"),
        ("index\tname\n1\tfemur\n1\ttibia\n", "index 1 more than once"),
        ("index\tname\n1\tn/a\n", "no usable name"),
        ("index\tname\tcolor\n1\tfemur\tred\n", "colour 'red'"),
    ],
)
def test_a_table_that_cannot_be_used_says_where_and_why(tmp_path, text, message):
    path = tmp_path / "labels.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_tissue_table(path)


def test_files_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    for read in (read_tissue_table, read_csv, read_json):
        with pytest.raises(InputError, match=r"labels\.tsv cannot be read"):
            read(path)
        with pytest.raises(InputError, match=r"none\.tsv cannot be read"):
            read(tmp_path / "none.tsv")


def as_itk_snap_reads(path):
    """Index → (rgb, opacity, shown in 2-D, shown in 3-D, name), by the fields that the program's own files describe.

    Seven numbers parted by blanks, then all between the first quotation mark and the next; # begins a comment.
    """
    labels = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if not line or line[0] == "#":
            continue
        numbers, name, rest = line.split('"')
        index, red, green, blue, opacity, shown, mesh = numbers.split()
        assert not rest.strip()
        assert 0 <= float(opacity) <= 1
        labels[int(index)] = ((int(red), int(green), int(blue)), float(opacity), int(shown), int(mesh), name)
    return labels


def as_slicer_reads(path):
    """Index → (name, rgba 0…255), by "Color table file format (.txt, .ctbl)" of Slicer's developer guide."""
    lines = path.read_text(encoding="ascii").splitlines()
    assert lines[0].startswith("# Color table file ")
    colors = {}
    for line in lines:
        if line and not line.startswith("#"):
            index, name, *rgba = line.split()
            assert len(rgba) == 4
            colors[int(index)] = (name.replace("_", " "), tuple(int(value) for value in rgba))
    assert lines[1] == f"# {len(colors)} values"
    return colors


ALL = TissueTable((*KNOWN, Tissue(900, 'the "ACL"'), Tissue(65535, "disc L4-5 of   mine", color="#010203")))


def test_itk_snap_finds_every_name_and_colour(tmp_path):
    path = tmp_path / "labels.label.txt"
    write_itksnap_labels(path, ALL)
    labels = as_itk_snap_reads(path)
    assert labels.pop(0) == ((0, 0, 0), 0, 0, 0, "Clear Label")
    assert labels.pop(900)[4] == "the 'ACL'"
    expected = {t.index: (t.rgb, 1, 1, 1, t.name) for t in ALL if t.index != 900}
    assert labels == expected
    assert len(expected) > 100


def test_slicer_finds_every_name_and_colour(tmp_path):
    path = tmp_path / "labels.ctbl"
    write_slicer_colors(path, ALL)
    colors = as_slicer_reads(path)
    assert colors.pop(0) == ("background", (0, 0, 0, 0))
    assert colors == {t.index: (" ".join(t.name.split()), (*t.rgb, 255)) for t in ALL}


def test_json_keeps_order_and_refuses_what_is_not_a_number(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"b": [1, 0.5], "a": "mm³"})
    assert path.read_text(encoding="utf-8").index('"b"') < path.read_text(encoding="utf-8").index('"a"')
    assert read_json(path) == {"b": [1, 0.5], "a": "mm³"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"b": [1, 0.5], "a": "mm³"}
