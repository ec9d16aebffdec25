"""`msksam scan`: what a study holds, without decoding a pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def scan(
    study: Annotated[Path, typer.Argument(help="Folder searched to any depth for DICOM and NIfTI, or one file.")],
    min_slices: Annotated[int, typer.Option(min=2, help="Skip volumes with fewer slices.")] = 4,
    use_sform: Annotated[bool, typer.Option("--use-sform", help="Trust sform where a NIfTI's forms differ.")] = False,
    use_qform: Annotated[bool, typer.Option("--use-qform", help="Trust qform where a NIfTI's forms differ.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List every series found, what would happen to it and why; decodes no pixels."""
    from msksam_cli.core.series import FormChoice
    from msksam_cli.errors import UsageError
    from msksam_cli.pipeline.scan import ScanOptions, exit_code, run_scan, scan_record, scan_text

    if use_sform and use_qform:
        raise UsageError("--use-sform and --use-qform contradict each other", "Give one of them")
    use_form: FormChoice = "sform" if use_sform else "qform" if use_qform else ""
    found = run_scan(ScanOptions(study, min_slices, use_form))
    typer.echo(json.dumps(scan_record(found), indent=1, ensure_ascii=False) if as_json else scan_text(found))
    raise typer.Exit(exit_code(found))
