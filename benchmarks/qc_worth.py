"""What slice-wise quality control is worth: expected against real Dice on drawn people and on real spines.

    python benchmarks/qc_worth.py judge phantoms|lumbar     segment the set and keep a row per slice; resumes
    python benchmarks/qc_worth.py show [--keep]             the table, from the rows that are there
    python benchmarks/qc_worth.py ship                      fit the bundled model's own on the drawn people
    python benchmarks/qc_worth.py jitter SET [CASE …]       ask again with moved boxes, keep a row per slice; resumes
    python benchmarks/qc_worth.py jitter [--keep]           what that signal adds, from the rows that are there

`phantoms` are the people of `truth_sets` (two of each of five regions, two scans each) by the bundled atlases; `lumbar`
the eleven real spines that are not among the first five, by an atlas of those five (made by
`three_columns.py lumbar-fit`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from qc_jitter import JITTER_COLUMNS, jitter_text, jittered_case, jittered_from_row
from truth_sets import DATA, SETS, Case

from msksam_cli.core.atlases import Atlas
from msksam_cli.core.cores import cores
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.atlas_folder import find_atlas, read_atlas
from msksam_cli.io.curves import Chart, write_charts
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.io.tables import aligned_text, read_csv, write_csv
from msksam_cli.measure.slice_signals import SIGNALS
from msksam_cli.network import Network
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.judged import JUDGED_COLUMNS, Judged, crossed, expected, fitted, judged_slices, worth
from msksam_cli.pipeline.models import load_model
from msksam_cli.pipeline.qc_fit import calibration_chart
from msksam_cli.pipeline.quality_file import write_quality_file
from msksam_cli.pipeline.segment_case import Setup, segment_with_atlas

SHIPPED = Path(__file__).parents[1] / "models" / "checkpoints" / "msksam-small.qc.json"
OUT = Path("msksam-out") / "qc-worth"
RESULTS = Path(__file__).parent / "results"
RESULT = RESULTS / "qc-worth.md"
LEFT_OUT = "## Signals tried and left out\n\n"
LUMBAR_ATLAS = Path("msksam-out") / "three-columns-lumbar-fit" / "lumbar-atlas"


def main() -> None:
    """Judge a set, or show what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("judge", "show", "ship", "jitter"))
    parser.add_argument("set", nargs="?", choices=("phantoms", "lumbar"))
    parser.add_argument("cases", nargs="*", help="beginnings of names, all cases without any")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    options = parser.parse_args()
    if options.what == "judge":
        judge(options.set)
        return
    if options.what == "ship":
        ship()
        return
    if options.what == "jitter" and options.set:
        jitter(options.set, tuple(options.cases))
        return
    if options.what == "jitter":
        text = jitter_shown()
        print(text)
        if options.keep:
            kept = RESULT.read_text().partition(LEFT_OUT)[0]
            RESULT.write_text(f"{kept.rstrip()}\n\n{LEFT_OUT}{text}\n")
        return
    text = shown()
    print(text)
    if options.keep:
        left_out = "".join(RESULT.read_text().partition(LEFT_OUT)[1:]) if RESULT.is_file() else ""
        note = "`benchmarks/qc_worth.py`: each half of the cases foretold by a model fitted on the other half."
        RESULT.write_text(f"{note}\n\n```\n{text}\n```\n\n![calibration](qc-worth.png)\n\n{left_out}".rstrip() + "\n")
        write_charts(RESULTS / "qc-worth.png", list(charts()))


def judge(name: str) -> None:
    """Segment the cases of a set that have no rows yet."""
    model = load_model("msksam-small")
    for case, atlas in _cases(name):
        path = OUT / name / f"{case.name}.csv"
        if path.is_file():
            continue
        truth, tissues = in_numbers_of(atlas, case.labels)
        setup = _setup(model, tissues)
        done = segment_with_atlas(case.volume, atlas, setup)
        rows = judged_slices(case.name, done.labels, done.signals, truth)
        write_csv(path, JUDGED_COLUMNS, [row.row() for row in rows])
        print(f"{case.name}: {len(rows)} slices, mean Dice {np.mean([row.dice for row in rows]):.3f}", flush=True)


def jitter(name: str, wanted: tuple[str, ...]) -> None:
    """Segment cases of a set that have no rows yet, and ask again with moved boxes."""
    model = load_model("msksam-small")
    for case, atlas in _cases(name):
        path = OUT / "jitter" / name / f"{case.name}.csv"
        if path.is_file() or not case.name.startswith(wanted or ""):
            continue
        truth, tissues = in_numbers_of(atlas, case.labels)
        done = jittered_case(case.name, case.volume, atlas, _setup(model, tissues), truth)
        write_csv(path, JITTER_COLUMNS, done.rows())
        print(f"{case.name}: decoding {done.decode_s:.1f} s, {done.jitter_s:.1f} s more for the moves", flush=True)


def _setup(model: Network, tissues: TissueTable) -> Setup:
    root = cache_folder()
    rules = fusion_rules("msksam-small", model)
    return Setup(tissues, model, DiskStore(root), rules, threads=cores(), results=ResultStore(root))


def jitter_shown() -> str:
    """What disagreement under prompt jitter adds, with its time."""
    tables = {name: sorted((OUT / "jitter" / name).glob("*.csv")) for name in ("phantoms", "lumbar")}
    rows = {name: [row for path in paths for row in read_csv(path)] for name, paths in tables.items()}
    off = missed([jittered_from_row(row) for row in rows["lumbar"]])
    return jitter_text({name: [row for row in of_set if row["case"] not in off] for name, of_set in rows.items()})


def _cases(name: str) -> Iterator[tuple[Case, Atlas]]:
    if name == "lumbar":
        atlas = read_atlas(LUMBAR_ATLAS)
        yield from ((case, atlas) for case in islice(SETS["lumbar"](DATA), 5, None))
        return
    atlases: dict[str, Atlas] = {}
    for case in SETS["phantoms"](DATA):
        region = case.name.split("-")[0]
        if region not in atlases:
            atlases[region] = read_atlas(find_atlas(f"{region}-v1"))
        yield case, atlases[region]


def in_numbers_of(atlas: Atlas, labels: LabelMap) -> tuple[LabelMap, TissueTable]:
    """The truth under the atlas's label values, and the tissues that both know."""
    own = {tissue.name: tissue for tissue in atlas.tissues}
    shared = [(tissue.index, own[tissue.name]) for tissue in labels.tissues if tissue.name in own]
    lookup = np.zeros(int(labels.values.max()) + 1, dtype=np.uint16)
    for value, tissue in shared:
        if value < lookup.size:
            lookup[value] = tissue.index
    present = TissueTable(tuple(replace(tissue) for value, tissue in shared if (labels.values == value).any()))
    values = np.where(np.isin(lookup[labels.values], present.indices), lookup[labels.values], 0)
    return LabelMap(values.astype(np.uint16), labels.grid, present), present


def ship() -> None:
    """What the bundled model comes with: fitted on all drawn people that were judged, no scan among them."""
    judged = read_judged("phantoms")
    value = worth(crossed(judged), judged)
    facts = {
        "cases": len({one.case for one in judged}),
        "slices": value.slices,
        "set": "drawn people of benchmarks/truth_sets.py",
        "area_under_roc": value.area_under_roc,
        "mean_error": value.mean_error,
    }
    weights = load_model("msksam-small").weights_sha256
    write_quality_file(SHIPPED, replace(fitted(judged), weights_sha256=weights, fit=facts))
    print(f"{SHIPPED.name}: {facts}")


def read_judged(name: str) -> list[Judged]:
    """The rows of a set that are there."""
    return [Judged.from_row(row) for path in sorted((OUT / name).glob("*.csv")) for row in read_csv(path)]


def charts() -> Iterator[Chart]:
    """Expected beside real Dice of each set."""
    phantoms, lumbar = read_judged("phantoms"), read_judged("lumbar")
    found = [one for one in lumbar if one.case not in missed(lumbar)]
    yield calibration_chart(worth(crossed(phantoms), phantoms), "drawn people, halves in turn")
    yield calibration_chart(worth(crossed(found), found), "real spines at the right level, halves in turn")
    yield calibration_chart(worth(expected(fitted(phantoms), found), found), "the same, fitted on drawn people")


def shown() -> str:
    """The table over all sets that were judged."""
    known = {name: read_judged(name) for name in ("phantoms", "lumbar")}
    known["lumbar, level found"] = [one for one in known["lumbar"] if one.case not in missed(known["lumbar"])]
    known = {name: judged for name, judged in known.items() if judged}
    columns = ("set", "slices", "Dice < 0.7", "AUROC", "mean error", "errors in worst 10 %", "at best")
    rows = []
    for name, judged in known.items():
        rows.append(_row(name, judged, crossed(judged)))
        for signal in SIGNALS:
            rows.append(_row(f"{name}, only {signal}", judged, crossed(judged, (signal,))))
            others = tuple(other for other in SIGNALS if other != signal)
            rows.append(_row(f"{name}, without {signal}", judged, crossed(judged, others)))
    if len(known) > 1:
        model = fitted(known["phantoms"])
        for name in ("lumbar", "lumbar, level found"):
            rows.append(_row(f"{name}, by phantoms", known[name], expected(model, known[name])))
    parts = [aligned_text(columns, rows), f"labelled one level off: {', '.join(missed(known.get('lumbar', [])))}"]
    for name, judged in known.items():
        lines = [(f"{e:.2f}", f"{d:.2f}", str(n)) for e, d, n in worth(crossed(judged), judged).calibration]
        parts.append(f"{name}, calibration\n" + aligned_text(("expected", "Dice", "slices"), lines))
    return "\n\n".join(parts)


def missed(judged: list[Judged]) -> list[str]:
    """Cases none of whose labels meets its tissue, as those of spines labelled one level off."""
    cases = dict.fromkeys(one.case for one in judged)
    return [case for case in cases if np.mean([one.dice for one in judged if one.case == case]) < 0.05]


def _row(name: str, judged: list[Judged], found: np.ndarray) -> tuple[str, ...]:
    one = worth(found, judged)
    roc = f"{one.area_under_roc:.3f}" if one.area_under_roc is not None else ""
    shares = ("" if share is None else f"{share:.0%}" for share in (one.found, one.found_at_best))
    return name, str(one.slices), str(one.bad), roc, f"{one.mean_error:.3f}", *shares


if __name__ == "__main__":
    main()
