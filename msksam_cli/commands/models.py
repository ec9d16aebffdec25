"""`msksam models`: the checkpoints msksam knows by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, download, import and verify checkpoints.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model, see `msksam models list`.")]
Unverified = Annotated[bool, typer.Option("--unverified", help="Take a file of unpublished sha256, and pin it.")]


@app.command("list")
def list_() -> None:
    """List every model: its state, size, licence and what it is."""
    from msksam_cli.pipeline.models import list_models, models_text

    typer.echo(models_text(list_models()))


@app.command()
def path(name: Name) -> None:
    """Print where a model's checkpoint is."""
    from msksam_cli.pipeline.models import locate_model

    typer.echo(locate_model(name).path)


@app.command()
def download(name: Name, unverified: Unverified = False) -> None:
    """Download a model over https, resuming an earlier try, and compare its sha256."""
    from msksam_cli.pipeline.models import download_with_bar

    typer.echo(download_with_bar(name, accept_unverified=unverified))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Checkpoint: safetensors, or a PyTorch file with tensors only.")],
    name: Annotated[str, typer.Option(help="Name to call it by, if not the file's.")] = "",
    sha256: Annotated[str, typer.Option(help="Hash the file must have.")] = "",
    normalisation: Annotated[str, typer.Option(help="Grey levels its encoder expects: imagenet or unit.")] = "",
) -> None:
    """Copy a checkpoint into the folder of models, prove that it loads, and pin its sha256."""
    from msksam_cli.pipeline.models import import_model

    pin = import_model(file, name=name, sha256=sha256, normalisation=normalisation)
    typer.echo(f"{pin.name}  sha256 {pin.sha256}")


@app.command()
def verify() -> None:
    """Compare the sha256 of every checkpoint here with its pin."""
    from msksam_cli.pipeline.models import verify_models

    checked = verify_models()
    typer.echo("\n".join(f"{one.name}: {one.problem or 'intact'}" for one in checked))
    raise typer.Exit(5 if any(one.problem for one in checked) else 0)
