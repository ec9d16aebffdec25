"""`msksam qc`: what slices say of their own quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import DeviceOption

app = typer.Typer(no_args_is_help=True, help="Learn from labelled cases which slices to distrust.")


@app.command()
def fit(
    cases: Annotated[Path, typer.Argument(help="Folder with images/ and labels/, or imagesTr/ and labelsTr/.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for slices.csv and calibration.png.")] = Path(
        "msksam-qc"
    ),
    model: Annotated[str, typer.Option(help="Name of a model or a checkpoint file.")] = "msksam-small",
    atlas: Annotated[str, typer.Option(help="auto, the name of an atlas or its folder.")] = "auto",
    tissue: Annotated[str, typer.Option(help="Tissues or groups, separated by commas, or all.")] = "all",
    names: Annotated[
        str, typer.Option("--map", help="Names of the label values: 1=femur,2=tibia or a TSV. Else labels.tsv there.")
    ] = "",
    device: DeviceOption = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder of the cache.", show_default="user cache")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing on disk but the results.")] = False,
) -> None:
    """Fit the expected Dice of a slice on labelled cases, store it with the model, and say what it is worth."""
    from msksam_cli.pipeline.qc_fit import QcFitOptions, qc_fit_text, run_qc_fit

    if no_cache and cache:
        raise typer.BadParameter("--cache and --no-cache contradict each other")
    tissues = tuple(name.strip() for name in tissue.split(",") if name.strip())
    result = run_qc_fit(QcFitOptions(cases, output, model, atlas, tissues, names, device, cache, not no_cache))
    typer.echo(qc_fit_text(result))
    for unusable in result.refused:
        typer.echo(f"msksam: {unusable.case}: {unusable.reason}", err=True)
    for note in result.notes:
        typer.echo(f"msksam: {note}", err=True)
    raise typer.Exit(result.exit_code)
