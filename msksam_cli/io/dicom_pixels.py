"""How many bytes of pixels a DICOM file really has, and the decoding of one frame.

Runs inside the reading process. Decoders are named one by one: python-gdcm aborts the whole process on a damaged
JPEG-LS file, so it is never chosen even where it is installed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import UID

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_PYLIBJPEG = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
DECODER_PLUGINS = (
    dict.fromkeys(_NATIVE, "")
    | {"1.2.840.10008.1.2.5": "pydicom"}
    | dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls")
    | dict.fromkeys(_PYLIBJPEG, "pylibjpeg")
)
DEFLATED = frozenset(("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.95"))

_PIXEL_TAGS = ((0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009))
_UNDEFINED = 0xFFFFFFFF
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0…SOF15 and JPEG-LS SOF55
_PIXEL_VRS = (b"OB", b"OW", b"UN")  # read as a length these would be odd, so a file without VRs cannot look like one


@dataclass(frozen=True)
class PixelMeasure:
    """Whether there are pixels at all, and what is wrong with their length ("" when nothing is)."""

    found: bool
    defect: str = ""


def transfer_syntax(header: Dataset) -> str:
    """The transfer syntax UID, deduced from how the file was parsed when the file does not say."""
    named = str(getattr(header, "file_meta", Dataset()).get("TransferSyntaxUID", "") or "")
    if named:
        return named
    implicit, little = header.original_encoding
    return _NATIVE[0] if implicit else _NATIVE[1] if little else _NATIVE[2]


def measure_pixel_data(stream: BinaryIO, header: Dataset, file_size: int) -> PixelMeasure:
    """Compare the pixel element that starts at the stream's position with what the header declares."""
    little, start = header.original_encoding[1], stream.read(12)
    order = "<" if little else ">"
    if len(start) < 8 or struct.unpack(order + "HH", start[:4]) not in _PIXEL_TAGS:
        return PixelMeasure(False, "no pixel data")
    if struct.unpack(order + "HH", start[:4]) != _PIXEL_TAGS[0]:
        return PixelMeasure(True, "pixels are floating-point numbers")
    is_native, names_vr = transfer_syntax(header) in _NATIVE, start[4:6] in _PIXEL_VRS
    length_at = 8 if names_vr else 4
    length = int.from_bytes(start[length_at : length_at + 4], "little" if little else "big")
    if (length == _UNDEFINED) == is_native:
        return PixelMeasure(True, "transfer syntax and pixel data disagree about compression")
    value_at = stream.tell() - len(start) + length_at + 4
    if is_native:
        return PixelMeasure(True, _native_defect(header, stream, value_at, min(length, file_size - value_at)))
    return PixelMeasure(True, _encapsulated_defect(stream, value_at, file_size))


def _native_defect(header: Dataset, stream: BinaryIO, value_at: int, available: int) -> str:
    """Too few bytes, or more than padding: a wrong matrix would shift every row. Padding is short or all zero."""
    rows, columns, frames = (_count(header, name) for name in ("Rows", "Columns", "NumberOfFrames"))
    row_bytes = columns * _count(header, "BitsAllocated") // 8
    needed = rows * row_bytes * frames
    if needed <= 0:
        return f"{rows} rows and {columns} columns"
    size = f"{rows} × {columns} pixels" + (f" × {frames} frames" if frames > 1 else "")
    if available < needed:
        return f"pixel data is cut short: {size} need {needed} bytes, the file has {available}"
    excess = available - needed
    stream.seek(value_at + needed)
    if excess >= max(row_bytes, 2) and (excess > needed // 10 or any(stream.read(excess))):
        return f"pixel data does not fit its header: {size} need {needed} bytes, the file has {available}"
    return ""


def _count(header: Dataset, keyword: str) -> int:
    value = header.get(keyword)
    return (
        int(value) if isinstance(value, int | str) and str(value).strip() else 1 if keyword == "NumberOfFrames" else 0
    )


def _encapsulated_defect(stream: BinaryIO, position: int, file_size: int) -> str:
    """Walk the fragments' headers (DICOM PS3.5 annex A.4): each must end inside the file."""
    while position + 8 <= file_size:
        stream.seek(position)
        group, element, length = struct.unpack("<HHI", stream.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            return ""
        if (group, element) != (0xFFFE, 0xE000) or position + 8 + length > file_size:
            return "compressed pixel data is damaged or cut short"
        position += 8 + length
    return "compressed pixel data is cut short"


def decode_frame(header: Dataset, index: int) -> NDArray[Any]:
    """Stored values (rows, columns) of one frame, in the integer type the header declares.

    Raises:
        ValueError: the compressed image has another size than the header says.
        RuntimeError: the decoder cannot read it (pydicom's own).
    """
    syntax, shape = transfer_syntax(header), (int(header.Rows), int(header.Columns))
    if syntax not in _NATIVE:
        codestream = get_frame(header.PixelData, index, number_of_frames=_count(header, "NumberOfFrames"))
        if codestream_size(codestream) not in (None, shape):
            raise ValueError("compressed image has another size than its header says")
    decoder = get_decoder(UID(syntax))
    pixels, _ = decoder.as_array(header, index=index, raw=True, decoding_plugin=DECODER_PLUGINS[syntax])
    if pixels.shape != shape:
        raise ValueError("decoded image has another size than its header says")
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def codestream_size(codestream: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 image declares itself, None when it is none of them.

    >>> codestream_size(bytes.fromhex("ffd8 fff7 000b 08 0028 0020 01 00 11 00"))
    (40, 32)
    """
    if codestream[:4] == b"\xff\x4f\xff\x51" and len(codestream) >= 24:
        width, height, left, top = struct.unpack(">IIII", codestream[8:24])
        return height - top, width - left
    position = 2
    while codestream[:2] == b"\xff\xd8" and position + 9 <= len(codestream):
        marker = codestream[position : position + 2]
        if marker[0] != 0xFF:
            return None
        if marker[1] in _FRAME_MARKERS:
            rows, columns = struct.unpack(">HH", codestream[position + 5 : position + 9])
            return rows, columns
        position += 2 + struct.unpack(">H", codestream[position + 2 : position + 4])[0]
    return None
