from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import msksam_cli as msksam
from msksam_cli.core.slicing import PREPROCESSING_VERSION
from msksam_cli.errors import EnvironmentFault, ModelError, ParityError, UsageError
from msksam_cli.io.onnx_folder import graph_hashes
from msksam_cli.io.weights import file_sha256
from msksam_cli.pipeline.export import ExportOptions, export_onnx
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.models import import_model, load_model
from msksam_cli.pipeline.onnx_models import load_onnx_network, locate_export
from msksam_cli.sam.checkpoint import dump_checkpoint
from msksam_cli.sam.parity import SHAPES, SMALLEST_IOU


@pytest.fixture
def models(small_export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of one's own, with the export in it."""
    folder = tmp_path / "models"
    shutil.copytree(small_export.models, folder)
    monkeypatch.setenv("MSKSAM_MODELS", str(folder))
    return folder


@pytest.fixture
def other_checkpoint(small_checkpoint: Path, tmp_path: Path) -> Path:
    """`small_checkpoint` with another decoder."""
    model = load_model(str(small_checkpoint), device="cpu")
    for token in model.sam.mask_decoder.mask_tokens.parameters():
        token.data += 0.5
    path = tmp_path / "other.safetensors"
    path.write_bytes(dump_checkpoint(model.sam, "msksam_small", name="o", preprocessing=PREPROCESSING_VERSION))
    return path


def copies_of(folder: Path):
    """Something that writes finished graphs, whatever the model."""

    def write(model: object, encoder: Path, decoder: Path, opset: int) -> None:
        shutil.copy(folder / "encoder.onnx", encoder)
        shutil.copy(folder / "decoder.onnx", decoder)

    return write


def test_parity_json_says_what_was_found_for_every_slice_and_kind_of_prompt(small_export, small_checkpoint) -> None:
    content = json.loads((small_export.folder / "parity.json").read_text())
    assert content["files"] == graph_hashes(small_export.folder)
    assert set(content["files"]) == {"encoder.onnx", "decoder.onnx"}
    assert content["model"]["weights_sha256"] == file_sha256(small_checkpoint)
    assert (content["opset"], content["smallest_iou_allowed"]) == (18, SMALLEST_IOU)
    assert {"torch", "onnx", "onnxscript", "numpy"} <= set(content["versions"])
    (on_cpu,) = [one for one in content["parity"] if one["device"] == "cpu"]
    assert on_cpu["providers"] == ["CPUExecutionProvider"]
    kinds = {(tuple(one["slice_shape"]), one["prompts"]) for one in on_cpu["found"]}
    assert kinds == {(shape, kind) for shape in SHAPES for kind in ("box", "points", "both", "small box")}
    assert all(one["mask_iou"] >= SMALLEST_IOU or one["pixels_apart"] <= 1 for one in on_cpu["found"])
    assert 0 < max(one["logit_difference"] for one in on_cpu["found"]) < 0.01
    assert max(one["embedding_difference"] for one in on_cpu["found"]) < 1e-3


def test_graphs_that_give_other_masks_are_refused_and_leave_nothing(
    small_export, other_checkpoint: Path, tmp_path: Path
) -> None:
    write = copies_of(small_export.folder)
    options = ExportOptions(str(other_checkpoint), tmp_path / "new" / "export")
    with pytest.raises(
        ParityError, match=r"differ from torch's on cpu: IoU 0\.\d+, \d+ pixels, where 0\.999"
    ) as refused:
        export_onnx(options, write=write)
    assert refused.value.exit_code == 1
    assert not (tmp_path / "new" / "export").exists()


def test_a_failed_export_leaves_the_one_that_was_there_and_a_good_one_takes_its_place(
    small_export, small_checkpoint: Path, other_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(small_export.folder, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ParityError, match="differ from torch's"):
        export_onnx(ExportOptions(str(other_checkpoint), folder), write=copies_of(small_export.folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    again = export_onnx(ExportOptions(str(small_checkpoint), folder), write=copies_of(small_export.folder))
    assert again.folder == folder
    assert set(again.file_bytes) == {path.name for path in folder.iterdir()} == set(before)
    assert load_onnx_network(str(folder), "cpu").weights_sha256 == file_sha256(small_checkpoint)


def test_an_unknown_model_or_operator_set_or_a_file_in_the_way_leaves_nothing(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="operator set 3 cannot be exported to"):
        msksam.export_onnx(str(small_checkpoint), tmp_path / "a", opset=3)
    with pytest.raises(UsageError, match="no model is called 'nobody'"):
        msksam.export_onnx("nobody", tmp_path / "b")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.md").write_text("mine")
    with pytest.raises(UsageError, match=r"folder d holds other files, such as thesis\.md"):
        msksam.export_onnx(str(small_checkpoint), tmp_path / "d")
    (tmp_path / "c").write_text("a file")
    with pytest.raises(EnvironmentFault, match="cannot write c"):
        msksam.export_onnx(str(small_checkpoint), tmp_path / "c")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["c", "d", "thesis.md"]


def test_an_export_is_found_by_checkpoint_name_and_folder(models: Path, small_export, small_checkpoint: Path) -> None:
    folder = models / "onnx" / small_export.folder.name
    assert folder.name == f"random-{file_sha256(small_checkpoint)[:8]}"
    assert locate_export(str(small_checkpoint)) == folder
    assert locate_export(str(folder)) == folder
    import_model(small_checkpoint, name="by-name")
    assert locate_export("by-name") == folder
    import_model(small_checkpoint, name="other-greys", normalisation="unit")
    with pytest.raises(ModelError, match="model other-greys is not exported"):
        locate_export("other-greys")


def test_a_model_that_is_not_exported_says_how_to(models: Path, other_checkpoint: Path) -> None:
    for name in ("msksam-small", str(other_checkpoint)):
        with pytest.raises(ModelError, match="is not exported") as refused:
            load_onnx_network(name)
        assert refused.value.hint == f"Run `msksam export-onnx --model {Path(name).name}`"
    with pytest.raises(ModelError, match="model sam-vit-b is not downloaded"):
        load_onnx_network("sam-vit-b")
    with pytest.raises(UsageError, match="no model is called"):
        load_onnx_network(str(models / "onnx"))


def test_an_export_with_a_changed_graph_is_refused(models: Path, small_checkpoint: Path) -> None:
    graph = locate_export(str(small_checkpoint)) / "decoder.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ModelError, match=r"decoder\.onnx in random-\w{8} has sha256"):
        load_onnx_network(str(small_checkpoint), "cpu")


def test_an_export_named_by_its_folder_brings_its_models_fusion_weights(
    small_export, small_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "fitted.safetensors"
    shutil.copy(small_checkpoint, checkpoint)
    (tmp_path / "fitted.safetensors.fusion.toml").write_text(
        f'weights_sha256 = "{file_sha256(checkpoint)}"\nprior_weight = 3.0\n'
    )
    folder = tmp_path / "export"
    export_onnx(ExportOptions(str(checkpoint), folder), write=copies_of(small_export.folder))
    rules = fusion_rules(str(folder), load_onnx_network(str(folder), "cpu"))
    assert (rules.prior_weight, rules.weights_from) == (3.0, "checkpoint")
    unfitted = fusion_rules(str(small_export.folder), load_onnx_network(str(small_export.folder), "cpu"))
    assert unfitted.prior_weight == 1.0
