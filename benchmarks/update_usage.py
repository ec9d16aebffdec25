"""Write the help texts in usage.md again: python benchmarks/update_usage.py.

A block that begins with a line `$ msksam <command> --help` is replaced by what that command prints, 100 columns wide.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer.testing import CliRunner

from msksam_cli.app import app

USAGE = Path(__file__).parent.parent / "usage.md"
WIDTH = 100
_BLOCK = re.compile(r"(?<=^\$ msksam)((?: [a-z-]+)*) --help\n.*?(?=^```)", re.MULTILINE | re.DOTALL)


def help_text(command: list[str]) -> str:
    """What `msksam <command> --help` prints."""
    asked = CliRunner().invoke(
        app, [*command, "--help"], prog_name="msksam", terminal_width=WIDTH, env={"COLUMNS": str(WIDTH)}
    )
    if asked.exit_code:
        sys.exit(f"msksam {' '.join(command)} --help failed: {asked.output}")
    return asked.output.rstrip("\n")


def main() -> None:
    """Replace every block."""
    text = USAGE.read_text(encoding="utf-8")
    updated, count = _BLOCK.subn(lambda found: f"{found[1]} --help\n{help_text(found[1].split())}\n", text)
    USAGE.write_text(updated, encoding="utf-8")
    print(f"{count} help texts, {'changed' if updated != text else 'all as they were'}")


if __name__ == "__main__":
    main()
