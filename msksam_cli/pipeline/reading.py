"""A case before its work: what there is to know about it, and its volume, read while another is worked on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeVar

from msksam_cli.core.series import Series
from msksam_cli.core.volume import Volume
from msksam_cli.io.dicom_reader import stop_reading
from msksam_cli.io.nifti import NiftiForm, packed_volume
from msksam_cli.io.study import input_sha256, read_series
from msksam_cli.pipeline.maps import MapSource

Read = tuple[Volume, NiftiForm]
_Result = TypeVar("_Result")


class Once(Generic[_Result]):
    """What a thread is at, handed out once and not held on to: a volume lives no longer than the work on it."""

    def __init__(self, future: Future[_Result]) -> None:
        self._held = [future]

    def take(self) -> Future[_Result] | None:
        """The first time it; None from then on."""
        return self._held.pop() if self._held else None


@dataclass(frozen=True, eq=False)
class Begun:
    """What a thread of this process is at, one after the other.

    Attributes:
        images_sha256: hash of the case's files, from before they were read.
        volume: the case's volume and the form that writes onto its grid.
        image: the volume as its file will hold it; None where a run keeps no image of the case.
    """

    images_sha256: Future[str]
    volume: Once[Read]
    image: Once[bytes] | None


@dataclass(frozen=True, eq=False)
class CaseItem:
    """What there is to know about a case before its voxels are read.

    Attributes:
        series: to be segmented.
        maps: where its quantitative map comes from.
        begun: what is read of it already; None where it is read when it is asked for, perhaps in another process.
    """

    series: Series
    maps: MapSource
    begun: Begun | None = None

    @property
    def case(self) -> str:
        """Its name."""
        return self.series.case

    @property
    def keeps_image(self) -> bool:
        """Whether a run folder gets its image, which no other file holds as NIfTI."""
        return self.series.kind == "dicom"

    def images_sha256(self) -> str:
        """Hash of its files, see `input_sha256`; of none that was written after the volume was read.

        Raises:
            InputError: a file cannot be read.
        """
        return self.begun.images_sha256.result() if self.begun else input_sha256(self.series)

    def read(self) -> Read:
        """Its volume, and the form that writes labels onto its grid.

        Raises:
            SeriesError: as `read_series`.
        """
        future = self.begun.volume.take() if self.begun else None
        return future.result() if future else read_series(self.series)

    def image(self, volume: Volume, form: NiftiForm) -> bytes:
        """The volume that was read, as its file in the run folder holds it."""
        future = self.begun.image.take() if self.begun and self.begun.image else None
        return future.result() if future else packed_volume(volume, form)


@contextmanager
def read_ahead(items: Iterable[CaseItem], is_wanted: Callable[[CaseItem], bool]) -> Iterator[Iterator[CaseItem]]:
    """The items in their order, each read in a thread of its own since the one before it was given out.

    The first is being read as soon as this is entered. Beside the volume that is worked on there is one more at most.

    Args:
        items: of a run in this process.
        is_wanted: whether an item will be read at all, as far as can be told.
    """
    readers: list[int] = []
    pool = ThreadPoolExecutor(1, "read-ahead", initializer=lambda: readers.append(threading.get_ident()))
    begun = (_begun(item, pool) if is_wanted(item) else item for item in items)
    try:
        yield _one_ahead(deque(islice(begun, 1)), begun)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for reader in readers:
            stop_reading(reader)


def _one_ahead(waiting: deque[CaseItem], begun: Iterator[CaseItem]) -> Iterator[CaseItem]:
    while waiting:
        waiting.extend(islice(begun, 1))
        yield waiting.popleft()


def _begun(item: CaseItem, pool: ThreadPoolExecutor) -> CaseItem:
    images_sha256 = pool.submit(input_sha256, item.series)  # before: what is replaced meanwhile is to be found changed
    volume = pool.submit(_read, item.series)
    pool.submit(lambda: volume.result()[0].window)  # is kept with the volume, and not asked for at once
    image = pool.submit(lambda: packed_volume(*volume.result())) if item.keeps_image else None
    return replace(item, begun=Begun(images_sha256, Once(volume), Once(image) if image else None))


def _read(series: Series) -> Read:
    """A series with what a case asks of its volume first."""
    volume, form = read_series(series)
    _ = volume.sha256
    return volume, form
