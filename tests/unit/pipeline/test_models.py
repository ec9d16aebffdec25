from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.errors import ModelError, UsageError
from msksam_cli.io.registry import read_pins
from msksam_cli.pipeline.models import (
    download_model,
    import_model,
    list_models,
    load_model,
    locate_model,
    models_text,
    verify_models,
)
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.model import build_sam


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(3)
    return dump_checkpoint(build_sam("msksam_small", 128), "msksam_small", name="mine", preprocessing="v1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MSKSAM_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("MSKSAM_OFFLINE", raising=False)
    return tmp_path / "models"


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "My Model.safetensors"
    path.write_bytes(content)
    return path


def test_an_imported_model_is_pinned_listed_verified_and_loads_by_name(
    folder: Path, file: Path, content: bytes
) -> None:
    pin = import_model(file)
    assert (pin.name, pin.sha256) == ("my-model", hashlib.sha256(content).hexdigest())
    assert read_pins(folder) == (pin,)
    assert next(model for model in list_models() if model.name == "my-model").state == "ready"
    assert "my-model" in models_text(list_models())
    assert {check.name: check.problem for check in verify_models()}["my-model"] == ""
    model = load_model("my-model", device="cpu")
    assert (model.weights_sha256, model.image_side_px, model.precision) == (pin.sha256, 128, "fp32")
    assert model.metadata["preprocessing"] == "v1"
    (embedding,) = model.encode([np.arange(600, dtype=np.uint8).reshape(20, 30)])
    (answer,) = model.decode(embedding, [Prompt(1, 0, box=Box((3, 3, 20, 15)))])
    assert answer.logits.shape == (4, 20, 30)


def test_a_file_loads_by_path_and_twice_gives_the_same_encoder(file: Path) -> None:
    first, second = (load_model(str(file), device="cpu") for _ in range(2))
    assert first.encoder_sha256 == second.encoder_sha256
    assert first.name == "My Model"


def test_a_changed_checkpoint_is_refused_by_its_pin_before_it_is_parsed(folder: Path, file: Path) -> None:
    path = folder / import_model(file).file
    path.write_bytes(b"\x80no pickle is read from this")
    with pytest.raises(ModelError, match="it is damaged or another file"):
        load_model("my-model", device="cpu")
    assert "damaged" in {check.name: check.problem for check in verify_models()}["my-model"]


def test_what_does_not_load_is_not_imported(folder: Path, tmp_path: Path, file: Path) -> None:
    junk = tmp_path / "junk.pth"
    junk.write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelError, match="is a web page"):
        import_model(junk)
    with pytest.raises(ModelError, match="expected 0000"):
        import_model(file, sha256="0" * 64)
    with pytest.raises(ModelError, match="is not made of"):
        import_model(file, name="../outside")
    assert not folder.exists()


def test_a_file_that_claims_a_registered_name_must_have_its_hash(folder: Path, file: Path) -> None:
    with pytest.raises(ModelError, match="expected ec2df62732614e57"):
        import_model(file, name="sam-vit-b")
    with pytest.raises(UsageError, match="name of the bundled model"):
        import_model(file, name="msksam-small")


def test_a_known_model_that_is_not_here_says_how_to_get_it(folder: Path) -> None:
    with pytest.raises(ModelError, match="msksam models download sam-vit-b"):
        locate_model("sam-vit-b")
    with pytest.raises(UsageError, match=r"no model is called 'sam'.*sam-vit-b"):
        locate_model("sam")
    with pytest.raises(ModelError, match=r"checkpoint gone\.pth is not there"):
        locate_model("some/gone.pth")


def test_a_download_is_pinned_as_the_registry_says(folder: Path, content: bytes) -> None:
    asked: list[tuple[str, str]] = []

    def fetch(url: str, target: Path, sha256: str, *, progress: object) -> str:
        asked.append((url, sha256))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return sha256 or hashlib.sha256(content).hexdigest()

    assert download_model("sam-vit-b", fetch=fetch) == folder / "sam_vit_b_01ec64.pth"
    with pytest.raises(ModelError, match="nobody citable has published the sha256 of medsam"):
        download_model("medsam", fetch=fetch)
    download_model("medsam", accept_unverified=True, fetch=fetch)
    assert [sha256[:6] for _, sha256 in asked] == ["ec2df6", ""]
    pins = {pin.name: pin for pin in read_pins(folder)}
    assert (pins["sam-vit-b"].origin, pins["medsam"].origin) == ("registry", "first use")
    assert pins["medsam"].normalisation == "unit"
    located = locate_model("medsam")
    assert (located.sha256, located.normalisation) == (hashlib.sha256(content).hexdigest(), "unit")


def test_offline_nothing_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSKSAM_OFFLINE", "1")
    with pytest.raises(ModelError, match="MSKSAM_OFFLINE is set"):
        download_model("sam-vit-b", fetch=lambda *_, **__: pytest.fail("the network was asked"))
    with pytest.raises(ModelError, match="comes with msksam"):
        download_model("msksam-small")
