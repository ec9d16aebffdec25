from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.embeddings import Embedding
from msksam_cli.errors import EnvironmentFault, ModelError, UsageError
from msksam_cli.network import arithmetic
from msksam_cli.sam.asking import Asking
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.onnx_network import OnnxNetwork, on_slice, open_network, parse_onnx_model, stretched
from msksam_cli.sam.runtime import Model

SHAPES = [(64, 64), (257, 320), (320, 257), (300, 90), (7, 21), (1100, 900)]
LOGIT_TOLERANCE = 1e-4
HALF_PRECISION_STEP = 2.0**-11
Slices = Callable[..., np.ndarray]
Pair = tuple[Model, OnnxNetwork]


def prompts_for(shape: tuple[int, int]) -> dict[str, Prompt]:
    rows, columns = shape
    box = Box((0.2 * columns, 0.3 * rows, 0.7 * columns, 0.8 * rows))
    small = Box((0.5 * columns, 0.4 * rows, 0.6 * columns, 0.5 * rows))
    corner = Box((0.95 * (columns - 1), 0.9 * (rows - 1), columns - 1, rows - 1))
    points = Points(((0.4 * columns, 0.5 * rows), (0.9 * columns, 0.1 * rows)), (True, False))
    return {
        "box": Prompt(1, 0, box=box),
        "points": Prompt(1, 0, points=points),
        "box and points": Prompt(1, 0, box=box, points=points),
        "one point": Prompt(1, 0, points=Points((points.xy[0],), (True,))),
        "small box": Prompt(1, 0, box=small),
        "small box and point": Prompt(1, 0, box=small, points=Points(((0.55 * columns, 0.45 * rows),), (False,))),
        "box in a corner": Prompt(1, 0, box=corner),
    }


@pytest.fixture(params=["vit", "small"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A model of torch and its export."""
    names = {"vit": ("tiny_vit", "onnx_vit"), "small": ("small_64", "onnx_small")}[request.param]
    model, network = (request.getfixturevalue(name) for name in names)
    return model, network


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_embeddings_masks_and_scores_are_torchs_for_every_kind_of_prompt(
    pair: Pair, shape: tuple[int, int], blobs: Slices
) -> None:
    model, network = pair
    pixels = blobs(shape)
    (ours,), (theirs,) = network.encode([pixels]), model.encode([pixels])
    assert (ours.features.dtype, ours.slice_shape) == (np.float16, shape)
    np.testing.assert_allclose(ours.features, theirs.features, rtol=2 * HALF_PRECISION_STEP, atol=1e-4)
    prompts = prompts_for(shape)
    answers = zip(
        network.decode(theirs, list(prompts.values())), model.decode(theirs, list(prompts.values())), strict=True
    )
    for kind, (answer, judged) in zip(prompts, answers, strict=True):
        assert answer.logits.shape == (4, *shape), kind
        assert answer.logits.dtype == answer.iou_predictions.dtype == np.float32
        assert answer.prompt is judged.prompt is prompts[kind]
        assert judged.logits.std() > 0.01, "a judge that says the same everywhere judges nothing"
        np.testing.assert_allclose(answer.logits, judged.logits, atol=LOGIT_TOLERANCE, err_msg=kind)
        np.testing.assert_allclose(answer.iou_predictions, judged.iou_predictions, atol=LOGIT_TOLERANCE, err_msg=kind)


def test_what_is_round_small_boxes_is_seen_closely_and_they_are_told_as_masks_too(
    onnx_small: OnnxNetwork, small_64: Model, blobs: Slices
) -> None:
    (embedding,) = onnx_small.encode([blobs((120, 90))])
    prompt = prompts_for((120, 90))["small box"]
    (answer,) = onnx_small.decode(embedding, [prompt])
    not_told = replace(onnx_small, model=replace(onnx_small.model, asking=Asking(block_cells=4)))
    for other in (not_told, replace(small_64, asking=Asking(box_as_mask=True))):
        (differently,) = other.decode(embedding, [prompt])
        assert np.abs(differently.logits - answer.logits)[:, 40:60, 40:60].max() > 1e-3
    assert answer.logits[:, 0, 0] == pytest.approx(-20)
    assert (answer.logits[:, 50, 50] > -15).all()


def test_prompts_that_see_unequal_parts_are_answered_together_as_torch_answers_each(
    onnx_small: OnnxNetwork, small_64: Model, blobs: Slices
) -> None:
    """On a GPU many prompts go through the decoder at once; so they do where the network is told that it is on one."""
    together, sizes = replace(onnx_small, device="cuda:0"), []
    run = together.decoder.run

    class Counted:
        get_inputs = staticmethod(together.decoder.get_inputs)

        @staticmethod
        def run(names, inputs):
            sizes.append((len(inputs["near_cells"]), bool(np.isneginf(inputs["log_counts"]).any())))
            return run(names, inputs)

    together = replace(together, decoder=Counted())
    (embedding,) = small_64.encode([blobs((64, 64))])
    boxes = [(20, 20, 26, 25), (5, 30, 12, 50), (30, 12, 38, 40), (0, 0, 63, 63), (50, 2, 60, 8), (20, 20, 44, 25)]
    prompts = [Prompt(1, 0, box=Box(tuple(float(edge) for edge in box))) for box in boxes]
    prompts += [prompts_for((64, 64))[kind] for kind in ("points", "one point", "box and points")]
    answers = together.decode(embedding, prompts)
    assert sum(number for number, _ in sizes) == len(prompts)
    assert any(number > 1 and is_filled_up for number, is_filled_up in sizes)
    for answer, prompt, alone in zip(answers, prompts, onnx_small.decode(embedding, prompts), strict=True):
        (judged,) = small_64.decode(embedding, [prompt])
        assert answer.prompt is prompt
        for other in (judged, alone):
            np.testing.assert_allclose(answer.logits, other.logits, atol=LOGIT_TOLERANCE)
            np.testing.assert_allclose(answer.iou_predictions, other.iou_predictions, atol=LOGIT_TOLERANCE)


def test_prompts_together_are_answered_as_one_by_one_and_in_their_order(onnx_small: OnnxNetwork, blobs: Slices) -> None:
    (embedding,) = onnx_small.encode([blobs((120, 180))])
    prompts = [*prompts_for((120, 180)).values(), *prompts_for((100, 100)).values()]
    together = onnx_small.decode(embedding, prompts)
    assert [answer.prompt for answer in together] == prompts
    for answer in together:
        (alone,) = onnx_small.decode(embedding, [answer.prompt])
        np.testing.assert_array_equal(answer.logits, alone.logits)
    assert onnx_small.decode(embedding, []) == []


def test_slices_together_are_embedded_as_one_by_one_however_many_at_once(
    onnx_small: OnnxNetwork, blobs: Slices
) -> None:
    slices = [blobs((50, 70 + 9 * n), n) for n in range(5)]
    handed: dict[int, Embedding] = {}
    together, two_at_once = onnx_small.encode(slices, keep=handed.__setitem__), onnx_small.encode(slices, batch_size=2)
    assert [handed[number] for number in range(5)] == together
    assert together[0].features.tobytes() != together[1].features.tobytes()
    for embedding, other, pixels in zip(together, two_at_once, slices, strict=True):
        (alone,) = onnx_small.encode([pixels])
        assert embedding.features.tobytes() == other.features.tobytes() == alone.features.tobytes()
    assert onnx_small.encode([]) == []


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_taken_to_the_slice_as_segment_anything_does(small_64: Model, shape: tuple[int, int]) -> None:
    for low_res_side in (64, 16):
        low_res = np.random.default_rng(4).normal(size=(4, low_res_side, low_res_side)).astype(np.float32)
        frame = Frame(shape, 64)
        judged = small_64.sam.postprocess_masks(torch.from_numpy(low_res)[None], frame.resized_shape, shape)[0].numpy()
        np.testing.assert_allclose(on_slice(low_res, frame), judged, atol=1e-5)


def test_a_stretched_axis_is_that_axis_and_may_be_cut_short() -> None:
    planes = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    whole = stretched(planes, 1, 12, 12)
    assert whole.shape == (2, 12, 3)
    np.testing.assert_array_equal(stretched(planes, 1, 12, 7), whole[:, :7])
    np.testing.assert_array_equal(stretched(planes, 2, 3, 2), planes[:, :, :2])


def test_the_mask_threshold_is_taken_off_every_logit(onnx_small: OnnxNetwork, blobs: Slices) -> None:
    (embedding,) = onnx_small.encode([blobs((90, 120))])
    prompt = prompts_for((90, 120))["box"]
    shifted = replace(onnx_small, model=replace(onnx_small.model, mask_threshold=-0.75))
    (plain,), (moved,) = onnx_small.decode(embedding, [prompt]), shifted.decode(embedding, [prompt])
    np.testing.assert_allclose(moved.logits, plain.logits + 0.75, atol=1e-6)


def test_an_embedding_of_another_network_and_a_prompt_outside_are_refused(onnx_small: OnnxNetwork) -> None:
    with pytest.raises(ValueError, match=r"shape \(256, 9, 9\), the network makes \(256, 16, 16\)"):
        onnx_small.decode(Embedding(np.zeros((256, 9, 9), np.float16), (50, 70)), [])
    with pytest.raises(ValueError, match="outside a slice"):
        onnx_small.decode(
            Embedding(np.zeros((256, 16, 16), np.float16), (50, 70)), [Prompt(1, 0, box=Box((0, 0, 60, 60)))]
        )


def test_what_the_pipeline_asks_of_a_network_is_that_of_the_model(onnx_vit: OnnxNetwork, tiny_vit: Model) -> None:
    for name in ("name", "image_side_px", "precision", "weights_sha256", "encoder_sha256", "metadata"):
        assert getattr(onnx_vit, name) == getattr(tiny_vit, name), name
    assert (onnx_vit.runtime, onnx_vit.device) == ("onnx", "cpu")
    assert onnx_vit.providers == ("CPUExecutionProvider",)
    assert arithmetic(onnx_vit) == "fp32 onnx"


def reopened(network: OnnxNetwork, folder: Path, device: str) -> OnnxNetwork:
    return open_network(network.model, folder / "encoder.onnx", folder / "decoder.onnx", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu(
    onnx_small: OnnxNetwork, small_64_export: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for device in ("cuda", "cuda:1"):
        with pytest.raises(EnvironmentFault, match="is not there for onnxruntime") as refused:
            reopened(onnx_small, small_64_export, device)
        assert "--device cpu" in refused.value.hint
    chosen = reopened(onnx_small, small_64_export, "auto")
    assert (chosen.device, chosen.providers) == ("cpu", ("CPUExecutionProvider",))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["mps", "cpu:1", "cuda:x", "toaster"])
def test_a_device_that_means_nothing_to_onnxruntime_is_refused(
    onnx_small: OnnxNetwork, small_64_export: Path, device: str
) -> None:
    with pytest.raises(UsageError, match="is none that onnxruntime can be given"):
        reopened(onnx_small, small_64_export, device)


def test_a_file_that_is_no_such_graph_is_refused(
    onnx_small: OnnxNetwork, small_64_export: Path, tmp_path: Path
) -> None:
    encoder, decoder = small_64_export / "encoder.onnx", small_64_export / "decoder.onnx"
    cut, empty = tmp_path / "cut.onnx", tmp_path / "empty.onnx"
    cut.write_bytes(encoder.read_bytes()[:5000])
    empty.write_bytes(b"")
    for bad in (cut, empty, tmp_path / "absent.onnx"):
        with pytest.raises(ModelError, match=f"{bad.name} is no graph that onnxruntime can run"):
            open_network(onnx_small.model, bad, decoder, "cpu")
    with pytest.raises(ModelError, match=r"decoder\.onnx was not exported by msksam: it has other inputs"):
        open_network(onnx_small.model, decoder, decoder, "cpu")
    with pytest.raises(ModelError, match=r"decoder\.onnx was not exported by msksam: it has other inputs"):
        open_network(replace(onnx_small.model, asking=Asking(box_as_mask=True)), encoder, decoder, "cpu")


def test_what_an_export_says_of_itself_is_read_back_equal(onnx_small: OnnxNetwork) -> None:
    assert parse_onnx_model(asdict(onnx_small.model), "here") == onnx_small.model


@pytest.mark.parametrize(
    "change",
    [
        {"cells": 0}, {"cells": 7}, {"cells": "16"}, {"image_side_px": None}, {"asking": {}, "metadata": None},
        {"asking": {"block_cells": 2.5}}, {"asking": {"block_cells": 0}}, {"asking": {"window_cells": 64}},
        {"mask_threshold": "0"}, {"mask_threshold": float("nan")},
        {"name": 3}, {"metadata": {"a": 1}}, {"colour": "red"},
    ],
    ids=str,
)  # fmt: skip
def test_a_description_that_makes_no_sense_is_refused(onnx_small: OnnxNetwork, change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="here does not describe an exported model"):
        parse_onnx_model({**asdict(onnx_small.model), **change}, "here")


def test_the_runtime_imports_no_torch() -> None:
    code = "import sys, msksam_cli.sam.onnx_network, msksam_cli.pipeline.onnx_models; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("location", ["/etc/passwd", "../other.bin", "encoder.onnx.data/../x", "other.onnx.data"])
@pytest.mark.parametrize("place", ["initializer", "node"])
def test_a_graph_that_takes_tensors_from_another_file_is_refused_before_it_is_run(
    location: str, place: str, small_64_export: Path, onnx_small: OnnxNetwork, tmp_path: Path
) -> None:
    import onnx

    graph = onnx.load(small_64_export / "encoder.onnx")
    if place == "initializer":
        tensor = graph.graph.initializer[0]
    else:
        constant = onnx.helper.make_node("Constant", [], ["elsewhere"], value=onnx.TensorProto(data_type=1, dims=[1]))
        graph.graph.node.append(constant)
        tensor = graph.graph.node[-1].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "encoder.onnx"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match=r"encoder.onnx wants tensors from another file than encoder.onnx.data"):
        open_network(onnx_small.model, path, small_64_export / "decoder.onnx", "cpu")
