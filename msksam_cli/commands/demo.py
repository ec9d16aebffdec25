"""`msksam demo`: the main job on a knee that msksam draws itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import DeviceOption


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for study, labels and report.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Which knee to draw.")] = 7,
    device: DeviceOption = "auto",
) -> None:
    """Draw a knee study in DICOM, segment it, evaluate it against its truth and write the report."""
    from msksam_cli.pipeline.demo import DemoOptions, demo_text, run_demo

    result = run_demo(DemoOptions(output, seed, device))
    typer.echo(demo_text(result))
    raise typer.Exit(result.exit_code)
