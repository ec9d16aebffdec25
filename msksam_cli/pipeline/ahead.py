"""What is found for a case before its work, where some workers have a GPU and others not.

The work finds it in the cache that all of them share: where the atlas lies, which takes most of the time and no GPU,
and the embeddings of the slices that can be asked about, which take no time on a GPU and most of it without.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from msksam_cli.atlas.attached import bones_to_find
from msksam_cli.atlas.priors import prompts_from_priors
from msksam_cli.core.slicing import slice_uint8, take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import EnvironmentFault
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.pipeline.case_work import Job, OpenCase, case_inputs, earlier, open_case, shared_job
from msksam_cli.pipeline.prompt_source import given_prompts
from msksam_cli.pipeline.reading import CaseItem
from msksam_cli.pipeline.segment_case import SLICES_AT_ONCE_ON_GPU, Tally, embed
from msksam_cli.pipeline.segment_options import SegmentOptions

_MARGIN_SLICES = 2
"""A placement is made sharper and laid along bones before it prompts; what it shows moves by less."""


@dataclass(frozen=True)
class CacheMark:
    """Tells whether workers share a cache: some leave the mark in it and the others find it.

    Attributes:
        cache: the folder, None for each worker's own default.
        digest: of the mark, another for every run.
    """

    cache: Path | None
    digest: str

    @classmethod
    def new(cls, cache: Path | None) -> CacheMark:
        """A mark that no other run has left."""
        return cls(cache, hashlib.sha256(secrets.token_bytes(32)).hexdigest())

    def leave(self) -> None:
        """On workers with a GPU.

        Raises:
            CacheError: the cache cannot be written.
        """
        ResultStore(self.cache or cache_folder()).put(self.digest, self.digest.encode())

    def find(self) -> None:
        """On the others.

        Raises:
            EnvironmentFault: the mark is not there.
        """
        if ResultStore(self.cache or cache_folder()).get(self.digest) is None:
            raise EnvironmentFault(
                "it does not see the cache of the workers with a GPU", "Name a folder that all share with --cache"
            )


@dataclass(frozen=True)
class PlaceAhead:
    """Places the atlas on a case and keeps where it lies.

    Attributes:
        options: of the run, for workers of this kind.
        work_setup_sha256: what a case that is done was done with.
    """

    options: SegmentOptions
    work_setup_sha256: str

    def __call__(self, item: CaseItem) -> None:
        """Nothing for a case that is done; raises what the work would raise of these steps."""
        job = shared_job(self.options)
        case = _opened(item, job, self.work_setup_sha256)
        if case and case.choice:
            case.kept.placement(case.choice.atlas, case.volume, job.setup.threads)


@dataclass(frozen=True)
class EncodeAhead:
    """Encodes the slices of a case that will be asked about and keeps their embeddings.

    Attributes:
        options: of the run, for workers of this kind.
        work_setup_sha256: what a case that is done was done with.
    """

    options: SegmentOptions
    work_setup_sha256: str

    def __call__(self, item: CaseItem) -> None:
        """Nothing for a case that is done; raises what the work would raise of these steps."""
        job = shared_job(self.options)
        case = _opened(item, job, self.work_setup_sha256)
        if case is None:
            return
        volume, job = case.volume, job.for_case(case.volume, case.choice)
        wanted = sorted(_slices(case, job))
        for start in range(0, len(wanted), SLICES_AT_ONCE_ON_GPU):
            chunk = wanted[start : start + SLICES_AT_ONCE_ON_GPU]
            planes = [take_slice(volume.intensities, volume.grid.slice_axis, index) for index in chunk]
            embed([slice_uint8(plane, volume.window) for plane in planes], job.setup, Tally())


def _opened(item: CaseItem, job: Job, work_setup_sha256: str) -> OpenCase | None:
    """The case with its voxels and its atlas, None when it is done."""
    if earlier(item, job, work_setup_sha256, case_inputs(item, job)):
        return None
    return open_case(item, job, Tally())


def _slices(case: OpenCase, job: Job) -> set[int]:
    """The slices that can be asked about."""
    volume, tissues = case.volume, job.setup.tissues
    if case.choice is None:
        return {prompt.slice_index for prompt in given_prompts(case.series, volume, job.options, job.source)}
    placed = case.kept.placement(case.choice.atlas, volume, job.setup.threads)
    known = {tissue.index: tissue for tissue in (*tissues, *bones_to_find(placed.tissues, tissues))}
    table = TissueTable(tuple(known[index] for index in sorted(known)))
    shown = {prompt.slice_index for prompt in prompts_from_priors(placed, table, volume.grid.slice_axis)}
    near = range(-_MARGIN_SLICES, _MARGIN_SLICES + 1)
    return {index + by for index in shown for by in near} & set(range(volume.grid.shape[volume.grid.slice_axis]))
