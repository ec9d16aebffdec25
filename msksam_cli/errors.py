"""Every error msksam raises on purpose.

    MsksamError            message (what, where, which numbers) + hint (one imperative)
    ├── InputError         the user's files or options cannot be used          exit 4 (or 3 when others could)
    │   ├── SeriesError    one DICOM series or NIfTI volume is refused
    │   └── GridMismatchError  two volumes that must share a grid do not
    ├── UsageError         options contradict each other or name unknown things    exit 2
    ├── ModelError         a checkpoint cannot be found, verified or loaded         exit 5
    ├── AtlasError         an atlas cannot be read, built or placed
    ├── CacheError         the embedding cache cannot be used
    ├── ParityError        two runtimes that must agree do not                      exit 1
    └── EnvironmentFault   disk, device or permission                               exit 5
        ├── DeviceMemoryFault  one slice or prompt alone does not fit the device
        └── UnlikeOthers       a worker whose model, packages or device are not those of the run

`ValueError` is for a programmer's mistake and never for a user's input.
"""

from __future__ import annotations

from typing import ClassVar


class MsksamError(Exception):
    """An expected failure with a message for the user and one imperative that helps.

    Args:
        message: what, where and which numbers; no patient data, no home paths.
        hint: one imperative sentence; empty when there is nothing to be done.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[MsksamError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class InputError(MsksamError):
    """A file or folder the user named cannot be used."""


class SeriesError(InputError):
    """One DICOM series or NIfTI volume is refused, with the numbers that refuse it."""


class GridMismatchError(InputError):
    """Two volumes that must lie on one grid do not."""


class UsageError(MsksamError):
    """Options contradict each other or name something unknown."""

    exit_code = 2


class ModelError(MsksamError):
    """A checkpoint cannot be found, verified or loaded."""

    exit_code = 5


class AtlasError(MsksamError):
    """An atlas cannot be read, built or placed."""


class CacheError(MsksamError):
    """The embedding cache cannot be used."""

    exit_code = 5


class ParityError(MsksamError):
    """Two runtimes that must give the same masks do not."""

    exit_code = 1


class EnvironmentFault(MsksamError):
    """The disk, the device or a permission stands in the way."""

    exit_code = 5


class DeviceMemoryFault(EnvironmentFault):
    """The least that can be computed at once does not fit the device's memory."""


class UnlikeOthers(EnvironmentFault):
    """A worker of a cluster differs from those that the run began with."""
