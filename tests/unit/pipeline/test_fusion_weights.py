"""Where the prior's weight comes from: a fit beside the checkpoint, the checkpoint, the registry, or nowhere."""

from __future__ import annotations

import dataclasses

import pytest

from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.errors import ModelError
from msksam_cli.fusion import FusionRules
from msksam_cli.io.fusion_file import FusionWeights, write_fusion_file
from msksam_cli.io.registry import read_registry
from msksam_cli.io.resources import bundled
from msksam_cli.pipeline.fusion_weights import as_metadata, fitted_path, fusion_rules
from msksam_cli.pipeline.models import load_model


@pytest.fixture
def checkpoint(small_checkpoint, tmp_path):
    path = tmp_path / "site.safetensors"
    path.write_bytes(small_checkpoint.read_bytes())
    return path


def test_without_any_fit_every_group_weighs_the_prior_by_one(checkpoint):
    rules = fusion_rules(str(checkpoint), load_model(str(checkpoint), device="cpu"))
    assert rules == FusionRules()
    assert rules.weights_from == "default"
    tissues = TissueTable((Tissue(1, "femur", group="bone"), Tissue(2, "acl", group="ligament")))
    assert rules.weights(tissues) == {1: 1.0, 2: 1.0}


def test_the_bundled_models_weights_come_from_the_registry_and_are_those_that_were_measured():
    rules = fusion_rules("msksam-small", load_model("msksam-small", device="cpu"))
    assert rules.weights_from == "registry"
    assert rules.prior_weight == 1.0
    entry = next(entry for entry in read_registry(bundled("registry.toml")) if entry.name == "msksam-small")
    assert dict(rules.group_weights) == entry.fusion["groups"]


def test_a_fit_beside_the_file_goes_before_what_the_checkpoint_says(checkpoint):
    model = load_model(str(checkpoint), device="cpu")
    told = dataclasses.replace(model, metadata=as_metadata(FusionRules(2.0, {"bone": 0.25})))
    rules = fusion_rules(str(checkpoint), told)
    assert (rules.prior_weight, rules.group_weights, rules.weights_from) == (2.0, {"bone": 0.25}, "checkpoint")
    path = fitted_path(str(checkpoint))
    assert path == checkpoint.with_name("site.safetensors.fusion.toml")
    write_fusion_file(path, FusionWeights(1.0, {"bone": 3.0}, model.weights_sha256))
    rules = fusion_rules(str(checkpoint), told)
    assert (rules.prior_weight, rules.group_weights, rules.weights_from) == (1.0, {"bone": 3.0}, "fitted")


def test_a_fit_for_other_weights_is_refused_with_both_hashes(checkpoint):
    model = load_model(str(checkpoint), device="cpu")
    write_fusion_file(fitted_path(str(checkpoint)), FusionWeights(1.0, {}, "ab" * 32))
    with pytest.raises(ModelError, match=f"abababababababab.*{model.weights_sha256[:16]}"):
        fusion_rules(str(checkpoint), model)


def test_a_named_models_fit_lies_in_the_users_folder(tmp_path):
    assert fitted_path("msksam-small", tmp_path) == tmp_path / "msksam-small.fusion.toml"


def test_metadata_that_is_no_json_is_refused(checkpoint):
    broken = dataclasses.replace(load_model(str(checkpoint), device="cpu"), metadata={"fusion": "{"})
    with pytest.raises(ModelError, match="no JSON"):
        fusion_rules(str(checkpoint), broken)
