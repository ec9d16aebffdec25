"""`msksam measure`: sizes and intensities of label volumes that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import ClusterOption, ExecutorOption, MapsOption, MapUnitOption, SchedulerOption


def measure(
    labels: Annotated[Path, typer.Argument(help="Folder of label volumes, run folder, or one file.")],
    *,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images with the same case names, or one file.")
    ] = None,
    fat: Annotated[
        Path | None, typer.Option("--fat", help="Fat images of a Dixon scan, for the fat fraction of muscles.")
    ] = None,
    water: Annotated[Path | None, typer.Option("--water", help="Water images of the same scan.")] = None,
    maps: MapsOption = None,
    map_unit: MapUnitOption = "ms",
    thickness_maps: Annotated[
        bool, typer.Option("--thickness-maps", help="Write thickness/<case>.nii.gz: mm at each cartilage voxel.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")] = Path("msksam-measures"),
    names: Annotated[
        str, typer.Option("--map", help="Names of the labels: 1=femur,2=tibia or a TSV. Else labels.tsv there.")
    ] = "",
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
) -> None:
    """Measure label volumes, whoever made them."""
    from msksam_cli.pipeline.executors import ExecutorOptions
    from msksam_cli.pipeline.measure import MeasureOptions, measurement_text, run_measure

    result = run_measure(
        MeasureOptions(
            labels=labels,
            images=images,
            output=output,
            names=names,
            fat=fat,
            water=water,
            maps=maps,
            map_unit=map_unit,
            thickness_maps=thickness_maps,
        ),
        ExecutorOptions(executor, scheduler, cluster),
    )
    print(measurement_text(result))
    for unusable in result.refused:
        typer.echo(f"msksam: {unusable.case}: {unusable.reason}", err=True)
    raise typer.Exit(result.exit_code)
