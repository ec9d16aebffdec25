"""NIfTI files in and out, with the geometry of the input kept bit for bit.

A file is read to its very end before a voxel is believed, since a gzip checksum stands there. Labels are written with
the header fields of the image they lie on.
"""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.quantity import QuantityMap
from msksam_cli.core.series import FormChoice
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import SeriesError
from msksam_cli.io.atomic import atomic_path
from msksam_cli.io.nifti_header import (
    NiftiForm,
    NiftiHeader,
    check_written,
    form_from_grid,
    open_content,
    read_header,
    voxel_dtype,
    voxel_offset,
)

__all__ = [
    "NiftiForm",
    "form_from_grid",
    "packed_volume",
    "read_header",
    "read_label_map",
    "read_labels",
    "read_map",
    "read_volume",
    "write_label_map",
    "write_packed",
    "write_volume",
]

_LABEL_TOLERANCE = 1e-3
_MOST_TRAILING_BYTES = 1 << 28
_CHUNK_BYTES = 1 << 22
_NO_EXTENSION = bytes(4)
_LABEL_COMPRESSION, _VOLUME_COMPRESSION = 6, 1


def read_volume(path: Path, use_form: FormChoice = "") -> tuple[Volume, NiftiForm]:
    """Intensities of a 3-D NIfTI file and what is needed to write labels onto the same grid.

    Raises:
        SeriesError: damaged, cut short, not 3-D, not finite, sheared, or sform and qform disagree.
    """
    opened = read_header(path, use_form)
    values = _read_values(path, opened)
    with np.errstate(over="ignore", invalid="ignore"):
        intensities = values.astype(np.float32)
    if not np.isfinite(intensities).all():
        count = int((~np.isfinite(intensities)).sum())
        raise SeriesError(f"{count} voxels are not finite numbers", "Replace them in the image")
    return Volume(intensities, opened.grid), opened.form


def read_map(path: Path, unit: str) -> QuantityMap:
    """A quantity in a 3-D NIfTI file, whose header names no unit for voxels; values that are not finite are unknown.

    Raises:
        SeriesError: as `read_volume`, values that are not finite aside.
    """
    opened = read_header(path)
    with np.errstate(over="ignore", invalid="ignore"):
        values = _read_values(path, opened).astype(np.float32)
    return QuantityMap(values, opened.grid, unit)


def read_label_map(path: Path, tissues: TissueTable | None = None) -> LabelMap:
    """Integer labels of a 3-D NIfTI file; without a table the labels name themselves.

    Raises:
        SeriesError: not readable as an image, or values that are no labels.
        InputError: a value is not in the table.
    """
    return read_labels(path, tissues)[0]


def read_labels(path: Path, tissues: TissueTable | None = None) -> tuple[LabelMap, NiftiForm]:
    """Like `read_label_map`, with the form that writes onto the same grid."""
    opened = read_header(path)
    labels = _integers(_read_values(path, opened))
    if tissues is None:
        tissues = default_table(int(value) for value in np.flatnonzero(np.bincount(labels.ravel("K"))) if value)
    return LabelMap(labels, opened.grid, tissues), opened.form


def _integers(values: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Values as labels, when that is what they are."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise SeriesError("labels are not finite numbers")
        rounded = np.rint(values)
        off = float(np.abs(values - rounded).max())
        if off > _LABEL_TOLERANCE:
            raise SeriesError(f"labels are not integers: one is {off:.3g} off", "Give a label map, not an image")
        values = rounded
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise SeriesError(f"labels run from {low} to {high}, outside 0…65535")
    return values.astype(np.uint8) if high <= np.iinfo(np.uint8).max else values.astype(np.uint16)


def write_label_map(path: Path, label_map: LabelMap, form: NiftiForm) -> None:
    """Write labels unscaled as uint8 or uint16 with the header fields of `form`; equal input gives equal bytes.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
        GridMismatchError: the form places the voxels elsewhere than their grid; nothing is written.
    """
    content = _content(np.asarray(label_map.values), form)
    write_packed(path, _packed(content, _LABEL_COMPRESSION) if _is_packed(path) else content, label_map.grid, form)


def write_volume(path: Path, volume: Volume, form: NiftiForm) -> None:
    """Write intensities, as 16-bit integers where those are exact and float32 otherwise.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
        GridMismatchError: the form places the voxels elsewhere than their grid; nothing is written.
    """
    content = packed_volume(volume, form) if _is_packed(path) else _volume_content(volume, form)
    write_packed(path, content, volume.grid, form)


def packed_volume(volume: Volume, form: NiftiForm) -> bytes:
    """What `write_volume` writes as `.nii.gz`."""
    return _packed(_volume_content(volume, form), _VOLUME_COMPRESSION)


def write_packed(path: Path, content: bytes, grid: Grid, form: NiftiForm) -> None:
    """Write a NIfTI file's bytes, and read the geometry back before the file gets its name.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
        GridMismatchError: the form places the voxels elsewhere than their grid; nothing is written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        check_written(temporary, grid, form)


def _read_values(path: Path, opened: NiftiHeader) -> NDArray[Any]:
    """Voxels (I, J, K) after scaling; the file is read to its end, where a damaged copy shows."""
    dtype, shape = voxel_dtype(opened.header), opened.grid.shape
    size = math.prod(shape) * dtype.itemsize
    with open_content(path) as stream:
        stream.read(voxel_offset(opened.header))
        content = stream.read(size)
        trailing = 0
        while chunk := stream.read(_CHUNK_BYTES):
            trailing += len(chunk)
            if trailing > _MOST_TRAILING_BYTES:
                raise SeriesError(f"more than {_MOST_TRAILING_BYTES >> 20} MiB follow the declared voxels")
    if len(content) != size:
        raise SeriesError(f"file is cut short: {size} bytes of voxels declared, {len(content)} there")
    raw = np.frombuffer(content, dtype).reshape(shape, order="F")
    slope, intercept = float(opened.header["scl_slope"]), float(opened.header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1.0, 0.0):
        return raw
    if not np.isfinite(intercept):
        raise SeriesError("scale intercept is not a finite number")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(raw * slope + intercept)


def _smallest_exact(intensities: NDArray[np.float32]) -> NDArray[Any]:
    low, high = float(intensities.min()), float(intensities.max())
    for dtype in (np.uint8, np.int16, np.uint16):
        limits = np.iinfo(dtype)
        if low >= limits.min and high <= limits.max:
            integers = intensities.astype(dtype)
            return integers if np.array_equal(integers, intensities) else intensities
    return intensities


def _volume_content(volume: Volume, form: NiftiForm) -> bytes:
    return _content(_smallest_exact(np.asarray(volume.intensities)), form)


def _content(voxels: NDArray[Any], form: NiftiForm) -> bytes:
    """Header and voxels of an uncompressed file."""
    header = nibabel.Nifti1Header() if form.version == 1 else nibabel.Nifti2Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    for name, value in form.fields.items():
        header[name] = value
    header["pixdim"][:4] = form.pixdim
    header.set_slope_inter(1, 0)
    header["vox_offset"] = len(header.binaryblock) + len(_NO_EXTENSION)
    little_endian = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    return bytes(header.binaryblock + _NO_EXTENSION + little_endian.tobytes(order="F"))


def _is_packed(path: Path) -> bool:
    return path.name.endswith(".gz")


def _packed(content: bytes, compression: int) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile("", "wb", compression, stream, mtime=0) as compressed:
        compressed.write(content)
    return stream.getvalue()
