"""`msksam atlas`: build, list, show and check atlases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Build, list, show and check atlases.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of an atlas, or its folder.")]


@app.command()
def build(  # noqa: PLR0917  # each parameter is an option
    cases: Annotated[Path, typer.Argument(help="Folder with images/ and labels/, or imagesTr/ and labelsTr/.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; its name names the atlas.")],
    labels: Annotated[Path | None, typer.Option(help="TSV that names the labels (BIDS dseg: index, name, …).")] = None,
    name: Annotated[str, typer.Option(help="Name of the atlas, if not the folder's.")] = "",
    body_part: Annotated[str, typer.Option(help="Body part, such as knee.")] = "",
    side: Annotated[str, typer.Option(help="left or right, where all cases show that side.")] = "",
    spacing: Annotated[float, typer.Option(help="Spacing of the atlas in mm.")] = 1.5,
    deformable: Annotated[bool, typer.Option(help="Bend cases onto their mean shape before averaging.")] = False,
    left_out: Annotated[int, typer.Option(min=0, help="Cases left out, one by one, for the quality card.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="Threads for the registration.")] = 1,
) -> None:
    """Build an atlas from labelled cases, with a leave-one-out quality card."""
    from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, atlas_text, build_atlas

    result = build_atlas(
        BuildAtlasOptions(cases, output, labels, name, body_part, side, spacing, deformable, left_out, threads)
    )
    typer.echo(atlas_text(result.atlas))
    typer.echo(f"written to {output} in {result.seconds:.0f} s", err=True)
    if result.unmatched:
        typer.echo(f"msksam: without partner, not used: {', '.join(result.unmatched)}", err=True)
        raise typer.Exit(3)


@app.command("list")
def list_() -> None:
    """List the atlases that can be named."""
    from msksam_cli.pipeline.build_atlas import atlas_list_text, installed_atlases

    typer.echo(atlas_list_text(installed_atlases()))


@app.command()
def show(name: NameArgument) -> None:
    """Show an atlas: tissues, volumes and leave-one-out quality."""
    from msksam_cli.pipeline.build_atlas import atlas_text, load_atlas

    typer.echo(atlas_text(load_atlas(name)))


@app.command()
def check(name: NameArgument) -> None:
    """Check an atlas: its hash, probabilities and quality card."""
    from msksam_cli.pipeline.build_atlas import check_atlas

    complaints = check_atlas(name)
    for complaint in complaints:
        typer.echo(f"msksam: {complaint}", err=True)
    typer.echo(f"{name}: {'sound' if not complaints else f'{len(complaints)} complaints'}")
    raise typer.Exit(4 if complaints else 0)
