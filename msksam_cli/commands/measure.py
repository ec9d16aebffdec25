"""`msksam measure`: sizes and intensities of label volumes that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import MapsOption, MapUnitOption


def measure(
    labels: Annotated[Path, typer.Argument(help="Folder of label volumes, run folder, or one file.")],
    *,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images with the same case names, or one file.")
    ] = None,
    maps: MapsOption = None,
    map_unit: MapUnitOption = "ms",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for metrics.csv.")] = Path("msksam-measures"),
    names: Annotated[
        str, typer.Option("--map", help="Names of the labels: 1=femur,2=tibia or a TSV. Else labels.tsv there.")
    ] = "",
) -> None:
    """Measure label volumes, whoever made them."""
    from msksam_cli.pipeline.measure import MeasureOptions, measurement_text, run_measure

    result = run_measure(MeasureOptions(labels, images, output, names, maps, map_unit))
    print(measurement_text(result))
    for unusable in result.refused:
        typer.echo(f"msksam: {unusable.case}: {unusable.reason}", err=True)
    raise typer.Exit(result.exit_code)
