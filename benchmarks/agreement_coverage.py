"""How often the intervals of agreement.csv hold the truth, and how often its warnings cry wolf.

    python benchmarks/agreement_coverage.py [--samples N]

Normal cases of mean 100 and sd 10, each measured twice with an independent error of sd 2, the prediction larger by 2:
nothing grows with size and no case is special. Intervals should hold the truth in 95 % of samples; every warning is
false. The table goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

import numpy as np

from msksam_cli.io.tables import aligned_text
from msksam_cli.measure.agreement import tissue_agreements
from msksam_cli.measure.comparison import COMPARED, Comparison

CASES = (5, 8, 16, 40, 100)
SPREAD, ERROR, SHIFT = 10.0, 2.0, 2.0
OF_DIFFERENCES = ERROR * math.sqrt(2)
VARIANCE = SPREAD**2 + ERROR**2
TRUTH = {
    "bias": SHIFT,
    "limit_low": SHIFT - 1.959964 * OF_DIFFERENCES,
    "limit_high": SHIFT + 1.959964 * OF_DIFFERENCES,
    "slope": 0.0,
    "icc_3_1": SPREAD**2 / VARIANCE,
    "ccc": 2 * SPREAD**2 / (2 * VARIANCE + SHIFT**2),
    "median_difference": SHIFT,
    "passing_bablok_slope": 1.0,
}
WARNINGS = {"changes with size": "slope", "carries bias": "outlier", "carries the ICC": "ICC"}


def main() -> None:
    """Sample, count, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    columns = ("cases", *TRUTH, *(f"{name} warned" for name in WARNINGS.values()))
    text = aligned_text(columns, [row(cases, options.samples) for cases in CASES])
    print(text)
    note = (
        f"`benchmarks/agreement_coverage.py`: percent of {options.samples} normal samples in which the 95 % interval "
    )
    note += "holds the truth (a dash: no interval from so few cases), and in which a warning is raised without cause."
    path = Path(__file__).parent / "results" / "agreement-coverage.md"
    path.write_text(f"{note}\n\n```\n{text}\n```\n")


def row(cases: int, samples: int) -> tuple[str, ...]:
    """Percentages for samples of one size."""
    generator = np.random.default_rng(cases)
    held, known, warned = Counter[str](), Counter[str](), Counter[str]()
    for _ in range(samples):
        true = generator.normal(100.0, SPREAD, cases)
        predicted, reference = (
            true + SHIFT + generator.normal(0, ERROR, cases),
            true + generator.normal(0, ERROR, cases),
        )
        (found,) = tissue_agreements(
            [
                Comparison(str(n), 1, "tissue", COMPARED, volume_pred_mm3=float(p), volume_ref_mm3=float(r))
                for n, (p, r) in enumerate(zip(predicted, reference, strict=True))
            ]
        )
        for name, truth in TRUTH.items():
            interval = found.estimates[name].interval
            if interval is not None:
                known[name] += 1
                held[name] += interval[0] <= truth <= interval[1]
        for sign in WARNINGS:
            warned[sign] += any(sign in warning for warning in found.warnings)
    cells = (f"{100 * held[name] / known[name]:.1f}" if known[name] else "-" for name in TRUTH)
    return str(cases), *cells, *(f"{100 * warned[sign] / samples:.1f}" for sign in WARNINGS)


if __name__ == "__main__":
    main()
