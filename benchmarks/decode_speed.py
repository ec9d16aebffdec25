"""How fast prompts are answered: segment-anything's `predict` one by one against msksam's decoder, with ratios.

    python benchmarks/decode_speed.py [--arch vit_b] [--repeats 5] [--device cpu] [--keep]

Random weights, one slice of 512 × 512 px, boxes of a tenth to a third of its side; both decode the same embedding to
masks at the slice's own size, four a prompt here, three there. The two take turns in one process; medians over repeats.
`pixels differ` counts mask pixels that fall on another side than in `predict`, over all prompts: rounding, but for the
bundled model, whose decoder here sees blocks of cells away from a box and finds nothing there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import machine_text
from parity import random_model, slice_of

from msksam_cli.core.prompts import Box, MaskPrediction, Prompt
from msksam_cli.io.tables import aligned_text
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import box_mask_prompt
from msksam_cli.sam.runtime import Model

RESULTS = Path(__file__).parent / "results"
SHAPE = (512, 512)
COUNTS = (1, 10, 100)
COLUMNS = ("prompts", "predict ms a prompt", "msksam ms a prompt", "ratio", "CPU ms a prompt", "pixels differ")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    model = random_model(options.arch, options.device)
    rows = [measured(model, count, options.repeats) for count in COUNTS]
    title = f"{options.arch}, one slice of {SHAPE[0]} px, median of {options.repeats} repeats"
    text = f"{title}\n{machine_text(options.device)}\n\n{aligned_text(COLUMNS, rows)}"
    print(text)
    if options.keep:
        name = f"decode-speed-{options.arch}-{options.device.partition(':')[0]}.md"
        (RESULTS / name).write_text(f"```\n{text}\n```\n", encoding="utf-8")


def measured(model: Model, count: int, repeats: int) -> tuple[str, ...]:
    """One row: both decoders on the same prompts."""
    from segment_anything import SamPredictor

    pixels, prompts = slice_of(SHAPE), prompts_of(count)
    predictor = SamPredictor(model.sam)
    predictor.set_image(np.repeat(pixels[:, :, None], 3, axis=2))
    (embedding,) = model.encode([pixels])
    predictor.features = torch.from_numpy(embedding.features.astype(np.float32))[None].to(model.device)
    masks = [mask_prompt(model, prompt) for prompt in prompts]

    def stock() -> list[np.ndarray]:
        return [
            predictor.predict(box=np.array(prompt.box.xyxy), mask_input=mask, multimask_output=True)[0]
            for prompt, mask in zip(prompts, masks, strict=True)
            if prompt.box
        ]

    def own() -> list[MaskPrediction]:
        return model.decode(embedding, prompts)

    theirs, ours = stock(), own()
    differing = sum(int((a != (b.logits[1:] > 0)).sum()) for a, b in zip(theirs, ours, strict=True))
    times = [(timed(stock), timed(own)) for _ in range(repeats)]
    wall = [median(pair[n][0] for pair in times) / count * 1e3 for n in range(2)]
    ratio = median(one[0] / two[0] for one, two in times)
    cpu = median(two[1] for _, two in times) / count * 1e3
    return str(count), f"{wall[0]:.2f}", f"{wall[1]:.2f}", f"{ratio:.2f}", f"{cpu:.2f}", str(differing)


def timed(work: Callable[[], Sequence[object]]) -> tuple[float, float]:
    """Wall and CPU seconds; results lie in the computer's memory when the work returns."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def prompts_of(count: int) -> list[Prompt]:
    """Boxes at random places."""
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0.1, 0.33, (count, 2)) * SHAPE[0]
    corners = rng.uniform(0, 1, (count, 2)) * (SHAPE[0] - 1 - sizes)
    return [
        Prompt(1, 0, box=Box((x, y, x + width, y + height)))
        for (x, y), (width, height) in zip(corners, sizes, strict=True)
    ]


def mask_prompt(model: Model, prompt: Prompt) -> np.ndarray | None:
    """The dense prompt that goes with a box, for networks that are asked so."""
    if prompt.box is None or not model.asking.box_as_mask:
        return None
    boxes = torch.as_tensor(Frame(SHAPE, model.image_side_px).to_model_xyxy([prompt.box.xyxy]))
    low_res: np.ndarray = box_mask_prompt(
        boxes, model.image_side_px, model.sam.prompt_encoder.mask_input_size[0]
    ).numpy()[0]
    return low_res


if __name__ == "__main__":
    main()
