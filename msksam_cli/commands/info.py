"""`msksam info`: what it runs on."""

from __future__ import annotations

from typing import Annotated

import typer


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, devices and folders."""
    import json
    from dataclasses import asdict

    from msksam_cli.pipeline.environment import describe_environment, environment_text

    environment = describe_environment()
    typer.echo(json.dumps(asdict(environment), indent=2) if as_json else environment_text(environment))
