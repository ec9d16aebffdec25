"""The study, labels and network of the tests, for scripts that segment hundreds of times."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

from msksam_cli.io.atomic import TEMPORARY_PREFIX
from msksam_cli.io.tables import write_tissue_table
from msksam_cli.pipeline.segment_options import SegmentOptions

_TESTS = Path(__file__).resolve().parents[2] / "tests"
_COMPARED_FOLDERS = ("labels", "prompts", "figures", "images")
_COMPARED_TABLES = ("labels.tsv", "labels.label.txt", "labels.ctbl", "qc.csv", "slices.csv")
_TIMED_TABLE, _TIME_COLUMN = "metrics.csv", "seconds"


def _tests_conftest() -> Any:
    specification = importlib.util.spec_from_file_location("msksam_small_study", _TESTS / "conftest.py")
    if specification is None or specification.loader is None:
        raise SystemExit("the tests' conftest.py is not beside the benchmarks")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their own module up
    specification.loader.exec_module(module)
    return module


def write_study(root: Path, cases: int) -> SegmentOptions:
    """Write `cases` small volumes with labels and a random network below `root`; return what segments them."""
    tests = _tests_conftest()
    study = tests.SmallStudy(root / "study", root / "truth" / "labels")
    write_tissue_table(root / "truth" / "labels.tsv", tests.BONES)
    for number in range(cases):
        study.add(f"c{number:03d}", shift_px=number % 7)
    checkpoint = root / "random.safetensors"
    tests.write_small_checkpoint(checkpoint)
    return SegmentOptions(
        study.images,
        ("bone",),
        root / "out",
        model=str(checkpoint),
        prompts=f"labels:{study.labels}",
        device="cpu",
        cache=root / "cache",
    )


def comparable(run_folder: Path) -> dict[str, bytes]:
    """Path → bytes of everything two runs of one job must have equal: all but times and hashes of the run's own."""
    names = [path for folder in _COMPARED_FOLDERS for path in sorted((run_folder / folder).glob("*"))]
    names = [path for path in names if not path.name.startswith(TEMPORARY_PREFIX)]
    names += [run_folder / name for name in _COMPARED_TABLES if (run_folder / name).is_file()]
    found = {path.relative_to(run_folder).as_posix(): path.read_bytes() for path in names}
    if (run_folder / _TIMED_TABLE).is_file():
        found[_TIMED_TABLE] = _without_times((run_folder / _TIMED_TABLE).read_text(encoding="utf-8"))
    return found


def corrupt(run_folder: Path, whole: dict[str, bytes]) -> int:
    """How many files under final names are not what they should be.

    Such are files of a case other than the unbroken run's (`whole`, as `comparable` gives it), JSON that does not
    parse, and tables whose last line is cut.
    """
    bad = sum(content != whole[name] for name, content in comparable(run_folder).items() if "/" in name)
    for path in (*run_folder.glob("records/c*.json"), *run_folder.glob("[!.]*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            bad += 1
    return bad + sum(not path.read_bytes().endswith(b"\n") for path in run_folder.glob("[!.]*.csv"))


def _without_times(table: str) -> bytes:
    rows = [{**row, _TIME_COLUMN: ""} for row in csv.DictReader(io.StringIO(table))]
    return repr(rows).encode()
