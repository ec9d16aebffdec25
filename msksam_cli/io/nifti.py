"""NIfTI files in and out, with the geometry of the input kept bit for bit.

A file is read to its very end before a voxel is believed, since a gzip checksum stands there. Labels are written with
the header fields of the image they lie on.
"""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid, Shape
from msksam_cli.core.series import FormChoice
from msksam_cli.core.tissues import TissueTable, default_table
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import InputError, SeriesError
from msksam_cli.io.atomic import write_atomic
from msksam_cli.io.memory import check_fits_memory

_FORM_TOLERANCE_VOXELS = 0.1
_SHEAR_TOLERANCE = 0.01
_LABEL_TOLERANCE = 1e-3
_MOST_TRAILING_BYTES = 1 << 28
_DEFLATE_LIMIT = 1032  # zlib's own bound on how much one compressed byte can hold
_READING_BYTES_PER_VOXEL = 12
_CHUNK_BYTES = 1 << 22
_HEADER_BYTES = {348: 348, 540: 540}
_GEOMETRY_FIELDS = (
    "srow_x srow_y srow_z quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z sform_code qform_code "
    "xyzt_units dim_info"
).split()
_PARSE_ERRORS = (HeaderDataError, ImageFileError, ValueError, TypeError, OverflowError, KeyError, ArithmeticError)
_READ_ERRORS = (OSError, EOFError, zlib.error)

UNKNOWN_ORIENTATION = "orientation unknown: neither sform nor qform is set, so left and right are a guess"


@dataclass(frozen=True, eq=False)
class NiftiForm:
    """The header fields that place a NIfTI image, kept as they were read.

    Attributes:
        version: 1 or 2.
        fields: srow, quatern, qoffset, codes, units and dim_info by their names in the standard.
        pixdim: (4,) qfac and the three spacings, as stored.
        notes: what the user should know about the geometry.
    """

    version: int
    fields: dict[str, Any]
    pixdim: NDArray[Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """A checked header: the grid it describes, how to write on that grid, and nibabel's own header."""

    grid: Grid
    form: NiftiForm
    header: Any


def read_header(path: Path, use_form: FormChoice = "") -> NiftiHeader:
    """Grid and form of a 3-D NIfTI file; voxels are not read.

    Raises:
        SeriesError: the file is no usable 3-D image, with the reason.
    """
    with _open(path) as stream:
        header = _parse_header(_read(stream, 540))
    shape = _shape_3d(header)
    _check_declared_size(path, header, shape)
    affine, notes = _affine(header, shape, use_form)
    grid = _unsheared_grid(shape, affine)
    return NiftiHeader(grid, _form_of(header, notes), header)


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
    values = _read_values(path, opened)
    if not np.isfinite(values).all():
        raise SeriesError("labels are not finite numbers")
    rounded = np.rint(values)
    off = float(np.abs(values - rounded).max())
    if off > _LABEL_TOLERANCE:
        raise SeriesError(f"labels are not integers: one is {off:.3g} off", "Give a label map, not an image")
    low, high = int(rounded.min()), int(rounded.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise SeriesError(f"labels run from {low} to {high}, outside 0…65535")
    labels = rounded.astype(np.uint8 if high <= 255 else np.uint16)
    if tissues is None:
        tissues = default_table(int(value) for value in np.unique(labels) if value)
    return LabelMap(labels, opened.grid, tissues), opened.form


def write_label_map(path: Path, label_map: LabelMap, form: NiftiForm) -> None:
    """Write labels unscaled as uint8 or uint16 with the header fields of `form`; equal input gives equal bytes.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    _write(path, np.asarray(label_map.values), form, compression=6)


def write_volume(path: Path, volume: Volume, form: NiftiForm) -> None:
    """Write intensities, as 16-bit integers where those are exact and float32 otherwise.

    Raises:
        EnvironmentFault: the disk is full or the folder cannot be written.
    """
    _write(path, _smallest_exact(np.asarray(volume.intensities)), form, compression=1)


def form_from_grid(grid: Grid) -> NiftiForm:
    """The form of a new file on a grid: scanner coordinates (code 1) in sform and qform, mm."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(grid.shape)
    header.set_sform(grid.affine, code=1)
    header.set_qform(grid.affine, code=1)
    header.set_xyzt_units("mm")
    return _form_of(header, ())


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, decompressed; reading errors become one that says what is wrong."""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if compressed else raw as stream:
                yield stream  # type: ignore[misc]  # GzipFile is a binary stream for every use here
    except EOFError as error:
        raise SeriesError("compressed file is cut short", "Copy the file again") from error
    except _READ_ERRORS as error:
        reason = "compressed data is damaged" if isinstance(error, zlib.error | gzip.BadGzipFile) else "cannot be read"
        raise SeriesError(reason, "Copy the file again") from error


def _read(stream: IO[bytes], count: int) -> bytes:
    return stream.read(count)


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Silence nibabel's header repairs, which are judged by what they lead to."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _parse_header(content: bytes) -> Any:
    """nibabel's header of version 1 or 2, by the size of header that the first four bytes give."""
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}  # type: ignore[arg-type]
    kind = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    known = sizes & set(kind)
    if not known or len(content) < min(known):
        raise SeriesError("not a NIfTI file: its header is damaged or cut short")
    size = known.pop()
    try:
        with _quiet_nibabel():
            header = kind[size](content[:size], check=True)
    except _PARSE_ERRORS as error:
        raise SeriesError("NIfTI header is damaged") from error
    if bytes(header["magic"])[:2] not in (b"n+",):
        raise SeriesError("NIfTI header and image are separate files", "Convert the pair to one .nii.gz file")
    return header


def _shape_3d(header: Any) -> Shape:
    rank = int(header["dim"][0])
    dims = [int(n) for n in header["dim"][1 : rank + 1]]
    while len(dims) > 3 and dims[-1] == 1:
        dims.pop()
    if len(dims) != 3 or min(dims) < 1:
        raise SeriesError(f"image has {len(dims)} dimensions ({' × '.join(map(str, dims))}), not 3", "Give one volume")
    return dims[0], dims[1], dims[2]


def _check_declared_size(path: Path, header: Any, shape: Shape) -> None:
    """Refuse sizes that the file cannot hold or the machine cannot take."""
    dtype = _dtype(header)
    reason = check_fits_memory(shape, dtype.itemsize + _READING_BYTES_PER_VOXEL)
    if reason:
        raise SeriesError(reason)
    declared = _offset(header) + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size = path.stat().st_size
    with path.open("rb") as stream:
        holds = size * _DEFLATE_LIMIT if stream.read(2) == b"\x1f\x8b" else size
    if declared > holds:
        raise SeriesError(f"file is cut short: {declared} bytes declared, at most {holds} there", "Copy the file again")


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except _PARSE_ERRORS as error:
        raise SeriesError("NIfTI data type is unknown") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SeriesError(f"voxels of type {dtype.name} are no intensities")
    return dtype.newbyteorder(header.endianness)


def _offset(header: Any) -> int:
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or offset < 0 or offset > 1 << 30:
        raise SeriesError("NIfTI header is damaged: voxels start nowhere")
    return max(int(offset), int(header["sizeof_hdr"]) + 4)


def _affine(header: Any, shape: Shape, use_form: FormChoice) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine by the standard's precedence or the user's choice, and notes."""
    forms = {"sform": _sform(header), "qform": _qform(header)}
    if use_form:
        chosen = forms[use_form]
        if chosen is None:
            raise SeriesError(f"{use_form} is not set or damaged", "Leave out the option")
        return chosen, ()
    set_forms = {name: form for name, form in forms.items() if int(header[f"{name}_code"]) > 0}
    if any(form is None for form in set_forms.values()):
        damaged = next(name for name, form in set_forms.items() if form is None)
        raise SeriesError(f"{damaged} is damaged", "Choose the other with --use-sform or --use-qform")
    if len(set_forms) == 2:
        offset = _corner_offset_voxels(shape, forms["sform"], forms["qform"])
        if not offset <= _FORM_TOLERANCE_VOXELS:
            raise SeriesError(
                f"sform and qform place the corners {offset:.2f} voxels apart",
                "Choose one with --use-sform or --use-qform",
            )
    for name in ("sform", "qform"):
        form = set_forms.get(name)
        if form is not None:
            return form, ()
    return np.asarray(header.get_base_affine(), dtype=np.float64), (UNKNOWN_ORIENTATION,)


def _sform(header: Any) -> NDArray[np.float64] | None:
    affine = np.asarray(header.get_sform(), dtype=np.float64)
    return affine if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9 else None


def _qform(header: Any) -> NDArray[np.float64] | None:
    try:
        affine = np.asarray(header.get_qform(), dtype=np.float64)
    except _PARSE_ERRORS:
        return None
    return affine if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9 else None


def _corner_offset_voxels(shape: Shape, first: Any, second: Any) -> float:
    return Grid(shape, first).corner_offset_voxels(Grid(shape, second))


def _unsheared_grid(shape: Shape, affine: NDArray[np.float64]) -> Grid:
    try:
        grid = Grid(shape, affine)
    except InputError as error:
        raise SeriesError(error.message, error.hint) from error
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > _SHEAR_TOLERANCE:
        degrees = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        raise SeriesError(f"affine is sheared: two axes meet at {degrees:.1f}°", "Resample the image to a regular grid")
    return grid


def _form_of(header: Any, notes: tuple[str, ...]) -> NiftiForm:
    fields = {name: np.array(header[name]) for name in _GEOMETRY_FIELDS}
    version = 2 if int(header["sizeof_hdr"]) == 540 else 1
    return NiftiForm(version, fields, np.array(header["pixdim"][:4]), notes)


def _read_values(path: Path, opened: NiftiHeader) -> NDArray[Any]:
    """Voxels (I, J, K) after scaling; the file is read to its end, where a damaged copy shows."""
    dtype, shape = _dtype(opened.header), opened.grid.shape
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    with _open(path) as stream:
        _read(stream, _offset(opened.header))
        content = _read(stream, size)
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


def _write(path: Path, voxels: NDArray[Any], form: NiftiForm, *, compression: int) -> None:
    header = nibabel.Nifti1Header() if form.version == 1 else nibabel.Nifti2Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    for name, value in form.fields.items():
        header[name] = value
    header["pixdim"][:4] = form.pixdim
    header.set_slope_inter(1, 0)
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    content = header.binaryblock + b"\0\0\0\0", voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)

    def fill(stream: Any) -> None:
        stream.write(content[0])
        stream.write(content[1].tobytes(order="F"))

    if path.name.endswith(".gz"):
        write_atomic(path, lambda raw: _gzip(raw, fill, compression))
    else:
        write_atomic(path, fill)


def _gzip(raw: Any, fill: Any, compression: int) -> None:
    with gzip.GzipFile(filename="", mode="wb", compresslevel=compression, fileobj=raw, mtime=0) as stream:
        fill(stream)
