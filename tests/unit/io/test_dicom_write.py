from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import InputError
from msksam_cli.io.dicom_write import SeriesToWrite, write_dicom_study
from msksam_cli.io.study import read_series, scan_study


def oblique_grid(shape: tuple[int, int, int] = (13, 11, 6)) -> Grid:
    """Anisotropic, turned about two axes, left-handed in RAS."""
    a, b = np.radians(12.0), np.radians(-7.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]) * (0.5, 0.7, 3.0)
    affine[:3, 3] = (-40.25, 31.5, 22.125)
    return Grid(shape, affine)


def noisy_series(echoes: int = 1, side: str = "left", grid: Grid | None = None) -> SeriesToWrite:
    grid = grid or oblique_grid()
    rng = np.random.default_rng(4)
    volumes = tuple(
        Volume(rng.uniform(0, 900 / (n + 1), grid.shape).astype(np.float32), grid, side, "knee") for n in range(echoes)
    )
    times = tuple(10.0 * (n + 1) for n in range(echoes))
    return SeriesToWrite("sag test", volumes, times, 2000.0, 90.0, 2.5)


def test_a_written_series_reads_back_with_the_same_voxels_at_the_same_places(tmp_path: Path) -> None:
    series = noisy_series()
    write_dicom_study(tmp_path, [series], seed=1)

    scan = scan_study(tmp_path)

    assert [one.side for one in scan.series] == ["left"]
    volume, _ = read_series(scan.series[0])
    wanted = series.echoes[0]
    found = np.round(wanted.grid.to_voxel(volume.grid.to_world_mm(np.argwhere(np.ones(volume.grid.shape))))).astype(int)
    assert sorted(map(tuple, found.tolist())) == sorted(np.ndindex(*wanted.grid.shape))
    assert np.abs(volume.intensities.ravel() - wanted.intensities[tuple(found.T)]).max() < 900 / 4095


def test_echoes_become_separate_volumes_in_order_of_echo_time(tmp_path: Path) -> None:
    series = noisy_series(echoes=3)
    files = write_dicom_study(tmp_path, [series], seed=1)

    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]

    assert len(files) == 3 * 6
    assert [float(header.EchoTime) for header in headers[:4]] == [10.0, 20.0, 30.0, 10.0]
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == len(files)


def test_world_positions_computed_from_tags_alone_equal_the_grid(tmp_path: Path) -> None:
    series = noisy_series()
    for index, path in enumerate(write_dicom_study(tmp_path, [series], seed=1)):
        header = pydicom.dcmread(path)
        along_columns, along_rows = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        row, column = 9, 4
        lps = (
            np.array(header.ImagePositionPatient, dtype=float)
            + along_columns * float(header.PixelSpacing[1]) * column
            + along_rows * float(header.PixelSpacing[0]) * row
        )
        wanted = series.echoes[0].grid.to_world_mm((column, row, index))
        np.testing.assert_allclose(lps * (-1, -1, 1), wanted, atol=1e-6)
        stored = float(header.RescaleSlope) * header.pixel_array[row, column]
        assert stored == pytest.approx(series.echoes[0].intensities[column, row, index], abs=0.2)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_uids(tmp_path: Path) -> None:
    first = write_dicom_study(tmp_path / "a", [noisy_series()], seed=5)
    again = write_dicom_study(tmp_path / "b", [noisy_series()], seed=5)
    other = write_dicom_study(tmp_path / "c", [noisy_series()], seed=6)

    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    uids = {pydicom.dcmread(p).SOPInstanceUID for p in first} | {pydicom.dcmread(p).SOPInstanceUID for p in other}
    assert len(uids) == len(first) + len(other)
    assert all(uid.is_valid for uid in uids)


def test_a_study_holds_no_name_and_says_what_it_is(tmp_path: Path) -> None:
    path = write_dicom_study(tmp_path, [noisy_series(side="right"), noisy_series()], seed=2)[0]
    header = pydicom.dcmread(path)

    assert path == tmp_path / "series-1" / "IM0001.dcm"
    assert (header.Modality, header.BodyPartExamined, header.Laterality) == ("MR", "KNEE", "R")
    assert (str(header.PatientName), header.PatientBirthDate) == ("Anonymous", "")
    assert float(header.SliceThickness) == 2.5
    assert float(header.SpacingBetweenSlices) == 3.0
    assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert (header.BitsAllocated, header.PixelRepresentation) == (16, 0)


def test_two_series_share_a_study_and_differ_in_series(tmp_path: Path) -> None:
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True)
        for path in write_dicom_study(tmp_path, [noisy_series(), noisy_series()], seed=2)
    ]
    assert len({header.StudyInstanceUID for header in headers}) == 1
    assert len({header.SeriesInstanceUID for header in headers}) == 2
    assert {int(header.SeriesNumber) for header in headers} == {1, 2}


def test_negative_and_empty_intensities_are_stored_as_zero(tmp_path: Path) -> None:
    grid = oblique_grid((5, 4, 4))
    volume = Volume(np.full(grid.shape, -3.0), grid)
    series = SeriesToWrite("dark", (volume,), (10.0,), 500.0, 90.0, 3.0)
    header = pydicom.dcmread(write_dicom_study(tmp_path, [series], seed=2)[0])
    assert header.pixel_array.max() == 0
    assert header.pixel_array.shape == (4, 5)


def test_a_sheared_grid_is_refused() -> None:
    affine = oblique_grid().affine.copy()
    affine[:3, 2] += affine[:3, 0]
    with pytest.raises(InputError, match="sheared"):
        noisy_series(grid=Grid((13, 11, 6), affine))


def test_echoes_and_echo_times_must_pair_up() -> None:
    volume = noisy_series().echoes[0]
    with pytest.raises(ValueError, match="1 volumes for 2 echo times"):
        SeriesToWrite("", (volume,), (1.0, 2.0), 500.0, 90.0, 3.0)
    smaller = noisy_series(grid=oblique_grid((13, 11, 5))).echoes[0]
    with pytest.raises(ValueError, match="share a grid"):
        SeriesToWrite("", (volume, smaller), (1.0, 2.0), 500.0, 90.0, 3.0)
