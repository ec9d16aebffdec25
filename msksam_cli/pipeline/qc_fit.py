"""Learn from labelled cases what a slice's signals say of its Dice, and state what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from msksam_cli.core.cores import cores
from msksam_cli.embeddings import MemoryStore
from msksam_cli.errors import EnvironmentFault, InputError, MsksamError, UsageError
from msksam_cli.io.cases import CaseFiles
from msksam_cli.io.curves import Chart, Curve, write_charts
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.io.tables import aligned_text, write_csv
from msksam_cli.measure.expected_dice import BAD_DICE, LEAST_SLICES, QualityModel, telling
from msksam_cli.pipeline.case_matching import Unusable
from msksam_cli.pipeline.compare_set import LabelledSet, labelled_set, read_case
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.judged import JUDGED_COLUMNS, Judged, Worth, crossed, fitted, judged_slices, worth
from msksam_cli.pipeline.models import load_model
from msksam_cli.pipeline.quality import fitted_quality_path
from msksam_cli.pipeline.quality_file import write_quality_file
from msksam_cli.pipeline.segment_case import Setup, segment_with_atlas

LEAST_CASES = 4


@dataclass(frozen=True)
class QcFitOptions:
    """What to learn from.

    Attributes:
        cases: folder with images/ and labels/.
        output: folder for slices.csv and calibration.png; None writes neither.
        model: name of a model or a checkpoint file.
        atlas: "auto", a name or a folder.
        tissues: names of tissues or groups, or "all".
        names: names of the label values, see `labelled_set`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        cache: folder of the cache, None for the user's.
        use_cache: whether anything is kept on disk at all.
    """

    cases: Path
    output: Path | None = None
    model: str = "msksam-small"
    atlas: str = "auto"
    tissues: tuple[str, ...] = ("all",)
    names: str = ""
    device: str = "auto"
    cache: Path | None = None
    use_cache: bool = True


@dataclass(frozen=True, eq=False)
class QcFit:
    """What was learnt.

    Attributes:
        model: fitted on all cases.
        path: where it is stored.
        worth: of models fitted on one half of the cases, on the other half.
        alone: signal → the same for that signal by itself.
        refused: cases that could not be used.
        notes: what else the user should know.
    """

    model: QualityModel
    path: Path
    worth: Worth
    alone: dict[str, Worth]
    refused: tuple[Unusable, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every case was used, else 3."""
        return 3 if self.refused else 0


def run_qc_fit(options: QcFitOptions) -> QcFit:
    """Segment every labelled case, fit, store the model beside the checkpoint, and write what it rests on.

    Raises:
        InputError: no case could be used, or too few slices show a tissue.
        UsageError: fewer than `LEAST_CASES` cases that the atlas was not built from.
        AtlasError: the atlas is not there.
        ModelError: the model cannot be loaded.
    """
    found = labelled_set(options.cases, atlas=options.atlas, tissues=options.tissues, names=options.names)
    cases = [files for files in found.cases if files.name not in found.in_atlas]
    if len(cases) < LEAST_CASES:
        raise UsageError(
            f"quality is learnt from {LEAST_CASES} cases that are not in the atlas, there are {len(cases)}",
            "Label more cases",
        )
    setup = _setup(options, found)
    judged: list[Judged] = []
    refused: list[Unusable] = []
    for files in tqdm(cases, desc="qc fit", unit="case", disable=None):
        try:
            judged += _judged_case(files, found, setup)
        except MsksamError as error:
            if error.exit_code == EnvironmentFault.exit_code:
                raise
            refused.append(Unusable(files.name, str(error)))
    used = sorted({one.case for one in judged})
    halves = [sum(one.case in used[start::2] for one in judged) for start in (0, 1)]
    if len(used) < LEAST_CASES or min(halves) < LEAST_SLICES:
        why = f"; {refused[0].case}: {refused[0].reason}" if refused else ""
        raise InputError(
            f"{len(used)} cases with {halves[0]} and {halves[1]} slices in their halves are too few, {LEAST_CASES} "
            f"cases and {LEAST_SLICES} slices are needed{why}",
            "Label more cases",
        )
    expectations = crossed(judged)
    value = worth(expectations, judged)
    alone = {name: worth(crossed(judged, (name,)), judged) for name in telling([one.signals for one in judged])}
    facts = {
        "cases": len(used),
        "slices": value.slices,
        "atlas": found.atlas.name,
        "area_under_roc": value.area_under_roc,
        "mean_error": value.mean_error,
        "found_in_worst_tenth": value.found,
        "found_at_best": value.found_at_best,
    }
    model = replace(fitted(judged), weights_sha256=setup.model.weights_sha256, fit=facts)
    path = fitted_quality_path(options.model)
    write_quality_file(path, model)
    if options.output is not None:
        rows = ({**one.row(), "expected_dice": float(e)} for one, e in zip(judged, expectations, strict=True))
        write_csv(options.output / "slices.csv", (*JUDGED_COLUMNS, "expected_dice"), rows)
        write_charts(options.output / "calibration.png", [calibration_chart(value, "expected against real Dice")])
    return QcFit(model, path, value, alone, tuple(refused), found.notes)


def qc_fit_text(fit: QcFit) -> str:
    """What was learnt and what it is worth, for a terminal."""
    value = fit.worth
    columns = ("signals", "AUROC", "mean error", "errors in worst 10 %", "at best")
    rows = [("all", *_cells(value)), *((name, *_cells(one)) for name, one in fit.alone.items())]
    lines = [(f"{e:.2f}", f"{d:.2f}", str(n)) for e, d, n in value.calibration]
    return (
        f"{value.slices} slices, {value.bad} of them with a Dice below {BAD_DICE}; each half of the cases foretold by "
        f"a model fitted on the other half\n\n{aligned_text(columns, rows)}\n\n"
        f"{aligned_text(('expected Dice', 'Dice', 'slices'), lines)}\n\nstored as {fit.path.name}"
    )


def calibration_chart(value: Worth, title: str) -> Chart:
    """Mean Dice of ten parts of the slices over what was expected of them, and the line on which both are equal."""
    points = tuple((e, d) for e, d, _ in value.calibration)
    low = min(min(point) for point in points)
    curves = Curve("equal", "#9aa3ad", ((low, low), (1.0, 1.0))), Curve("slices", "#1f77b4", points, dots=True)
    return Chart(title, "expected Dice", "Dice", curves)


def _cells(value: Worth) -> tuple[str, str, str, str]:
    roc = "" if value.area_under_roc is None else f"{value.area_under_roc:.3f}"
    found, best = ("" if share is None else f"{share:.0%}" for share in (value.found, value.found_at_best))
    return roc, f"{value.mean_error:.3f}", found, best


def _judged_case(files: CaseFiles, found: LabelledSet, setup: Setup) -> list[Judged]:
    volume, truth = read_case(files, found)
    done = segment_with_atlas(volume, found.atlas, setup)
    return judged_slices(files.name, done.labels, done.signals, truth)


def _setup(options: QcFitOptions, found: LabelledSet) -> Setup:
    model = load_model(options.model, device=options.device)
    root = options.cache or cache_folder()
    return Setup(
        found.tissues,
        model,
        DiskStore(root) if options.use_cache else MemoryStore(),
        fusion_rules(options.model, model),
        threads=cores(),
        results=ResultStore(root) if options.use_cache else None,
    )
