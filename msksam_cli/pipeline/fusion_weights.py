"""Which weight the prior gets beside a model's logits, and where that weight comes from."""

from __future__ import annotations

import json
from pathlib import Path

from msksam_cli.errors import ModelError
from msksam_cli.fusion import FusionRules
from msksam_cli.io.fusion_file import FUSION_SUFFIX, FusionWeights, fusion_weights, read_fusion_file
from msksam_cli.network import Network
from msksam_cli.pipeline.fitted_files import check_fitted_for, path_beside
from msksam_cli.pipeline.models import locate_model

METADATA_KEY = "fusion"
"""Key of a checkpoint's metadata under which it carries its weights, as JSON."""


def fusion_rules(name_or_file: str, model: Network) -> FusionRules:
    """The rules a model's masks are fused by.

    Weights come from a file fitted for this checkpoint (see `fitted_path`), else from the checkpoint's own metadata,
    else from the registry, else every group weighs the prior by 1; `weights_from` says which.

    Raises:
        ModelError: weights cannot be read, or were fitted for another checkpoint.
    """
    path = fitted_path(name_or_file)
    if path.is_file():
        return _rules(_fitted(path, model), "fitted")
    if METADATA_KEY in model.metadata:
        return _rules(_from_metadata(model), "checkpoint")
    located = locate_model(name_or_file)
    if located.fusion:
        return _rules(fusion_weights(located.fusion, f"registry, {located.name}"), "registry")
    return FusionRules()


def fitted_path(name_or_file: str, folder: Path | None = None) -> Path:
    """Where fitted weights of a model are kept: beside a checkpoint file, else by name in the user's models folder."""
    return path_beside(name_or_file, FUSION_SUFFIX, folder)


def as_metadata(rules: FusionRules) -> dict[str, str]:
    """Rules as metadata of a checkpoint, so that a fine-tune is fused as the model it came from."""
    table = {"prior_weight": rules.prior_weight, "groups": dict(rules.group_weights)}
    return {METADATA_KEY: json.dumps(table, sort_keys=True)}


def _fitted(path: Path, model: Network) -> FusionWeights:
    weights = read_fusion_file(path)
    check_fitted_for(path, weights.weights_sha256, model, "msksam compare --fit-fusion")
    return weights


def _from_metadata(model: Network) -> FusionWeights:
    try:
        table = json.loads(model.metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{model.name}: its fusion weights are no JSON", "Get the checkpoint again") from error
    return fusion_weights(table, model.name)


def _rules(weights: FusionWeights, source: str) -> FusionRules:
    return FusionRules(prior_weight=weights.prior_weight, group_weights=weights.groups, weights_from=source)
