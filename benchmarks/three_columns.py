"""Atlas alone, SAM with atlas prompts and SAM with true prompts on real sets: `msksam compare` on what lies beside.

    python benchmarks/three_columns.py knee   [--model NAME|FILE]… [--out FOLDER]
    python benchmarks/three_columns.py lumbar
    python benchmarks/three_columns.py lumbar-fit

`knee` compares the bones of the real study with the bundled atlas; `lumbar` builds an atlas from the first ten
subjects and compares the vertebrae of the other six; `lumbar-fit` fits the prior's weight for vertebrae on subjects of
neither part of that test: an atlas from the first five, the weight on the next five. `dess` renders a real knee's
outlines by four sequences. Tables go to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from truth_sets import DATA, SETS, Case

from msksam_cli.core.tissues import TissueTable
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import write_tissue_table
from msksam_cli.pipeline.build_atlas import BuildAtlasOptions, build_atlas
from msksam_cli.pipeline.compare import CompareOptions, compare
from msksam_cli.pipeline.compare_case import ATLAS, ATLAS_PROMPTS, ELLIPSE, TRUE_PROMPTS, Way
from msksam_cli.pipeline.compare_page import comparison_text
from msksam_cli.pipeline.compare_result import ModelComparison

RESULTS = Path(__file__).parent / "results"
ASKED = {
    "knee": ("bone",),
    "lumbar": ("vertebra",),
    "lumbar-fit": ("vertebra",),
    "dess": ("bone", "cartilage", "meniscus"),
}
LUMBAR_PARTS = {"lumbar": (10, 6), "lumbar-fit": (5, 5)}


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=tuple(ASKED))
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", action="append", help="default: msksam-small; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("msksam-out"))
    options = parser.parse_args()
    out, models = options.out / f"three-columns-{options.set}", tuple(options.model or ["msksam-small"])
    if options.set.endswith("-fit"):
        os.environ["MSKSAM_MODELS"] = str(out / "models")  # what is fitted here is not for the user's own runs
    started = time.monotonic()
    atlas, cases = "auto", SETS[options.set.removesuffix("-fit")](options.data)
    if options.set in LUMBAR_PARTS:
        atlas = str(out / "lumbar-atlas")
        trained, tested = LUMBAR_PARTS[options.set]
        write_cases(out / "train", islice(cases, trained))
        if not (out / "lumbar-atlas" / "atlas.toml").is_file():
            build_atlas(BuildAtlasOptions(out / "train", Path(atlas), body_part="lspine", left_out=2))
        cases = islice(cases, tested)
    write_cases(out / "test", cases)
    result = compare(
        CompareOptions(
            out / "test", out / "compare", models, atlas, ASKED[options.set], fit_fusion="-fit" in options.set
        )
    )
    text = comparison_text(result)
    print(f"{text}\n{time.monotonic() - started:.0f} s")
    note = f"`benchmarks/three_columns.py {options.set}`: mean Dice ± sd, atlas {result.atlas}, {', '.join(models)}."
    text += f"\n{mean_line(result)}"
    (RESULTS / f"three-columns-{options.set}.md").write_text(f"{note}\n\n```\n{text}\n```\n")


def mean_line(result: ModelComparison) -> str:
    """Means over tissues of the first model: atlas alone, atlas prompts, true prompts, ellipse."""
    model = result.models[0]
    wanted = Way(ATLAS), Way(ATLAS_PROMPTS, model), Way(TRUE_PROMPTS, model), Way(ELLIPSE)
    last = {one.way: one.measures["dice"].mean for one in result.summaries if one.pool.level == "all"}
    return "mean  " + "  ".join(f"{last[way]:.3f}" for way in wanted)


def write_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Images and labels as `msksam` reads them, with the table that names the labels."""
    for case in cases:
        form = form_from_grid(case.volume.grid)
        write_volume(folder / "images" / f"{case.name}.nii.gz", case.volume, form)
        write_label_map(folder / "labels" / f"{case.name}.nii.gz", case.labels, form)
        write_tissue_table(folder / "labels.tsv", TissueTable(tuple(case.labels.tissues)))


if __name__ == "__main__":
    main()
