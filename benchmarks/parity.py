"""Is msksam's forward pass segment-anything's own? Same random weights, both ways, a table of differences.

The decoder is shown every cell, as in segment-anything, also where the architecture shows it blocks far from a box.

python benchmarks/parity.py                       msksam_small, six slice shapes (seconds)
python benchmarks/parity.py --arch vit_b          the real size: about a minute a shape on one core
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.sam.frame import Frame
from msksam_cli.sam.model import ARCHITECTURES, box_mask_prompt, build_sam
from msksam_cli.sam.runtime import Model, choose_device, make_model
from msksam_cli.sam.vision_shim import import_modeling

SHAPES = [(384, 384), (256, 320), (320, 257), (512, 512), (160, 384), (640, 512)]


def random_model(arch: str, device: str) -> Model:
    """A model with random weights; positions too, which are nought at birth and would hide mistakes."""
    torch.manual_seed(1)
    sam = build_sam(arch)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.1)
    return make_model(sam, ARCHITECTURES[arch], name=arch, device=device)


def slice_of(shape: tuple[int, int]) -> np.ndarray:
    """Smooth waves with noise, (rows, columns) uint8."""
    rows, columns = np.indices(shape) / np.array(shape)[:, None, None]
    noise = np.random.default_rng(0).normal(scale=0.2, size=shape)
    return np.clip(60 * (np.sin(9 * rows) + np.cos(7 * columns * rows) + noise) + 120, 0, 255).astype(np.uint8)


def prompts_for(shape: tuple[int, int]) -> dict[str, Prompt]:
    """A box, two points, and both."""
    rows, columns = shape
    box = Box((0.2 * columns, 0.3 * rows, 0.7 * columns, 0.8 * rows))
    points = Points(((0.4 * columns, 0.5 * rows), (0.9 * columns, 0.1 * rows)), (True, False))
    return {"box": Prompt(1, 0, box=box), "points": Prompt(1, 0, points=points), "both": Prompt(1, 0, box, points)}


def judge_logits(judge: object, prompt: Prompt, low_res: np.ndarray | None) -> np.ndarray:
    """Logits of segment-anything's predictor, its single mask before its three."""
    asked = {
        "box": np.array(prompt.box.xyxy) if prompt.box else None,
        "point_coords": np.array(prompt.points.xy) if prompt.points else None,
        "point_labels": np.array(prompt.points.is_foreground, dtype=int) if prompt.points else None,
        "mask_input": low_res,
    }
    answers = (judge.predict(**asked, multimask_output=multi, return_logits=True)[0] for multi in (False, True))
    return np.concatenate(list(answers))


def compare(model: Model, shape: tuple[int, int]) -> None:
    """Print one line per kind of prompt."""
    from segment_anything import SamPredictor

    pixels, judge = slice_of(shape), SamPredictor(model.sam)
    started = time.perf_counter()
    judge.set_image(np.repeat(pixels[:, :, None], 3, axis=2))
    judge_seconds = time.perf_counter() - started
    started = time.perf_counter()
    (embedding,) = model.encode([pixels])
    seconds = time.perf_counter() - started
    exact = judge.features.cpu().numpy()[0]
    stored = np.abs(embedding.features.astype(np.float32) - exact).max()
    judge.features = judge.features.half().float()
    for kind, prompt in prompts_for(shape).items():
        low_res = None
        if prompt.box and model.asking.box_as_mask:
            boxes = torch.as_tensor(Frame(shape, model.image_side_px).to_model_xyxy([prompt.box.xyxy]))
            low_res = box_mask_prompt(boxes, model.image_side_px, model.sam.prompt_encoder.mask_input_size[0])[
                0
            ].numpy()
        theirs = judge_logits(judge, prompt, low_res)
        (ours,) = model.decode(embedding, [prompt])
        differing = int(((theirs > 0) != (ours.logits > 0)).sum())
        print(
            f"{shape[0]:>4} x {shape[1]:<4} {kind:<7} {np.abs(theirs - ours.logits).max():>12.1e} {differing:>10} "
            f"{np.abs(theirs).max():>10.2f} {stored:>12.1e} {judge_seconds:>8.2f} {seconds:>8.2f}"
        )


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=ARCHITECTURES, default="msksam_small")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="how many slice shapes")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    import_modeling()
    torch.set_num_threads(1)  # sums in another order differ in their last bits, and so would the judge from itself
    model = random_model(options.arch, choose_device(options.device))
    model = replace(model, asking=replace(model.asking, block_cells=None))  # the judge sees every cell
    print(
        f"{options.arch}, {model.image_side_px} px, {model.device}; the judge decodes its own embedding, stored as fp16"
    )
    print("slice       prompt  logits differ  pixels differ  largest  embedding fp16   judge s  msksam s")
    for shape in SHAPES[: options.shapes]:
        compare(model, shape)


if __name__ == "__main__":
    main()
