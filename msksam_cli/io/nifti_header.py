"""NIfTI headers: parsed, checked, and the fields that place an image kept bit for bit.

The affine follows the NIfTI-1 standard: sform when its code is set, else qform, else the spacings alone.
"""

from __future__ import annotations

import gzip
import logging
import math
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
from msksam_cli.core.quiet import without_warnings
from msksam_cli.core.series import FormChoice
from msksam_cli.errors import GridMismatchError, InputError, SeriesError
from msksam_cli.io.memory import check_fits_memory

_FORM_TOLERANCE_VOXELS = 0.1
_EXACT_QFORM_VOXELS = 0.01
_SHEAR_TOLERANCE = 0.01
_WRITTEN_TOLERANCE_VOXELS = 0.01  # single precision of the header, in a large matrix
_QUATERNION_ROUNDING = 1e-6
_DEFLATE_LIMIT = 1032  # zlib's own bound on how much one compressed byte can hold
_READING_BYTES_PER_VOXEL = 12
_HEADER_SIZE = {1: 348, 2: 540}
_QUATERNION = ("quatern_b", "quatern_c", "quatern_d")
_OFFSET = ("qoffset_x", "qoffset_y", "qoffset_z")
_GEOMETRY_FIELDS = (
    *("srow_x", "srow_y", "srow_z", *_QUATERNION, *_OFFSET),
    *("sform_code", "qform_code", "xyzt_units", "dim_info"),
)
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
    with open_content(path) as stream:
        header, raw = _parse_header(stream.read(_HEADER_SIZE[2]))
    shape = _shape_3d(header)
    _check_declared_size(path, header, shape)
    with np.errstate(all="ignore"):  # damaged headers overflow; what they lead to is judged
        affine, notes = _affine(header, shape, use_form)
        grid = _unsheared_grid(shape, affine)
    return NiftiHeader(grid, _form_of(raw, notes), header)


def form_from_grid(grid: Grid) -> NiftiForm:
    """The form of a new file on a grid: scanner coordinates (code 1) in the sform, mm.

    The qform gets code 1 as well where it is exact; its quaternion has single precision, which for rotations near
    180° is worth a third of a voxel in a matrix of 512, and then its code stays 0.
    """
    header = nibabel.Nifti1Header()
    header.set_data_shape(grid.shape)
    header.set_sform(grid.affine, code=1)
    header.set_qform(grid.affine, code=1)
    if _corner_offset_voxels(grid.shape, grid.affine, header.get_qform()) > _EXACT_QFORM_VOXELS:
        header["qform_code"] = 0
    header.set_xyzt_units("mm")
    return _form_of(header, ())


def check_written(path: Path, grid: Grid, form: NiftiForm) -> None:
    """Raise unless a file that was just written lies on `grid` and has the header fields of `form`.

    The voxel corners of `grid` are taken to the world by its affine and back by that of the file.

    Raises:
        GridMismatchError: it does not.
    """
    with open_content(path) as stream:
        header, raw = _parse_header(stream.read(_HEADER_SIZE[2]))
    written = _form_of(raw, ())
    changed = [
        name for name, value in form.fields.items() if not np.array_equal(written.fields[name], value, equal_nan=True)
    ]
    with np.errstate(all="ignore"):
        affines = [
            affine for affine in (_sform(header), _qform(header), header.get_base_affine()) if affine is not None
        ]
        offset = min(_corner_offset_voxels(grid.shape, grid.affine, affine) for affine in affines)
    shape = _shape_3d(header)
    if changed or shape != grid.shape or not offset <= _WRITTEN_TOLERANCE_VOXELS:
        what = f"fields {', '.join(changed)} differ" if changed else f"shape {shape}, corners {offset:.3g} voxels off"
        raise GridMismatchError(f"what was to be written does not lie on its image's grid: {what}", "Report this bug")


@contextmanager
def open_content(path: Path) -> Iterator[IO[bytes]]:
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


@contextmanager
def _quiet_nibabel() -> Iterator[None]:
    """Silence nibabel's header repairs, which are judged by what they lead to."""
    logger = logging.getLogger("nibabel.global")
    with without_warnings():
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _parse_header(content: bytes) -> tuple[Any, Any]:
    """nibabel's header of version 1 or 2, by the size that the first four bytes give: repaired, and as stored."""
    sizes = {int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")}
    version = next((version for version, size in _HEADER_SIZE.items() if size in sizes), None)
    if version is None or len(content) < _HEADER_SIZE[version]:
        raise SeriesError("not a NIfTI file, or its header is damaged")
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    try:
        with _quiet_nibabel():
            header = kind(content[: _HEADER_SIZE[version]], check=True)
            raw = kind(content[: _HEADER_SIZE[version]], check=False)
    except _PARSE_ERRORS as error:
        raise SeriesError("NIfTI header is damaged") from error
    if bytes(header["magic"])[:2] != b"n+":
        raise SeriesError("NIfTI header and image are separate files", "Convert the pair to one .nii.gz file")
    return header, raw


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
    dtype = voxel_dtype(header)
    declared = voxel_offset(header) + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    with path.open("rb") as stream:
        holds = size * _DEFLATE_LIMIT if stream.read(2) == b"\x1f\x8b" else size
    if declared > holds:
        raise SeriesError(f"file is cut short: {declared} bytes declared, at most {holds} there", "Copy the file again")
    reason = check_fits_memory(shape, dtype.itemsize + _READING_BYTES_PER_VOXEL)
    if reason:
        raise SeriesError(reason)


def voxel_dtype(header: Any) -> np.dtype[Any]:
    """Type of the stored voxels, in the file's byte order.

    Raises:
        SeriesError: it is unknown, or no single real number.
    """
    try:
        dtype = np.dtype(header.get_data_dtype())
    except _PARSE_ERRORS as error:
        raise SeriesError("NIfTI data type is unknown") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SeriesError(f"voxels of type {dtype.name} are no intensities")
    ordered: np.dtype[Any] = dtype.newbyteorder(header.endianness)
    return ordered


def voxel_offset(header: Any) -> int:
    """Byte at which the voxels start.

    Raises:
        SeriesError: the header names no such place.
    """
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
        if not (offset <= _FORM_TOLERANCE_VOXELS or _qform_is_rounded_sform(header, shape)):
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


def _qform_is_rounded_sform(header: Any, shape: Shape) -> bool:
    """Whether the stored quaternion is the sform's own, as far as single precision can hold it."""
    sform = _sform(header)
    if sform is None:
        return False
    exact = nibabel.Nifti2Header()  # its quaternion has double precision
    exact.set_data_shape(shape)
    exact.set_qform(sform)
    if _corner_offset_voxels(shape, sform, exact.get_qform()) > _FORM_TOLERANCE_VOXELS:
        return False
    stored, wanted = (np.array([float(source[name]) for name in _QUATERNION]) for source in (header, exact))
    turned = min(np.abs(stored - wanted).max(), np.abs(stored + wanted).max())
    spacings = np.abs(np.array(header["pixdim"][1:4], dtype=np.float64) / exact["pixdim"][1:4] - 1).max()
    moved_mm = np.abs([float(header[name]) - float(exact[name]) for name in _OFFSET]).max()
    return bool(turned <= _QUATERNION_ROUNDING and spacings <= 1e-5 and moved_mm <= 0.01 * exact["pixdim"][1:4].min())


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
    version = 2 if int(header["sizeof_hdr"]) == _HEADER_SIZE[2] else 1
    return NiftiForm(version, fields, np.array(header["pixdim"][:4]), notes)
