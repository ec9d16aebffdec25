"""Damaged files of every kind: the parent never crashes, and geometry is never silently another."""

from __future__ import annotations

import contextlib
import random

import nibabel
import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from msksam_cli.errors import SeriesError
from msksam_cli.io.nifti import read_volume
from msksam_cli.io.study import read_series, scan_study


def mutate(content: bytes, chooser: random.Random) -> bytes:
    """Flip bits, overwrite header bytes, cut, insert, zero or repeat a stretch."""
    damaged, place = bytearray(content), chooser.randrange(len(content))
    kind = chooser.choice(("flip", "header", "header", "cut", "insert", "zero", "repeat"))
    if kind == "flip":
        for _ in range(chooser.choice((1, 20))):
            damaged[chooser.randrange(len(damaged))] ^= 1 << chooser.randrange(8)
    elif kind == "header":
        for _ in range(chooser.choice((1, 4))):
            damaged[chooser.randrange(min(len(damaged), 1500))] = chooser.randrange(256)
    elif kind == "cut":
        del damaged[place:]
    elif kind == "insert":
        damaged[place:place] = bytes(chooser.randrange(256) for _ in range(chooser.randrange(1, 40)))
    elif kind == "zero":
        damaged[place : place + 200] = bytes(len(damaged[place : place + 200]))
    else:
        damaged[place:place] = damaged[place : place + 300]
    return bytes(damaged)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_mutated_dicom_files_never_crash_and_never_move_a_volume(synthetic, tmp_path, syntax):
    compressed = syntax in (RLELossless, JPEGLSLossless)
    series = synthetic(rows=24, columns=16, syntax=ExplicitVRLittleEndian if compressed else syntax)
    series.voxels = series.voxels.astype(np.uint16)
    series.write(tmp_path, lambda ds, _: ds.compress(syntax, generate_instance_uid=False) if compressed else None)
    (whole,) = scan_study(tmp_path).series
    originals = {path: path.read_bytes() for path in tmp_path.iterdir()}
    chooser = random.Random(f"{syntax}")
    for _ in range(40):
        path = chooser.choice(sorted(originals))
        path.write_bytes(mutate(originals[path], chooser))
        scan = scan_study(tmp_path)
        assert len(scan.files) == 6
        for found in scan.series:
            with contextlib.suppress(SeriesError):
                volume, _ = read_series(found)
                assert volume.grid.shape[2] in (5, 6)  # a refused file at an end leaves no gap
                assert volume.grid.spacing_mm == pytest.approx(whole.grid.spacing_mm, rel=0.05)
        path.write_bytes(originals[path])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_mutated_nifti_files_never_crash(tmp_path, kind, suffix):
    values = np.random.default_rng(1).integers(0, 900, (12, 11, 8)).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    kind(values, np.diag([0.5, 0.7, 3, 1])).to_filename(path)
    original, chooser, outcomes = path.read_bytes(), random.Random(suffix), []
    for _ in range(150):
        path.write_bytes(mutate(original, chooser))
        try:
            read_volume(path)
        except SeriesError as error:
            outcomes.append(error.message)
    assert len(set(outcomes)) > 2
