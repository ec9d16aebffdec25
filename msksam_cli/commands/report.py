"""`msksam report`: build the report of a run folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="Output folder of msksam segment.")]) -> None:
    """Build report.html of a run folder again from its tables and figures."""
    from msksam_cli.pipeline.report import write_report

    print(f"wrote {write_report(run).name}")
