"""`msksam status`: how far a run has come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import JsonOption


def status(
    run_folder: Annotated[Path, typer.Argument(help="Output folder of msksam segment.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Say how far the runs on a folder have come, wherever they are worked on."""
    from msksam_cli.pipeline.status import run_status, status_json, status_text

    found = run_status(run_folder)
    typer.echo(status_json(found) if as_json else status_text(found))
