"""`msksam export-onnx`: a model as two ONNX files that give the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import JsonOption, ModelOption


def export_onnx(
    *,
    model: ModelOption = "msksam-small",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write.", show_default="in the folder of models")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = 18,
    as_json: JsonOption = False,
) -> None:
    """Export a model to ONNX; files are kept only if their masks are torch's own."""
    import json

    from msksam_cli.pipeline.export import ExportOptions, export_text, export_values
    from msksam_cli.pipeline.export import export_onnx as run

    exported = run(ExportOptions(model, output, opset))
    typer.echo(json.dumps(export_values(exported), indent=2) if as_json else export_text(exported))
