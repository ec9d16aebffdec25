"""What a study holds before any voxel is decoded: series, refusals, and the state of every file.

Nothing here carries patient data: identifiers are hashes, and descriptions are put together from values that were
checked against closed lists.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msksam_cli.core.geometry import Grid
from msksam_cli.core.quantity import TIME_UNITS, Quantity

SeriesKind = Literal["dicom", "nifti"]
FileState = Literal["used", "skipped", "refused"]
Side = Literal["left", "right", ""]
FormChoice = Literal["", "sform", "qform"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Series:
    """One volume to come: the files that hold it and what their headers say.

    Attributes:
        case: name of the volume, free of patient data and unique in its study.
        kind: "dicom" or "nifti".
        files: the file of each slice in geometric order (a multi-frame file is repeated), or one NIfTI file.
        frames: frame number within its file, from 0, for each entry of `files`.
        description: words from closed lists and numbers, such as "MR 3D GR, TE 10 ms".
        echo_time_ms: None when unknown; the spin-lock time where `decay` is T1ρ.
        side: "left", "right" or "" when the tags do not say.
        body_part: lower-case DICOM body part from the standard's list, "" when unknown.
        grid: where the voxels will lie; None only when the headers cannot tell.
        study: hash of patient and study, equal for series of one study; "" for NIfTI.
        echo_group: name shared by the echoes of one multi-echo acquisition, "" for a single echo.
        decay: what the volumes of its echo group fade by, "" when unknown.
        quantity: what it is a ready-made map of, "" when it is none or of something unknown.
        unit: of a ready-made map, "" when unknown.
        real_world: slope and intercept from its voxels to values in `unit`, None where they are that already.
        use_form: which NIfTI transform the user chose, "" for the file's own precedence.
        notes: what the user should know, such as an unknown orientation.
    """

    case: str
    kind: SeriesKind
    files: tuple[Path, ...]
    frames: tuple[int, ...]
    description: str
    echo_time_ms: float | None = None
    side: Side = ""
    body_part: str = ""
    grid: Grid | None = None
    study: str = ""
    echo_group: str = ""
    decay: Quantity = ""
    quantity: Quantity = ""
    unit: str = ""
    real_world: tuple[float, float] | None = None
    use_form: FormChoice = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.files or len(self.files) != len(self.frames):
            raise ValueError(f"series {self.case} has {len(self.files)} files and {len(self.frames)} frames")

    @property
    def is_map(self) -> bool:
        """Whether its voxels hold a quantity, so that nothing is to be segmented in it."""
        return bool(self.quantity) or self.unit in TIME_UNITS


@dataclass(frozen=True)
class Refusal:
    """A series, or files that belong to no known series, that will not be used.

    Attributes:
        where: case name or count of files; no patient data.
        reason: which numbers refuse it.
        hint: one imperative, or "".
    """

    where: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}. {self.hint}" if self.hint else f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class FileRecord:
    """What became of one input file.

    Attributes:
        path: relative to the study; may hold a patient's name, so print `public_name` instead.
        state: "used", "skipped" or "refused".
        reason: why it was not used, "" when it was.
        case: the volume or series it belongs to, "" when none.
    """

    path: Path
    state: FileState
    reason: str = ""
    case: str = ""

    @property
    def public_name(self) -> str:
        """The name that may leave the machine: NIfTI paths as given, every other path as a hash.

        >>> FileRecord(Path("knees/a.nii.gz"), "used").public_name
        'knees/a.nii.gz'
        >>> FileRecord(Path("DOE^JANE.dcm"), "used").public_name
        'file-df9c096d3ec4'
        """
        posix = self.path.as_posix()
        if posix.lower().endswith(NIFTI_SUFFIXES):
            return posix.encode("utf-8", "backslashreplace").decode("utf-8")
        return "file-" + hashlib.sha256(posix.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class StudyScan:
    """Everything found in a study.

    Attributes:
        series: volumes that can be read, in order of case name.
        refused: series and files that cannot be used though they look like images.
        files: every input file in exactly one state, in order of path.
        hint: what to do when nothing usable was found, "" otherwise.
    """

    series: tuple[Series, ...]
    refused: tuple[Refusal, ...]
    files: tuple[FileRecord, ...]
    hint: str = ""

    def count(self, state: FileState) -> int:
        """How many files ended in a state."""
        return sum(record.state == state for record in self.files)
