"""Volumes as a complete, anonymous DICOM MR study, one file per slice and echo.

Orientation: world coordinates here are RAS+, DICOM's are LPS+, so the first two signs change. Axis 0 of a volume
becomes the columns (ImageOrientationPatient's first triple), axis 1 the rows, axis 2 the slices. Equal arguments
give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import Volume
from msksam_cli.errors import InputError
from msksam_cli.io.atomic import write_atomic

_IMPLEMENTATION_UID = "2.25.190330512093744026318512977404381721600"
_STORED_MAXIMUM = 4095
_LATERALITY = {"left": "L", "right": "R", "": ""}
_LPS = np.array([-1.0, -1.0, 1.0])
_RIGHT_ANGLE_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class SeriesToWrite:
    """One series of a study.

    Attributes:
        description: SeriesDescription, no more than 64 characters.
        echoes: one volume per echo time, all on one grid.
        echo_times_ms: as many as volumes.
        repetition_time_ms: RepetitionTime.
        flip_angle_deg: FlipAngle.
        slice_thickness_mm: SliceThickness, which may be less than the spacing of slices.
        scanning_sequence: "SE" or "GR".

    Raises:
        ValueError: echoes and echo times differ in number, or grids differ.
        InputError: the grid is sheared, which DICOM cannot express.
    """

    description: str
    echoes: tuple[Volume, ...]
    echo_times_ms: tuple[float, ...]
    repetition_time_ms: float
    flip_angle_deg: float
    slice_thickness_mm: float
    scanning_sequence: str = "SE"

    def __post_init__(self) -> None:
        if not self.echoes or len(self.echoes) != len(self.echo_times_ms):
            raise ValueError(f"{len(self.echoes)} volumes for {len(self.echo_times_ms)} echo times")
        grid = self.echoes[0].grid
        if not all(volume.grid.matches(grid) for volume in self.echoes):
            raise ValueError("echoes of one series must share a grid")
        axes = grid.affine[:3, :3] / np.array(grid.spacing_mm)
        if np.abs(axes.T @ axes - np.eye(3)).max() > _RIGHT_ANGLE_TOLERANCE:
            raise InputError("grid is sheared; DICOM holds slices at right angles only", "Resample the volume first")


def write_dicom_study(folder: Path, series: Sequence[SeriesToWrite], seed: int) -> list[Path]:
    """Write `series` below `folder` as series-1/IM0001.dcm …, slice by slice and echo by echo.

    Intensities are stored as uint16 with one RescaleSlope per series, 0 to 4095 (12 bits in 16), negative ones as 0.
    UIDs follow from `seed` alone.

    Returns:
        The files in the order of writing.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    study_uid = _uid(seed, "study")
    written = []
    for number, one in enumerate(series, start=1):
        common = _series_tags(one, seed, number, study_uid)
        slope = _slope(one)
        instance = 0
        for position in range(one.echoes[0].grid.shape[2]):
            for echo in range(len(one.echoes)):
                instance += 1
                dataset = _instance(common, one, (position, echo), slope)
                dataset.InstanceNumber = instance
                dataset.SOPInstanceUID = _uid(seed, f"instance {number} {instance}")
                path = folder / f"series-{number}" / f"IM{instance:04d}.dcm"
                _write(path, dataset)
                written.append(path)
    return written


def _series_tags(series: SeriesToWrite, seed: int, number: int, study_uid: UID) -> Dataset:
    """What all instances of a series share."""
    grid, side = series.echoes[0].grid, series.echoes[0].side
    tags = Dataset()
    tags.SpecificCharacterSet = "ISO_IR 192"
    tags.SOPClassUID = MRImageStorage
    tags.StudyDate = tags.SeriesDate = tags.AcquisitionDate = tags.ContentDate = "20200101"
    tags.StudyTime = tags.SeriesTime = tags.AcquisitionTime = tags.ContentTime = "120000"
    tags.AccessionNumber = ""
    tags.Modality = "MR"
    tags.Manufacturer = "msksam phantom"
    tags.ReferringPhysicianName = ""
    tags.StudyDescription = "Procedural knee"
    tags.SeriesDescription = series.description
    tags.PatientName = "Anonymous"
    tags.PatientID = f"PHANTOM-{seed}"
    tags.PatientBirthDate = tags.PatientSex = ""
    tags.PatientIdentityRemoved = "YES"
    tags.DeidentificationMethod = "Synthetic image, no patient"
    tags.BodyPartExamined = series.echoes[0].body_part.upper() or "KNEE"
    tags.PatientPosition = "FFS"
    tags.StudyInstanceUID = study_uid
    tags.SeriesInstanceUID = _uid(seed, f"series {number}")
    tags.FrameOfReferenceUID = _uid(seed, "frame")
    tags.PositionReferenceIndicator = ""
    tags.StudyID = "1"
    tags.SeriesNumber = number
    tags.AcquisitionNumber = 1
    tags.Laterality = _LATERALITY[side]
    _sequence_tags(tags, series)
    _geometry_tags(tags, series, grid)
    return tags


def _sequence_tags(tags: Dataset, series: SeriesToWrite) -> None:
    tags.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    tags.ScanningSequence = series.scanning_sequence
    tags.SequenceVariant = "NONE"
    tags.ScanOptions = ""
    tags.MRAcquisitionType = "2D"
    tags.MagneticFieldStrength = "3"
    tags.RepetitionTime = _decimal(series.repetition_time_ms)
    tags.FlipAngle = _decimal(series.flip_angle_deg)
    tags.EchoTrainLength = 1


def _geometry_tags(tags: Dataset, series: SeriesToWrite, grid: Grid) -> None:
    columns, rows, _ = grid.shape
    axes = (grid.affine[:3, :3] / np.array(grid.spacing_mm)).T * _LPS
    tags.ImageOrientationPatient = [_decimal(value) for value in np.concatenate([axes[0], axes[1]])]
    tags.PixelSpacing = [_decimal(grid.spacing_mm[1]), _decimal(grid.spacing_mm[0])]
    tags.SliceThickness = _decimal(series.slice_thickness_mm)
    tags.SpacingBetweenSlices = _decimal(grid.spacing_mm[2])
    tags.Rows, tags.Columns = rows, columns
    tags.SamplesPerPixel = 1
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.BitsAllocated, tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 16, 12, 11, 0


def _slope(series: SeriesToWrite) -> str:
    brightest = max(float(volume.intensities.max()) for volume in series.echoes)
    return _decimal(max(brightest, 1e-6) / _STORED_MAXIMUM)


def _instance(common: Dataset, series: SeriesToWrite, place: tuple[int, int], slope: str) -> Dataset:
    """One slice of one echo; `place` is (slice, echo)."""
    position, echo = place
    volume = series.echoes[echo]
    dataset = Dataset()
    dataset.update(common)
    corner = volume.grid.to_world_mm((0, 0, position)) * _LPS
    dataset.ImagePositionPatient = [_decimal(value) for value in corner]
    normal = np.cross(*np.array(common.ImageOrientationPatient, dtype=np.float64).reshape(2, 3))
    dataset.SliceLocation = _decimal(float(corner @ normal))
    dataset.EchoTime = _decimal(series.echo_times_ms[echo])
    dataset.EchoNumbers = echo + 1
    stored = _stored(volume.intensities[:, :, position], float(slope))
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", slope, "US"
    dataset.WindowCenter, dataset.WindowWidth = _window(series, slope)
    dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(stored.min()), int(stored.max())
    dataset.PixelData = stored.tobytes()
    return dataset


def _stored(intensities: NDArray[np.float32], slope: float) -> NDArray[np.uint16]:
    """Stored values (rows, columns) of one slice given as (columns, rows)."""
    counts = np.clip(np.rint(intensities.T / slope), 0, _STORED_MAXIMUM)
    return np.ascontiguousarray(counts, dtype="<u2")


def _window(series: SeriesToWrite, slope: str) -> tuple[str, str]:
    width = float(slope) * _STORED_MAXIMUM * 0.7
    return _decimal(width / 2), _decimal(width)


def _write(path: Path, dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "MSKSAM"
    dataset.file_meta = meta
    write_atomic(path, lambda stream: dataset.save_as(stream, enforce_file_format=True))


def _uid(seed: int, what: str) -> UID:
    """A UID below 2.25 (a UUID of our own, ITU-T X.667) that follows from the seed."""
    digest = bytearray(hashlib.sha256(f"msksam {seed} {what}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UID(f"2.25.{int.from_bytes(digest, 'big')}")


def _decimal(value: float) -> str:
    """A DICOM decimal string, at most 16 characters, as precise as they allow."""
    for digits in range(14, 0, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit in a decimal string")
