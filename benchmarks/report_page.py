"""How large a report is and how soon it can be worked with, in a headless Chromium.

python benchmarks/report_page.py RUN[:IMAGES] … [--many 400] [--repeats 5] [--pictures DIR] [--output FILE.md]

RUN is an output folder of `msksam segment`, IMAGES the study it was made of (only for NIfTI input). `--many` adds a run
of so many cases, copied under new names from the first run given. Times of loading are medians, counted from the
navigation: the document is parsed (DOMContentLoaded), and a key that goes to the first case was answered and its
picture decoded. Then: from a key to the next case and its decoded picture (median of up to 20 in the middle of the
page); a filter by text; the viewer with its first volume, niivue unpacked and compiled, by software rendering. Memory
is the private memory of all of the browser's processes after all cases were passed. Writing is counted in processor
seconds, all else in time by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser, find_chromium
from machine import machine_text

from msksam_cli.io.tables import read_csv, write_csv
from msksam_cli.pipeline.report import ReportOptions, run_report

PICTURE = "document.querySelector('section.case.current img')?.complete"
STEPS = 20


@dataclass(frozen=True)
class Source:
    """A run folder, and the study it was made of where the run does not keep its images."""

    run: Path
    images: Path | None


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    cases: int
    volumes: int
    megabytes: float
    write_cpu_s: float
    parsed_ms: float
    first_case_ms: float
    next_case_ms: float
    filter_ms: float
    viewer_ms: float | None
    memory_mb: float


def measured(name: str, source: Source, repeats: int, pictures: Path | None) -> Row:
    """Write the report of a run and work with it."""
    started = time.process_time()
    report = run_report(ReportOptions(source.run, source.images))
    write_cpu_s = time.process_time() - started
    loads = [load(report.path) for _ in range(repeats)]
    with Browser(chromium()) as page:
        page.open(report.path)
        begin = max(0, min(report.cases // 2, report.cases - 2))
        steps = [stepped(page, begin + number) for number in range(min(STEPS, report.cases - 1 - begin))]
        filtered = page.run("""(() => { const field = document.getElementById('filter-text'), begun = performance.now();
            field.value = 'doubt'; field.dispatchEvent(new Event('input')); document.body.offsetHeight;
            const took = performance.now() - begun; document.getElementById('clear').click(); return took; })()""")
        page.run("for (const one of document.querySelectorAll('section.case')) one.scrollIntoView()")
        for _ in range(report.cases):
            page.press("j")
        memory = private_mb(page)
        viewer = opened_viewer(page, report.path) if report.has_viewer else None
        if pictures:
            take_pictures(page, report.path, pictures / name)
        complaints = [*page.complaints(), *(one for one in page.requested() if not one.startswith("file:"))]
    if complaints:
        raise SystemExit(f"{name}: {complaints}")
    parsed, first = (statistics.median(values) for values in zip(*loads, strict=True))
    return Row(
        name, report.cases, report.volumes, report.megabytes, write_cpu_s, parsed, first, statistics.median(steps),
        filtered, viewer, memory,
    )  # fmt: skip


def load(path: Path) -> tuple[float, float]:
    """Milliseconds until a new browser has parsed the page, and until it shows the first case by a key."""
    with Browser(chromium()) as page:
        page.open(path)
        parsed = page.run("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        page.press("j")
        page.wait(PICTURE)
        page.run("document.querySelector('section.case.current img').decode()")
        return parsed, page.run("performance.now()")


def stepped(page: Browser, number: int) -> float:
    """Milliseconds from a key to the picture of the next case."""
    page.run(f"document.querySelectorAll('section.case')[{number}].focus()")
    started = time.perf_counter()
    page.press("j")
    page.wait(PICTURE)
    page.run("document.querySelector('section.case.current img').decode()")
    return 1000 * (time.perf_counter() - started)


def opened_viewer(page: Browser, path: Path) -> float:
    """Milliseconds from a key to three planes in a page that had not shown any."""
    page.open(path)
    page.press("j")
    name = page.run("document.querySelector('section.case:has(script.volume)').dataset.case")
    page.run(
        f"[...document.querySelectorAll('section.case')].find((one) => one.dataset.case === {json.dumps(name)}).focus()"
    )
    started = time.perf_counter()
    page.press("v")
    page.wait(f"document.documentElement.dataset.viewer === {json.dumps(name)}")
    return 1000 * (time.perf_counter() - started)


def private_mb(page: Browser) -> float:
    """Private memory of the browser and its children, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, parent = int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(parent, []).append(number)
    wanted, total_kb = [page.process_id], 0
    while wanted:
        number = wanted.pop()
        wanted += children.get(number, [])
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return total_kb / 1024


def take_pictures(page: Browser, path: Path, stem: Path) -> None:
    """The page as it opens, in the dark, in 400 px, and the viewer."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for ending, width, dark, keys in (
        ("light", 1280, False, ""), ("dark", 1280, True, "j"), ("narrow", 400, False, "j"),
        ("viewer", 1280, False, "jv"),
    ):  # fmt: skip
        page.resize(width, 900, dark=dark)
        page.open(path)
        page.press(*keys)
        time.sleep(3 if "v" in keys else 1)
        stem.with_name(f"{stem.name}-{ending}.png").write_bytes(page.picture())


def many(source: Source, count: int, folder: Path) -> Source:
    """A run of `count` cases: files of a run under new names, hard links where the disk allows."""
    metrics, flags = (read_csv(source.run / name) for name in ("metrics.csv", "qc.csv"))
    cases = list(dict.fromkeys(row["case"] for row in metrics))
    run, study = folder / "run", folder / "study"
    renamed = {f"case-{number:04d}": cases[number % len(cases)] for number in range(count)}
    for new, case in renamed.items():
        for path in sorted(source.run.glob(f"*/{case}.*")):
            link(path, run / path.parent.name / f"{new}{path.name.removeprefix(case)}")
        if source.images and (image := next(source.images.rglob(f"{case}.nii.gz"), None)):
            link(image, study / f"{new}.nii.gz")
    for name, rows in (("metrics.csv", metrics), ("qc.csv", flags)):
        copies = [{**row, "case": new} for new, case in renamed.items() for row in rows if row["case"] == case]
        write_csv(run / name, tuple(rows[0]), copies)
    link(source.run / "labels.tsv", run / "labels.tsv")
    return Source(run, study if study.is_dir() else None)


def link(path: Path, target: Path) -> None:
    """A hard link, or a copy on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def chromium() -> str:
    """Path of a Chromium."""
    path = find_chromium()
    if path is None:
        raise SystemExit("no Chromium is installed")
    return path


def text(rows: Iterable[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| run | cases | in the viewer | MB | written, CPU s | parsed ms | first case ms | next case ms | filter ms "
        "| viewer ms | memory MB |",
        "| --- |" + " ---: |" * 10,
    ]
    for row in rows:
        viewer = "" if row.viewer_ms is None else f"{row.viewer_ms:.0f}"
        cells = (
            row.name, str(row.cases), str(row.volumes), f"{row.megabytes:.1f}", f"{row.write_cpu_s:.1f}",
            f"{row.parsed_ms:.0f}", f"{row.first_case_ms:.0f}", f"{row.next_case_ms:.0f}", f"{row.filter_ms:.0f}",
            viewer, f"{row.memory_mb:.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure each run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="RUN, or RUN:IMAGES")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    sources = [Source(Path(run), Path(images) if images else None)
               for run, _, images in (entry.partition(":") for entry in chosen.runs)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        named = [(source.run.name, source) for source in sources]
        if chosen.many:
            named.append((f"{chosen.many} copies", many(sources[0], chosen.many, Path(folder))))
        rows = []
        for name, source in named:
            rows.append(measured(name, source, chosen.repeats, chosen.pictures))
            print(text(rows[-1:]).splitlines()[-1], flush=True)
    page = f"{(__doc__ or '').partition(chr(10) * 2)[2].strip()}\n\n{machine_text()}\n\n{text(rows)}\n"
    if chosen.output:
        chosen.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
