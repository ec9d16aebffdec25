"""Synthetic DICOM series for tests: oblique, anisotropic, not cubic, every voxel different from its mirror images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from msksam_cli.core.volume import Volume

MR_IMAGE, ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
Edit = Callable[[Dataset, int], Any]


def _oblique() -> NDArray[np.float64]:
    """Row, column and normal direction (columns of a rotation by 12° about x, then 9° about z), sagittal."""
    a, b = np.radians(9), np.radians(12)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x @ np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]])


@dataclass
class SyntheticSeries:
    """A series of `slices` images; `edit(dataset, index)` changes each before it is written."""

    slices: int = 6
    rows: int = 10
    columns: int = 8
    pixel_spacing_mm: tuple[float, float] = (0.5, 0.7)
    slice_spacing_mm: float = 3.0
    origin_mm: tuple[float, float, float] = (-20.0, 11.0, 35.0)
    voxels: NDArray[Any] | None = None
    series_uid: str = "1.2.826.0.1.3680043.8.498.1"
    syntax: str = ExplicitVRLittleEndian
    tags: dict[str, Any] = field(default_factory=dict)
    directions: NDArray[np.float64] = field(default_factory=_oblique)

    def __post_init__(self) -> None:
        if self.voxels is None:
            chooser = np.random.default_rng(7)
            noise = chooser.integers(0, 900, (self.slices, self.rows, self.columns))
            self.voxels = (noise + 200 * np.arange(self.slices)[:, None, None]).astype(np.int16)

    def position_mm(self, index: float) -> NDArray[np.float64]:
        """Position of a slice's first pixel, LPS+."""
        return np.array(self.origin_mm) + self.directions[:, 2] * self.slice_spacing_mm * index

    def dataset(self, index: int) -> Dataset:
        """One image."""
        assert self.voxels is not None
        pixels = self.voxels[index]
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = self.syntax
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MR_IMAGE
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.9", self.series_uid
        ds.PatientID, ds.PatientName, ds.Modality = "P1", "Nobody^Knows", "MR"
        ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 4, index + 1, 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
        ds.EchoTime, ds.RepetitionTime, ds.ScanningSequence, ds.MRAcquisitionType = 30.0, 2500.0, "SE", "2D"
        ds.ImagePositionPatient = [f"{x:.6f}" for x in self.position_mm(index)]
        ds.ImageOrientationPatient = [f"{x:.9f}" for x in (*self.directions[:, 0], *self.directions[:, 1])]
        ds.PixelSpacing = list(self.pixel_spacing_mm)
        ds.SliceThickness = ds.SpacingBetweenSlices = 99.0
        ds.Rows, ds.Columns = pixels.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        bits = pixels.dtype.itemsize * 8
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        ds.PixelData = pixels.astype(
            pixels.dtype.newbyteorder(">" if self.syntax == ExplicitVRBigEndian else "<")
        ).tobytes()
        ds["PixelData"].VR = "OW"
        for name, value in self.tags.items():
            setattr(ds, name, value)
        return ds

    def write(
        self,
        folder: Path,
        edit: Edit = lambda ds, index: None,
        indices: Iterable[int] | None = None,
        name: Callable[[int], str] = "IM{:03d}".format,
    ) -> Path:
        """Write the images and return the folder."""
        for index in range(self.slices) if indices is None else indices:
            ds = self.dataset(index)
            edit(ds, index)
            save(ds, folder / name(index))
        return folder

    def enhanced(self) -> Dataset:
        """The same images as one enhanced multi-frame object."""
        assert self.voxels is not None
        ds = self.dataset(0)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_MR_IMAGE
        plane, measures, shared = Dataset(), Dataset(), Dataset()
        plane.ImageOrientationPatient = ds.ImageOrientationPatient
        measures.PixelSpacing = ds.PixelSpacing
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
        ds.SharedFunctionalGroupsSequence = [shared]
        frames = []
        for index in range(self.slices):
            position, frame = Dataset(), Dataset()
            position.ImagePositionPatient = [f"{x:.6f}" for x in self.position_mm(index)]
            frame.PlanePositionSequence = [position]
            frames.append(frame)
        ds.PerFrameFunctionalGroupsSequence = frames
        ds.NumberOfFrames = self.slices
        ds.PixelData = self.voxels.astype("<i2").tobytes()
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            delattr(ds, tag)
        return ds

    def assert_equals(self, volume: Volume, truth: NDArray[Any] | None = None) -> None:
        """Every pixel is found in the volume at the place that this generator, not the tags' reader, computes."""
        values = self.voxels if truth is None else truth
        assert values is not None
        k, j, i = np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij")
        in_plane = i[..., None] * self.pixel_spacing_mm[1] * self.directions[:, 0] + (
            j[..., None] * self.pixel_spacing_mm[0] * self.directions[:, 1]
        )
        lps = np.array(self.origin_mm) + in_plane + k[..., None] * self.slice_spacing_mm * self.directions[:, 2]
        voxels = volume.grid.to_voxel(lps * (-1, -1, 1))
        nearest = np.rint(voxels).astype(int)
        assert np.abs(voxels - nearest).max() < 0.02
        assert volume.intensities.size == values.size
        found = volume.intensities[tuple(np.moveaxis(nearest, -1, 0))]
        np.testing.assert_array_equal(found, values.astype(np.float32))


def save(ds: Dataset, path: Path) -> Path:
    """Write a data set with its preamble."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = ds.file_meta.TransferSyntaxUID
    ds.save_as(
        path,
        enforce_file_format=True,
        little_endian=syntax != ExplicitVRBigEndian,
        implicit_vr=syntax == ImplicitVRLittleEndian,
    )
    return path


@pytest.fixture
def synthetic() -> type[SyntheticSeries]:
    """The generator of synthetic series."""
    return SyntheticSeries


@pytest.fixture
def save_dicom() -> Callable[[Dataset, Path], Path]:
    """Writes a data set with its preamble."""
    return save


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data beside the project (../shared/data) are absent")
    return folder
