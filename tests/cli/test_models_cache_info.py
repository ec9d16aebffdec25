"""The commands as a user types them, each in this process through Typer's own runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from msksam_cli.commands import cache, info, models
from msksam_cli.errors import ModelError
from msksam_cli.io.result_store import ResultStore
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.model import build_sam

runner = CliRunner()
info_app = typer.Typer()
info_app.command()(info.info)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSKSAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MSKSAM_CACHE", str(tmp_path / "cache"))


def test_models_list_shows_every_name_with_its_licence() -> None:
    result = runner.invoke(models.app, ["list"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("msksam-small", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam"))
    assert result.stdout.count("Apache-2.0") == 4


def test_models_import_then_path_then_verify(tmp_path: Path) -> None:
    file = tmp_path / "site.safetensors"
    file.write_bytes(dump_checkpoint(build_sam("msksam_small", 64), "msksam_small", name="s", preprocessing="v1"))
    assert runner.invoke(models.app, ["import", str(file), "--name", "ours"]).stdout.startswith("ours  sha256 ")
    path = Path(runner.invoke(models.app, ["path", "ours"]).stdout.strip())
    assert path.read_bytes() == file.read_bytes()
    assert "ours: intact" in runner.invoke(models.app, ["verify"]).stdout
    path.write_bytes(b"changed")
    verified = runner.invoke(models.app, ["verify"])
    assert verified.exit_code == 5
    assert "ours: ours.safetensors has sha256" in verified.stdout


def test_models_download_obeys_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSKSAM_OFFLINE", "1")
    result = runner.invoke(models.app, ["download", "sam-vit-b"])
    assert isinstance(result.exception, ModelError)
    assert "MSKSAM_OFFLINE is set" in str(result.exception)


def test_cache_commands_on_an_empty_cache(tmp_path: Path) -> None:
    information = runner.invoke(cache.app, ["info"]).stdout.splitlines()
    assert information == [
        f"{tmp_path / 'cache'}: 0 embeddings, 0.0 MiB",
        "0 fits and placements of atlases, 0.0 MiB",
    ]
    assert runner.invoke(cache.app, ["verify"]).stdout == "0 entries intact, 0 broken and removed\n"
    assert runner.invoke(cache.app, ["prune", "--max-size", "1G"]).stdout == "removed 0 entries, 0.0 MiB\n"


def test_kept_placements_are_counted_checked_and_pruned_with_the_embeddings(tmp_path: Path) -> None:
    results = ResultStore(tmp_path / "cache")
    results.put("ab" * 32, b"where an atlas lies")
    results.put("cd" * 32, b"broken")
    results.path_of("cd" * 32).write_bytes(b"?")
    assert "2 fits and placements" in runner.invoke(cache.app, ["info"]).stdout
    assert runner.invoke(cache.app, ["verify"]).stdout == "1 entries intact, 1 broken and removed\n"
    assert runner.invoke(cache.app, ["prune", "--max-size", "1G"]).stdout.startswith("removed 0 entries")
    assert runner.invoke(cache.app, ["prune", "--older-than", "1"]).stdout.startswith("removed 0 entries")
    assert runner.invoke(cache.app, ["prune"]).stdout.startswith("removed 1 entries")
    assert results.sizes() == []


def test_info_says_the_same_to_people_and_machines(tmp_path: Path) -> None:
    told = json.loads(runner.invoke(info_app, ["--json"]).stdout)
    text = runner.invoke(info_app, []).stdout
    assert told["devices"][-1] == "cpu"
    assert told["models_folder"] == str(tmp_path / "models")
    assert f"torch {told['packages']['torch']}" in text
    assert told["msksam"] in text
