"""`segment` on one and two workers beside one process: seconds, and whether labels are the same bytes.

    python benchmarks/cluster/engine.py lumbar|tumours [--data ../shared/data] [--cases N] [--workers 1,2] [--empty N]

Prompts come from the labels of the set, so that the network and not the placement is what takes the time; `--prompts
atlas` asks the bundled atlases. Every run starts with an empty cache. A worker uses one core each when there are two,
both when it is alone, as the process does. With `--empty N` also N cases of no work at all are sent through the
engine, whose time a case is printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine_text
from truth_sets import SETS, Case

from msksam_cli.cluster.launch import dask_executor
from msksam_cli.cluster.settings import ClusterSettings
from msksam_cli.executor import Work
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import write_tissue_table
from msksam_cli.pipeline.executors import ExecutorOptions
from msksam_cli.pipeline.segment import run_segment
from msksam_cli.pipeline.segment_options import SegmentOptions


def nothing(case: int) -> int:
    """The work of an empty case."""
    return case


def labels(folder: Path) -> dict[str, bytes]:
    """Name → bytes of all label volumes of a run."""
    return {path.name: path.read_bytes() for path in sorted((folder / "labels").iterdir())}


def written(cases: Iterable[Case], root: Path) -> tuple[str, ...]:
    """Write images, labels and their names below a folder; returns the tissues."""
    tissues = None
    for case in cases:
        form = form_from_grid(case.volume.grid)
        write_volume(root / "images" / f"{case.name}.nii.gz", case.volume, form)
        write_label_map(root / "labels" / f"{case.name}.nii.gz", case.labels, form)
        tissues = case.labels.tissues
    if tissues is None:
        raise SystemExit("the set has no cases")
    write_tissue_table(root / "labels.tsv", tissues)
    return tuple(tissue.name for tissue in tissues)


def main() -> int:
    """Print a table; 0 when all labels are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("lumbar", "tumours"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--prompts", choices=("labels", "atlas"), default="labels")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--empty", type=int, default=0)
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="engine-"))
    tissues = written(islice(SETS[asked.set](asked.data), asked.cases), root)
    print(machine_text())
    print("| where | cases | seconds | labels |\n| --- | --- | --- | --- |")
    whole: dict[str, bytes] = {}
    failed = False
    for workers in (0, *map(int, asked.workers.split(","))):
        (root / "cluster.toml").write_text(f'kind = "local"\nworkers = {workers}\n')
        where = ExecutorOptions("dask", cluster=root / "cluster.toml") if workers else ExecutorOptions()
        name = f"{workers} {'worker' if workers == 1 else 'workers'}" if workers else "this process"
        options = SegmentOptions(
            root / "images", tissues if asked.prompts == "labels" else ("vertebra",), root / str(workers),
            prompts=f"labels:{root / 'labels'}" if asked.prompts == "labels" else "atlas",
            cache=root / f"cache-{workers}", device="cpu",
        )  # fmt: skip
        began = time.monotonic()
        run = run_segment(options, where)
        seconds = time.monotonic() - began
        shutil.rmtree(root / f"cache-{workers}")
        found = labels(run.folder)
        whole = whole or found
        failed |= found != whole or run.exit_code != 0
        same = "the first" if not workers else "identical" if found == whole else "DIFFERENT"
        print(f"| {name} | {len(run.outcomes)} | {seconds:.1f} | {same} |", flush=True)
    if asked.empty:
        with dask_executor(settings=ClusterSettings(workers=2)) as executor:
            began = time.monotonic()
            count = sum(1 for _ in executor.run(Work(nothing, str), range(asked.empty)))
            print(f"{count} empty cases: {(time.monotonic() - began) / count * 1000:.2f} ms a case")
    shutil.rmtree(root)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
