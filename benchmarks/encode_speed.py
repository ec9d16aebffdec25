"""How fast slices are encoded: segment-anything's own loop against msksam's, in one run, with ratios.

    python benchmarks/encode_speed.py [--arch vit_b] [--slices 2] [--repeats 3] [--device cpu] [--keep]

Every measurement is a process of its own that loads the same random weights, encodes one slice to warm up and then
`--slices` more of 512 × 512 px; variants take turns, and medians are printed. `stock` is `SamPredictor.set_image` one
slice after the other. `malloc kept` forbids the C library to give memory back between operators, which alone makes the
stock loop much faster. `own side` is `--encode-size slice`: a slice of 512 px seen at 512 px. Deviation: relative L2 of
the features, before the cache rounds them, from the stock ones; features of another side cannot be compared. OpenVINO
is measured where it is installed; its peak memory includes translating the encoder. micro-sam, where it is installed or
on PYTHONPATH, precomputes the slices as a volume into a zarr folder, as its tools do. On a GPU the share of the bf16
peak is that of a matrix product of 8192² measured in the same run, and `+ cache` writes every embedding.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import machine_text
from numpy.typing import NDArray
from parity import random_model, slice_of
from torch.utils.flop_counter import FlopCounterMode

from msksam_cli.core.cores import cores
from msksam_cli.embeddings import Embedding, EmbeddingKey
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.tables import aligned_text
from msksam_cli.network import keep_nothing
from msksam_cli.sam.encode import embed_images, encode_slices, model_input
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import Sam, build_sam
from msksam_cli.sam.openvino_encoder import CompiledEncoder, compiled, converted
from msksam_cli.sam.resize import at_side
from msksam_cli.sam.vision_shim import stand_in_torchvision, torchvision_works

Features = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Figures = dict[str, float]

RESULTS = Path(__file__).parent / "results"
SHAPE = (512, 512)
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
COLUMNS = ("variant", "wall s a slice", "× stock", "CPU s a slice", "peak memory MB", "deviation")


@dataclass(frozen=True)
class Variant:
    """One way to encode.

    Attributes:
        name: as printed.
        precision: of the encoder; None is segment-anything's own loop.
        environment: variables set beside the usual ones.
        side_px: of the input; the architecture's own when None.
        cached: whether every embedding is written.
        by_openvino: whether OpenVINO runs the encoder.
        by_micro_sam: whether it is `micro_sam.util.precompute_image_embeddings`.
    """

    name: str
    precision: str | None
    environment: dict[str, str]
    side_px: int | None = None
    cached: bool = False
    by_openvino: bool = False
    by_micro_sam: bool = False


CPU = (
    Variant("stock", None, {}),
    Variant("stock, malloc kept", None, KEPT),
    Variant("fp32", "fp32", {}),
    Variant("bf16", "bf16", {}),
    Variant("fp32, own side", "fp32", {}, 512),
    Variant("bf16, own side", "bf16", {}, 512),
)
if importlib.util.find_spec("openvino"):
    CPU += (
        Variant("openvino fp32", "fp32", {}, by_openvino=True),
        Variant("openvino bf16", "bf16", {}, by_openvino=True),
    )
MICRO_SAM = (Variant("micro-sam", None, {}, by_micro_sam=True),) if importlib.util.find_spec("micro_sam") else ()
CPU += MICRO_SAM
GPU = (
    Variant("stock", None, {}),
    Variant("fp32", "fp32", {}),
    Variant("bf16", "bf16", {}),
    Variant("bf16 + cache", "bf16", {}, cached=True),
    Variant("bf16, own side", "bf16", {}, 512),
    *MICRO_SAM,
)


def main() -> None:
    """Measure and print, or be one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    variants = CPU if options.device == "cpu" else GPU
    if options.variant is not None:
        print(json.dumps(measured(variants[options.variant], options)))
        return
    runs: list[list[Figures]] = [[] for _ in variants]
    for _ in range(options.repeats):
        stock: Features | None = None
        for number, variant in enumerate(variants):
            figures, features = in_own_process(number, options)
            stock = features if stock is None else stock
            if not variant.side_px:
                figures["deviation"] = float(np.linalg.norm(features - stock) / np.linalg.norm(stock))
            runs[number].append(figures)
            print(f"{variant.name}: {figures}", file=sys.stderr, flush=True)
    title = f"{options.arch}, slices of {SHAPE[0]} px, {options.slices} a run, median of {options.repeats} runs"
    text = f"{title}\n{machine_text(options.device)}\n\n{table(variants, runs)}"
    if options.device != "cpu":
        text += "\n\n" + peak_text(options, variants, runs)
    print(text)
    if options.keep:
        name = f"encode-speed-{options.arch}-{options.device.partition(':')[0]}.md"
        (RESULTS / name).write_text(f"```\n{text}\n```\n", encoding="utf-8")


def in_own_process(number: int, options: argparse.Namespace) -> tuple[Figures, Features]:
    """One measurement in a fresh process: its figures, and the features of the first slice."""
    variant = (CPU if options.device == "cpu" else GPU)[number]
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features.npy"
        command = [
            sys.executable, __file__, "--variant", str(number), "--arch", options.arch, "--device", options.device,
            "--slices", str(options.slices), "--features", str(features),
        ]  # fmt: skip
        done = subprocess.run(command, env=os.environ | variant.environment, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout.splitlines()[-1]), np.load(features)


def measured(variant: Variant, options: argparse.Namespace) -> Figures:
    """Seconds a slice and peak memory of one variant."""
    sam = random_model(options.arch, options.device).sam
    if variant.side_px:
        tensors, sam = sam.state_dict(), build_sam(options.arch, variant.side_px).to(options.device)
        sam.load_state_dict(at_side(tensors, sam.state_dict()))
    slices = [np.roll(slice_of(SHAPE), shift, axis=1) for shift in range(options.slices)]
    with tempfile.TemporaryDirectory() as folder:
        encode = encoder_of(variant, sam, DiskStore(Path(folder)))
        np.save(options.features, exact(variant, sam, encode, slices[0]))
        if options.device != "cpu":
            encode(slices)
        wall, cpu = time.perf_counter(), time.process_time()
        encode(slices)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall / len(slices), "cpu": cpu / len(slices), "peak": peak_mb(options.device)}


def encoder_of(
    variant: Variant, sam: Sam, store: DiskStore
) -> Callable[[Sequence[Pixels]], Sequence[NDArray[np.floating]]]:
    """Slices to features, as a variant does it; they lie in the computer's memory when it returns."""
    precision = variant.precision
    if variant.by_micro_sam:
        return micro_sam_encoder(sam)
    if precision is None:
        from segment_anything import SamPredictor

        predictor = SamPredictor(sam)

        def stock(slices: Sequence[Pixels]) -> list[Features]:
            found = []
            for pixels in slices:
                predictor.set_image(np.repeat(pixels[:, :, None], 3, axis=2))
                found.append(predictor.get_image_embedding()[0].cpu().numpy())
            return found

        return stock
    if variant.by_openvino:
        encoder = openvino_encoder(sam, precision)
        return lambda slices: encoder.features(input_of(sam, one).numpy() for one in slices)

    def own(slices: Sequence[Pixels]) -> list[Features]:
        def keep(number: int, embedding: Embedding) -> None:
            store.put(EmbeddingKey.of_slice(slices[number], "benchmark", "benchmark", precision), embedding)

        embeddings = encode_slices(sam, slices, precision=precision, keep=keep if variant.cached else keep_nothing)
        return [embedding.features for embedding in embeddings]

    return own


def micro_sam_encoder(sam: Sam) -> Callable[[Sequence[Pixels]], Sequence[Features]]:
    """micro-sam's own way from a volume of slices to features in a zarr folder."""
    with stand_in_torchvision() if not torchvision_works() else nullcontext():
        from micro_sam.util import precompute_image_embeddings
        from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.model_type = predictor.model_name = "random"  # which its folder names

    def encode(slices: Sequence[Pixels]) -> list[Features]:
        with tempfile.TemporaryDirectory() as folder:
            found = precompute_image_embeddings(
                predictor, np.stack(slices), save_path=f"{folder}/kept.zarr", ndim=3, verbose=False
            )
            return [np.asarray(features[0]) for features in found["features"]]

    return encode


def exact(
    variant: Variant, sam: Sam, encode: Callable[[Sequence[Pixels]], Sequence[NDArray[np.floating]]], pixels: Pixels
) -> Features:
    """Features of a slice before they are rounded to what the cache keeps."""
    if variant.precision is None:
        return np.asarray(encode([pixels])[0], dtype=np.float32)
    images = input_of(sam, pixels)
    if variant.by_openvino:
        request = openvino_encoder(sam, variant.precision).requests[0]
        return np.array(request.infer([images.numpy()])[0][0])
    with torch.inference_mode():
        return np.asarray(embed_images(sam, images, variant.precision).float().cpu().numpy()[0])


def input_of(sam: Sam, pixels: Pixels) -> torch.Tensor:
    """What the encoder is given of a slice."""
    return model_input(sam, [Frame((pixels.shape[0], pixels.shape[1]), sam.image_encoder.img_size).resize(pixels)])


@cache
def openvino_encoder(sam: Sam, precision: str) -> CompiledEncoder:
    """The encoder made ready for OpenVINO, a slice on every core."""
    return compiled(converted(sam), precision, cores())


def table(variants: Sequence[Variant], runs: Sequence[Sequence[Figures]]) -> str:
    """One row per variant; ratios are taken run by run."""
    rows = []
    for variant, own in zip(variants, runs, strict=True):
        ratio = median(stock["wall"] / one["wall"] for stock, one in zip(runs[0], own, strict=True))
        wall, cpu, peak = (median(one[key] for one in own) for key in ("wall", "cpu", "peak"))
        deviation = f"{own[0]['deviation']:.1e}" if "deviation" in own[0] else ""
        rows.append((variant.name, f"{wall:.4g}", f"{ratio:.2f}", f"{cpu:.4g}", f"{peak:.0f}", deviation))
    return aligned_text(COLUMNS, rows)


def peak_mb(device: str) -> float:
    """Most memory this process has held, of the GPU where there is one."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_text(options: argparse.Namespace, variants: Sequence[Variant], runs: Sequence[Sequence[Figures]]) -> str:
    """The encoder alone on images that lie on the GPU, in bf16, and its share of the measured matrix peak."""
    sam = random_model(options.arch, options.device).sam
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        side_px = sam.image_encoder.img_size
        sam.image_encoder(torch.zeros((1, 3, side_px, side_px), device=options.device))
    flops = counter.get_total_flops()
    square = torch.randn((8192, 8192), device=options.device, dtype=torch.bfloat16)
    peak = 2 * 8192**3 / seconds_on_gpu(lambda: square @ square)
    pixels = [Frame(SHAPE, side_px).resize(slice_of(SHAPE))]
    lines = [f"{flops / 1e9:.0f} GFLOP a slice; 8192² bf16 product {peak / 1e12:.0f} TFLOP/s"]
    with torch.inference_mode():
        for batch in (1, 4, 8, 16, 32):
            images = model_input(sam, pixels * batch)
            seconds = seconds_on_gpu(lambda images=images: embed_images(sam, images, "bf16")) / batch
            share = flops / seconds / peak
            lines.append(f"encoder alone, bf16, {batch} at once: {1e3 * seconds:.2f} ms a slice, {share:.0%} of it")
    return "\n".join(lines)


def seconds_on_gpu(work: Callable[[], object], repeats: int = 10) -> float:
    """Median seconds of something the GPU does, after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times)


if __name__ == "__main__":
    main()
