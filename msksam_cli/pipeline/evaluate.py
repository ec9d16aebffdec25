"""Compare label volumes with a reference: pair, check grids, match labels, measure, summarise, write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap
from msksam_cli.errors import GridMismatchError, InputError, MsksamError, UsageError
from msksam_cli.executor import Work
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.report_page import write_page
from msksam_cli.io.tables import write_csv
from msksam_cli.measure.agreement import AGREEMENT_COLUMNS, Agreement, tissue_agreements
from msksam_cli.measure.comparison import (
    PER_CASE_COLUMNS,
    SUMMARY_COLUMNS,
    Comparison,
    TissueSummary,
    compare_labels,
    summarize_tissues,
    with_empty_comparisons,
)
from msksam_cli.measure.regrid import labels_on_grid, reordered_labels
from msksam_cli.pipeline.case_matching import Pair, Unusable, pair_volumes
from msksam_cli.pipeline.evaluation_page import evaluation_page
from msksam_cli.pipeline.executors import ExecutorOptions, spread
from msksam_cli.pipeline.label_matching import LabelMatching, match_labels, value_names

_GRID_TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True)
class EvaluateOptions:
    """What to compare and how.

    Attributes:
        predictions: folder of label volumes, run folder or one file.
        references: the same for the truth.
        output: folder for the tables and the report; None writes nothing.
        resample: take predictions on another grid to the reference's by nearest neighbour instead of refusing them.
        prediction_names: names of the predictions' values, "1=femur,2=tibia" or a TSV file; "" looks for labels.tsv.
        reference_names: the same for the references.
        match: "auto" (by name where both sides have names), "name" or "value".
    """

    predictions: Path
    references: Path
    output: Path | None = None
    resample: bool = False
    prediction_names: str = ""
    reference_names: str = ""
    match: str = "auto"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        comparisons: one per case and tissue, ordered by case and label.
        summaries: one per tissue, and one over all tissues when there are several.
        agreements: one per tissue and biomarker.
        unmatched: cases found on one side only.
        refused: pairs that could not be compared.
        notes: what else the user should know, such as tissues that only one side names.
    """

    comparisons: tuple[Comparison, ...]
    summaries: tuple[TissueSummary, ...]
    agreements: tuple[Agreement, ...]
    unmatched: tuple[Unusable, ...]
    refused: tuple[Unusable, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every case was compared, else 3."""
        return 3 if self.unmatched or self.refused else 0


@dataclass(frozen=True)
class ComparedPair:
    """What came of one pair: its comparisons, and what the user should know."""

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PairWork:
    """The work on a pair, for an executor to send.

    Attributes:
        resample: as in `EvaluateOptions`.
        matching: which values of the two sides belong together.
    """

    resample: bool
    matching: LabelMatching

    def __call__(self, pair: Pair) -> ComparedPair | Unusable:
        """The comparisons of a pair, or why there are none."""
        try:
            prediction, reference = read_pair(pair, self.resample)
            notes = tuple(_unnamed(self.matching, prediction, reference))
            return ComparedPair(tuple(compare_maps(pair.case, prediction, reference, self.matching)), notes)
        except MsksamError as error:
            return Unusable(pair.case, str(error))


def evaluate(options: EvaluateOptions, where: ExecutorOptions | None = None) -> Evaluation:
    """Compare every pair of label volumes and, with an output folder, write tables and report.

    Args:
        options: what is compared.
        where: pairs are worked on, in this process when None.

    Raises:
        InputError: nothing could be compared.
        UsageError: options contradict each other.
    """
    if options.output is not None and (options.output / "run.json").is_file():
        raise UsageError(f"{options.output.name!r} holds a run and its report", "Choose another output folder")
    where = where or ExecutorOptions()
    if not where.is_local:
        options = replace(options, predictions=options.predictions.absolute(), references=options.references.absolute())
    pairing = pair_volumes(options.predictions, options.references)
    if not pairing.pairs:
        names = ", ".join(unusable.case for unusable in pairing.unmatched[:6])
        raise InputError(f"no prediction and reference share a name: {names}", "Name the files of a case alike")
    matching = match_labels(
        value_names(options.prediction_names, options.predictions),
        value_names(options.reference_names, options.references),
        options.match,
    )
    comparisons: list[Comparison] = []
    refused: list[Unusable] = []
    notes = dict.fromkeys(matching.notes)
    results = spread(Work(PairWork(options.resample, matching), _case_of), pairing.pairs, where, "evaluate")
    for pair, result in zip(pairing.pairs, results, strict=True):
        if isinstance(result, ComparedPair):
            notes |= dict.fromkeys(result.notes)
            comparisons += result.comparisons
        else:
            refused.append(Unusable(pair.case, result.reason))
    if len(refused) == len(pairing.pairs):
        raise InputError(f"no case could be compared; {refused[0].case}: {refused[0].reason}")
    refused_cases = {unusable.case for unusable in refused}
    cases = [pair.case for pair in pairing.pairs if pair.case not in refused_cases]
    comparisons = with_empty_comparisons(comparisons, cases, matching.names if matching.by_name else {})
    summaries, agreements = summarize_tissues(comparisons), tissue_agreements(comparisons)
    evaluation = Evaluation(tuple(comparisons), summaries, agreements, pairing.unmatched, tuple(refused), tuple(notes))
    if options.output is not None:
        write_evaluation(options.output, evaluation)
    return evaluation


def read_pair(pair: Pair, resample: bool) -> tuple[LabelMap, LabelMap]:
    """Prediction and reference on the reference's grid; another order of the same axes is undone without loss.

    Raises:
        GridMismatchError: the grids differ and `resample` is false.
        InputError: a volume cannot be read.
    """
    prediction, reference = _read(pair.prediction, "prediction"), _read(pair.reference, "reference")
    if reference.grid.matches(prediction.grid, _GRID_TOLERANCE_VOXELS):
        return prediction, reference
    reordered = reordered_labels(prediction, reference.grid, _GRID_TOLERANCE_VOXELS)
    if reordered is not None:
        return reordered, reference
    if not resample:
        raise _grid_mismatch(prediction.grid, reference.grid)
    return labels_on_grid(prediction, reference.grid), reference


def compare_maps(case: str, prediction: LabelMap, reference: LabelMap, matching: LabelMatching) -> list[Comparison]:
    """Comparisons of the labels that occur in either of two label maps on one grid."""
    predicted, truth = matching.common_prediction(prediction), matching.common_reference(reference)
    return compare_labels(case, predicted, truth, reference.grid, matching.names)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write per_case.csv, summary.csv, agreement.csv and report.html.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    write_csv(folder / "per_case.csv", PER_CASE_COLUMNS, (item.row() for item in evaluation.comparisons))
    write_csv(
        folder / "summary.csv", SUMMARY_COLUMNS, (row for summary in evaluation.summaries for row in summary.rows())
    )
    write_csv(folder / "agreement.csv", AGREEMENT_COLUMNS, (agreement.row() for agreement in evaluation.agreements))
    skipped = (*evaluation.unmatched, *evaluation.refused)
    page = evaluation_page(
        evaluation.comparisons, evaluation.summaries, evaluation.agreements, skipped, evaluation.notes
    )
    write_page(folder / "report.html", page)


def _case_of(pair: Pair) -> str:
    return pair.case


def _read(path: Path, side: str) -> LabelMap:
    try:
        return read_label_map(path)
    except InputError as error:
        raise type(error)(f"{side}: {error.message}", error.hint) from error


def _unnamed(matching: LabelMatching, prediction: LabelMap, reference: LabelMap) -> Iterator[str]:
    if not matching.by_name:
        return
    sides = (("prediction", prediction, matching.prediction_names), ("reference", reference, matching.reference_names))
    for side, label_map, names in sides:
        values = sorted(set(label_map.tissues.indices) - set(names))
        if values:
            yield f"not evaluated, {side} values without a name: {', '.join(map(str, values))}"


def _grid_mismatch(prediction: Grid, reference: Grid) -> GridMismatchError:
    if prediction.shape != reference.shape:
        found = f"the prediction has {prediction.shape} voxels {prediction.orientation}, the reference "
        found += f"{reference.shape} {reference.orientation}"
    else:
        found = f"corners are up to {reference.corner_offset_voxels(prediction):.2f} voxels apart"
    return GridMismatchError(f"prediction and reference lie on different grids: {found}", "Use --resample")
