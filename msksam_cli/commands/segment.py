"""`msksam segment`: a study to labels, tables and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import (
    ClusterOption,
    DeviceOption,
    DicomSegOption,
    EchoTimesOption,
    EncodeSizeOption,
    ExecutorOption,
    JsonOption,
    LayoutOption,
    MapFitOption,
    MapsOption,
    MapUnitOption,
    ModelOption,
    OnlyOption,
    OutputOption,
    SchedulerOption,
    SkipFirstEchoOption,
    SpinLockTimesOption,
    TissueOption,
)


def segment(
    study: Annotated[Path, typer.Argument(help="Folder searched to any depth for DICOM and NIfTI, or one NIfTI.")],
    *,
    tissue: TissueOption,
    output: OutputOption = None,
    atlas: Annotated[str, typer.Option(help="auto, the name of an atlas or its folder.")] = "auto",
    model: ModelOption = "msksam-small",
    prompts: Annotated[str, typer.Option(help="atlas, labels:DIR or file:JSON.")] = "atlas",
    prompt_kind: Annotated[str, typer.Option(help="auto, box, point or box+point.")] = "auto",
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch, openvino, or onnx for exported models.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="auto, or slices encoded at once.")] = "auto",
    encode_size: EncodeSizeOption = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder of the cache.", show_default="user cache")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing in it.")] = False,
    no_fusion: Annotated[bool, typer.Option("--no-fusion", help="Leave the atlas's prior out of the masks.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo cases that are done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only every N-th case, from the I-th.")] = "1/1",
    strict: Annotated[bool, typer.Option("--strict", help="Fail cases of doubtful side or placement.")] = False,
    min_slices: Annotated[int, typer.Option(min=2, help="Skip volumes with fewer slices.")] = 4,
    use_sform: Annotated[bool, typer.Option("--use-sform", help="Trust sform where a NIfTI's forms differ.")] = False,
    use_qform: Annotated[bool, typer.Option("--use-qform", help="Trust qform where a NIfTI's forms differ.")] = False,
    maps: MapsOption = None,
    map_unit: MapUnitOption = "ms",
    map_fit: MapFitOption = "rician",
    skip_first_echo: SkipFirstEchoOption = False,
    echo_times_ms: EchoTimesOption = "",
    spin_lock_times_ms: SpinLockTimesOption = "",
    only: OnlyOption = None,
    dicom_seg: DicomSegOption = False,
    layout: LayoutOption = "msksam",
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment every series of a study; finished cases are kept, so that a killed run resumes."""
    from msksam_cli.pipeline import segment_options as asked
    from msksam_cli.pipeline.executors import ExecutorOptions
    from msksam_cli.pipeline.map_options import parse_maps
    from msksam_cli.pipeline.segment import run_segment
    from msksam_cli.pipeline.segment_text import run_json, run_text, tell_event

    if no_cache and cache:
        raise typer.BadParameter("--cache and --no-cache contradict each other")
    options = asked.SegmentOptions(
        study, tuple(name.strip() for name in tissue.split(",") if name.strip()), output, atlas, model, prompts,
        prompt_kind, device, precision, runtime, asked.parse_size(batch_size, "batch size"),
        asked.parse_encode_size(encode_size), cache, not no_cache, not no_fusion, overwrite, dry_run,
        asked.parse_shard(shard), strict, min_slices, asked.chosen_form(use_sform, use_qform),
        parse_maps(maps, map_unit, map_fit, skip_first_echo,
                   echo_times_ms=echo_times_ms, spin_lock_times_ms=spin_lock_times_ms), only, dicom_seg, layout,
    )  # fmt: skip
    where = ExecutorOptions(executor, scheduler, cluster)
    run = run_segment(options, where, tell_event if as_json else None)
    typer.echo(run_json(run) if as_json else run_text(run))
    raise typer.Exit(run.exit_code)
