"""Prompts as JSON: everything the decoder was asked, in voxels and millimetres, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msksam_cli.core.geometry import Grid
from msksam_cli.core.prompts import Box, Points, Prompt
from msksam_cli.core.slicing import plane_axes
from msksam_cli.core.tissues import TissueTable
from msksam_cli.errors import InputError
from msksam_cli.io.tables import read_json, write_json

FORMAT = "msksam-prompts-1"


def write_prompts(
    path: Path,
    prompts: Sequence[Prompt],
    iou_predictions: Sequence[float],
    *,
    grid: Grid,
    tissues: TissueTable,
    provenance: Mapping[str, object],
) -> None:
    """Write every box and point of a case with the decoder's own IoU prediction of its answer.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    axis = grid.slice_axis
    records = [
        _record(prompt, iou, grid, tissues.by_index(prompt.tissue_index).name, axis)
        for prompt, iou in zip(prompts, iou_predictions, strict=True)
    ]
    frame = {"slice_axis": axis, "shape": list(grid.shape), "affine": grid.affine.tolist()}
    content = {"format": FORMAT, **provenance, "grid": frame, "prompts_sha256": prompts_sha256(records)}
    write_json(path, {**content, "prompts": records})


def prompts_sha256(records: object) -> str:
    """Hex sha256 over the records of a file's prompts, whatever their spaces and order of keys."""
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def read_prompt_file(path: Path) -> dict[str, Any]:
    """Everything a file of prompts says, as plain values.

    Raises:
        InputError: no such file, or not of this format.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path.name} is no file of prompts", "Give a prompts/<case>.json of a run")
    return content


def read_prompts(path: Path, grid: Grid, tissues: TissueTable) -> tuple[Prompt, ...]:
    """Prompts of a file for a volume on the same grid; of tissues that are wanted.

    Raises:
        InputError: no such file, not of this format, or made for another grid.
    """
    content = read_prompt_file(path)
    try:
        frame = content["grid"]
        made_for = Grid(tuple(frame["shape"]), np.array(frame["affine"]))
        if made_for.shape != grid.shape or not grid.matches(made_for):
            raise InputError(f"{path.name} was made for a grid of {made_for.shape}, the volume has {grid.shape}")
        wanted = {tissue.name: tissue.index for tissue in tissues}
        found = [_prompt(one, wanted[one["tissue"]]) for one in content["prompts"] if one["tissue"] in wanted]
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path.name} is damaged: {type(error).__name__} in its prompts") from error
    rows, columns = (grid.shape[axis] for axis in plane_axes(grid.slice_axis))
    for prompt in found:
        if not 0 <= prompt.slice_index < grid.shape[grid.slice_axis]:
            raise InputError(f"{path.name} asks about slice {prompt.slice_index} of {grid.shape[grid.slice_axis]}")
        try:
            prompt.check_inside((rows, columns))
        except ValueError as error:
            raise InputError(f"{path.name}: {error}") from error
    return tuple(sorted(found, key=lambda prompt: (prompt.slice_index, prompt.tissue_index)))


def _record(prompt: Prompt, iou: float, grid: Grid, tissue: str, axis: int) -> dict[str, Any]:
    record: dict[str, Any] = {"tissue": tissue, "slice": prompt.slice_index, "source": prompt.source}
    if prompt.box:
        x0, y0, x1, y1 = prompt.box.xyxy
        record["box_xyxy_px"] = [float(value) for value in prompt.box.xyxy]
        record["box_corners_mm"] = _world(((x0, y0), (x1, y1)), prompt.slice_index, grid, axis)
    if prompt.points:
        record["points_xy_px"] = [[float(x), float(y)] for x, y in prompt.points.xy]
        record["points_mm"] = _world(prompt.points.xy, prompt.slice_index, grid, axis)
        record["is_foreground"] = list(prompt.points.is_foreground)
    return {**record, "iou_prediction": round(float(iou), 4)}


def _world(xy: Sequence[tuple[float, float]], slice_index: int, grid: Grid, axis: int) -> list[list[float]]:
    rows, columns = plane_axes(axis)
    voxels = np.zeros((len(xy), 3))
    voxels[:, axis] = slice_index
    voxels[:, rows] = [y for _, y in xy]
    voxels[:, columns] = [x for x, _ in xy]
    return [[round(float(value), 3) for value in point] for point in grid.to_world_mm(voxels)]


def _prompt(record: Mapping[str, Any], tissue_index: int) -> Prompt:
    box = record.get("box_xyxy_px")
    xy = record.get("points_xy_px")
    return Prompt(
        tissue_index,
        int(record["slice"]),
        Box((float(box[0]), float(box[1]), float(box[2]), float(box[3]))) if box else None,
        Points(tuple((float(x), float(y)) for x, y in xy), tuple(map(bool, record["is_foreground"]))) if xy else None,
        str(record.get("source", "")),
    )
