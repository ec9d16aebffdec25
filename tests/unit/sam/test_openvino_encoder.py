from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from msksam_cli.errors import EnvironmentFault, UsageError
from msksam_cli.io.openvino_folder import kept_graph
from msksam_cli.network import arithmetic
from msksam_cli.pipeline.openvino_models import open_openvino_network
from msksam_cli.sam.encode import embed_images, model_input
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.openvino_encoder import (
    OpenVinoNetwork,
    choose_openvino_precision,
    import_openvino,
)
from msksam_cli.sam.runtime import Model, has_bf16

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

Slices = Callable[..., np.ndarray]
SHAPES = [(64, 96), (130, 90), (200, 200), (31, 90), (256, 256)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@pytest.fixture(scope="module")
def exact(tiny_vit: Model, kept: Path) -> OpenVinoNetwork:
    return open_openvino_network(tiny_vit, "fp32", kept)


def inputs(model: Model, slices: list[np.ndarray]) -> torch.Tensor:
    return model_input(model.sam, [Frame(pixels.shape, model.image_side_px).resize(pixels) for pixels in slices])


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted))


@needs_openvino
def test_single_precision_is_torchs_to_rounding(vit: Model, blobs: Slices) -> None:
    network = open_openvino_network(vit, "fp32")
    with torch.inference_mode():
        images = inputs(vit, [blobs((200, 170))])
        wanted = embed_images(vit.sam, images).numpy()
    request = network.encoder.requests[0]
    request.start_async([images.numpy()])
    request.wait()
    assert wanted.std() > 0.1
    assert relative_error(request.get_output_tensor().data, wanted) < 1e-5
    assert relative_error(network.encode([blobs((200, 170))])[0].features, wanted[0]) < 3e-4


@needs_openvino
def test_the_bundled_encoder_is_translated_too(small_64: Model, blobs: Slices) -> None:
    (found,) = open_openvino_network(small_64, "fp32").encode([blobs((60, 50))])
    (wanted,) = small_64.encode([blobs((60, 50))])
    assert relative_error(found.features, wanted.features.astype(np.float64)) < 1e-3


@needs_openvino
def test_bf16_is_near_single_precision_but_not_it(exact: OpenVinoNetwork, kept: Path, blobs: Slices) -> None:
    rough = open_openvino_network(exact.model, "bf16", kept)
    (wanted,), (found,) = exact.encode([blobs((90, 120))]), rough.encode([blobs((90, 120))])
    assert 1e-3 < relative_error(found.features, wanted.features.astype(np.float64)) < 3e-2
    assert arithmetic(rough) == "bf16 openvino"
    assert len(list(kept.iterdir())) == 1, "one translation serves every precision"


@needs_openvino
def test_slices_together_give_the_same_bits_as_one_by_one(exact: OpenVinoNetwork, blobs: Slices) -> None:
    slices = [blobs(shape, seed) for seed, shape in enumerate(SHAPES)]
    alone = [exact.encode([pixels])[0] for pixels in slices]
    assert len({embedding.features.tobytes() for embedding in alone}) == len(slices)
    for together in (1, 2, 99):
        for embedding, one, pixels in zip(exact.encode(slices, together), alone, slices, strict=True):
            assert embedding.features.tobytes() == one.features.tobytes()
            assert embedding.slice_shape == pixels.shape
    assert exact.encode([]) == []


@needs_openvino
def test_it_is_the_model_but_for_what_runs_the_encoder(exact: OpenVinoNetwork, tiny_vit: Model) -> None:
    same = ("name", "image_side_px", "device", "weights_sha256", "encoder_sha256", "metadata", "precision")
    assert [getattr(exact, name) for name in same] == [getattr(tiny_vit, name) for name in same]
    assert (arithmetic(exact), arithmetic(tiny_vit)) == ("fp32 openvino", "fp32")


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → inode and time of every file below a folder: a file written again has others."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


@needs_openvino
def test_a_kept_encoder_is_used_again_and_gives_the_bits_of_one_that_was_not_kept(
    exact: OpenVinoNetwork, kept: Path, blobs: Slices
) -> None:
    (first,) = exact.encode([blobs((64, 96))])
    before = files_of(kept)
    assert set(before) == {"encoder.xml", "encoder.bin", "files.json"}
    (second,) = open_openvino_network(exact.model, "fp32", kept).encode([blobs((64, 96))])
    assert files_of(kept) == before
    (unkept,) = open_openvino_network(exact.model, "fp32").encode([blobs((64, 96))])
    assert first.features.tobytes() == second.features.tobytes() == unkept.features.tobytes()


@needs_openvino
@pytest.mark.parametrize("damaged", ["encoder.xml", "encoder.bin", "files.json"])
def test_a_damaged_encoder_is_translated_again(exact: OpenVinoNetwork, kept: Path, blobs: Slices, damaged: str) -> None:
    (path,) = kept.rglob(damaged)
    path.write_bytes(path.read_bytes()[:-9] + b"damage")
    again = open_openvino_network(exact.model, "fp32", kept)
    assert kept_graph(path.parent)
    (wanted,), (found,) = exact.encode([blobs((64, 96))]), again.encode([blobs((64, 96))])
    assert found.features.tobytes() == wanted.features.tobytes()


@needs_openvino
def test_another_encoder_has_a_translation_of_its_own(exact: OpenVinoNetwork, kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "kept")
    for encoder_sha256, folders in ((exact.encoder_sha256, 1), ("of another", 2), ("of another", 2)):
        open_openvino_network(replace(exact.model, encoder_sha256=encoder_sha256), "fp32", tmp_path / "kept")
        assert len(list((tmp_path / "kept").iterdir())) == folders


@needs_openvino
def test_a_folder_that_cannot_be_written_is_an_environment_fault(tiny_vit: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        open_openvino_network(tiny_vit, "fp32", tmp_path / "file")


def test_without_openvino_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EnvironmentFault, match="openvino is not installed") as fault:
        import_openvino()
    assert 'pip install "msksam[openvino]"' in fault.value.hint


@needs_openvino
def test_openvino_tells_nobody_about_its_use() -> None:
    code = (
        "import sys; from msksam_cli.sam.openvino_encoder import import_openvino; import_openvino();"
        "import openvino.tools.ovc.telemetry_utils as use; print(use.tm.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


@pytest.mark.parametrize(
    ("wanted", "with_bf16", "chosen"),
    [("auto", True, "bf16"), ("auto", False, "fp32"), ("fp32", True, "fp32"), ("bf16", False, "bf16")],
)
def test_the_precision_follows_the_processor_where_it_is_left_open(wanted: str, with_bf16: bool, chosen: str) -> None:
    assert choose_openvino_precision(wanted, with_bf16) == chosen


@pytest.mark.parametrize(("wanted", "message"), [("fp16", "fp16 on a CPU"), ("int8", "unknown precision 'int8'")])
def test_other_precisions_are_refused(wanted: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_openvino_precision(wanted, True)


def test_bf16_is_looked_for_under_both_its_names() -> None:
    assert has_bf16({"amx_bf16": True})
    assert has_bf16({"avx512_bf16": True, "amx_bf16": False})
    assert not has_bf16({"avx512_f": True, "amx_bf16": False})
    assert not has_bf16({})
