from __future__ import annotations

import itertools

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import tissues_of
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import UsageError
from msksam_cli.phantom import tissues
from msksam_cli.phantom.acquisition import Anatomy, Protocol, acquire, acquire_scan, demo_study
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
    for wrong in ({"phase_axis": 2}, {"motion_mm": -1.0}, {"wrap_mm": 80.0}):
        with pytest.raises(ValueError, match="phase axis 0 or 1, motion >= 0 and wrap of 0 to"):
            Protocol(**wrong)


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


@pytest.fixture(scope="module")
def slab() -> LabelMap:
    """Fat with a muscle that fills it from the front to 12 mm behind the middle, and half of it from left to right."""
    grid = Grid((60, 70, 40), np.diag([2.0, 2.0, 2.0, 1.0]) + np.outer([1, 1, 1, 0], [0, 0, 0, 1]) * -60.0)
    values = np.full(grid.shape, tissues.FAT, dtype=np.uint8)
    values[30:, 24:] = tissues.DELTOID
    return LabelMap(values, grid, tissues_of("shoulder"))


def test_gaps_between_slices_leave_out_what_lies_in_them() -> None:
    values = np.full((30, 30, 60), tissues.DELTOID, dtype=np.uint8)
    grid = Grid((30, 30, 60), np.diag([2.0, 2.0, 1.0, 1.0]))
    layers = np.arange(60) % 9
    values[:, :, (layers > 2) & (layers < 6)] = tissues.FAT
    labels = LabelMap(values, grid, tissues_of("shoulder"))
    centre = (29.0, 29.0, 27.0)
    mean = {}
    for thickness in (3.0, 9.0):
        protocol = Protocol("axial", 2.0, 9.0, thickness, 5, (40.0, 40.0), centre)
        mean[thickness] = float(acquire(labels, SEQUENCES["t1-tse"], protocol, seed=1)[0].intensities.mean())
    assert mean[9.0] > 1.4 * mean[3.0]


def test_what_reaches_beyond_the_field_of_view_folds_in_along_the_phase_axis(slab: LabelMap) -> None:
    found = {}
    for wrap in (0.0, 20.0):
        protocol = Protocol("axial", 2.0, 4.0, 4.0, 3, (60.0, 60.0), (0.0, 10.0, -20.0), wrap_mm=wrap)
        found[wrap] = acquire(slab, SEQUENCES["t1-tse"], protocol, seed=1)
    np.testing.assert_array_equal(found[20.0][1].values, found[0.0][1].values)
    ratio = found[20.0][0].intensities / found[0.0][0].intensities
    assert ratio[:, 11:19].mean() == pytest.approx(1.0, abs=0.05)
    assert min(ratio[:, :9].mean(), ratio[:, 21:].mean()) > 1.5


def test_motion_blurs_the_image_and_not_the_truth(slab: LabelMap) -> None:
    still, moving = (
        acquire(slab, SEQUENCES["t1-tse"], Protocol("axial", 2.0, 4.0, 4.0, 3, (90.0, 90.0), motion_mm=size), seed=1)
        for size in (0.0, 5.0)
    )
    np.testing.assert_array_equal(still[1].values, moving[1].values)
    assert np.abs(still[0].intensities - moving[0].intensities).mean() > 20


def test_any_subject_that_can_be_labelled_can_be_scanned() -> None:
    grid_seen = []

    def ball(grid: Grid) -> LabelMap:
        grid_seen.append(grid)
        i, j, k = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
        places = np.stack([i, j, k], axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        return LabelMap(
            np.where(np.linalg.norm(places, axis=-1) < 20, tissues.L3, 0).astype(np.uint8), grid, tissues_of("lumbar")
        )

    protocol = Protocol("sagittal", 1.5, 5.0, 4.0, 9, (60.0, 66.0), (0.0, 0.0, 0.0), tilt_deg=(31.0, -17.0, 44.0))
    volume, labels = acquire(Anatomy(ball, "lumbar"), SEQUENCES["t2-tse"], protocol, seed=2)
    assert volume.body_part == "lumbar"
    assert labels.mask(tissues.L3).sum() * labels.grid.voxel_volume_mm3 == pytest.approx(
        4 / 3 * np.pi * 20**3, rel=0.03
    )
    assert grid_seen[0].spacing_mm[2] < 1.01


def test_a_spin_lock_scan_has_one_image_per_lock(slab: LabelMap) -> None:
    scan = acquire_scan(slab, SEQUENCES["t1-rho"], Protocol("axial", 3.0, 6.0, 6.0, 2, (80.0, 80.0)), seed=1)
    assert len(scan.echoes) == len(SEQUENCES["t1-rho"].spin_lock_times_ms)
    muscle = scan.labels.mask(tissues.DELTOID)
    means = [float(volume.intensities[muscle].mean()) for volume in scan.echoes]
    assert all(later < earlier for earlier, later in itertools.pairwise(means))


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
