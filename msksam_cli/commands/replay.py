"""`msksam replay`: make the labels of a case again from its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import JsonOption


def replay(
    prompts: Annotated[Path, typer.Argument(help="prompts/<case>.json of a run.")],
    *,
    image: Annotated[
        Path | None, typer.Option(help="The NIfTI that was segmented.", show_default="images/<case>.nii.gz of the run")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Label volume to write.", show_default="none")
    ] = None,
    model: Annotated[str, typer.Option(help="Name or checkpoint file.", show_default="as recorded")] = "",
    atlas: Annotated[str, typer.Option(help="Name or folder.", show_default="as recorded")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", show_default="as recorded")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a case's labels again and compare them bit for bit; 3 when one voxel differs."""
    from msksam_cli.pipeline.replay import ReplayOptions, replay_json, replay_text, run_replay

    done = run_replay(ReplayOptions(prompts, image, output, model, atlas, device))
    typer.echo(replay_json(done) if as_json else replay_text(done))
    raise typer.Exit(done.exit_code)
