from __future__ import annotations

import itertools

import numpy as np
import pytest

from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues
from msksam_cli.phantom.acquisition import Protocol, acquire, acquire_scan, demo_study
from msksam_cli.phantom.knee import KneeShape, knee_label_map
from msksam_cli.phantom.signal import SEQUENCES

SMALL = {"in_plane_mm": 2.0, "slice_spacing_mm": 4.0, "slice_thickness_mm": 4.0, "slices": 7}


@pytest.mark.parametrize(
    ("orientation", "codes", "axis"), [("sagittal", "PIR", 0), ("coronal", "LIP", 1), ("axial", "LPS", 2)]
)
def test_a_protocols_grid_has_its_orientation_spacing_and_centre(orientation: str, codes: str, axis: int) -> None:
    protocol = Protocol(orientation, 0.5, 3.3, 3.0, 21, (120.0, 90.0), centre_mm=(4.0, -3.0, 9.0))
    grid = protocol.grid
    assert grid.orientation == codes
    assert grid.shape == (240, 180, 21)
    assert grid.spacing_mm == pytest.approx((0.5, 0.5, 3.3))
    np.testing.assert_allclose(grid.centre_mm, (4.0, -3.0, 9.0), atol=1e-9)
    assert abs(grid.affine[axis, 2]) == pytest.approx(3.3)


def test_tilt_turns_the_stack_about_its_centre() -> None:
    straight = Protocol("sagittal", **SMALL)
    tilted = Protocol("sagittal", **SMALL, tilt_deg=(0.0, 0.0, 10.0))
    np.testing.assert_allclose(tilted.grid.centre_mm, straight.grid.centre_mm, atol=1e-9)
    normals = [grid.affine[:3, 2] / grid.spacing_mm[2] for grid in (straight.grid, tilted.grid)]
    assert np.degrees(np.arccos(normals[0] @ normals[1])) == pytest.approx(10.0)


def test_impossible_protocols_are_refused() -> None:
    with pytest.raises(UsageError, match="'oblique'"):
        Protocol("oblique")
    with pytest.raises(ValueError, match="thickness"):
        Protocol(slice_spacing_mm=2.0, slice_thickness_mm=3.0)


def test_thin_slices_have_the_knees_own_labels() -> None:
    protocol = Protocol("coronal", 2.0, 1.0, 1.0, 6, (150.0, 150.0))
    _, labels = acquire(KneeShape(), SEQUENCES["dess"], protocol, seed=1)
    np.testing.assert_array_equal(labels.values, knee_label_map(KneeShape(), protocol.grid).values)


def test_thick_slices_take_the_majority_and_blur_what_they_cross() -> None:
    thick = Protocol("axial", 2.0, 9.0, 9.0, 5, (150.0, 150.0))
    volume, labels = acquire(KneeShape(), SEQUENCES["t1-tse"], thick, seed=1)
    centre = knee_label_map(KneeShape(), thick.grid).values
    agreement = (labels.values == centre).mean()
    assert 0.85 < agreement < 1.0
    thin = Protocol("axial", 2.0, 9.0, 0.9, 5, (150.0, 150.0))
    sharp, _ = acquire(KneeShape(), SEQUENCES["t1-tse"], thin, seed=1)
    assert np.abs(volume.intensities - sharp.intensities)[labels.values == tissues.TIBIA].mean() > 10


def test_equal_arguments_give_equal_voxels_and_volumes_know_their_knee() -> None:
    protocol = Protocol("sagittal", **SMALL)
    shape = KneeShape(side="left")
    first, labels = acquire(shape, SEQUENCES["pd-fs-tse"], protocol, seed=5)
    again, _ = acquire(shape, SEQUENCES["pd-fs-tse"], protocol, seed=5)
    other, _ = acquire(shape, SEQUENCES["pd-fs-tse"], protocol, seed=6)
    np.testing.assert_array_equal(first.intensities, again.intensities)
    assert (first.intensities != other.intensities).mean() > 0.9
    assert (first.side, first.body_part) == ("left", "knee")
    assert labels.grid.matches(first.grid)


def test_an_image_shows_its_labels() -> None:
    protocol = Protocol("sagittal", 1.0, 3.0, 3.0, 9, (140.0, 140.0), centre_mm=(22.0, 0.0, 8.0))
    volume, labels = acquire(KneeShape(), SEQUENCES["pd-fs-tse"], protocol, seed=2)
    mean = {t: float(volume.intensities[labels.mask(t)].mean()) for t in np.unique(labels.values).tolist()}
    assert mean[0] < 0.3 * mean[tissues.FEMUR]
    assert mean[tissues.FEMUR] < 0.6 * mean[tissues.FEMORAL_CARTILAGE]
    assert mean[tissues.LATERAL_MENISCUS] < 0.8 * mean[tissues.FEMORAL_CARTILAGE]


def test_all_echoes_of_a_scan_decay_on_one_grid() -> None:
    protocol = Protocol("sagittal", **SMALL)
    scan = acquire_scan(KneeShape(), SEQUENCES["t2-multi-echo"], protocol, seed=3)
    assert len(scan.echoes) == len(scan.sequence.echo_times_ms) == 7
    muscle = scan.labels.mask(tissues.GASTROCNEMIUS)
    means = [float(volume.intensities[muscle].mean()) for volume in scan.echoes]
    assert all(later < earlier for earlier, later in itertools.pairwise(means))
    first, _ = acquire(KneeShape(), SEQUENCES["t2-multi-echo"], protocol, seed=3)
    np.testing.assert_array_equal(first.intensities, scan.echoes[0].intensities)


def test_the_demo_study_is_one_knee_in_three_series() -> None:
    scans = demo_study(2)
    assert [scan.sequence.name for scan in scans] == ["pd-fs-tse", "dess", "t2-multi-echo"]
    assert len({scan.echoes[0].side for scan in scans}) == 1
    for scan in scans:
        assert len(scan.echoes) == len(scan.sequence.echo_times_ms)
        assert {tissues.FEMUR, tissues.TIBIA, tissues.FEMORAL_CARTILAGE} <= set(np.unique(scan.labels.values))
    volumes = [
        (scan.labels.mask(tissues.FEMORAL_CARTILAGE).sum() * scan.labels.grid.voxel_volume_mm3) for scan in scans
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.12)
