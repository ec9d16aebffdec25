"""README.md, usage.md and CHANGELOG.md against the program they describe."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from msksam_cli import __version__, errors
from msksam_cli.app import app
from msksam_cli.io.review_file import REVIEW_COLUMNS
from msksam_cli.io.tables import TISSUE_COLUMNS
from msksam_cli.measure.agreement import AGREEMENT_COLUMNS
from msksam_cli.measure.comparison import PER_CASE_COLUMNS, SUMMARY_COLUMNS
from msksam_cli.measure.morphometry import METRICS_COLUMNS, Status
from msksam_cli.measure.qc import QC_COLUMNS
from msksam_cli.measure.shapes import MORPHOMETRY_COLUMNS
from msksam_cli.pipeline import compare_tables
from msksam_cli.pipeline.compare_case import COMPARED_COLUMNS
from msksam_cli.pipeline.fit_fusion import FIT_COLUMNS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "usage.md").read_text(encoding="utf-8")
WIDTH = 100
TABLES = {
    "metrics.csv": METRICS_COLUMNS,
    "morphometry.csv": MORPHOMETRY_COLUMNS,
    "qc.csv": QC_COLUMNS,
    "per_case.csv": PER_CASE_COLUMNS,
    "summary.csv": SUMMARY_COLUMNS,
    "agreement.csv": AGREEMENT_COLUMNS,
    "labels.tsv": TISSUE_COLUMNS,
    "compare.csv": COMPARED_COLUMNS,
    "compare_summary.csv": compare_tables.SUMMARY_COLUMNS,
    "paired.csv": compare_tables.PAIRED_COLUMNS,
    "fusion_fit.csv": FIT_COLUMNS,
    "review.csv": REVIEW_COLUMNS,
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its path: ("atlas", "build")."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    else:
        for name, one in inner.items():
            yield from commands(one, (*path, name))


COMMANDS = dict(commands(get_command(app)))


def help_text(path: tuple[str, ...]) -> str:
    """What `msksam <path> --help` prints on a terminal of fixed width."""
    asked = CliRunner().invoke(
        app, [*path, "--help"], prog_name="msksam", terminal_width=WIDTH, env={"COLUMNS": str(WIDTH)}
    )
    assert asked.exit_code == 0, asked.output
    return asked.output.rstrip("\n")


def section(text: str, heading: str) -> str:
    """A Markdown section from its heading to the next one of the same or a higher level."""
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"no section {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def first_cells(text: str) -> set[str]:
    """What stands in backticks in the first cell of each table row."""
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def shell_lines(text: str) -> list[str]:
    """Commands in code blocks, without prompt sign and comment."""
    blocks = re.findall(r"^```(?:[a-z]+)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if re.match(r"(make|msksam) \S", line)]


def command_of(words: list[str]) -> tuple[str, ...]:
    """The command that the words after `msksam` name."""
    two = tuple(words[:2])
    return two if two in COMMANDS else tuple(words[:1])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_usage_shows_each_help_word_for_word(path: tuple[str, ...]) -> None:
    block = f"$ msksam {' '.join(path)} --help\n{help_text(path)}\n```"
    assert block in USAGE, "run `make usage`"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_a_worked_example(path: tuple[str, ...]) -> None:
    examples = [line for line in shell_lines(USAGE) if command_of(shlex.split(line)[1:]) == path]
    assert [line for line in examples if not line.endswith("--help")]


@pytest.mark.parametrize("line", sorted({*shell_lines(README), *shell_lines(USAGE)}))
def test_commands_in_documents_exist_with_their_options(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words) <= set(targets)
        return
    if words[0] in ("--version", "--help"):
        return
    path = command_of(words)
    assert path in COMMANDS
    known = {name for parameter in COMMANDS[path].params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("-") and not re.fullmatch(r"-\d.*", word)}
    assert used <= known | {"--help"}


@pytest.mark.parametrize("table", TABLES)
def test_each_column_is_described(table: str) -> None:
    described = first_cells(section(USAGE, f"`{table}`"))
    assert set(TABLES[table]) == described


def flag_names() -> set[str]:
    """The kinds of flags that measure/qc.py can raise: second arguments of Flag(…), or what they are chosen from."""
    tree = ast.parse((ROOT / "msksam_cli" / "measure" / "qc.py").read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Flag":
            names |= {leaf.value for leaf in ast.walk(node.args[1]) if isinstance(leaf, ast.Constant)}
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "flag" for t in node.targets):
            assert isinstance(node.value, ast.IfExp)
            names |= {leaf.value for leaf in (node.value.body, node.value.orelse) if isinstance(leaf, ast.Constant)}
    return {str(name) for name in names}


def test_each_flag_is_described() -> None:
    found = flag_names()
    assert {"empty", "level_doubtful", "laterality_doubtful"} <= found
    assert first_cells(section(USAGE, "Flags")) == found


def test_each_status_is_described() -> None:
    assert {status.value for status in Status} <= set(re.findall(r"`(\w+)`", section(USAGE, "`metrics.csv`")))


def test_each_exit_code_is_described() -> None:
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MsksamError)
    }
    described = {int(code) for code in first_cells(section(USAGE, "Exit codes"))}
    assert codes | {0, 1, 2, 3, 130, 143} <= described


def test_each_environment_variable_is_described() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "msksam_cli").rglob("*.py"))
    variables = set(re.findall(r"\bMSKSAM_[A-Z_]+\b", sources))
    assert variables >= {"MSKSAM_CACHE", "MSKSAM_OFFLINE"}
    assert variables <= first_cells(section(USAGE, "Environment"))


def test_a_new_user_needs_two_commands() -> None:
    assert shell_lines(section(README, "Begin")) == ["make demo", "make test"]


def test_accuracy_in_the_readme_is_that_of_the_results() -> None:
    trusted = section(README, "How far to trust it")
    rows = re.findall(r"^\| .*\]\((benchmarks/results/[^)]+)\)(.*)$", trusted, re.MULTILINE)
    assert rows
    for results, cells in rows:
        measured = (ROOT / results).read_text(encoding="utf-8")
        numbers = re.findall(r"\b\d\.\d{3}\b", cells)
        assert numbers
        assert [number for number in numbers if number not in measured] == [], results


@pytest.mark.parametrize("document", ["README.md", "usage.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if not link.startswith(("http", "mailto"))]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_documents_name_no_machine() -> None:
    for text in (README, USAGE):
        assert not re.search(r"/(work|root|home)/", text)
