"""The command line: a translation from options to pipeline calls.

Every expected error becomes one line on stderr and an exit code: 0 all done, 1 a bug, 2 usage, 3 finished but some
cases failed, 4 nothing usable in the input, 5 environment, 130 and 143 on SIGINT and SIGTERM.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.main import get_command

from msksam_cli import __version__
from msksam_cli.commands import (
    atlas,
    cache,
    compare,
    convert,
    demo,
    evaluate,
    export_onnx,
    finetune,
    info,
    measure,
    models,
    qc,
    replay,
    report,
    scan,
    segment,
    status,
)
from msksam_cli.errors import MsksamError
from msksam_cli.io.ending import end_on_signals
from msksam_cli.io.privacy import install_privacy_filter

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Batch segmentation of musculoskeletal MRI with the Segment Anything Model.",
)


for command in (demo.demo, scan.scan, convert.convert, segment.segment, measure.measure, evaluate.evaluate):
    app.command()(command)
app.add_typer(atlas.app, name="atlas")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
app.add_typer(qc.app, name="qc")
app.command()(compare.compare)
app.command()(finetune.finetune)
app.command("export-onnx")(export_onnx.export_onnx)
app.command()(report.report)
app.command()(replay.replay)
app.command()(status.status)
app.command()(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"msksam {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line and exit with its code."""
    install_privacy_filter()
    end_on_signals()
    try:
        get_command(app)()  # app() itself would put typer's crash report, which quotes exceptions, in place of ours
    except MsksamError as error:
        typer.echo(f"msksam: {error}", err=True)
        sys.exit(error.exit_code)
