"""What the package promises before any work: what it needs, how fast it answers, what it carries."""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import msksam_cli

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = ("torch", "scipy", "nibabel", "SimpleITK", "pydicom", "onnxruntime", "openvino")
HELP_LIMIT_S = 0.4
PLATFORMS = (
    {"platform_system": "Linux", "platform_machine": "x86_64"},
    {"platform_system": "Linux", "platform_machine": "aarch64"},
    {"platform_system": "Darwin", "platform_machine": "arm64"},
    {"platform_system": "Darwin", "platform_machine": "x86_64"},
    {"platform_system": "Windows", "platform_machine": "AMD64"},
)


def requirement_lines(name: str) -> list[str]:
    """The lines of a requirements file that are not comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def runtime_requirements() -> list[Requirement]:
    """What pyproject.toml asks for."""
    return [Requirement(line) for line in PROJECT["dependencies"]]


def applies(marker: Marker | None, platform: dict[str, str]) -> bool:
    """Whether a requirement is one of a platform's."""
    return marker is None or marker.evaluate(platform)


def help_seconds() -> float:
    """CPU seconds of one `msksam --help`; what other programs do meanwhile does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; sys.argv = ['msksam', '--help']; from msksam_cli.app import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Usage: " in ran.stdout
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_answers_at_once() -> None:
    help_seconds()  # the first call may write bytecode
    assert statistics.median(help_seconds() for _ in range(5)) < HELP_LIMIT_S


def test_no_help_imports_what_is_heavy() -> None:
    code = f"""
import sys
from typer.main import get_command
from typer.testing import CliRunner
from msksam_cli.app import app
def ask(command, path):
    asked = CliRunner().invoke(app, [*path, "--help"])
    assert asked.exit_code == 0, asked.output
    print(" ".join(path), [name for name in {HEAVY} if name in sys.modules])
    for name, inner in getattr(command, "commands", {{}}).items():
        ask(inner, [*path, name])
ask(get_command(app), [])
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    assert "segment []" in lines
    assert [line for line in lines if not line.endswith("[]")] == []


def test_requirements_txt_says_what_pyproject_says() -> None:
    listed = {str(Requirement(line)) for line in requirement_lines("requirements.txt")}
    assert listed == {str(requirement) for requirement in runtime_requirements()}


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: "-".join(platform.values()))
def test_every_platform_gets_exactly_one_onnxruntime(platform: dict[str, str]) -> None:
    wanted = [
        requirement.name
        for requirement in runtime_requirements()
        if requirement.name.startswith("onnxruntime") and applies(requirement.marker, platform)
    ]
    gpu = platform == {"platform_system": "Linux", "platform_machine": "x86_64"}
    assert len(wanted) == 1
    assert wanted[0] == "onnxruntime-gpu" or not gpu


def test_each_dependency_is_constrained_within_its_range() -> None:
    known_good = {r.name.lower(): r for r in map(Requirement, requirement_lines("constraints.txt"))}
    extras = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for wanted in (*runtime_requirements(), *extras):
        assert wanted.name.lower() in known_good, f"constraints.txt lacks {wanted.name}"
        pins = [spec.version for spec in known_good[wanted.name.lower()].specifier if spec.operator == "=="]
        assert all(wanted.specifier.contains(pin) for pin in pins), wanted


def test_the_lock_has_every_runtime_package_but_torch_as_constrained_and_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([^#\s][^\\\n]*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    locked = {canonicalize_name(Requirement(line).name): Requirement(line) for line, _ in entries}
    constrained = {canonicalize_name(r.name): r for r in map(Requirement, requirement_lines("constraints.txt"))}
    assert {name: str(one.specifier) for name, one in locked.items()} == {
        name: str(constrained[name].specifier) for name in locked
    }
    wanted = {canonicalize_name(requirement.name): requirement for requirement in runtime_requirements()}
    assert set(wanted) - set(locked) == {"torch"}
    assert {name for name in wanted if name in locked and wanted[name].marker != locked[name].marker} == set()


def test_constraints_hold_no_local_build_and_no_path() -> None:
    for line in requirement_lines("constraints.txt"):
        assert not re.search(r"\+|@|/|^-e", line), line


def test_torch_is_bounded_but_its_build_is_not() -> None:
    torch = next(Requirement(line) for line in requirement_lines("constraints.txt") if line.startswith("torch"))
    assert torch.specifier.contains(Version("2.13.0"))
    assert torch.specifier.contains("2.13.0+cpu")
    assert not torch.specifier.contains("2.9.1")


def test_the_version_is_said_once() -> None:
    assert msksam_cli.__version__ == PROJECT["version"]


def test_the_registry_names_only_cards_that_exist() -> None:
    registry = tomllib.loads((ROOT / "models" / "registry.toml").read_text(encoding="utf-8"))
    cards = [model["card"] for model in registry["model"]]
    assert cards
    assert [card for card in cards if not (ROOT / "models" / card).is_file()] == []


def test_what_ships_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 40e6, sizes


def test_the_license_is_here_and_named() -> None:
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_ci_and_make_run_the_same_tests() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for command in ("make test", "make lint", "make types", "make docs-check", "msksam demo"):
        assert command in ci
