"""`msksam compare`: a labelled set by atlas alone, atlas prompts and true prompts, for any number of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import DeviceOption, JsonOption


def compare(
    cases: Annotated[Path, typer.Argument(help="Folder with images/ and labels/, or imagesTr/ and labelsTr/.")],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for tables, figure and report.html.")] = Path(
        "msksam-comparison"
    ),
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a model or a checkpoint file; may be given several times.", show_default="msksam-small"
        ),
    ] = None,
    atlas: Annotated[str, typer.Option(help="auto, the name of an atlas or its folder.")] = "auto",
    tissue: Annotated[str, typer.Option(help="Tissues or groups, separated by commas, or all.")] = "all",
    names: Annotated[
        str, typer.Option("--map", help="Names of the label values: 1=femur,2=tibia or a TSV. Else labels.tsv there.")
    ] = "",
    prompt_kind: Annotated[str, typer.Option(help="auto, box, point or box+point.")] = "auto",
    fit_fusion: Annotated[
        bool, typer.Option("--fit-fusion", help="Fit the prior's weight by tissue group; store it with each model.")
    ] = False,
    device: DeviceOption = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder of the cache.", show_default="user cache")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep nothing in it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare atlas alone, atlas prompts and true prompts on a labelled set, for one or more models."""
    from msksam_cli.pipeline.compare import CompareOptions
    from msksam_cli.pipeline.compare import compare as run
    from msksam_cli.pipeline.compare_page import comparison_json, comparison_text

    if no_cache and cache:
        raise typer.BadParameter("--cache and --no-cache contradict each other")
    tissues = tuple(name.strip() for name in tissue.split(",") if name.strip())
    models = tuple(model) if model else ("msksam-small",)
    options = CompareOptions(
        cases, output, models, atlas, tissues, names, prompt_kind, device, cache, not no_cache, fit_fusion
    )
    result = run(options)
    typer.echo(comparison_json(result) if as_json else comparison_text(result))
    for unusable in result.refused:
        typer.echo(f"msksam: {unusable.case}: {unusable.reason}", err=True)
    for note in result.notes:
        typer.echo(f"msksam: {note}", err=True)
    raise typer.Exit(result.exit_code)
