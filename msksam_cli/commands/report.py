"""`msksam report`: build the report of a run folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Output folder of msksam segment.")],
    *,
    images: Annotated[
        Path | None, typer.Option(help="The study, for the viewer's volumes of NIfTI input.", show_default=False)
    ] = None,
    viewer: Annotated[
        bool | None, typer.Option(help="Put the viewer into the page.", show_default="where it is installed")
    ] = None,
    viewer_cases: Annotated[int, typer.Option(min=0, help="Most cases whose volume the page carries.")] = 20,
) -> None:
    """Build report.html of a run folder again from its tables, figures and prompts."""
    from msksam_cli.pipeline.report import ReportOptions, run_report

    done = run_report(ReportOptions(run, images, viewer, viewer_cases))
    volumes = f"{done.volumes} of them in the viewer" if done.has_viewer else "without viewer"
    print(f"wrote {done.path.name}: {done.cases} cases, {volumes}, {done.megabytes:.1f} MB")
