"""A case before its work: what there is to know about it, and its volume, read while another is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from msksam_cli.core.series import Series
from msksam_cli.core.volume import Volume
from msksam_cli.io.nifti import NiftiForm, packed_volume
from msksam_cli.io.study import read_series
from msksam_cli.pipeline.maps import MapSource

Read = tuple[Volume, NiftiForm]


@dataclass(frozen=True, eq=False)
class Begun:
    """What a thread of this process is at.

    Attributes:
        volume: the case's volume and the form that writes onto its grid.
        image: the volume as its file will hold it; None where a run keeps no image of the case.
    """

    volume: Future[Read]
    image: Future[bytes] | None


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

    def read(self) -> Read:
        """Its volume, and the form that writes labels onto its grid.

        Raises:
            SeriesError: as `read_series`.
        """
        return self.begun.volume.result() if self.begun else read_series(self.series)

    def image(self, volume: Volume, form: NiftiForm) -> bytes:
        """The volume that was read, as its file in the run folder holds it."""
        return self.begun.image.result() if self.begun and self.begun.image else packed_volume(volume, form)


@contextmanager
def read_ahead(items: Iterable[CaseItem], is_wanted: Callable[[CaseItem], bool]) -> Iterator[Iterator[CaseItem]]:
    """The items in their order, each read in a thread of its own since the one before it was given out.

    The first is being read as soon as this is entered. There are never more than two volumes at a time.

    Args:
        items: of a run in this process.
        is_wanted: whether an item will be read at all, as far as can be told.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting = iter(items)
        first = next((_begun(item, pool, is_wanted) for item in waiting), None)
        yield _one_ahead(first, waiting, pool, is_wanted)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_ahead(
    item: CaseItem | None, waiting: Iterator[CaseItem], pool: ThreadPoolExecutor, is_wanted: Callable[[CaseItem], bool]
) -> Iterator[CaseItem]:
    while item is not None:
        following = next((_begun(later, pool, is_wanted) for later in waiting), None)
        yield item
        item = following


def _begun(item: CaseItem, pool: ThreadPoolExecutor, is_wanted: Callable[[CaseItem], bool]) -> CaseItem:
    if not is_wanted(item):
        return item
    volume = pool.submit(_read, item.series)
    pool.submit(lambda: volume.result()[0].window)  # is kept with the volume, and not asked for at once
    image = pool.submit(lambda: packed_volume(*volume.result())) if item.keeps_image else None
    return replace(item, begun=Begun(volume, image))


def _read(series: Series) -> Read:
    """A series with what a case asks of its volume first."""
    volume, form = read_series(series)
    _ = volume.sha256
    return volume, form
