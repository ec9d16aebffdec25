"""NIfTI in and out: every refusal has its reason, and what is written lies bit for bit on what was read."""

from __future__ import annotations

import gzip
import itertools

import nibabel
import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import GridMismatchError, InputError, SeriesError
from msksam_cli.io.nifti import (
    form_from_grid,
    read_label_map,
    read_labels,
    read_volume,
    write_label_map,
    write_volume,
)
from msksam_cli.io.nifti_header import UNKNOWN_ORIENTATION
from msksam_cli.io.study import read_series, scan_study

SHAPE = (7, 6, 5)
AFFINE = np.array([[-0.5, 0.02, 0.3, 20.0], [0.03, 0.7, -0.1, -15.0], [0.05, 0.014, 2.98, 40.0], [0, 0, 0, 1]])
_rotation, _ = np.linalg.qr(AFFINE[:3, :3])
AFFINE[:3, :3] = _rotation * (0.5, 0.7, 3.0)
VALUES = np.random.default_rng(3).integers(-300, 3000, SHAPE).astype(np.int16)
GEOMETRY = (
    "srow_x",
    "srow_y",
    "srow_z",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "sform_code",
    "qform_code",
    "xyzt_units",
)


def save(path, values=VALUES, *, affine=AFFINE, sform=1, qform=1, kind=nibabel.Nifti1Image, units="mm", edit=None):
    image = kind(values, None)
    image.header.set_sform(affine, code=sform)
    image.header.set_qform(affine, code=qform)
    image.header.set_xyzt_units(units)
    if edit:
        edit(image.header)
    image.to_filename(path)
    return path


def header_of(path):
    return nibabel.load(path).header


def test_intensities_and_affine_come_back(tmp_path):
    volume, _ = read_volume(save(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(volume.intensities, VALUES)
    np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-5)


def test_slope_and_intercept_are_applied(tmp_path):
    path = save(tmp_path / "a.nii", edit=lambda header: header.set_slope_inter(0.5, -3))
    stored = read_volume(path)[0].intensities
    np.testing.assert_allclose(stored, nibabel.load(path).get_fdata(), rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_and_byte_order_is_read(tmp_path, dtype, order):
    values = np.abs(VALUES % 200).astype(np.dtype(dtype).newbyteorder(order))
    header = nibabel.Nifti1Header(endianness=order)
    image = nibabel.Nifti1Image(values, AFFINE, header, dtype=values.dtype)
    image.to_filename(tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii")[0].intensities, values.astype(np.float32))


def test_trailing_dimensions_of_one_are_squeezed(tmp_path):
    path = save(tmp_path / "a.nii.gz", VALUES.reshape(*SHAPE, 1, 1))
    np.testing.assert_array_equal(read_volume(path)[0].intensities, VALUES)


@pytest.mark.parametrize(
    ("shape", "message"), [((*SHAPE, 2), r"4 dimensions \(7 × 6 × 5 × 2\), not 3"), ((7, 6), "2 dimensions")]
)
def test_what_is_not_three_dimensional_is_refused(tmp_path, shape, message):
    with pytest.raises(SeriesError, match=message):
        read_volume(save(tmp_path / "a.nii", np.zeros(shape, np.int16)))


def test_sform_and_qform_that_differ_are_refused_unless_one_is_chosen(tmp_path):
    def shift(header):
        header["qoffset_x"] += 0.2

    path = save(tmp_path / "a.nii.gz", edit=shift)
    with pytest.raises(SeriesError, match=r"sform and qform place the corners 0\.\d+ voxels apart.*--use-sform"):
        read_volume(path)
    by_sform, by_qform = (read_volume(path, form)[0].grid.affine for form in ("sform", "qform"))
    np.testing.assert_allclose(by_sform, AFFINE, atol=1e-5)
    assert by_qform[0, 3] - by_sform[0, 3] == pytest.approx(0.2, abs=1e-5)


def test_a_qform_that_is_the_sform_rounded_to_single_precision_is_no_disagreement(tmp_path):
    cosine, sine = np.cos(np.pi - 7e-4), np.sin(np.pi - 7e-4)
    near_half_turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ _skewed_axis()
    affine = np.eye(4)
    affine[:3, :3] = near_half_turn * (0.35, 0.35, 0.7)
    path = save(tmp_path / "a.nii.gz", np.zeros((512, 512, 4), np.uint8), affine=affine)
    header = header_of(path)
    grids = [Grid((512, 512, 4), form) for form in (header.get_sform(), header.get_qform())]
    assert grids[0].corner_offset_voxels(grids[1]) > 0.1
    np.testing.assert_allclose(read_volume(path)[0].grid.affine, affine, atol=1e-6)


def _skewed_axis():
    angle = np.radians(4)
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def test_a_file_with_no_form_is_read_with_a_note(tmp_path):
    path = save(tmp_path / "a.nii.gz", sform=0, qform=0)
    _, form = read_volume(path)
    assert form.notes == (UNKNOWN_ORIENTATION,)
    assert scan_study(path).series[0].notes == (UNKNOWN_ORIENTATION,)


def test_a_sheared_affine_is_refused(tmp_path):
    sheared = AFFINE.copy()
    sheared[:3, 1] += 0.1 * AFFINE[:3, 0]
    with pytest.raises(SeriesError, match=r"affine is sheared: two axes meet at 8[0-9.]+°"):
        read_volume(save(tmp_path / "a.nii", affine=sheared, qform=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused_with_their_number(tmp_path, bad):
    values = VALUES.astype(np.float32)
    values[1, 2, 3] = values[0, 0, 0] = bad
    with pytest.raises(SeriesError, match="2 voxels are not finite"):
        read_volume(save(tmp_path / "a.nii.gz", values))


def test_complex_and_colour_voxels_are_refused(tmp_path):
    with pytest.raises(SeriesError, match="complex64 are no intensities"):
        read_volume(save(tmp_path / "a.nii", VALUES.astype(np.complex64)))
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(SeriesError, match="are no intensities"):
        read_volume(save(tmp_path / "b.nii", colour))


def test_a_bad_checksum_at_the_end_is_noticed(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SeriesError, match="compressed data is damaged"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, name, keep):
    path = save(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SeriesError, match=r"cut short|damaged"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_declared_size_beyond_the_file_is_refused_before_it_is_allocated(tmp_path, name):
    path = save(tmp_path / name, np.zeros(SHAPE, np.uint8))
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "rb") as stream:
        content = bytearray(stream.read())
    content[42:48] = np.array([3000, 3000, 300], "<i2").tobytes()
    with opener(path, "wb") as stream:
        stream.write(content)
    assert scan_study(path).refused[0].reason.startswith("file is cut short: 2700000")


def test_labels_get_the_very_header_fields_of_their_image(tmp_path):
    for kind, units in itertools.product((nibabel.Nifti1Image, nibabel.Nifti2Image), ("mm", "micron")):
        image = save(tmp_path / "image.nii.gz", kind=kind, sform=2, qform=1, units=units)
        volume, form = read_volume(image)
        labels = LabelMap((VALUES > 0).astype(np.uint8), volume.grid, TissueTable((Tissue(1, "bone"),)))
        write_label_map(tmp_path / "labels.nii.gz", labels, form)
        before, after = header_of(image), header_of(tmp_path / "labels.nii.gz")
        assert type(before) is type(after)
        for name in GEOMETRY:
            assert before[name].tobytes() == after[name].tobytes(), name
        assert before["pixdim"][:4].tobytes() == after["pixdim"][:4].tobytes()
        np.testing.assert_array_equal(nibabel.load(image).affine, nibabel.load(tmp_path / "labels.nii.gz").affine)


@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_labels_lie_on_their_image_in_all_48_orientations(tmp_path, axes, flips):
    affine = np.eye(4)
    affine[:3, :3] = AFFINE[:3, :3][:, axes] * flips
    image = save(tmp_path / "image.nii.gz", affine=affine)
    volume, form = read_volume(image)
    write_label_map(tmp_path / "l.nii.gz", LabelMap((VALUES % 5).astype(np.uint8), volume.grid, _five()), form)
    labels, again = read_labels(tmp_path / "l.nii.gz", _five())
    np.testing.assert_array_equal(labels.values, VALUES % 5)
    np.testing.assert_array_equal(labels.grid.affine, volume.grid.affine)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "l.nii.gz").affine, nibabel.load(image).affine)
    assert int(again.fields["sform_code"]) == int(form.fields["sform_code"])


def _five():
    return TissueTable(tuple(Tissue(index, f"t{index}") for index in range(1, 6)))


@pytest.mark.parametrize("change", ["flip", "shift", "shape", "field"])
def test_nothing_is_written_whose_form_places_it_elsewhere_than_its_grid(tmp_path, change, monkeypatch):
    grid = Grid(SHAPE, AFFINE)
    affine, form = AFFINE.copy(), form_from_grid(grid)
    if change == "flip":
        affine[:3, :2] = affine[:3, 1::-1]
        form = form_from_grid(Grid(SHAPE, affine))
    elif change == "shift":
        affine[0, 3] += 0.01
        form = form_from_grid(Grid(SHAPE, affine))
    elif change == "shape":
        grid = Grid((7, 6, 5), AFFINE)
        monkeypatch.setattr("nibabel.Nifti1Header.set_data_shape", lambda header, shape: header["dim"].__setitem__(
            slice(0, 4), (3, 6, 7, 5)))  # fmt: skip
    else:
        pack = nibabel.Nifti1Header.set_slope_inter
        monkeypatch.setattr("nibabel.Nifti1Header.set_slope_inter", lambda header, *scale: (
            pack(header, *scale), header.__setitem__("sform_code", 3)))  # fmt: skip
    labels = LabelMap(np.zeros(SHAPE, np.uint8), grid, TissueTable((Tissue(1, "a"),)))
    with pytest.raises(GridMismatchError, match="does not lie on its image's grid"):
        write_label_map(tmp_path / "a.nii.gz", labels, form)
    assert list(tmp_path.iterdir()) == []


def test_equal_labels_give_equal_bytes_without_scaling(tmp_path):
    volume, form = read_volume(save(tmp_path / "a.nii.gz"))
    labels = LabelMap((VALUES % 5).astype(np.uint16), volume.grid, _five())
    for name in ("one.nii.gz", "other.nii.gz"):
        write_label_map(tmp_path / name, labels, form)
    content = (tmp_path / "one.nii.gz").read_bytes()
    assert content == (tmp_path / "other.nii.gz").read_bytes()
    assert content[4:8] == bytes(4)
    header = header_of(tmp_path / "one.nii.gz")
    assert header.get_data_dtype() == np.uint16
    assert header.get_slope_inter() in ((1.0, 0.0), (None, None))


def test_float_labels_are_taken_only_when_they_are_integers(tmp_path):
    values = (VALUES % 4).astype(np.float32)
    read = read_label_map(save(tmp_path / "a.nii.gz", values + np.float32(5e-4)))
    np.testing.assert_array_equal(read.values, VALUES % 4)
    assert read.values.dtype == np.uint8
    assert [tissue.name for tissue in read.tissues] == ["label-1", "label-2", "label-3"]
    values[1, 1, 1] = 1.5
    with pytest.raises(SeriesError, match=r"labels are not integers: one is 0\.5 off"):
        read_label_map(save(tmp_path / "b.nii.gz", values))


def test_labels_outside_their_range_or_table_are_refused(tmp_path):
    with pytest.raises(SeriesError, match="labels run from -300 to"):
        read_label_map(save(tmp_path / "a.nii.gz", np.where(VALUES < 0, -300, 1).astype(np.int16)))
    with pytest.raises(InputError, match=r"\[9\] are not in the tissue table"):
        read_label_map(save(tmp_path / "b.nii.gz", np.full(SHAPE, 9, np.uint8)), _five())
    wide = read_label_map(save(tmp_path / "c.nii.gz", np.full(SHAPE, 300, np.int16)))
    assert wide.values.dtype == np.uint16


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (VALUES, np.int16),
        (VALUES % 200, np.uint8),
        (VALUES.astype(np.int32) + 40000, np.uint16),
        (VALUES / 3, np.float32),
        (VALUES.astype(np.int32) * 1000, np.float32),
    ],
)
def test_volumes_are_written_exactly_in_the_smallest_exact_type(tmp_path, values, dtype):
    grid = Grid(SHAPE, AFFINE)
    volume = Volume(values.astype(np.float32), grid)
    write_volume(tmp_path / "a.nii.gz", volume, form_from_grid(grid))
    assert header_of(tmp_path / "a.nii.gz").get_data_dtype() == dtype
    again, form = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.intensities, volume.intensities)
    np.testing.assert_allclose(again.grid.affine, AFFINE, atol=1e-5)
    assert form.notes == ()


def test_separate_header_and_image_files_are_refused_with_a_hint(tmp_path):
    nibabel.Nifti1Pair(VALUES, AFFINE).to_filename(tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    with pytest.raises(SeriesError, match=r"separate files.*Convert the pair"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00junk", b"\0" * 400, b"hello" * 100])
def test_what_is_no_nifti_is_refused(tmp_path, content):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(SeriesError, match=r"not a NIfTI|cut short|damaged"):
        read_volume(path)


def test_cases_are_stems_led_by_folders_where_stems_collide(tmp_path):
    for name in ("p1/knee.nii.gz", "p2/knee.nii", "p2/hip.nii.gz", "p2/HIP/x.nii.gz", "a/b/c.nii.gz", "d/b/c.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / name)
    cases = {series.files[0].relative_to(tmp_path).as_posix(): series.case for series in scan_study(tmp_path).series}
    assert cases == {
        "p1/knee.nii.gz": "p1_knee",
        "p2/knee.nii": "p2_knee",
        "p2/hip.nii.gz": "hip",
        "p2/HIP/x.nii.gz": "x",
        "a/b/c.nii.gz": "a_b_c",
        "d/b/c.nii.gz": "d_b_c",
    }


def test_two_files_that_would_share_a_name_never_do(tmp_path):
    for name in ("knee.nii.gz", "knee.nii", "KNEE.nii.gz"):
        save(tmp_path / name)
    scan = scan_study(tmp_path)
    assert len({series.case.casefold() for series in scan.series}) == 3
    by_file = {series.files[0].name: series.case for series in scan.series}
    assert {record.path.name: record.case for record in scan.files} == by_file


def test_a_nifti_file_never_takes_the_name_of_a_dicom_series(synthetic, tmp_path):
    synthetic().write(tmp_path / "dicom")
    (series,) = scan_study(tmp_path).series
    save(tmp_path / f"{series.case}.nii.gz")
    assert [one.case for one in scan_study(tmp_path).series] == [series.case, f"{series.case}_2"]


def test_a_chosen_form_travels_with_the_series(tmp_path):
    path = save(tmp_path / "a.nii.gz", edit=lambda header: header.__setitem__("qoffset_x", 99.0))
    assert scan_study(path).series == ()
    (series,) = scan_study(path, use_form="qform").series
    assert read_series(series)[0].grid.affine[0, 3] == pytest.approx(99.0)


def test_thin_volumes_are_skipped(tmp_path):
    path = save(tmp_path / "a.nii.gz", VALUES[:, :, :3])
    scan = scan_study(path)
    assert scan.series == ()
    assert scan.files[0].reason == "fewer than 4 slices: 3"


def test_labels_of_a_big_endian_image_lie_on_it(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    image = nibabel.Nifti1Image(VALUES.astype(">i2"), None, header)
    image.header.set_sform(AFFINE, 1)
    image.to_filename(tmp_path / "image.nii")
    assert (tmp_path / "image.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    volume, form = read_volume(tmp_path / "image.nii")
    labels = LabelMap((VALUES % 5).astype(np.uint8), volume.grid, _five())
    write_label_map(tmp_path / "labels.nii", labels, form)
    before, after = header_of(tmp_path / "image.nii"), header_of(tmp_path / "labels.nii")
    for name in GEOMETRY:
        assert before[name] == pytest.approx(after[name], abs=0), name
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "labels.nii").dataobj), VALUES % 5)
