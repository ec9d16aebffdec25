"""What a box alone is worth: the ellipse that fills it, to be beaten by every network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Prompt
from msksam_cli.core.slicing import take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.fusion import FusionRules, clean_labels, fuse_slice, join_answers

Plane = NDArray[np.float32]


def ellipse_logits(box: Box, shape: tuple[int, int]) -> Plane:
    """1 - r² of the ellipse that fills a box (rows, columns): positive inside, 0 on it, negative outside."""
    x0, y0, x1, y1 = box.xyxy
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (x - (x0 + x1) / 2) / ((x1 - x0 + 1) / 2)
    return np.asarray(1 - across**2 - ((y - (y0 + y1) / 2) / ((y1 - y0 + 1) / 2)) ** 2, dtype=np.float32)


def ellipse_labels(prompts: Iterable[Prompt], grid: Grid, tissues: TissueTable) -> LabelMap:
    """An ellipse in the box of every prompt; where two meet, the one whose middle is nearer wins."""
    rules, axis = FusionRules(), grid.slice_axis
    values = np.zeros(grid.shape, dtype=np.uint16)
    by_slice: dict[int, dict[int, list[tuple[Prompt, Plane]]]] = {}
    for prompt in prompts:
        if prompt.box is not None:
            rows, columns = take_slice(values, axis, prompt.slice_index).shape
            answer = prompt, ellipse_logits(prompt.box, (rows, columns))
            by_slice.setdefault(prompt.slice_index, {}).setdefault(prompt.tissue_index, []).append(answer)
    for index, answers in by_slice.items():
        plane = take_slice(values, axis, index)
        shape = plane.shape[0], plane.shape[1]
        joined = {tissue: join_answers(of_tissue, shape, rules) for tissue, of_tissue in answers.items()}
        plane[...] = fuse_slice(joined, None, shape, rules)
    return LabelMap(clean_labels(values, grid, rules), grid, tissues)
