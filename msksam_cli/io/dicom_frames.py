"""What one DICOM header says about each of its images: plain values that may leave the reading process.

Identifiers become hashes and texts are kept only when they stand in a closed list.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from msksam_cli.core.quantity import Quantity

FileVerdict = Literal["image", "skip", "refuse"]

# DICOM PS3.16 CID 2 and annex L: the defined terms of Body Part Examined that a musculoskeletal study can have.
_BODY_PART_TERMS = (
    "ABDOMEN ABDOMENPELVIS ANKLE ARM BACK BACKFEMUR BUTTOCK CALF CALCANEUS CHEST CLAVICLE COCCYX CSPINE CTSPINE "
    "ELBOW EXTREMITY FEMUR FIBULA FINGER FOOT FOREARM FOREFOOT HAND HEAD HEEL HIP HUMERUS JAW JOINT KNEE LEG LSPINE "
    "LSSPINE LOWERARM LOWERLEG LOWEXTREMITY LUMBAR NECK PATELLA PELVIS RADIUS RIB SACRUM SCAPULA SHOULDER SIJOINT "
    "SKULL SPINE SSPINE STERNUM THIGH THORAX THUMB TIBIA TLSPINE TOE TRUNK TSPINE ULNA UPARM UPPERARM UPPERLEG "
    "UPEXTREMITY WHOLEBODY WRIST"
)
BODY_PARTS = frozenset(_BODY_PART_TERMS.split())
SCANNING_SEQUENCES = frozenset(("SE", "IR", "GR", "EP", "RM"))
ACQUISITION_TYPES = frozenset(("2D", "3D"))


@dataclass(frozen=True)
class FrameHeader:
    """One image plane as its own tags describe it; LPS+ frame, mm and ms.

    Attributes:
        frame: number within its file, from 0.
        study, series, instance: hashes of identifiers; equal means same.
        short_series: first 8 hex digits of the series UID's sha256.
        series_number: None when absent.
        rows, columns: pixels.
        orientation: six direction cosines (row, then column), None when missing or not numbers.
        position_mm: centre of the first pixel, None when missing or not numbers.
        spacing_mm: between rows, between columns; None when missing or not numbers.
        echo_time_ms: None when unknown.
        image_type: Image Type and complex part as a hash.
        repeats: temporal position, b-value, acquisition number, time and the like, which tell repeated positions
            apart; used for splitting only and never shown.
        quantity: what it is a ready-made map of, "" when it is none.
        decay: what the images of its series fade by if they differ in echo time, "" when unknown.
        unit: of its real-world values, from a closed list, "" when unknown.
        real_world: slope and intercept from rescaled to real-world values, None when there is no such mapping.
        defect: why this image cannot be used, "" when it can.
        hint: what to do about the defect.
    """

    frame: int
    study: str
    series: str
    instance: str
    short_series: str
    series_number: int | None
    rows: int
    columns: int
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    echo_time_ms: float | None
    image_type: str
    repeats: tuple[float | None, ...]
    is_localizer: bool = False
    modality: str = ""
    acquisition: str = ""
    sequence: str = ""
    repetition_time_ms: float | None = None
    side: str = ""
    body_part: str = ""
    quantity: Quantity = ""
    decay: Quantity = ""
    unit: str = ""
    real_world: tuple[float, float] | None = None
    defect: str = ""
    hint: str = ""


@dataclass(frozen=True)
class FileHeader:
    """What one file holds.

    Attributes:
        verdict: "image" (with `frames`), "skip" (no image for us) or "refuse" (an image that cannot be used).
        reason: why it is skipped or refused.
        hint: one imperative, or "".
        frames: one entry per image plane.
    """

    verdict: FileVerdict
    reason: str = ""
    hint: str = ""
    frames: tuple[FrameHeader, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)

    @staticmethod
    def from_json(record: dict[str, Any]) -> FileHeader:
        """The header that `to_json` wrote."""
        frames = tuple(_frame_from_json(frame) for frame in record["frames"])
        return FileHeader(record["verdict"], record["reason"], record["hint"], frames)


def _frame_from_json(record: dict[str, Any]) -> FrameHeader:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return FrameHeader(**values)


def hash_identifier(*parts: str) -> str:
    """Sha256 of identifiers, hexadecimal."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
