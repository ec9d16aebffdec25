"""How much the atlas weighs beside a checkpoint's logits, as a TOML file beside the checkpoint.

weights_sha256 = "…"      the checkpoint it was fitted for
prior_weight = 1.0        λ of tissue groups that have none of their own

[groups]
bone = 0.5

[fit]                     how it was found; for people
cases = 6
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msksam_cli.core.tissues import GROUPS
from msksam_cli.errors import ModelError
from msksam_cli.io.atomic import write_text
from msksam_cli.io.toml_text import toml_text

FUSION_SUFFIX = ".fusion.toml"
"""Added to the name of a checkpoint file."""

LARGEST_WEIGHT = 100.0


@dataclass(frozen=True)
class FusionWeights:
    """λ of `logits + λ · logit(P)` by tissue group.

    Attributes:
        prior_weight: λ of groups without one of their own.
        groups: tissue group → λ.
        weights_sha256: hash of the checkpoint these were fitted for, "" when they come with it.
        fit: how they were found, plain values.
    """

    prior_weight: float = 1.0
    groups: Mapping[str, float] = field(default_factory=dict)
    weights_sha256: str = ""
    fit: Mapping[str, object] = field(default_factory=dict)


def fusion_weights(table: object, where: str) -> FusionWeights:
    """Weights from a parsed table with `prior_weight`, `groups` and perhaps `weights_sha256` and `fit`.

    Raises:
        ModelError: a weight is no number from 0 to 100, or a group is unknown; the message begins with `where`.
    """
    if not isinstance(table, Mapping):
        raise ModelError(f"{where}: fusion is no table", "Fit it again with `msksam compare --fit-fusion`")
    groups = table.get("groups", {})
    if not isinstance(groups, Mapping) or not set(groups) <= set(GROUPS):
        raise ModelError(f"{where}: fusion weighs unknown groups {groups!r}", f"Use {', '.join(GROUPS)}")
    fit = table.get("fit", {})
    return FusionWeights(
        _weight(table.get("prior_weight", 1.0), where),
        {str(group): _weight(value, where) for group, value in groups.items()},
        str(table.get("weights_sha256", "")),
        dict(fit) if isinstance(fit, Mapping) else {},
    )


def read_fusion_file(path: Path) -> FusionWeights:
    """Weights in a file.

    Raises:
        ModelError: it cannot be read or holds weights that mean nothing.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} cannot be read", "Fit it again with `msksam compare --fit-fusion`") from error
    return fusion_weights(table, path.name)


def write_fusion_file(path: Path, weights: FusionWeights) -> None:
    """Write weights.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    content = {
        "weights_sha256": weights.weights_sha256,
        "prior_weight": weights.prior_weight,
        "groups": dict(weights.groups),
        "fit": dict(weights.fit),
    }
    write_text(path, toml_text(content))


def _weight(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"{where}: fusion weight {value!r} is no number", "Write a number from 0 to 100")
    if not 0 <= value <= LARGEST_WEIGHT:
        raise ModelError(f"{where}: fusion weight {value!r} is outside 0 … 100", "Write a number from 0 to 100")
    return float(value)
