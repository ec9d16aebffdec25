from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from msksam_cli.errors import ModelError
from msksam_cli.sam.checkpoint import dump_checkpoint, parse_checkpoint
from msksam_cli.sam.model import build_sam
from msksam_cli.sam.runtime import Model


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


@pytest.fixture(scope="module")
def own(small: Model) -> bytes:
    return dump_checkpoint(small.sam, "msksam_small", name="mine", preprocessing="v1", half=False, licence="MIT")


@pytest.fixture(scope="module")
def plain(small: Model) -> bytes:
    return torch_bytes(small.sam.state_dict())


def test_a_written_checkpoint_is_read_back_equal_with_what_it_says_about_itself(small: Model, own: bytes) -> None:
    checkpoint = parse_checkpoint(own, "mine.safetensors")
    assert {key: checkpoint.metadata[key] for key in ("name", "preprocessing", "licence", "arch")} == {
        "name": "mine", "preprocessing": "v1", "licence": "MIT", "arch": "msksam_small",
    }  # fmt: skip
    state = checkpoint.build().state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in small.sam.state_dict().items())


def test_equal_networks_give_equal_bytes(small: Model, own: bytes) -> None:
    again = dump_checkpoint(small.sam, "msksam_small", licence="MIT", half=False, preprocessing="v1", name="mine")
    assert again == own
    assert int.from_bytes(own[:8], "little") % 8 == 0


def test_half_precision_halves_the_file_and_builds_in_single_precision(small: Model, own: bytes) -> None:
    half = dump_checkpoint(small.sam, "msksam_small", name="mine", preprocessing="v1")
    assert len(half) < 0.51 * len(own)
    built = parse_checkpoint(half, "half.safetensors").build()
    for name, tensor in built.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, small.sam.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_side_a_checkpoint_was_trained_for_comes_back() -> None:
    content = dump_checkpoint(build_sam("msksam_small", 128), "msksam_small", name="n", preprocessing="v1")
    sam = parse_checkpoint(content, "n").build()
    assert sam.image_encoder.img_size == 128
    assert sam.prompt_encoder.image_embedding_size == (32, 32)


def test_a_mask_threshold_comes_back_and_is_nought_where_nothing_is_said(own: bytes) -> None:
    assert parse_checkpoint(own, "n").build().mask_threshold == 0.0
    sam = build_sam("msksam_small", 64)
    sam.mask_threshold = -0.5
    content = dump_checkpoint(sam, "msksam_small", name="n", preprocessing="v1")
    assert parse_checkpoint(content, "n").build().mask_threshold == -0.5


@pytest.mark.parametrize("threshold", [float("nan"), 11.0, "low"])
def test_a_mask_threshold_that_is_no_logit_is_refused(threshold: object) -> None:
    sam = build_sam("msksam_small", 64)
    sam.mask_threshold = threshold
    content = dump_checkpoint(sam, "msksam_small", name="n", preprocessing="v1")
    with pytest.raises(ModelError, match=rf"mask threshold '{threshold}' is no logit"):
        parse_checkpoint(content, "n").build()


@pytest.mark.parametrize("wrap", ["plain", "model", "state_dict", "module prefix", "legacy"])
def test_pytorch_checkpoints_are_recognised_by_their_tensors(small: Model, wrap: str) -> None:
    state = small.sam.state_dict()
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    content = {"plain": state, "legacy": state, "module prefix": prefixed}.get(wrap, {wrap: state, "epoch": 3})
    checkpoint = parse_checkpoint(torch_bytes(content, legacy=wrap == "legacy"), "model.pth")
    assert checkpoint.architecture.name == "msksam_small"
    assert torch.equal(checkpoint.build().mask_decoder.iou_token.weight, small.sam.mask_decoder.iou_token.weight)


@pytest.mark.parametrize(("arch", "dim", "blocks"), [("vit_b", 768, 12), ("vit_l", 1024, 24), ("vit_h", 1280, 32)])
def test_segment_anythings_releases_are_told_apart_by_width_and_depth(arch: str, dim: int, blocks: int) -> None:
    tensors = {f"image_encoder.blocks.{block}.norm1.bias": torch.zeros(1) for block in range(blocks)}
    tensors["image_encoder.patch_embed.proj.weight"] = torch.zeros(dim, 1, 1, 1)
    tensors["image_encoder.pos_embed"] = torch.zeros(1, 64, 64, 1)
    checkpoint = parse_checkpoint(torch_bytes(tensors), "sam.pth")
    assert (checkpoint.architecture.name, checkpoint.image_side_px) == (arch, 1024)


def test_medsams_grey_levels_are_scaled_to_one(own: bytes) -> None:
    sam = parse_checkpoint(own, "mine").build(normalisation="unit")
    assert (sam.pixel_mean.flatten().tolist(), sam.pixel_std.flatten().tolist()) == ([0] * 3, [255] * 3)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path, legacy: bool) -> None:
    content = torch_bytes({"weights": Payload(tmp_path / "ran")}, legacy=legacy)
    for attempt in (content, pickle.dumps(Payload(tmp_path / "ran"))):
        with pytest.raises(ModelError, match="was not loaded: it holds code"):
            parse_checkpoint(attempt, "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"\n  <html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is unknown bytes"),
        (b"\x00" * 64, "is unknown bytes"),
        (torch_bytes([1, 2]), "no plain table of tensors"),
        (torch_bytes({"a": torch.zeros(2)}), "unknown architecture"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        parse_checkpoint(content, "file.pth")
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_anywhere_is_refused(own: bytes, plain: bytes) -> None:
    generator = random.Random(5)
    for content in (own, plain):
        for length in [1, 7, 8, 9, 100, len(content) - 1, *(generator.randrange(len(content)) for _ in range(6))]:
            with pytest.raises(ModelError):
                parse_checkpoint(content[:length], "cut")


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def test_every_flipped_bit_of_our_own_checkpoints_is_noticed() -> None:
    torch.manual_seed(0)
    content = dump_checkpoint(build_sam("msksam_small"), "msksam_small", name="n", preprocessing="v1")
    header_bits = 8 * (8 + int.from_bytes(content[:8], "little"))
    generator = random.Random(11)
    bits = [generator.randrange(header_bits) for _ in range(40)] + [*range(64)]
    bits += [generator.randrange(header_bits, 8 * len(content)) for _ in range(20)]
    for bit in bits:
        with pytest.raises(ModelError):
            parse_checkpoint(flipped(content, bit), "flipped").build()


def test_flipped_bits_in_the_tensors_of_a_pytorch_file_are_noticed(plain: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size > 10_000]
    generator = np.random.default_rng(2)
    for entry in generator.choice(np.array(entries, dtype=object), 10):
        bit = 8 * (entry.header_offset + 2000 + int(generator.integers(entry.file_size - 4000)))
        with pytest.raises(ModelError, match=r"checksum of .* differs"):
            parse_checkpoint(flipped(plain, bit), "flipped.pth")


def test_tensors_that_do_not_fit_are_named(small: Model) -> None:
    state = dict(small.sam.state_dict())
    name = "mask_decoder.iou_token.weight"
    changes = {
        "1 of .* tensors missing, such as " + name: {key: state[key] for key in state if key != name},
        "1 of .* tensors unknown, such as extra": state | {"extra": torch.zeros(1)},
        "1 of .* tensors of another shape, such as " + name: state | {name: torch.zeros(2, 256)},
        "1 of .* tensors not finite, such as " + name: state | {name: torch.full((1, 256), torch.nan)},
    }
    for message, tensors in changes.items():
        with pytest.raises(ModelError, match=message):
            parse_checkpoint(torch_bytes(tensors), "model.pth").build()


def test_a_file_that_lies_about_its_architecture_is_refused(small: Model) -> None:
    content = dump_checkpoint(small.sam, "vit_b", name="n", preprocessing="v1")
    with pytest.raises(ModelError, match="says it is vit_b, its tensors say msksam_small"):
        parse_checkpoint(content, "liar.safetensors")
