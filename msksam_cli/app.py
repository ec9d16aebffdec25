"""The command line: a translation from options to pipeline calls.

Every expected error becomes one line on stderr and an exit code: 0 all done, 1 a bug, 2 usage, 3 finished but some
cases failed, 4 nothing usable in the input, 5 environment, 130 and 143 on SIGINT and SIGTERM.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from msksam_cli import __version__
from msksam_cli.errors import MsksamError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Batch segmentation of musculoskeletal MRI with the Segment Anything Model.",
)


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
    signal.signal(signal.SIGTERM, _raise_exit)
    try:
        app()
    except MsksamError as error:
        typer.echo(f"msksam: {error}", err=True)
        sys.exit(error.exit_code)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    """Turn SIGTERM into an exception, so that open writes are undone on the way out."""
    del frame
    raise SystemExit(128 + number)
