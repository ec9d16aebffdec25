from __future__ import annotations

import re
from pathlib import Path

import pytest

from msksam_cli.errors import ModelError
from msksam_cli.io.registry import ModelEntry, Pin, read_pins, read_registry, write_pin
from msksam_cli.io.resources import bundled, cache_folder, is_offline, models_folder

PIN = Pin("mine", "mine.pth", "a" * 64, 12, "import")


def test_the_registry_that_ships_names_licences_cards_and_the_source_of_every_downloads_hash() -> None:
    entries = {entry.name: entry for entry in read_registry(bundled("registry.toml"))}
    assert set(entries) == {"msksam-small", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam"}
    for entry in entries.values():
        assert entry.licence in ("MIT", "Apache-2.0")
        assert entry.is_bundled or bundled(entry.card).is_file()
        assert entry.is_bundled or bool(entry.sha256) == bool(entry.sha256_source)
    commit = re.compile(r"https://github\.com/[^/]+/[^/]+/blob/[0-9a-f]{40}/")
    assert all(commit.match(entry.sha256_source) for entry in entries.values() if entry.sha256_source)
    assert entries["medsam"].normalisation == "unit"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../up"}, "not made of"),
        ({"sha256": "abc"}, "not 64 hex digits"),
        ({"url": "http://example.invalid/m"}, "not https"),
    ],
)
def test_an_entry_that_cannot_be_trusted_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelEntry(**{"name": "m", "arch": "vit_b", "file": "m.pth", "licence": "MIT", "summary": "", **fields})


@pytest.mark.parametrize("text", ["", "not toml [", "[[model]]\nname = 'm'\n", "[[model]]\ncolour = 1\n"])
def test_a_broken_registry_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.toml").write_text(text)
    with pytest.raises(ModelError, match=r"model registry registry\.toml cannot be read"):
        read_registry(tmp_path / "registry.toml")


def test_pins_come_back_as_written(tmp_path: Path) -> None:
    assert read_pins(tmp_path / "nowhere") == ()
    write_pin(tmp_path, PIN)
    assert read_pins(tmp_path) == (PIN,)


@pytest.mark.parametrize("name", ["", "../x", "A b", "x/y"])
def test_a_pin_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="not made of"):
        write_pin(tmp_path, Pin(name, "m.pth", "a" * 64, 1, "import"))


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}'])
def test_a_broken_pin_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pin.json").write_text(text)
    with pytest.raises(ModelError, match=r"x\.pin\.json cannot be read"):
        read_pins(tmp_path)


def test_a_pin_that_points_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    write_pin(tmp_path, Pin("x", "../../etc/passwd", "a" * 64, 1, "import"))
    with pytest.raises(ModelError, match="names no file of its folder"):
        read_pins(tmp_path)


def test_folders_follow_the_environment_and_else_the_platform(tmp_path: Path) -> None:
    environment = {"MSKSAM_MODELS": str(tmp_path / "m"), "MSKSAM_CACHE": str(tmp_path / "c")}
    assert (models_folder(environment), cache_folder(environment)) == (tmp_path / "m", tmp_path / "c")
    assert models_folder({}).parts[-2:] == ("msksam", "models")
    assert "msksam" in cache_folder({}).parts


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False), ("False", False)]
)
def test_offline_is_what_the_environment_says(value: str, offline: bool) -> None:
    assert is_offline({"MSKSAM_OFFLINE": value}) is offline
    assert not is_offline({})
