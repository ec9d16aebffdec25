from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from msksam_cli.errors import EnvironmentFault, UsageError
from msksam_cli.pipeline.networks import load_network
from msksam_cli.pipeline.openvino_models import load_openvino_network
from msksam_cli.pipeline.segment_options import SegmentOptions
from msksam_cli.sam.runtime import cpu_capabilities, has_bf16

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def options(checkpoint: Path, cache: Path, **changes: object) -> SegmentOptions:
    chosen = SegmentOptions(Path("knee"), ("bone",), model=str(checkpoint), device="cpu", cache=cache)
    return replace(chosen, **changes)


@needs_openvino
def test_the_translation_lies_in_the_cache_of_the_run_or_nowhere(small_checkpoint: Path, tmp_path: Path) -> None:
    load_network(options(small_checkpoint, tmp_path / "no", runtime="openvino", precision="fp32", use_cache=False))
    assert not (tmp_path / "no").exists()
    network = load_network(options(small_checkpoint, tmp_path / "yes", runtime="openvino", encode_size=128))
    assert (network.runtime, network.device, network.image_side_px) == ("openvino", "cpu", 128)
    assert network.precision == ("bf16" if has_bf16(cpu_capabilities()) else "fp32")
    (folder,) = (tmp_path / "yes").iterdir()
    assert folder.name == "openvino"
    assert [path.suffix for path in sorted(folder.rglob("*.*"))] == [".bin", ".xml", ".json"]


def test_auto_leaves_the_encoder_to_torch(small_checkpoint: Path, tmp_path: Path) -> None:
    assert load_network(options(small_checkpoint, tmp_path)).runtime == "torch"
    assert list(tmp_path.iterdir()) == []


@needs_openvino
def test_a_device_that_is_no_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UsageError, match="openvino encodes on the CPU, not on mps"):
        load_openvino_network("no-such-model", device="mps")


def test_missing_openvino_is_told_before_the_model_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EnvironmentFault, match="openvino is not installed"):
        load_openvino_network("no-such-model", device="cpu")


@needs_openvino
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_refused_before_the_model_is_looked_for(precision: str) -> None:
    with pytest.raises(UsageError, match=precision):
        load_openvino_network("no-such-model", device="cpu", precision=precision)
