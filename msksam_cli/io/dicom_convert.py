"""One clean, ordered series to voxels: dicom2nifti converts, then every slice is looked up again independently.

Runs inside the reading process. dicom2nifti is given data sets that hold nothing but geometry and decoded pixels, with
InstanceNumber rewritten to the geometric order; what it returns is believed only after sampled pixels of every slice,
mapped to the world by the slice's own tags, were found at that place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom2nifti import convert_generic
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from msksam_cli.core.geometry import Grid
from msksam_cli.errors import SeriesError
from msksam_cli.io.dicom_frames import FrameHeader
from msksam_cli.io.dicom_geometry import Stack, stack_slices
from msksam_cli.io.dicom_header import read_header
from msksam_cli.io.dicom_pixels import decode_frame
from msksam_cli.io.dicom_values import frame_values, read_rescale

_SAMPLES_PER_SLICE = 64
_INTENSITY_TOLERANCE = 2e-3
_POSITION_TOLERANCE_VOXELS = 0.3


@dataclass(frozen=True, eq=False)
class Plane:
    """One decoded slice: its own tags, stored values (rows, columns), and the rescaling to intensities."""

    header: FrameHeader
    pixels: NDArray[Any]
    slope: float
    intercept: float


@dataclass(frozen=True, eq=False)
class Converted:
    """Voxels (columns, rows, slices) as integers where no rescaling applies, else float32, and their RAS+ affine."""

    voxels: NDArray[Any]
    affine: NDArray[np.float64]


def read_planes(slices: Sequence[tuple[Path, int]], on_slice: Callable[[], None]) -> list[Plane]:
    """Decode slices; `on_slice` is called after each.

    Raises:
        SeriesError: the files changed since they were scanned.
    """
    planes = []
    for path, frames in _by_file(slices):
        planes.extend(_read_file(path, frames, on_slice))
    return planes


def convert_planes(planes: Sequence[Plane]) -> Converted:
    """One volume of decoded slices given in geometric order.

    Raises:
        SeriesError: they are in another order, or the result does not hold their pixels.
    """
    stack = stack_slices([plane.header for plane in planes])
    if stack.order != tuple(range(len(planes))):
        raise SeriesError("files changed while they were read", "Run the command again")
    images = [_clean_dataset(plane, stack, index) for index, plane in enumerate(planes)]
    image = convert_generic.dicom_to_nifti(images, None)["NII"]
    voxels, affine = np.asanyarray(image.dataobj), np.array(image.affine, dtype=np.float64)
    if affine[:3, 2] @ stack.grid.affine[:3, 2] < 0:  # dicom2nifti sorts along the nearest patient axis
        affine[:3, 3] += affine[:3, 2] * (len(planes) - 1)
        affine[:3, 2] *= -1
        voxels = voxels[:, :, ::-1]
    check_voxels(planes, voxels, affine)
    if voxels.dtype.kind == "f":
        voxels = voxels.astype(np.float32)
    return Converted(voxels, affine)


def _by_file(slices: Sequence[tuple[Path, int]]) -> list[tuple[Path, list[int]]]:
    """Consecutive slices of one file together, so that a multi-frame file is opened once."""
    runs: list[tuple[Path, list[int]]] = []
    for path, frame in slices:
        if runs and runs[-1][0] == path:
            runs[-1][1].append(frame)
        else:
            runs.append((path, [frame]))
    return runs


def _read_file(path: Path, frames: Sequence[int], on_slice: Callable[[], None]) -> list[Plane]:
    header = read_header(path)
    if header.verdict != "image" or any(frame.defect for frame in header.frames):
        raise SeriesError("files changed while they were read", "Run the command again")
    dataset = pydicom.dcmread(path)
    values, planes = frame_values(dataset, len(header.frames)), []
    for frame in frames:
        slope, intercept = read_rescale(values[frame])
        planes.append(Plane(header.frames[frame], decode_frame(dataset, frame), slope, intercept))
        on_slice()
    return planes


def _clean_dataset(plane: Plane, stack: Stack, index: int) -> Dataset:
    """A data set for dicom2nifti: geometry, rescaling and uncompressed pixels, and nothing about the patient."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.Modality = "MR"
    image.InstanceNumber = index + 1
    image.ImagePositionPatient = [float(x) for x in stack.positions_mm[index]]
    image.ImageOrientationPatient = [float(x) for x in stack.orientation]
    image.PixelSpacing = list(plane.header.spacing_mm or ())
    image.Rows, image.Columns = plane.pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = plane.pixels.dtype.itemsize * 8
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelRepresentation = int(plane.pixels.dtype.kind == "i")
    if (plane.slope, plane.intercept) != (1.0, 0.0):
        image.RescaleSlope, image.RescaleIntercept = plane.slope, plane.intercept
    image.PixelData = plane.pixels.astype(plane.pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    return image


def check_voxels(planes: Sequence[Plane], voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Find sampled pixels of every slice, placed by their own tags, in the converted voxels.

    Raises:
        SeriesError: the shape differs, a pixel's place is no voxel centre, or an intensity differs by more than 0.2 %
            of the largest.
    """
    rows, columns = planes[0].pixels.shape
    if voxels.shape != (columns, rows, len(planes)):
        raise SeriesError(f"conversion gave {voxels.shape} voxels for {len(planes)} slices of {rows} × {columns}")
    grid, chooser = Grid(voxels.shape, affine), np.random.default_rng(0)
    largest = max(1e-6, float(np.abs(voxels).max()))
    for number, plane in enumerate(planes, start=1):
        j, i = chooser.integers(0, rows, _SAMPLES_PER_SLICE), chooser.integers(0, columns, _SAMPLES_PER_SLICE)
        place = grid.to_voxel(_pixel_to_ras_mm(plane.header, j, i))
        voxel = np.rint(place).astype(int)
        if np.abs(place - voxel).max() > _POSITION_TOLERANCE_VOXELS or (voxel < 0).any() or (voxel >= grid.shape).any():
            raise SeriesError(f"slice {number} is not where its tags put it after conversion")
        expected = plane.pixels[j, i] * plane.slope + plane.intercept
        error = np.abs(voxels[tuple(voxel.T)] - expected).max()
        if not error <= _INTENSITY_TOLERANCE * largest:
            raise SeriesError(f"slice {number} differs by {error:g} from its own pixels after conversion")


def _pixel_to_ras_mm(header: FrameHeader, row: NDArray[Any], column: NDArray[Any]) -> NDArray[np.float64]:
    """World positions (n, 3) RAS+ of pixels, by DICOM PS3.3 equation C.7.6.2.1-1."""
    orientation, spacing = np.array(header.orientation), header.spacing_mm or (0.0, 0.0)
    lps = (
        np.array(header.position_mm)
        + np.outer(column * spacing[1], orientation[:3])
        + np.outer(row * spacing[0], orientation[3:])
    )
    return np.asarray(lps * (-1.0, -1.0, 1.0))
