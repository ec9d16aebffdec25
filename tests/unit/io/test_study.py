"""The table of failures: every kind of input ends as it says, and no volume is silently wrong."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from msksam_cli.errors import InputError, SeriesError
from msksam_cli.io import memory
from msksam_cli.io.study import input_sha256, read_series, scan_study


def only_volume(folder):
    scan = scan_study(folder)
    assert [str(refusal) for refusal in scan.refused] == []
    (series,) = scan.series
    return read_series(series)[0]


def only_refusal(folder):
    scan = scan_study(folder)
    assert scan.series == ()
    (refusal,) = scan.refused
    assert {record.state for record in scan.files} == {"refused"}
    return refusal.reason


def reasons(scan, state):
    return sorted(record.reason for record in scan.files if record.state == state)


def test_a_plain_series_lies_where_its_positions_say_whatever_the_thickness_tags_say(synthetic, tmp_path):
    series = synthetic()
    volume = only_volume(series.write(tmp_path))
    series.assert_equals(volume)
    np.testing.assert_allclose(volume.grid.spacing_mm, (0.7, 0.5, 3.0), rtol=1e-5)


def test_shuffled_names_and_instance_numbers_change_nothing(synthetic, tmp_path):
    series, order = synthetic(), [4, 0, 5, 2, 1, 3]

    def renumber(ds, index):
        ds.InstanceNumber = 100 - 7 * order[index]
        ds.SliceLocation = float(order[index])

    series.assert_equals(only_volume(series.write(tmp_path, renumber, name=lambda index: f"f{order[index]}")))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_every_native_encoding_is_exact(synthetic, tmp_path, syntax):
    series = synthetic(syntax=syntax)
    series.assert_equals(only_volume(series.write(tmp_path)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_every_lossless_compression_is_exact(synthetic, tmp_path, syntax):
    series = synthetic(rows=40, columns=32)
    series.voxels = series.voxels.astype(np.uint16)
    series.write(tmp_path, lambda ds, _: ds.compress(syntax, generate_instance_uid=False))
    series.assert_equals(only_volume(tmp_path))


@pytest.mark.parametrize(
    ("dtype", "offset", "tags"),
    [
        (np.uint16, 60000, {}),
        (np.int16, -3000, {}),
        (np.uint16, 0, {"BitsStored": 12, "HighBit": 11}),
        (np.int16, -800, {"BitsStored": 12, "HighBit": 11}),
        (np.int32, -70000, {}),
        (np.uint8, None, {}),
    ],
    ids=["above 32767", "negative", "12 bit", "12 bit signed", "32 bit", "8 bit"],
)
def test_integer_values_are_exact(synthetic, tmp_path, dtype, offset, tags):
    series = synthetic(tags=tags)
    values = series.voxels.astype(np.int64)
    series.voxels = (values % 251 if offset is None else values % 2047 + offset).astype(dtype)
    series.assert_equals(only_volume(series.write(tmp_path)))


def test_each_slice_gets_its_own_slope(synthetic, tmp_path):
    series = synthetic()

    def rescale(ds, index):
        ds.RescaleSlope, ds.RescaleIntercept = f"{1 + 0.25 * index}", "-10"

    slopes = 1 + 0.25 * np.arange(series.slices)[:, None, None]
    series.assert_equals(only_volume(series.write(tmp_path, rescale)), series.voxels * slopes - 10)


def test_an_enhanced_multi_frame_object_gives_the_same_volume(synthetic, save_dicom, tmp_path):
    series = synthetic()
    save_dicom(series.enhanced(), tmp_path / "mf")
    series.assert_equals(only_volume(tmp_path))


def test_enhanced_frames_in_reverse_order_give_the_same_volume(synthetic, save_dicom, tmp_path):
    series = synthetic()
    ds = series.enhanced()
    ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[::-1]
    ds.PixelData = series.voxels[::-1].astype("<i2").tobytes()
    save_dicom(ds, tmp_path / "mf")
    series.assert_equals(only_volume(tmp_path))


def test_monochrome1_keeps_values_as_stored(synthetic, tmp_path):
    series = synthetic(tags={"PhotometricInterpretation": "MONOCHROME1"})
    series.assert_equals(only_volume(series.write(tmp_path)))


def test_a_missing_slice_is_named_with_its_gap(synthetic, tmp_path):
    reason = only_refusal(synthetic().write(tmp_path, indices=[0, 1, 2, 4, 5]))
    assert reason == "gap of 6.00 mm between slices 3 and 4, elsewhere 3.00 mm"


@pytest.mark.parametrize(("shift_mm", "accepted"), [(0.1, True), (0.6, False)])
def test_spacing_may_vary_by_five_percent(synthetic, tmp_path, shift_mm, accepted):
    series = synthetic()

    def shift(ds, index):
        if index == 3:
            ds.ImagePositionPatient = [f"{x:.6f}" for x in series.position_mm(index + shift_mm / 3)]

    scan = scan_study(series.write(tmp_path, shift))
    assert bool(scan.series) == accepted
    if not accepted:
        assert "spacing of 3.60 mm between slices 3 and 4, elsewhere 3.00 mm" in scan.refused[0].reason


def test_a_second_slice_at_one_position_refuses_the_series(synthetic, save_dicom, tmp_path):
    series = synthetic()
    save_dicom(series.dataset(3), series.write(tmp_path) / "again")
    assert "1 of 7 slices repeat another's position" in only_refusal(tmp_path)


def test_a_sheared_stack_is_refused(synthetic, tmp_path):
    series = synthetic()

    def shear(ds, index):
        position = series.position_mm(index) + series.directions[:, 1] * 0.5 * index
        ds.ImagePositionPatient = [f"{x:.6f}" for x in position]

    assert only_refusal(series.write(tmp_path, shear)) == "stack is sheared: slices are stacked 9.5° off their normal"


def test_a_slice_shifted_sideways_is_refused(synthetic, tmp_path):
    series = synthetic()

    def shift(ds, index):
        if index == 2:
            position = series.position_mm(index) + series.directions[:, 0] * 0.4
            ds.ImagePositionPatient = [f"{x:.6f}" for x in position]

    assert only_refusal(series.write(tmp_path, shift)) == "slice 3 is shifted 0.40 mm sideways in its stack"


def test_another_matrix_inside_a_series_refuses_it(synthetic, tmp_path):
    def shrink(ds, index):
        if index == 5:
            ds.Rows, ds.Columns, ds.PixelData = 4, 4, bytes(32)

    assert "1 slice of 4 × 4 pixels" in only_refusal(synthetic().write(tmp_path, shrink))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda ds: delattr(ds, "ImageOrientationPatient"), "image orientation is missing or not six numbers"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [0] * 6), "not two perpendicular unit vectors"),
        (lambda ds: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "not two perpendicular unit vectors"),
        (lambda ds: delattr(ds, "ImagePositionPatient"), "image position is missing or not three numbers"),
        (lambda ds: delattr(ds, "PixelSpacing"), "pixel spacing is missing or not two numbers"),
        (lambda ds: setattr(ds, "PixelSpacing", [0, 0.7]), "pixel spacing is 0 × 0.7 mm"),
        (lambda ds: setattr(ds, "PixelSpacing", [-0.5, 0.7]), "pixel spacing is -0.5 × 0.7 mm"),
        (lambda ds: setattr(ds, "RescaleSlope", 0), "rescale slope or intercept"),
        (lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic"),
        (lambda ds: (setattr(ds, "Rows", 65535), setattr(ds, "Columns", 65535)), "65535 × 65535 pixels need 8589"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-20]), "cut short: 10 × 8 pixels need 160 bytes"),
        (lambda ds: setattr(ds, "Columns", 7), "does not fit its header: 10 × 7 pixels need 140 bytes"),
        (lambda ds: setattr(ds, "HighBit", 14), "high bit 14"),
        (lambda ds: delattr(ds, "PixelData"), "no pixel data"),
        (lambda ds: setattr(ds, "Rows", 0), "0 rows and 8 columns"),
        (lambda ds: delattr(ds, "PixelRepresentation"), "pixel representation is missing"),
        (lambda ds: setattr(ds, "ModalityLUTSequence", [Dataset()]), "modality look-up table"),
    ],
)
def test_a_defect_in_one_image_refuses_its_series_at_the_scan(synthetic, tmp_path, edit, reason):
    folder = synthetic().write(tmp_path, lambda ds, index: edit(ds) if index == 2 else None)
    found = only_refusal(folder)
    assert reason in found
    assert "(in 1 of 6 images)" in found


def test_a_position_that_is_not_a_number_refuses_the_series(synthetic, tmp_path):
    path = synthetic().write(tmp_path) / "IM002"
    content = bytearray(path.read_bytes())
    start = content.find(b"\x20\x00\x32\x00DS")
    length = struct.unpack("<H", content[start + 6 : start + 8])[0]
    content[start + 8 : start + 8 + length] = b"nan\\nan\\nan".ljust(length)
    path.write_bytes(content)
    assert "image position is missing or not three numbers (in 1 of 6 images)" in only_refusal(tmp_path)


def test_a_compressed_image_of_another_size_than_its_header_says_is_refused(synthetic, tmp_path):
    def swap(ds, index):
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        if index == 3:
            ds.Rows, ds.Columns = 40, 32

    series = synthetic(rows=32, columns=40)
    series.voxels = series.voxels.astype(np.uint16)
    for index in (0, 1, 2, 4, 5):
        series.write(tmp_path, lambda ds, _: swap(ds, 3), indices=[index])
    series.write(tmp_path, swap, indices=[3])
    (found,) = scan_study(tmp_path).series
    with pytest.raises(SeriesError, match="cannot be decoded"):
        read_series(found)


def test_a_copy_is_skipped_and_another_content_under_one_uid_refuses(synthetic, save_dicom, tmp_path):
    folder = synthetic().write(tmp_path / "a")
    shutil.copy(folder / "IM003", folder / "copy")
    scan = scan_study(folder)
    assert len(scan.series) == 1
    assert reasons(scan, "skipped") == ["copy of another file"]
    content = bytearray((folder / "copy").read_bytes())
    content[-1] ^= 1
    (folder / "copy").write_bytes(content)
    assert "files of different content carry one SOP instance UID" in only_refusal(folder)


def test_a_localizer_and_objects_without_images_are_set_aside_with_a_reason(synthetic, save_dicom, tmp_path):
    series = synthetic()
    folder = series.write(tmp_path)
    turned = series.dataset(0)
    turned.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    save_dicom(turned, folder / "turned")
    scout = series.dataset(1)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save_dicom(scout, folder / "scout")
    report = series.dataset(0)
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    del report.PixelData
    save_dicom(report, folder / "report")
    tomography = series.dataset(0)
    tomography.SOPClassUID, tomography.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"
    save_dicom(tomography, folder / "ct")
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.dcm").write_bytes(b"")
    series.assert_equals(only_volume(folder))
    assert reasons(scan_study(folder), "skipped") == [
        "another orientation than its series, 1 slice",
        "empty file",
        "localizer",
        "modality CT is not MR",
        "neither DICOM nor NIfTI",
        "no image: Basic Text SR Storage",
    ]


def test_fewer_than_four_slices_are_skipped_unless_asked_for(synthetic, tmp_path):
    folder = synthetic().write(tmp_path, indices=[0, 1, 2])
    assert reasons(scan_study(folder), "skipped") == ["fewer than 4 slices: 3"] * 3
    assert len(scan_study(folder, min_slices=3).series) == 1


def test_files_without_a_preamble_are_skipped_and_the_hint_says_so(synthetic, tmp_path):
    folder = synthetic().write(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    scan = scan_study(folder)
    assert scan.series == ()
    assert scan.count("skipped") == 6
    assert "missing preamble" in scan.hint


def test_deflated_files_are_refused_before_they_are_parsed(synthetic, save_dicom, tmp_path):
    ds = synthetic().dataset(0)
    path = save_dicom(ds, tmp_path / "a")
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20])
    assert b"1.2.840.10008.1.2.1." in content
    start = content.find(b"\x02\x00\x10\x00UI")
    longer = content[:start] + b"\x02\x00\x10\x00UI\x16\x00" + b"1.2.840.10008.1.2.1.99"
    path.write_bytes(longer + b"\xff" * 1000)
    assert only_refusal(tmp_path) == "deflated transfer syntax"


def test_equal_numbers_and_descriptions_of_two_patients_give_two_volumes(synthetic, tmp_path):
    first, second = synthetic(), synthetic(series_uid="1.2.826.0.1.3680043.8.498.2", tags={"PatientID": "P2"})
    second.voxels = second.voxels[::-1]
    first.write(tmp_path / "a")
    second.write(tmp_path / "b")
    scan = scan_study(tmp_path)
    assert len({series.case for series in scan.series}) == 2
    by_folder = {series.files[0].parent.name: read_series(series)[0] for series in scan.series}
    first.assert_equals(by_folder["a"])
    second.assert_equals(by_folder["b"])


def test_two_patients_under_one_series_uid_are_never_mixed(synthetic, tmp_path):
    synthetic().write(tmp_path / "a")
    synthetic(tags={"PatientID": "P2"}).write(tmp_path / "b")
    scan = scan_study(tmp_path)
    assert len({series.case for series in scan.series}) == 2
    assert all(len({path.parent for path in series.files}) == 1 for series in scan.series)


def test_echoes_in_any_order_become_one_volume_each(synthetic, tmp_path):
    series = synthetic()
    for echo, factor in ((2, 3), (0, 1), (1, 2)):
        late = synthetic(tags={"EchoTime": 10.0 * (echo + 1)})
        late.voxels = (series.voxels // factor).astype(np.int16)
        late.write(tmp_path, name=lambda index, echo=echo: f"{index}-{echo}")
    scan = scan_study(tmp_path)
    base = scan.series[0].echo_group
    assert [one.case for one in scan.series] == [f"{base}-echo-{number}" for number in (1, 2, 3)]
    assert [one.echo_time_ms for one in scan.series] == [10, 20, 30]
    for one, factor in zip(scan.series, (1, 2, 3), strict=True):
        series.assert_equals(read_series(one)[0], series.voxels // factor)


def test_repeated_volumes_are_told_apart_by_temporal_position(synthetic, tmp_path):
    for time in (1, 2):
        moment = synthetic(tags={"TemporalPositionIdentifier": time})
        moment.voxels = (moment.voxels + time).astype(np.int16)
        moment.write(tmp_path, name=lambda index, time=time: f"{index}-{time}")
    scan = scan_study(tmp_path)
    assert [series.case.split("-", 3)[3] for series in scan.series] == ["part-1", "part-2"]
    for time, series in zip((1, 2), scan.series, strict=True):
        synthetic().assert_equals(read_series(series)[0], synthetic().voxels + time)


def test_magnitude_and_phase_are_two_volumes(synthetic, tmp_path):
    synthetic().write(tmp_path)
    synthetic(tags={"ImageType": ["ORIGINAL", "PRIMARY", "P"]}).write(tmp_path, name="P{}".format)
    scan = scan_study(tmp_path)
    assert len(scan.series) == 2
    assert all(len(series.files) == 6 for series in scan.series)


def test_orientations_equal_within_the_tolerance_make_one_volume(synthetic, tmp_path):
    def tilt(ds, index):
        ds.ImageOrientationPatient = [float(x) + 2e-4 * (index % 2) for x in ds.ImageOrientationPatient]

    series = synthetic()
    series.assert_equals(only_volume(series.write(tmp_path, tilt)))


def test_links_are_not_followed_and_loops_are_harmless(synthetic, tmp_path):
    series = synthetic()
    folder = series.write(tmp_path / "study")
    outside = series.write(tmp_path / "outside")
    os.symlink(folder, folder / "loop")
    os.symlink(outside, folder / "elsewhere")
    os.symlink(outside / "IM000", folder / "linked")
    os.symlink(folder / "gone", folder / "broken")
    os.mkfifo(folder / "pipe")
    series.assert_equals(only_volume(folder))
    assert reasons(scan_study(folder), "skipped") == ["not a regular file"] + ["symbolic link, not followed"] * 4


def test_every_file_ends_in_exactly_one_state(synthetic, tmp_path):
    series = synthetic()
    series.write(tmp_path / "ok")
    synthetic(series_uid="1.2.3").write(tmp_path / "gap", indices=[0, 1, 3, 4])
    (tmp_path / "junk").write_bytes(os.urandom(500))
    scan = scan_study(tmp_path)
    assert sorted(record.path for record in scan.files) == sorted(
        path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert [scan.count(state) for state in ("used", "refused", "skipped")] == [6, 4, 1]


def test_output_of_an_earlier_run_inside_the_study_is_no_input(synthetic, tmp_path):
    series = synthetic()
    series.write(tmp_path)
    series.write(tmp_path / "msksam-out" / "images")
    series.assert_equals(only_volume(tmp_path))


def test_laterality_and_body_part_reach_the_volume_only_from_the_closed_list(synthetic, tmp_path):
    known = synthetic(tags={"Laterality": "R", "BodyPartExamined": "KNEE"})
    volume = only_volume(known.write(tmp_path / "known"))
    assert (volume.side, volume.body_part) == ("right", "knee")
    unknown = synthetic(tags={"Laterality": "", "BodyPartExamined": "DOE JANE"})
    volume = only_volume(unknown.write(tmp_path / "unknown"))
    assert (volume.side, volume.body_part) == ("", "")


def test_the_input_hash_follows_the_pixels_and_not_the_file_names(synthetic, tmp_path):
    generator = synthetic()
    folder = generator.write(tmp_path / "a")
    (before,) = scan_study(folder).series
    copied = tmp_path / "b"
    copied.mkdir()
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(path, copied / f"{number}")
    (renamed,) = scan_study(copied).series
    assert input_sha256(renamed) == input_sha256(before)
    path = copied / "3"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert input_sha256(renamed) != input_sha256(before)


def test_a_file_that_changes_after_the_scan_is_noticed(synthetic, tmp_path):
    folder = synthetic().write(tmp_path)
    (series,) = scan_study(folder).series
    (folder / "IM000").rename(folder / "spare")
    (folder / "IM005").rename(folder / "IM000")
    (folder / "spare").rename(folder / "IM005")
    with pytest.raises(SeriesError, match="files changed while they were read"):
        read_series(series)
    (folder / "IM001").unlink()
    with pytest.raises(SeriesError, match="FileNotFoundError"):
        read_series(series)


def test_unsupported_transfer_syntaxes_are_refused_by_name(synthetic, save_dicom, tmp_path):
    def relabel(ds, _):
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

    assert "MPEG2" in only_refusal(synthetic().write(tmp_path, relabel))


def test_a_study_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such study"):
        scan_study(tmp_path / "nowhere")


def test_a_single_dicom_file_is_a_study(synthetic, save_dicom, tmp_path):
    series = synthetic()
    path = save_dicom(series.enhanced(), tmp_path / "mf")
    save_dicom(synthetic(series_uid=generate_uid()).dataset(0), tmp_path / "beside")
    series.assert_equals(only_volume(path))


@pytest.mark.parametrize(
    ("written", "claimed"),
    [(ImplicitVRLittleEndian, "1.2.840.10008.1.2.1"), (ExplicitVRLittleEndian, "1.2.840.10008.1.2"), (None, "")],
    ids=["implicit called explicit", "explicit called implicit", "transfer syntax left out"],
)
def test_uncompressed_files_with_a_wrong_or_missing_transfer_syntax_are_still_exact(
    synthetic, tmp_path, written, claimed
):
    series = synthetic(syntax=written or ExplicitVRLittleEndian)
    for path in series.write(tmp_path).iterdir():
        relabel(path, claimed)
    series.assert_equals(only_volume(tmp_path))


@pytest.mark.parametrize("compress", [True, False])
def test_compression_that_the_transfer_syntax_denies_is_refused(synthetic, tmp_path, compress):
    def edit(ds, _):
        if compress:
            ds.compress(RLELossless, generate_instance_uid=False)

    series = synthetic()
    series.voxels = series.voxels.astype(np.uint16)
    for path in series.write(tmp_path, edit).iterdir():
        relabel(path, "1.2.840.10008.1.2.1" if compress else "1.2.840.10008.1.2.5")
    assert "transfer syntax and pixel data disagree about compression" in only_refusal(tmp_path)


def relabel(path, syntax):
    """Write another transfer syntax into a file's meta group, or none."""
    content = path.read_bytes()
    start = content.find(b"\x02\x00\x10\x00UI")
    old = 8 + int.from_bytes(content[start + 6 : start + 8], "little")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value if syntax else b""
    content = content[:start] + element + content[start + old :]
    group = content.find(b"\x02\x00\x00\x00UL") + 8
    length = int.from_bytes(content[group : group + 4], "little") - old + len(element)
    path.write_bytes(content[:group] + length.to_bytes(4, "little") + content[group + 4 :])


def test_slices_may_differ_in_sign_and_compression(synthetic, tmp_path):
    def vary(ds, index):
        if index % 3 == 1:
            ds.compress(RLELossless, generate_instance_uid=False)
        elif index % 3 == 2:
            ds.PixelRepresentation = 1

    series = synthetic()
    series.voxels = series.voxels.astype(np.uint16)
    series.assert_equals(only_volume(series.write(tmp_path, vary)))


def test_zero_padding_after_the_pixels_is_no_wrong_matrix(synthetic, tmp_path):
    series = synthetic()
    series.assert_equals(
        only_volume(series.write(tmp_path, lambda ds, _: setattr(ds, "PixelData", ds.PixelData + bytes(16))))
    )


@pytest.mark.parametrize("turn", ["axial", "coronal", "mirrored"])
@pytest.mark.parametrize("slice_spacing_mm", [3.0, -3.0])
def test_every_plane_and_direction_of_stacking_is_exact(synthetic, tmp_path, turn, slice_spacing_mm):
    directions = {
        "axial": np.eye(3),
        "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        "mirrored": np.diag([-1.0, -1.0, 1.0]),
    }[turn]
    series = synthetic(directions=directions, slice_spacing_mm=slice_spacing_mm)
    volume = only_volume(series.write(tmp_path))
    series.assert_equals(volume)
    np.testing.assert_allclose(volume.grid.affine, scan_study(tmp_path).series[0].grid.affine, atol=1e-6)


def test_echoes_and_times_inside_one_multi_frame_object_become_volumes(synthetic, save_dicom, tmp_path):
    series = synthetic()
    ds = series.enhanced()
    frames = []
    for frame in ds.PerFrameFunctionalGroupsSequence:
        for echo in (2, 1):
            copied, timing = copy.deepcopy(frame), Dataset()
            timing.EffectiveEchoTime = 10.0 * echo
            copied.MREchoSequence = [timing]
            frames.append(copied)
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = frames, len(frames)
    ds.PixelData = np.stack([series.voxels + 2, series.voxels + 1], 1).astype("<i2").tobytes()
    save_dicom(ds, tmp_path / "mf")
    scan = scan_study(tmp_path)
    assert [one.echo_time_ms for one in scan.series] == [10, 20]
    for echo, one in enumerate(scan.series, start=1):
        series.assert_equals(read_series(one)[0], series.voxels + echo)


def test_a_multi_frame_object_split_over_files_is_one_volume(synthetic, save_dicom, tmp_path):
    series = synthetic()
    for name, part in (("b", slice(0, 2)), ("a", slice(2, 6))):
        ds = series.enhanced()
        ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[part]
        ds.NumberOfFrames = len(ds.PerFrameFunctionalGroupsSequence)
        ds.PixelData = series.voxels[part].astype("<i2").tobytes()
        save_dicom(ds, tmp_path / name)
    series.assert_equals(only_volume(tmp_path))


def test_frames_without_a_position_of_their_own_are_refused(synthetic, tmp_path):
    def stack(ds, _):
        ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData * 2

    assert "2 frames without a position of their own" in only_refusal(synthetic().write(tmp_path, stack))


def test_another_program_reads_the_same_volume(synthetic, tmp_path):
    """SimpleITK's series reader, given the files in order: an independent reading of the same tags."""
    series = synthetic()
    volume = only_volume(series.write(tmp_path))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(tmp_path / f"IM{index:03d}") for index in range(series.slices)])
    image = reader.Execute()
    indices = list(itertools.product((0, 7), (0, 4, 9), (0, 2, 5)))
    for index in indices:
        lps = np.array(image.TransformContinuousIndexToPhysicalPoint([float(n) for n in index]))
        voxel = volume.grid.to_voxel(lps * (-1, -1, 1))
        np.testing.assert_allclose(voxel, np.rint(voxel), atol=1e-3)
        assert volume.intensities[tuple(np.rint(voxel).astype(int))] == image.GetPixel(index)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), numbers=st.permutations(range(1, 6)))
def test_any_shuffling_of_files_gives_the_same_volume(synthetic, order, numbers):
    series = synthetic(slices=5, rows=6, columns=7)

    def renumber(ds, index):
        ds.InstanceNumber = numbers[index]

    with tempfile.TemporaryDirectory() as folder:
        series.write(Path(folder), renumber, name=lambda index: f"{order[index]}.dcm")
        series.assert_equals(only_volume(Path(folder)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_file_names_that_are_not_unicode_are_read(synthetic, tmp_path):
    series = synthetic()
    series.assert_equals(only_volume(series.write(tmp_path / os.fsdecode(b"\xff\xfe dir"), name="\udce9\n{}".format)))


def test_a_series_beyond_the_memory_is_refused_at_the_scan(synthetic, monkeypatch, tmp_path):
    synthetic().write(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert "8 × 10 × 6 voxels need 0.0 GiB to be read" in only_refusal(tmp_path)
