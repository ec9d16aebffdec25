"""The full table of a labelled set: atlas alone, SAM asked by the atlas and by the truth, for any number of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from msksam_cli.core.cores import cores
from msksam_cli.embeddings import EmbeddingStore, MemoryStore
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError, UsageError
from msksam_cli.io.cases import CaseFiles
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.pipeline.case_matching import Unusable
from msksam_cli.pipeline.compare_case import (
    Compared,
    LabelledCase,
    compare_case,
    labelled_case,
    prompting_placements,
    unseen,
)
from msksam_cli.pipeline.compare_page import write_comparison
from msksam_cli.pipeline.compare_result import ModelComparison
from msksam_cli.pipeline.compare_set import LabelledSet, labelled_set, read_case
from msksam_cli.pipeline.compare_tables import summarize_ways, way_differences
from msksam_cli.pipeline.fit_fusion import LEAST_CASES, Tried, fit_weights, try_weights, write_fit
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.models import DEFAULT_MODEL, load_model
from msksam_cli.pipeline.segment_case import Setup


@dataclass(frozen=True)
class CompareOptions:
    """What to compare.

    Attributes:
        cases: folder with images/ and labels/, or imagesTr/ and labelsTr/.
        output: folder for tables, figure and report; None writes nothing.
        models: names of models or checkpoint files; the first is what others are set against.
        atlas: name or folder of an atlas, "auto" for the installed one that knows most of the set's tissues.
        tissues: names of tissues or groups, or "all" that truth and atlas share.
        names: names of the label values, "1=femur,2=tibia" or a TSV file; "" looks for labels.tsv.
        prompt_kind: "auto", "box", "point" or "box+point", of atlas prompts and true prompts alike.
        device: "auto", "cpu", "cuda[:N]" or "mps".
        cache: folder of embeddings and placements, None for the user's own.
        use_cache: whether these are kept on disk at all.
        fit_fusion: fit the prior's weight per tissue group and store it with each model.
    """

    cases: Path
    output: Path | None = None
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    atlas: str = "auto"
    tissues: tuple[str, ...] = ("all",)
    names: str = ""
    prompt_kind: str = "auto"
    device: str = "auto"
    cache: Path | None = None
    use_cache: bool = True
    fit_fusion: bool = False

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("no model was named", "Give --model")
        if not self.tissues:
            raise UsageError("no tissue was named", "Leave --tissue out, or name a tissue or a group")


def compare(options: CompareOptions) -> ModelComparison:
    """Label every case every way, measure against the truth, and with an output folder write tables and report.

    Raises:
        InputError: nothing could be compared.
        UsageError: options contradict each other, or the atlas was built from all of these cases.
        AtlasError: the atlas is not there.
        ModelError: a model cannot be loaded.
    """
    found = labelled_set(options.cases, atlas=options.atlas, tissues=options.tissues, names=options.names)
    if options.fit_fusion and len(found.cases) - len(found.in_atlas) < LEAST_CASES:
        raise UsageError(
            f"fusion weights need {LEAST_CASES} cases that are not in the atlas, there are "
            f"{len(found.cases) - len(found.in_atlas)}",
            "Label more cases",
        )
    results = ResultStore(options.cache or cache_folder()) if options.use_cache else None
    setups = _setups(options, found, results)
    compared: list[Compared] = []
    tried: list[Tried] = []
    refused: list[Unusable] = []
    for files in tqdm(found.cases, desc="compare", unit="case", disable=None):
        try:
            case = _case(files, found, results)
            rows, sweep = _one_case(case, setups, options.fit_fusion)
            compared += rows
            tried += sweep
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            refused.append(Unusable(files.name, str(error)))
    counted = unseen(compared)
    if not counted:
        raise InputError(
            f"no case could be compared; {refused[0].case}: {refused[0].reason}" if refused else "no truth"
        )
    fits = tuple(fit_weights(name, tried, setup.rules) for name, setup in setups.items()) if options.fit_fusion else ()
    stored = [
        f"{fit.model}: fusion weights stored in {write_fit(fit, setups[fit.model], given, found.atlas.name).name}"
        for fit, given in zip(fits, options.models, strict=bool(fits))
    ]
    result = ModelComparison(
        found.atlas.name,
        tuple(setups),
        tuple(compared),
        summarize_ways(counted),
        way_differences(counted),
        fits,
        tuple(refused),
        (*found.notes, *stored),
    )
    if options.output is not None:
        write_comparison(options.output, result)
    return result


def _case(files: CaseFiles, found: LabelledSet, results: ResultStore | None) -> LabelledCase:
    volume, truth = read_case(files, found)
    in_atlas = files.name in found.in_atlas
    return labelled_case(files.name, volume, truth, found.atlas, results=results, in_atlas=in_atlas, threads=cores())


def _one_case(case: LabelledCase, setups: Mapping[str, Setup], fit: bool) -> tuple[list[Compared], list[Tried]]:
    prompting = prompting_placements(case, setups)
    tried: list[Tried] = []
    if fit and not case.in_atlas:
        for name, setup in setups.items():
            tried += try_weights(case.name, case.volume, case.truth, prompting[name], setup)
    return list(compare_case(case, setups, prompting)), tried


def _setups(options: CompareOptions, found: LabelledSet, results: ResultStore | None) -> dict[str, Setup]:
    """Model name → setup, in the order given."""
    store: EmbeddingStore = DiskStore(options.cache or cache_folder()) if options.use_cache else MemoryStore()
    setups: dict[str, Setup] = {}
    for given in options.models:
        model = load_model(given, device=options.device)
        if model.name in setups:
            raise UsageError(f"two models are called {model.name}", "Rename one of the checkpoint files")
        rules = fusion_rules(given, model)
        setups[model.name] = Setup(
            found.tissues, model, store, rules, options.prompt_kind, threads=cores(), results=results
        )
    return setups
