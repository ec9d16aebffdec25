from __future__ import annotations

import pytest
import torch

from msksam_cli.errors import EnvironmentFault, UsageError
from msksam_cli.sam.runtime import Model, available_devices, choose_device, choose_precision, cpu_capabilities, has_bf16

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == "cpu"
    assert available_devices()[-1] == "cpu"


@no_gpu
def test_a_gpu_that_is_not_there_is_an_environment_fault_and_auto_takes_the_cpu() -> None:
    assert choose_device("auto") in ("cpu", "mps")
    for name in ("cuda", "cuda:3"):
        with pytest.raises(EnvironmentFault, match="torch sees 0 CUDA devices"):
            choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "", "cuda:-1"])
def test_a_name_that_means_no_device_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        choose_device(name)


def test_precision_on_a_cpu_is_exact_unless_asked_otherwise() -> None:
    assert [choose_precision(wanted, "cpu") for wanted in ("auto", "fp32", "bf16")] == ["fp32", "fp32", "bf16"]
    with pytest.raises(UsageError, match="fp16 on a CPU is slower"):
        choose_precision("fp16", "cpu")
    with pytest.raises(UsageError, match="unknown precision 'int8'"):
        choose_precision("int8", "cpu")


def test_a_model_cannot_be_changed(small: Model) -> None:
    with pytest.raises(AttributeError):
        small.device = "cuda"  # type: ignore[misc]


def test_a_vision_transformer_is_encoded_in_bf16_on_a_cpu_that_has_it_and_only_unless_asked_otherwise() -> None:
    fastest = "bf16" if has_bf16(cpu_capabilities()) else "fp32"
    assert choose_precision("auto", "cpu", is_vit=True) == fastest
    assert choose_precision("fp32", "cpu", is_vit=True) == "fp32"
    assert choose_precision("auto", "cpu") == "fp32"
