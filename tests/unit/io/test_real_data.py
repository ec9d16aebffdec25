"""Real studies beside the project, when they are there."""

from __future__ import annotations

import numpy as np

from msksam_cli.io.nifti import read_label_map, read_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.measure.relaxometry import FitStatus, fit_decay


def test_the_knee_study_has_the_spacing_of_its_positions_and_lies_under_its_labels(shared_data):
    scan = scan_study(shared_data / "knee_bones_mr" / "study")
    (series,) = scan.series
    assert (series.side, series.body_part, scan.count("used")) == ("right", "knee", 143)
    assert series.grid is not None
    np.testing.assert_allclose(series.grid.spacing_mm, (0.35156, 0.35156, 0.704), atol=1e-4)
    volume, _ = read_series(series)
    labels = read_label_map(shared_data / "knee_bones_mr" / "labels.nii.gz")
    place = volume.grid.to_voxel(labels.grid.corners_mm())
    assert np.abs(place - np.rint(place)).max() < 0.01
    assert np.rint(place).min() == 0
    assert (np.rint(place).max(axis=0) == np.array(volume.grid.shape) - 1).all()
    bone = volume.grid.to_voxel(labels.grid.to_world_mm(np.argwhere(labels.values == 1)[::5000]))
    inside = volume.intensities[tuple(np.rint(bone).astype(int).T)]
    assert inside.mean() > 2 * np.median(volume.intensities)


def test_eight_big_endian_echoes_decay_in_order(shared_data):
    series = scan_study(shared_data / "knee_t2_multiecho" / "study").series
    times = [one.echo_time_ms for one in series]
    assert times == [6.312, 12.624, 18.936, 25.248, 31.56, 37.872, 44.184, 50.496]
    assert len({one.echo_group for one in series}) == 1
    means = [read_series(one)[0].intensities.mean() for one in series]
    assert means[0] > means[3] > means[7]


def test_muscle_of_the_multi_echo_knee_has_its_published_t2_at_3_tesla(shared_data):
    series = scan_study(shared_data / "knee_t2_multiecho" / "study").series
    gastrocnemius = np.s_[185:206, 170:211, 1:2]  # drawn by hand, inside the muscle
    images = np.stack([read_series(one)[0].intensities[gastrocnemius] for one in series])
    fit = fit_decay(images, [one.echo_time_ms for one in series])
    assert {one.decay for one in series} == {"T2map"}
    assert 27 < np.mean(fit.time_ms) < 45  # Pai et al. 2008, Magn Reson Imaging 26:1215
    assert np.median(fit.r2) > 0.97
    assert fit.count(FitStatus.FITTED) == fit.status.size


def test_dicom_converts_to_the_nifti_that_another_program_made(shared_data):
    folder = shared_data / "extremity_tumour_t1"
    scan = scan_study(folder / "dicom" / "STS_002")
    (series,) = scan.series
    assert [record.reason for record in scan.files if record.state != "used"] == ["no image: RT Structure Set Storage"]
    volume, _ = read_series(series)
    other, _ = read_volume(folder / "images" / "STS_002.nii.gz")
    assert other.grid.matches(volume.grid)
    np.testing.assert_allclose(volume.intensities, other.intensities, atol=2e-3 * other.intensities.max())
