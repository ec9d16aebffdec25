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
EncodeSizeOption = Annotated[
    str, typer.Option("--encode-size", help="auto, slice, or the side in pixels slices are encoded at.")
]
MapsOption = Annotated[
    Path | None,
    typer.Option("--maps", help="Folder of quantitative maps with the cases' names, or one file.", show_default=False),
]
MapUnitOption = Annotated[str, typer.Option("--map-unit", help="Unit of maps that do not name theirs.")]
MapFitOption = Annotated[
    str, typer.Option("--map-fit", help="Noise floor of a decay that is fitted: rician, offset or none.")
]
SkipFirstEchoOption = Annotated[
    bool, typer.Option("--skip-first-echo", help="Fit decays without the image of the shortest time.")
]
EchoTimesOption = Annotated[
    str, typer.Option("--echo-times-ms", help="Echo times that no tag tells: 10,20,30.", show_default=False)
]
SpinLockTimesOption = Annotated[
    str, typer.Option("--spin-lock-times-ms", help="Spin-lock times of T1ρ images: 0,10,40,80.", show_default=False)
]
DeviceOption = Annotated[str, typer.Option(envvar="MSKSAM_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
OnlyOption = Annotated[
    Path | None,
    typer.Option("--only", help="review.csv of a report (cases to edit, rejected), or a list of cases."),
]
DicomSegOption = Annotated[
    bool, typer.Option("--dicom-seg", help="Write DICOM SEG too; IT NAMES THE PATIENT, as its images do.")
]
LayoutOption = Annotated[str, typer.Option("--layout", help="msksam, or bids to add a BIDS derivative.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="local, or dask for workers elsewhere.")]
SchedulerOption = Annotated[
    str, typer.Option("--scheduler", help="Address of a dask scheduler, such as tcp://host:8786.", show_default=False)
]
ClusterOption = Annotated[
    Path | None, typer.Option("--cluster", help="TOML file of the workers to start: local, ssh or slurm.")
]
