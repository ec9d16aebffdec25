"""Write what documents take from the program and its measurements again: python benchmarks/update_usage.py.

In usage.md, a block that begins with a line `$ msksam <command> --help` is replaced by what that command prints, 100
columns wide. In README.md, the numbers of a table row that links to a table of three columns become those of its means.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from msksam_cli.app import app

ROOT = Path(__file__).parent.parent
WIDTH = 100
_BLOCK = re.compile(r"(?<=^\$ msksam)((?: [a-z-]+)*) --help\n.*?(?=^```)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^(\| .*\]\((benchmarks/results/three-columns-[^)]+)\).*?) \|( [*0-9].*)$", re.MULTILINE)
_NUMBER = re.compile(r"\d\.\d{3}")


def help_text(command: list[str]) -> str:
    """What `msksam <command> --help` prints."""
    asked = CliRunner().invoke(
        app, [*command, "--help"], prog_name="msksam", terminal_width=WIDTH, env={"COLUMNS": str(WIDTH)}
    )
    if asked.exit_code:
        sys.exit(f"msksam {' '.join(command)} --help failed: {asked.output}")
    return asked.output.rstrip("\n")


def with_means(row: re.Match[str]) -> str:
    """A row of the README with the means of the table it links to, in the same order."""
    table = (ROOT / row[2]).read_text(encoding="utf-8")
    means = iter(_NUMBER.findall(next(line for line in table.splitlines() if line.startswith("mean"))))
    return f"{row[1]} |{_NUMBER.sub(lambda _: next(means), row[3])}"


def rewrite(name: str, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]) -> None:
    """Replace what a pattern finds in a document."""
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    updated, count = pattern.subn(replacement, text)
    path.write_text(updated, encoding="utf-8")
    print(f"{name}: {count} places, {'changed' if updated != text else 'all as they were'}")


def main() -> None:
    """Rewrite both documents."""
    rewrite("usage.md", _BLOCK, lambda found: f"{found[1]} --help\n{help_text(found[1].split())}\n")
    rewrite("README.md", _ROW, with_means)


if __name__ == "__main__":
    main()
