"""Segmentation objects read back by hand, and by another reader, and compared voxel by voxel in the patient."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian

from msksam_cli.core.series import Series
from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import EnvironmentFault, InputError, SeriesError
from msksam_cli.io.dicom_seg import need_highdicom, write_dicom_seg
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.measure.regrid import reordered_labels

highdicom = pytest.importorskip("highdicom", reason="the extra dicomseg is not installed")

NAMES = ("femur", "medial-tibial-cartilage", "left-erector-spinae", "rectus-femoris", "tumour")
STRAIGHT = {
    "sagittal": [[0, 0, -1.0], [1, 0, 0], [0, -1, 0]],
    "sagittal the other way": [[0, 0, 1.0], [1, 0, 0], [0, -1, 0]],
    "axial": [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]],
    "coronal": [[1.0, 0, 0], [0, 0, 1], [0, -1, 0]],
}
TAGS = {"FrameOfReferenceUID": "1.2.3.4", "PatientBirthDate": "19700102", "PatientSex": "O", "StudyID": "S9"}


def some_labels(volume, names=NAMES):
    """Boxes and specks of tissues, different on every slice and unlike their mirror images."""
    tissues = TissueTable(tuple(tissue for name in names if (tissue := TISSUES.by_name(name))))
    values = np.random.default_rng(3).choice([0, 0, 0, *tissues.indices], volume.grid.shape).astype(np.uint16)
    values[0] = 0
    values[:, :, 1] = tissues.indices[0]
    values[:, :, 2] = 0
    return LabelMap(values, volume.grid, tissues)


@pytest.fixture
def written(synthetic, save_dicom, tmp_path):
    """Writes a series and its labels as a segmentation object: (path, labels, series)."""

    def write(enhanced=None, is_automatic=True, **changes):
        made = synthetic(**{"tags": TAGS, **changes})
        if enhanced:
            save_dicom(enhanced(made), tmp_path / "study" / "multi.dcm")
        else:
            made.write(tmp_path / "study", name=lambda index: f"IM{(index * 5) % 7:03d}")
        (series,) = scan_study(tmp_path / "study").series
        labels = some_labels(read_series(series)[0])
        path = tmp_path / "out" / "labels.dcm"
        assert write_dicom_seg(path, labels, series, is_automatic=is_automatic)
        return path, labels, series

    return write


def read_by_hand(path, labels):
    """Label values on the labels' grid from nothing but tags, bits and PS3.3 equation C.7.6.2.1-1."""
    ds = pydicom.dcmread(path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    direction = np.array([float(x) for x in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    row_mm, column_mm = (float(x) for x in shared.PixelMeasuresSequence[0].PixelSpacing)
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), bitorder="little")
    frames = bits[: ds.NumberOfFrames * ds.Rows * ds.Columns].reshape(-1, ds.Rows, ds.Columns)
    values = {s.SegmentNumber: labels.tissues.by_name(s.SegmentLabel).index for s in ds.SegmentSequence}
    found = np.zeros(labels.grid.shape, np.uint16)
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        row, column = np.nonzero(frame)
        origin = np.array([float(x) for x in groups.PlanePositionSequence[0].ImagePositionPatient])
        lps = origin + np.outer(column * column_mm, direction[:3]) + np.outer(row * row_mm, direction[3:])
        place = np.linalg.solve(labels.grid.affine, np.c_[lps * (-1, -1, 1), np.ones(len(lps))].T)[:3].T
        voxel = np.rint(place).astype(int)
        assert np.abs(place - voxel).max(initial=0) < 0.02
        assert not found[tuple(voxel.T)].any()
        found[tuple(voxel.T)] = values[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
    return found


def read_by_highdicom(path, labels):
    """The same from highdicom's own reader, which makes a volume with an affine of the object."""
    seg = highdicom.seg.segread(path)
    volume = seg.get_volume(combine_segments=True, skip_overlap_checks=False)
    values = np.array([0] + [labels.tissues.by_name(s.SegmentLabel).index for s in seg.SegmentSequence])
    index = np.stack(np.meshgrid(*map(np.arange, volume.spatial_shape), indexing="ij"), axis=-1).reshape(-1, 3)
    lps = np.c_[index, np.ones(len(index))] @ volume.affine.T
    ras = lps[:, :3] * (-1, -1, 1)
    place = np.linalg.solve(labels.grid.affine, np.c_[ras, np.ones(len(ras))].T)[:3].T
    voxel = np.rint(place).astype(int)
    assert np.abs(place - voxel).max() < 0.02
    found = np.zeros(labels.grid.shape, np.uint16)
    found[tuple(voxel.T)] = values[volume.array.reshape(-1)]
    return found


def check(path, labels):
    np.testing.assert_array_equal(read_by_hand(path, labels), labels.values)
    np.testing.assert_array_equal(read_by_highdicom(path, labels), labels.values)


@pytest.mark.parametrize("directions", [*STRAIGHT, "oblique"])
def test_every_voxel_lies_where_its_label_lies(directions, written):
    changes = {} if directions == "oblique" else {"directions": np.array(STRAIGHT[directions]).T}
    path, labels, _ = written(**changes)
    check(path, labels)


def test_big_endian_images_make_a_little_endian_object_with_the_same_places(written):
    path, labels, _ = written(syntax=ExplicitVRBigEndian)
    check(path, labels)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_little_endian


def _backwards(series):
    """A multi-frame object whose frames are stored from the last slice to the first."""
    ds = series.enhanced()
    ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[::-1]
    ds.PixelData = series.voxels[::-1].astype("<i2").tobytes()
    return ds


@pytest.mark.parametrize("enhanced", [lambda series: series.enhanced(), _backwards], ids=["in order", "backwards"])
def test_a_multi_frame_file_is_referred_to_by_frame(enhanced, written, tmp_path):
    path, labels, _ = written(enhanced=enhanced)
    check(path, labels)
    places = {}
    for number, groups in enumerate(pydicom.dcmread(tmp_path / "study" / "multi.dcm").PerFrameFunctionalGroupsSequence):
        places[number + 1] = [float(x) for x in groups.PlanePositionSequence[0].ImagePositionPatient]
    for groups in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        place = [float(x) for x in groups.PlanePositionSequence[0].ImagePositionPatient]
        np.testing.assert_allclose(places[source.ReferencedFrameNumber], place, atol=1e-4)


def test_part_of_a_multi_frame_file_is_refused(written, tmp_path):
    _, labels, series = written(enhanced=lambda series: series.enhanced())
    part = dataclasses.replace(series, files=series.files[:4], frames=series.frames[:4])
    with pytest.raises(SeriesError, match="takes 4 frames of a multi-frame file of 6"):
        write_dicom_seg(tmp_path / "part.dcm", labels, part, is_automatic=True)
    assert not (tmp_path / "part.dcm").exists()


def _spacing_by_frame(series):
    """A multi-frame object that says the size of pixels of each frame anew."""
    ds = series.enhanced()
    measures = ds.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence")
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.PixelMeasuresSequence = measures.value
    return ds


def test_what_highdicom_cannot_use_is_refused_without_a_word_of_the_tags(synthetic, save_dicom, tmp_path):
    save_dicom(_spacing_by_frame(synthetic(tags=TAGS)), tmp_path / "study" / "multi.dcm")
    (series,) = scan_study(tmp_path / "study").series
    labels = some_labels(read_series(series)[0])
    with pytest.raises(SeriesError, match=r"lack what a DICOM SEG needs \(AttributeError in highdicom\)") as refused:
        write_dicom_seg(tmp_path / "x.dcm", labels, series, is_automatic=True)
    assert "Nobody" not in str(refused.value)
    assert not (tmp_path / "x.dcm").exists()


def test_each_frame_refers_to_the_image_it_lies_on(written, tmp_path):
    path, _, _ = written()
    images = [pydicom.dcmread(file) for file in (tmp_path / "study").iterdir()]
    place_of = {image.SOPInstanceUID: image.ImagePositionPatient for image in images}
    ds = pydicom.dcmread(path)
    for groups in ds.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        np.testing.assert_allclose(
            np.float64(place_of[source.ReferencedSOPInstanceUID]),
            np.float64(groups.PlanePositionSequence[0].ImagePositionPatient),
            atol=1e-4,
        )
    (referenced,) = ds.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == images[0].SeriesInstanceUID != ds.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence} == set(place_of)
    assert ds.FrameOfReferenceUID == "1.2.3.4"


def test_wrong_tags_of_slice_spacing_do_not_reach_the_object(written):
    path, _, _ = written()  # the images say 99 mm
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(measures.SpacingBetweenSlices), float(measures.SliceThickness)) == pytest.approx((3.0, 3.0))


def test_segments_are_named_coded_and_coloured_as_the_table_says(written):
    path, labels, _ = written()
    segments = {one.SegmentLabel: one for one in pydicom.dcmread(path).SegmentSequence}
    assert list(segments) == [tissue.name for tissue in labels.tissues]

    def code(item):
        return f"{item.CodingSchemeDesignator}:{item.get('CodeValue') or item.LongCodeValue}"

    for tissue in labels.tissues:
        segment = segments[tissue.name]
        (kind,) = segment.SegmentedPropertyTypeCodeSequence
        text = code(kind)
        for modifier in kind.get("SegmentedPropertyTypeModifierCodeSequence", []):
            text += f"/{code(modifier)}"
        for region in segment.get("AnatomicRegionSequence", []):
            text += f"@{code(region)}"
            for modifier in region.get("AnatomicRegionModifierSequence", []):
                text += f"/{code(modifier)}"
        assert text == tissue.mapping
        assert segment.SegmentDescription == f"label {tissue.index}"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmFamilyCodeSequence[0].CodeValue) == ("msksam", "123110")
        lab = np.array(segment.RecommendedDisplayCIELabValue) / 65535
        assert srgb(100 * lab[0], 255 * lab[1] - 128, 255 * lab[2] - 128) == pytest.approx(tissue.rgb, abs=2)
    categories = {name: one.SegmentedPropertyCategoryCodeSequence[0].CodeValue for name, one in segments.items()}
    assert {categories.pop("tumour"), *categories.values()} == {"49755003", "123037004"}
    assert segments["femur"].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Femur"


def srgb(lightness, a, b):
    """Red, green and blue 0…255 of a CIELab colour: CIE 1976 by the D65 white, then IEC 61966-2-1."""
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.95047, 1.0, 1.08883)
    matrix = [[3.2404542, -1.5371385, -0.4985314], [-0.969266, 1.8760108, 0.041556], [0.0556434, -0.2040259, 1.0572252]]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return tuple(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def test_the_object_belongs_to_its_patient_and_study(written):
    """The one output that carries identifiers, because an archive files it by them."""
    ds = pydicom.dcmread(written()[0])
    assert (ds.PatientID, str(ds.PatientName), ds.PatientBirthDate) == ("P1", "Nobody^Knows", "19700102")
    assert ds.StudyInstanceUID == "1.2.826.0.1.3680043.8.498.9"
    assert (ds.Modality, ds.SeriesNumber, ds.Manufacturer) == ("SEG", 9004, "msksam")


def test_the_same_labels_give_the_same_object_and_are_not_written_again(written):
    path, labels, series = written()
    before, uid = path.read_bytes(), pydicom.dcmread(path).SOPInstanceUID
    assert not write_dicom_seg(path, labels, series, is_automatic=True)
    assert path.read_bytes() == before
    values = labels.values.copy()
    values[1, 1, 0] = 0 if values[1, 1, 0] else labels.tissues.indices[0]
    other = LabelMap(values, labels.grid, labels.tissues)
    assert write_dicom_seg(path, other, series, is_automatic=True)
    assert pydicom.dcmread(path).SOPInstanceUID != uid
    check(path, other)


def test_prompts_of_a_person_make_it_semiautomatic(written):
    path, _, _ = written(is_automatic=False)
    assert {one.SegmentAlgorithmType for one in pydicom.dcmread(path).SegmentSequence} == {"SEMIAUTOMATIC"}


def test_a_tissue_without_a_code_gets_a_private_one_of_its_name(written, tmp_path):
    _, labels, series = written()
    table = TissueTable((Tissue(7, "my own label"),))
    mine = LabelMap(np.where(labels.values > 0, 7, 0).astype(np.uint8), labels.grid, table)
    write_dicom_seg(tmp_path / "mine.dcm", mine, series, is_automatic=True)
    (segment,) = pydicom.dcmread(tmp_path / "mine.dcm").SegmentSequence
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodingSchemeDesignator, kind.CodeValue, kind.CodeMeaning) == (
        "99MSKSAM", "my-own-label", "my own label",
    )  # fmt: skip


def test_images_without_a_frame_of_reference_are_refused(synthetic, tmp_path):
    synthetic().write(tmp_path / "study")
    (series,) = scan_study(tmp_path / "study").series
    labels = some_labels(read_series(series)[0])
    with pytest.raises(SeriesError, match="no frame of reference"):
        write_dicom_seg(tmp_path / "x.dcm", labels, series, is_automatic=True)


def test_empty_labels_and_images_that_moved_are_refused(written, tmp_path, synthetic):
    _, labels, series = written()
    nothing = LabelMap(np.zeros_like(labels.values), labels.grid, labels.tissues)
    with pytest.raises(InputError, match="no voxel has a label"):
        write_dicom_seg(tmp_path / "x.dcm", nothing, series, is_automatic=True)
    synthetic(tags=TAGS, origin_mm=(0, 0, 0)).write(tmp_path / "moved")
    files = tuple(tmp_path / "moved" / f"IM{index:03d}" for index in range(6))
    moved = Series(series.case, "dicom", files, series.frames, "MR", grid=series.grid)
    with pytest.raises(SeriesError, match=r"labels lie \d+\.\d\d voxels from their images"):
        write_dicom_seg(tmp_path / "x.dcm", labels, moved, is_automatic=True)
    assert not (tmp_path / "x.dcm").exists()


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    need_highdicom()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"msksam\[dicomseg\]"):
        need_highdicom()


def test_a_real_big_endian_series_comes_back_voxel_by_voxel(shared_data, tmp_path):
    series = scan_study(shared_data / "knee_t2_multiecho" / "study").series[0]
    labels = some_labels(read_series(series)[0], ("femur", "patella"))
    write_dicom_seg(tmp_path / "t2.dcm", labels, series, is_automatic=True)
    check(tmp_path / "t2.dcm", labels)


def test_labels_an_expert_drew_on_a_real_oblique_series_come_back_on_the_experts_own_grid(shared_data, tmp_path):
    """The reference's voxels and affine come from elsewhere, and the tags of slice spacing are wrong by half."""
    folder = shared_data / "knee_bones_mr"
    (series,) = scan_study(folder / "study").series
    bones = TissueTable(tuple(tissue for name in ("femur", "tibia", "patella") if (tissue := TISSUES.by_name(name))))
    expert = read_label_map(folder / "labels.nii.gz", bones)
    labels = reordered_labels(expert, read_series(series)[0].grid)
    assert write_dicom_seg(tmp_path / "bones.dcm", labels, series, is_automatic=True)
    check(tmp_path / "bones.dcm", expert)
    measures = pydicom.dcmread(tmp_path / "bones.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(0.704, abs=0.001)
