"""Which of the bundled atlases `--atlas auto` takes where the input names no body part.

    python benchmarks/atlas_choice.py

Two people of each region in two scans each, never drawn for an atlas, and the real data beside the project. For every
volume all bundled atlases compete, as with `--tissue all`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from truth_sets import DATA, phantoms

from msksam_cli.core.volume import Volume
from msksam_cli.io.nifti import read_volume
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.pipeline.atlas_choice import atlas_shelf

RESULTS = Path(__file__).parent / "results" / "atlas-choice.md"
LUMBAR_SUBJECTS = ("01", "07", "13", "19", "25", "31")
TUMOUR_PLACES: Mapping[str, str] = {"004": "thigh", "012": "thigh or hip", "026": "thigh", "050": "thigh or hip"}
"""What small images round a tumour show, as judged by eye."""


def volumes(data: Path) -> Iterator[tuple[str, str, Volume]]:
    """Name, region and volume of every case, its body part unsaid."""
    for case in phantoms(data):
        yield f"phantom {case.name}", case.name.partition("-")[0], replace(case.volume, body_part="")
    for subject in LUMBAR_SUBJECTS:
        volume, _ = read_volume(data / "lumbar_vertebrae_mr" / "images" / f"lumbar_{subject}.nii.gz")
        yield f"real lumbar spine {subject}", "lumbar", volume
    for folder in ("knee_bones_mr", "knee_t2_multiecho"):
        volume, _ = read_series(scan_study(data / folder / "study").series[0])
        yield f"real knee, {folder}", "knee", replace(volume, body_part="")
    for subject, place in TUMOUR_PLACES.items():
        volume, _ = read_volume(data / "extremity_tumour_t1" / "images" / f"STS_{subject}.nii.gz")
        yield f"real tumour {subject}", place, volume


def main() -> None:
    """Choose for every volume, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    shelf = atlas_shelf("auto", ("all",))
    rows = []
    for name, region, volume in volumes(arguments.data):
        start = time.perf_counter()
        choice = shelf.choose(volume)
        seconds, taken = time.perf_counter() - start, choice.atlas.body_part
        verdict = "right" if taken in region.split(" or ") else "**wrong**"
        scores = choice.reason.partition(": ")[2]
        rows.append(f"| {name} | {region} | {taken} | {verdict} | {scores} | {seconds:.1f} |")
        print(rows[-1], flush=True)
    RESULTS.write_text(
        "\n".join(
            [
                "Written by `benchmarks/atlas_choice.py`: all bundled atlases compete for volumes that name no body",
                f"part, as with `--tissue all`. {sum('| right |' in row for row in rows)} of {len(rows)} are right.",
                "",
                "| volume | shows | chosen | | scores, best first | s |",
                "| --- | --- | --- | --- | --- | --- |",
                *rows,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
