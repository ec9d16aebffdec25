"""The voxel check: a conversion that turns, mirrors, reorders or rescales is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_convert import Plane, check_voxels, convert_planes, read_planes
from msksam_cli.io.dicom_header import read_header
from msksam_cli.io.dicom_pixels import codestream_size


@pytest.fixture
def planes(synthetic, tmp_path):
    series = synthetic(rows=9, columns=9)
    folder = series.write(tmp_path)
    return [
        Plane(read_header(folder / f"IM{index:03d}").frames[0], series.voxels[index], 1.0, 0.0)
        for index in range(series.slices)
    ]


@pytest.fixture
def converted(planes, tmp_path):
    seen = []
    result = convert_planes(
        read_planes([(tmp_path / f"IM{index:03d}", 0) for index in range(len(planes))], lambda: seen.append(1))
    )
    assert len(seen) == len(planes)
    check_voxels(planes, result.voxels, result.affine)
    return result


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_voxels_are_noticed(planes, converted, axis):
    with pytest.raises(SeriesError, match="differs by"):
        check_voxels(planes, np.flip(converted.voxels, axis), converted.affine)


def test_transposed_voxels_are_noticed(planes, converted):
    with pytest.raises(SeriesError, match="differs by"):
        check_voxels(planes, converted.voxels.transpose(1, 0, 2), converted.affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_affine_off_by_one_voxel_or_with_another_spacing_is_noticed(planes, converted, axis):
    moved, scaled = converted.affine.copy(), converted.affine.copy()
    moved[:3, 3] += moved[:3, axis]
    scaled[:3, axis] *= 1.2
    for affine in (moved, scaled):
        with pytest.raises(SeriesError, match=r"differs by|is not where"):
            check_voxels(planes, converted.voxels, affine)


def test_two_swapped_slices_are_noticed(planes, converted):
    order = [0, 1, 3, 2, 4, 5]
    with pytest.raises(SeriesError, match=r"slice [34] differs by"):
        check_voxels(planes, converted.voxels[:, :, order], converted.affine)


def test_values_off_by_more_than_two_per_mille_are_noticed(planes, converted):
    check_voxels(planes, converted.voxels * 1.001, converted.affine)
    with pytest.raises(SeriesError, match="differs by"):
        check_voxels(planes, converted.voxels * 1.005, converted.affine)
    rescaled = [replace(plane, slope=1.005) for plane in planes]
    check_voxels(rescaled, converted.voxels * 1.005, converted.affine)


def test_a_missing_slice_is_noticed(planes, converted):
    with pytest.raises(SeriesError, match=r"conversion gave \(9, 9, 5\) voxels for 6 slices of 9 × 9"):
        check_voxels(planes, converted.voxels[:, :, 1:], converted.affine)


def test_integers_stay_integers_without_a_rescaling(converted):
    assert converted.voxels.dtype == np.int16


@pytest.mark.parametrize(
    ("codestream", "size"),
    [
        (bytes.fromhex("ff4fff51002f0000000000200000002800000000000000000000002000000028"), (40, 32)),
        (bytes.fromhex("ff4fff51002f0000000000210000002a00000001000000020000002000000028"), (40, 32)),
        (bytes.fromhex("ffd8ffe000044a46ffc3000b10002a002b01001100"), (42, 43)),
        (bytes.fromhex("ffd8ffc400041111ffc0000b080001000201001100"), (1, 2)),
        (bytes.fromhex("ffd8ffda0004"), None),
        (b"\x01\x00\x00\x00", None),
        (b"", None),
    ],
)
def test_a_compressed_image_tells_its_own_size(codestream, size):
    assert codestream_size(codestream) == size
