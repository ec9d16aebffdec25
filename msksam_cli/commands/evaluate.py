"""`msksam evaluate`: label volumes against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msksam_cli.options import ClusterOption, ExecutorOption, SchedulerOption


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of label volumes, run folder, or one file.")],
    references: Annotated[Path, typer.Argument(help="The truth: folder or one file; cases are matched by name.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables and report.html.")] = Path(
        "msksam-evaluation"
    ),
    names: Annotated[
        str,
        typer.Option("--map", help="Names of the reference's labels: 1=femur,2=tibia or a TSV. Else labels.tsv there."),
    ] = "",
    prediction_names: Annotated[
        str, typer.Option("--map-pred", help="The same for the predictions, which a run folder brings along.")
    ] = "",
    match: Annotated[
        str, typer.Option("--match", help="auto (by name where both sides have names), name or value.")
    ] = "auto",
    resample: Annotated[
        bool, typer.Option("--resample", help="Take predictions on another grid to the reference's.")
    ] = False,
    executor: ExecutorOption = "local",
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
) -> None:
    """Compare label volumes with a reference."""
    from msksam_cli.pipeline.agreement_page import agreement_warning_lines
    from msksam_cli.pipeline.evaluate import EvaluateOptions
    from msksam_cli.pipeline.evaluate import evaluate as run
    from msksam_cli.pipeline.evaluation_page import evaluation_text
    from msksam_cli.pipeline.executors import ExecutorOptions

    result = run(
        EvaluateOptions(
            predictions=predictions,
            references=references,
            output=output,
            resample=resample,
            prediction_names=prediction_names,
            reference_names=names,
            match=match,
        ),
        ExecutorOptions(executor, scheduler, cluster),
    )
    print(evaluation_text(result.summaries))
    for unusable in (*result.unmatched, *result.refused):
        typer.echo(f"msksam: {unusable.case}: {unusable.reason}", err=True)
    for note in (*result.notes, *agreement_warning_lines(result.agreements)):
        typer.echo(f"msksam: {note}", err=True)
    raise typer.Exit(result.exit_code)
