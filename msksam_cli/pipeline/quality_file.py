"""What quality is foretold by, as a JSON file beside the checkpoint whose answers it judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from msksam_cli.errors import InputError, ModelError
from msksam_cli.io.tables import read_json, write_json
from msksam_cli.measure.expected_dice import QualityModel
from msksam_cli.measure.slice_signals import SIGNALS

QUALITY_SUFFIX = ".qc.json"
"""Added to the name of a checkpoint file."""

_HINT = "Fit it again with `msksam qc fit`"
_ROWS = ("means", "deviations", "weights")


def read_quality_file(path: Path) -> QualityModel:
    """The model in a file.

    Raises:
        ModelError: it cannot be read or holds numbers that mean nothing.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise ModelError(f"{path.name} cannot be read", _HINT) from error
    names = {field.name for field in fields(QualityModel)}
    if not isinstance(content, Mapping) or not names <= set(content):
        raise ModelError(f"{path.name} holds no model of quality", _HINT)
    signals = content["signals"]
    if not isinstance(signals, list) or not signals or not all(signal in SIGNALS for signal in signals):
        raise ModelError(f"{path.name} looks at unknown signals {signals!r}", _HINT)
    means, deviations, weights = (_numbers(content[name], path, len(signals)) for name in _ROWS)
    if min(deviations) <= 0:
        raise ModelError(f"{path.name}: a deviation of {min(deviations)} is none", _HINT)
    x, y = (_numbers(part, path) for part in _pair(content["knots"], path))
    if len(x) != len(y) or sorted(set(x)) != list(x) or sorted(y) != list(y) or not 0 <= min(y) <= max(y) <= 1:
        raise ModelError(f"{path.name}: its knots do not rise within 0 … 1", _HINT)
    groups, fit = content["groups"], content["fit"]
    if not isinstance(groups, Mapping):
        raise ModelError(f"{path.name}: groups is no table", _HINT)
    (constant,) = _numbers([content["constant"]], path)
    return QualityModel(
        tuple(signals),
        means,
        deviations,
        weights,
        dict(zip(map(str, groups), _numbers(list(groups.values()), path), strict=True)),
        constant,
        (x, y),
        str(content["weights_sha256"]),
        dict(fit) if isinstance(fit, Mapping) else None,
    )


def write_quality_file(path: Path, model: QualityModel) -> None:
    """Write a model.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    write_json(path, asdict(model))


def _numbers(values: object, path: Path, count: int | None = None) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or (count is not None and len(values) != count):
        raise ModelError(f"{path.name}: {values!r} are not {count or 'some'} numbers", _HINT)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ModelError(f"{path.name}: {value!r} is no number", _HINT)
    return tuple(float(value) for value in values)


def _pair(values: object, path: Path) -> tuple[object, object]:
    if not isinstance(values, list) or len(values) != 2:
        raise ModelError(f"{path.name}: knots are no pair of rows", _HINT)
    return values[0], values[1]
