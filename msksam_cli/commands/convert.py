"""`msksam convert`: DICOM series to NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    study: Annotated[Path, typer.Argument(help="Folder searched to any depth for DICOM, or one DICOM file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the NIfTI files, outside the study.")],
    min_slices: Annotated[int, typer.Option(min=2, help="Skip volumes with fewer slices.")] = 4,
) -> None:
    """Convert DICOM series to NIfTI, one file per volume, and record what became of every file."""
    from msksam_cli.pipeline.convert import ConvertOptions, conversion_text, run_convert

    result = run_convert(ConvertOptions(study, output, min_slices))
    typer.echo(conversion_text(result))
    raise typer.Exit(result.exit_code)
