"""Option types that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TissueOption = Annotated[
    str, typer.Option("--tissue", help="Tissues or groups, separated by commas (bone, cartilage, femur, …), or all.")
]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the results.", show_default=False)
]
ModelOption = Annotated[str, typer.Option(help="Name of a model, or a checkpoint file.")]
MapsOption = Annotated[
    Path | None,
    typer.Option("--maps", help="Folder of quantitative maps with the cases' names, or one file.", show_default=False),
]
MapUnitOption = Annotated[str, typer.Option("--map-unit", help="Unit of maps that do not name theirs.")]
DeviceOption = Annotated[str, typer.Option(envvar="MSKSAM_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
