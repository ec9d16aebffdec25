"""Which model of quality judges a network's slices, and what it says of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msksam_cli.io.resources import bundled
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.measure.slice_signals import SIGNALS, SliceSignals
from msksam_cli.network import Network
from msksam_cli.pipeline.fitted_files import check_fitted_for, path_beside
from msksam_cli.pipeline.quality_file import QUALITY_SUFFIX, read_quality_file

SLICE_COLUMNS = ("case", "tissue", "slice", "area_mm2", *SIGNALS, "expected_dice")
"""Columns of slices.csv."""


def quality_model(name_or_file: str, model: Network) -> QualityModel | None:
    """What was fitted for this checkpoint, else what comes with it, else None.

    Raises:
        ModelError: a file cannot be read, or what was fitted belongs to another checkpoint.
    """
    own = fitted_quality_path(name_or_file)
    if own.is_file():
        found = read_quality_file(own)
        check_fitted_for(own, found.weights_sha256, model, "msksam qc fit")
        return found
    shipped = bundled(f"checkpoints/{model.name}{QUALITY_SUFFIX}")
    if shipped.is_file() and (found := read_quality_file(shipped)).weights_sha256 == model.weights_sha256:
        return found
    return None


def fitted_quality_path(name_or_file: str) -> Path:
    """Where a fitted model is kept: beside a checkpoint file, else by name in the user's models folder."""
    return path_beside(name_or_file, QUALITY_SUFFIX)


def slice_rows(
    case: str, signals: Sequence[SliceSignals], quality: QualityModel | None
) -> tuple[list[dict[str, object]], dict[int, float]]:
    """Rows of slices.csv, and label value → expected Dice of the tissue: the mean over its slices by their area."""
    expected = quality.expected([(one.tissue.group, one.signals) for one in signals]) if quality and signals else None
    rows: list[dict[str, object]] = []
    weighed: dict[int, tuple[float, float]] = {}
    for number, one in enumerate(signals):
        dice = float(expected[number]) if expected is not None else None
        own = {"case": case, "tissue": one.tissue.name, "slice": one.slice_index, "area_mm2": one.area_mm2}
        rows.append({**own, **vars(one.signals), "expected_dice": dice})
        if dice is not None:
            total, area = weighed.get(one.tissue.index, (0.0, 0.0))
            weighed[one.tissue.index] = total + dice * one.area_mm2, area + one.area_mm2
    return rows, {index: total / area for index, (total, area) in weighed.items()}
