"""The main job: a study to label volumes, tables and a report.

scan → (per case, here or on a cluster) read → place → ask → encode → decode → fuse → measure → write → tables → report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from msksam_cli.core.series import Series, StudyScan
from msksam_cli.errors import AtlasError, EnvironmentFault, UsageError
from msksam_cli.executor import Ahead, Executor, Lost, Work
from msksam_cli.io.atomic import clean_temporaries
from msksam_cli.io.privacy import install_privacy_filter
from msksam_cli.pipeline.ahead import CacheMark, EncodeAhead, PlaceAhead
from msksam_cli.pipeline.case_files import every_file
from msksam_cli.pipeline.case_work import (
    CaseWork,
    Failed,
    JobFacts,
    Segmented,
    SeriesOutcome,
    forget_job,
    fresh_facts,
)
from msksam_cli.pipeline.echoes import first_echoes
from msksam_cli.pipeline.executors import ExecutorOptions, open_executor
from msksam_cli.pipeline.maps import case_maps, map_source, timed_series
from msksam_cli.pipeline.progress import Board
from msksam_cli.pipeline.prompt_source import PromptSource, prompt_source
from msksam_cli.pipeline.reading import CaseItem, read_ahead
from msksam_cli.pipeline.report import write_report
from msksam_cli.pipeline.review import chosen_cases
from msksam_cli.pipeline.run_exports import check_exports, write_exports
from msksam_cli.pipeline.run_record import forget_case, read_record, read_records
from msksam_cli.pipeline.scan import ScanOptions, nothing_usable, run_scan
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.pipeline.segment_run import SegmentRun, write_run

Tell = Callable[[Mapping[str, object]], None]
"""Is told of every case that is done, in plain values."""


def run_segment(options: SegmentOptions, where: ExecutorOptions | None = None, tell: Tell | None = None) -> SegmentRun:
    """Segment a study and leave everything `contract` promises in the output folder.

    Args:
        options: what is asked.
        where: cases are worked on, in this process when None.
        tell: is told of every case that is done, in place of a bar.

    Raises:
        InputError: nothing in the study is usable.
        UsageError: options contradict each other, name unknown things, or the folder holds another run's labels.
        ModelError: the model cannot be loaded.
        AtlasError: no atlas knows the tissues.
        EnvironmentFault: the disk, the device or all workers fail; what is done stays done.
    """
    started, where = time.monotonic(), where or ExecutorOptions()
    install_privacy_filter()  # before another thread reads, as what it replaces belongs to the whole process
    options = options if where.is_local else options.absolute()
    check_exports(options)
    scan = run_scan(ScanOptions(options.study, options.min_slices, options.use_form))
    if not scan.series:
        raise nothing_usable(scan)
    scan = replace(scan, series=timed_series(scan.series, options.maps))
    part, parts = options.shard
    cases = chosen_cases(first_echoes(scan.series), options.only)[part - 1 :: parts]
    maps = case_maps(map_source(options.maps, scan.series), cases)
    source = prompt_source(options)
    if options.dry_run:
        return _planned(options, scan, cases, source, started)
    items = [CaseItem(series, of_case) for series, of_case in zip(cases, maps, strict=True)]
    folder = options.output_folder
    board = Board(folder, source.tissues, options.shard)
    with ExitStack() as stack:
        with open_executor(where) as executor, _begun(items, options, where) as ready:
            try:
                work, facts = _agreed(executor, options, source)
                only = {one.case for one in cases} if options.only else None
                _prepare_folder(folder, facts.setup_sha256, options.overwrite, only)
                stack.enter_context(board.open(len(items)))
                results = executor.run(work, ready)
                found = _outcomes(results, len(items), executor, board, tell)
            finally:
                _let_go(executor)
        outcomes = tuple(found[item.case] for item in items)
        board.settle()
        done = {outcome.case for outcome in outcomes if isinstance(outcome, Segmented)}
        missing = write_exports(folder, options, [one for one in cases if one.case in done], source.tissues)
        run = SegmentRun(folder, scan, outcomes, (), time.monotonic() - started, not_exported=missing)
        write_run(run, facts, options.shard)
        write_report(folder, scan.series)
    return run


def _let_go(executor: Executor) -> None:
    """Free networks and atlases, on every worker that can be reached."""
    forget_job()
    with suppress(EnvironmentFault):
        executor.everywhere(forget_job)
        if executor.is_split:
            executor.everywhere(forget_job, on_gpu=True)


def _outcomes(
    results: Iterable[tuple[CaseItem, SeriesOutcome | Lost]],
    count: int,
    executor: Executor,
    board: Board,
    tell: Tell | None,
) -> dict[str, SeriesOutcome]:
    """Case → what became of it; tables and progress follow as cases are done."""
    found: dict[str, SeriesOutcome] = {}
    for item, result in tqdm(results, "cases", count, unit="case", disable=True if tell else None):
        outcome = Failed(item.case, result.reason) if isinstance(result, Lost) else result
        found[item.case] = outcome
        board.note(outcome, executor.workers())
        if tell:
            tell(board.event(outcome))
    return found


def _begun(
    items: Sequence[CaseItem], options: SegmentOptions, where: ExecutorOptions
) -> AbstractContextManager[Iterable[CaseItem]]:
    """The cases, read ahead where this process works on them, but for those that look done."""
    if not where.is_local:
        return nullcontext(items)
    return read_ahead(items, lambda item: options.overwrite or read_record(options.output_folder, item.case) is None)


def _agreed(
    executor: Executor, options: SegmentOptions, source: PromptSource
) -> tuple[Work[CaseItem, SeriesOutcome], JobFacts]:
    """The work on a case, and what all workers have in common.

    Where some workers have a GPU, they encode and the others do all else, with what was encoded.

    Raises:
        EnvironmentFault: workers differ.
        UsageError: workers with and without a GPU have no cache to share.
    """
    ahead: tuple[Ahead[CaseItem], ...] = ()
    encoder: JobFacts | None = None
    on_gpu = options
    if executor.is_split:
        if not options.use_cache:
            raise UsageError("workers with and without a GPU share a cache", "Leave --no-cache out")
        if options.precision == "fp16":
            raise UsageError("workers without a GPU cannot go on in fp16", "Use bf16 or fp32")
        mark = CacheMark.new(options.cache)
        executor.everywhere(mark.leave, on_gpu=True)
        executor.everywhere(mark.find)
        encoder = _common(executor.everywhere(partial(fresh_facts, on_gpu), on_gpu=True), source)
        options = replace(options, device="cpu", precision=str(encoder.plain["precision"]))
    facts = _common(executor.everywhere(partial(fresh_facts, options)), source)
    if encoder is not None:
        if facts.plain["encoder_sha256"] != encoder.plain["encoder_sha256"] or facts.versions != encoder.versions:
            raise EnvironmentFault(
                f"workers with and without a GPU differ: {encoder.difference(facts)}", "Give all one environment"
            )
        done = facts.setup_sha256
        ahead = Ahead(PlaceAhead(options, done), on_gpu=False), Ahead(EncodeAhead(on_gpu, done), on_gpu=True)
    return Work(CaseWork(options, facts), _case_of, ahead), facts


def _case_of(item: CaseItem) -> str:
    return item.case


def _common(answers: Mapping[str, JobFacts], source: PromptSource) -> JobFacts:
    """What all workers say of their jobs.

    Raises:
        EnvironmentFault: they differ, or their atlases or prompts are not those of this process.
    """
    (first, facts), *others = answers.items()
    for name, other in others:
        if difference := facts.difference(other):
            raise EnvironmentFault(
                f"workers {first} and {name} differ: {difference}", "Give all workers one environment and device"
            )
    if facts.plain["prompts_sha256"] != source.sha256:
        raise EnvironmentFault("the workers' atlases or prompts are not those of this process", "Give all the same")
    return facts


def _planned(
    options: SegmentOptions, scan: StudyScan, cases: Sequence[Series], source: PromptSource, started: float
) -> SegmentRun:
    """What would be done; nothing is written."""
    plans = [_plan(series, source) for series in cases]
    planned = tuple(plan for plan in plans if isinstance(plan, str))
    refused = tuple(plan for plan in plans if isinstance(plan, Failed))
    return SegmentRun(options.output_folder, scan, refused, planned, time.monotonic() - started, is_dry=True)


def _plan(series: Series, source: PromptSource) -> str | Failed:
    """What would be asked of a case, without looking at its voxels."""
    if source.shelf is None:
        return f"{series.case}: {', '.join(tissue.name for tissue in source.tissues)}"
    try:
        headers = source.shelf.candidates(series.body_part)
    except AtlasError as error:
        return Failed(series.case, str(error))
    names = dict.fromkeys(t.name for header in headers for t in header.tissues.select(source.shelf.wanted))
    atlases = " or ".join(header.name for header in headers)
    return f"{series.case}: {', '.join(names)} by atlas {atlases}{', as fits best' if len(headers) > 1 else ''}"


def _prepare_folder(folder: Path, setup_hash: str, overwrite: bool, only: set[str] | None) -> None:
    """Clear what a killed run left; refuse a folder with labels made another way, so that none is lost unasked.

    With `only` no labels of other cases are ever replaced.
    """
    if not folder.is_dir():
        return
    clean_temporaries(folder)
    others = [record.case for record in read_records(folder) if record.setup_sha256 != setup_hash]
    if others and not overwrite:
        raise UsageError(
            f"the output folder holds {len(others)} cases segmented with other options, tissues or model",
            "Choose another folder with -o, or replace them with --overwrite",
        )
    if only is not None and (spared := set(others) - only):
        raise UsageError(
            f"the output folder holds {len(spared)} cases segmented with other options that --only does not name",
            "Choose another folder with -o",
        )
    for case in others:
        forget_case(folder, case, every_file(case))
