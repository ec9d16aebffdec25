"""`msksam evaluate` on the real lumbar set, and every number it writes computed again by independent packages.

    python benchmarks/agreement.py [--out FOLDER] [--cases N]

The predictions are those of the bundled model on all 16 subjects, asked by the true boxes (`segment --prompts labels:`,
no fusion); finished ones are kept. The judges are in agreement_judges.py. Differences are taken from the written
tables, which keep nine significant digits. The table goes to benchmarks/results/ unless cases are left out.

Needs pingouin, which brings statsmodels: pip install pingouin.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from agreement_judges import Numbers, judged_agreement, judged_case, judged_influence, judged_summary
from truth_sets import DATA, SETS

from msksam_cli.io.tables import aligned_text, write_tissue_table
from msksam_cli.pipeline.evaluate import EvaluateOptions, evaluate
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions

RESULTS = Path(__file__).parent / "results"
JUDGES = {
    "dice": "SimpleITK",
    "iou": "SimpleITK",
    "volume_pred_mm3": "SimpleITK",
    "volume_ref_mm3": "SimpleITK",
    "volume_error_percent": "SimpleITK",
    "hd95_mm": "surface-distance",
    "assd_mm": "surface-distance",
    "surface_dice_1mm": "surface-distance",
    "ci95": "scipy.stats.bootstrap, another seed",
    "iqr": "scipy",
    "mean sd median q25 q75 cases missing spurious both_empty": "pandas",
    "bias": "statsmodels, Student's t",
    "limit": "statsmodels; factor by integration",
    "slope": "statsmodels, least squares",
    "icc": "pingouin",
    "ccc": "scipy; delta method",
    "sem sdc": "statsmodels, analysis of variance",
    "rms_cv_percent": "scipy",
    "median_difference": "scipy.stats.quantile_test",
    "mad": "statsmodels",
    "rank_icc": "scipy, both orders of each pair",
    "passing_bablok": "scipy, root of Kendall's concordance",
}
SHOWN = {
    "bias": "bias mm³",
    "limit_low": "lower limit",
    "limit_high": "upper limit",
    "icc_2_1": "ICC(2,1)",
    "icc_3_1": "ICC(3,1)",
    "ccc": "CCC",
}


@dataclass
class Column:
    """How one column of a table differs from its judge's."""

    table: str
    name: str
    found: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """Table, column, numbers compared, largest absolute and relative difference, judge."""
        found, judged = np.array(self.found), np.array(self.judged)
        apart = np.abs(found - judged)
        share = apart / np.maximum(np.abs(judged), 1e-300)
        relative = "0" if not apart.any() else f"{share[apart > 0].max():.1e}"
        return self.table, self.name, str(len(found)), f"{apart.max():.1e}", relative, judge_of(self.name)


def main() -> None:
    """Segment, evaluate, judge, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("msksam-out/agreement-lumbar"))
    parser.add_argument("--cases", type=int, default=None, help="only the first N cases, 10 or more")
    options = parser.parse_args()
    truth = write_truth(options.data, options.out / "truth", options.cases)
    images = options.out / "images"
    images.mkdir(exist_ok=True)
    for path in sorted(truth.glob("*.nii.gz")):
        shutil.copyfile(options.data / "lumbar_vertebrae_mr" / "images" / path.name, images / path.name)
    prompts = f"labels:{truth}"
    run_segment(SegmentOptions(images, ("vertebra",), options.out / "run", prompts=prompts, device="cpu", fusion=False))
    scores = options.out / "scores"
    result = evaluate(EvaluateOptions(options.out / "run", truth, scores))
    columns = judged(options.out / "run" / "labels", truth, scores)
    text = aligned_text(
        ("table", "column", "numbers", "largest difference", "relative", "judge"), (c.row() for c in columns)
    )
    shown = aligned_text(("tissue", *SHOWN.values()), agreement_rows(scores))
    warnings = "\n".join(f"{one.tissue}: {warning}" for one in result.agreements for warning in one.warnings)
    compared = sum(len(column.found) for column in columns)
    print(f"{shown}\n{warnings}\n\n{text}\n{compared} numbers")
    if options.cases is None:
        note = (
            "`benchmarks/agreement.py`: `msksam evaluate` on 16 lumbar subjects, msksam-small asked by the true boxes, "
            f"against the truth. Volumes, with 95 % intervals:\n\n```\n{shown}\n{warnings}\n```\n\n"
            f"Its {compared} numbers against independent packages, as written with nine significant digits; of these "
            "only the bootstrap is random:\n"
        )
        (RESULTS / "agreement-lumbar.md").write_text(f"{note}\n```\n{text}\n```\n")


def write_truth(data: Path, folder: Path, cases: int | None) -> Path:
    """The set's label files beside a table of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted((data / "lumbar_vertebrae_mr" / "labels").glob("*.nii.gz"))[:cases]
    for path in files:
        shutil.copyfile(path, folder / path.name)
    write_tissue_table(folder / "labels.tsv", next(SETS["lumbar"](data)).labels.tissues)
    return folder


def judged(predictions: Path, truth: Path, scores: Path) -> list[Column]:
    """Every numeric column of the three tables with what the judges say.

    Raises:
        SystemExit: another case than the judge's is named as the most influential.
    """
    per_case, summary, agreement = (pd.read_csv(scores / f"{n}.csv") for n in ("per_case", "summary", "agreement"))
    values = pd.read_csv(predictions.parent / "labels.tsv", sep="\t").set_index("name")["index"]
    columns: dict[tuple[str, str], Column] = {}

    def compare(table: str, row: pd.Series, numbers: Numbers) -> None:
        for name, number in numbers.items():
            column = columns.setdefault((table, name), Column(table, name))
            column.found.append(float(row[name]))
            column.judged.append(float(number))

    for _, row in per_case.iterrows():
        file = f"{row['case']}.nii.gz"
        compare("per_case", row, judged_case(predictions / file, truth / file, row["label"], values[row["tissue"]]))
    for _, row in summary.iterrows():
        of_tissue = per_case if row["tissue"] == "all" else per_case[per_case["tissue"] == row["tissue"]]
        means = of_tissue.groupby("case")[row["measure"]].mean()
        compare("summary", row, judged_summary(means) | {"cases": means.count()} | absent(of_tissue))
    for _, row in agreement.iterrows():
        rows = per_case[per_case["tissue"] == row["tissue"]]
        sides = rows["volume_pred_mm3"].to_numpy(float), rows["volume_ref_mm3"].to_numpy(float)
        compare("agreement", row, judged_agreement(*sides) | {"cases": len(rows)} | absent(rows))
        for name, (number, without) in judged_influence(*sides).items():
            if row[f"{name}_influence_case"] != rows["case"].iloc[number]:
                raise SystemExit(f"{row['tissue']}: {name} owes most to {rows['case'].iloc[number]}, says the judge")
            compare("agreement", row, {f"{name}_without_case": without})
    return list(columns.values())


def absent(rows: pd.DataFrame) -> Numbers:
    """Cases by status other than compared."""
    return {status: float((rows["status"] == status).sum()) for status in ("missing", "spurious", "both_empty")}


def judge_of(column: str) -> str:
    """Who computed a column again: the longest name that it begins with."""
    known = [(word, judge) for words, judge in JUDGES.items() for word in words.split() if column.startswith(word)]
    return max(known, key=lambda pair: len(pair[0]))[1]


def agreement_rows(scores: Path) -> Iterable[tuple[str, ...]]:
    """The chief numbers of agreement.csv as text."""
    for _, row in pd.read_csv(scores / "agreement.csv").iterrows():
        cells = []
        for name in SHOWN:
            digits = 3 if "cc" in name else 0
            value, low, high = (f"{row[f'{name}{end}']:.{digits}f}" for end in ("", "_ci95_low", "_ci95_high"))
            cells.append(f"{value} ({low} … {high})")
        yield row["tissue"], *cells


if __name__ == "__main__":
    main()
