"""T2 of a real multi-echo knee and of synthetic decays: bias, spread, time, failed fits, and an independent fit.

    python benchmarks/relaxometry.py [--study FOLDER] [--labels FILE] [--keep]

The study is ../shared/data/knee_t2_multiecho (GE 3 T, spin echoes at 6.3 … 50.5 ms, 10 sagittal slices, no labels). Its
regions below were drawn by hand, looking at the first echo and at the map, and stay inside the edges of what they name;
they show that values are plausible, not that a segmentation is right. `--labels` adds the tissues of a label volume
made by `msksam segment` on the same study; where labels reach into marrow and fat, so do their means.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from machine import machine_text
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.optimize import curve_fit
from truth_sets import DATA

from msksam_cli.core.quantity import QuantityMap
from msksam_cli.core.volume import Volume
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import aligned_text, read_tissue_table
from msksam_cli.measure.map_values import map_values
from msksam_cli.measure.relaxometry import FitRules, FitStatus, NoiseFloor, RelaxationFit, fit_decay, log_linear

REGIONS = {
    "trochlear cartilage": (4, ((75, 92), (78, 92), (80, 104), (82, 110), (86, 116), (88, 120), (82, 117), (78, 110))),
    "patellar cartilage": (4, ((70, 66), (72, 70), (73, 80), (73, 92), (71, 92), (70, 80))),
    "tibial cartilage": (9, ((137, 149), (152, 149), (160, 153), (160, 155), (137, 155))),
    "gastrocnemius, one side": (1, ((185, 170), (205, 170), (205, 210), (185, 210))),
    "gastrocnemius, other side": (8, ((185, 190), (200, 190), (200, 230), (185, 230))),
    "quadriceps": (1, ((75, 5), (115, 5), (115, 22), (75, 22))),
    "femoral marrow": (1, ((100, 60), (130, 60), (130, 90), (100, 90))),
}
"""Slice k and corners (i, j) in voxels of the converted volume, axes running to posterior, inferior and right."""

PUBLISHED = {
    "cartilage": (27.0, 46.0, "27 to 45, mean 36.4 ± 5.8, over the sequences of Pai et al. 2008 (Magn Reson Imaging "
                  "26:1215); 46 ± 9 by multi-echo spin echo (PMC4863907); at 7 T the tibia's is a quarter "
                  "shorter than the femur's (Eur J Radiol 2016;85:771)"),
    "muscle": (27.0, 45.0, "27 to 45, mean 34.1 ± 6.6, over the sequences of Pai et al. 2008"),
    "marrow": (42.0, 160.0, "42 to 160 over the sequences of Pai et al. 2008"),
}  # fmt: skip
"""Lowest and highest mean in ms at 3 T, and where they stand."""

KINDS = {"trochlear cartilage": "cartilage", "patellar cartilage": "cartilage", "tibial cartilage": "cartilage",
         "femoral marrow": "marrow"}  # fmt: skip
"""What a region is of; the others are muscle."""

RULES = {
    "rician (default)": FitRules(),
    "rician, first echo skipped": FitRules(skip_first=True),
    "offset": FitRules(NoiseFloor.OFFSET),
    "offset, first echo skipped": FitRules(NoiseFloor.OFFSET, skip_first=True),
    "no noise floor": FitRules(NoiseFloor.NONE),
}
SHOWN_SLICES, LONGEST_SHOWN_MS = (1, 4, 9), 80.0
RESULT = Path(__file__).parent / "results" / "relaxometry.md"
OF_ECHOES = "## Which image to segment"
"""Heading of the last section of the results, which `echoes.py` writes."""
_COLORS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=float)


def main() -> None:
    """Measure, print, and with --keep write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=DATA / "knee_t2_multiecho")
    parser.add_argument("--labels", type=Path, help="label volume of the study, with labels.tsv in the folder above")
    parser.add_argument("--keep", action="store_true", help="write table and figure to benchmarks/results/")
    options = parser.parse_args()
    series = sorted(scan_study(options.study).series, key=lambda one: one.echo_time_ms or 0.0)
    times_ms = [one.echo_time_ms for one in series if one.echo_time_ms is not None]
    volumes = [read_series(one)[0] for one in series]
    images = np.stack([volume.intensities for volume in volumes])
    fits, seconds = {}, {}
    for name, rules in RULES.items():
        started, worked = time.perf_counter(), time.process_time()
        fits[name] = fit_decay(images, times_ms, rules)
        seconds[name] = (time.perf_counter() - started, time.process_time() - worked)
    sections = [
        ("Regions of the knee beside published means", published_table(fits["rician (default)"])),
        ("Regions of the knee, mean ± sd in ms (voxels)", region_table(images, times_ms, fits)),
        ("The whole study, 256 × 256 × 10 voxels × 8 echoes", whole_table(fits, seconds)),
        ("scipy.optimize.curve_fit, voxel by voxel, in the regions", independent_table(images, times_ms, fits)),
        ("Synthetic magnitudes, 4000 voxels each, 8 echoes: mean error ± sd in ms", synthetic_table(times_ms)),
    ]
    if options.labels:
        found = QuantityMap(fits["rician (default)"].time_ms, volumes[0].grid, "ms")
        sections.insert(2, ("The same map inside labels that segment made", label_table(options.labels, found)))
    published = "\n".join(f"- {tissue}: {source}" for tissue, (_, _, source) in PUBLISHED.items())
    text = "\n\n".join(f"## {title}\n\n```\n{table}\n```" for title, table in sections)
    print(text)
    if options.keep:
        of_echoes = "".join(RESULT.read_text(encoding="utf-8").partition(OF_ECHOES)[1:]) if RESULT.is_file() else ""
        draw(volumes[0], fits["rician (default)"]).save(RESULT.with_suffix(".png"), optimize=True)
        note = " ".join((__doc__ or "").split("\n\n")[2].split())
        RESULT.write_text(
            f"# Relaxation times\n\n{note}\n\nPublished means at 3 T in ms:\n\n{published}\n\n"
            "![T2 of three slices, 0 to 80 ms; black where no time can be told](relaxometry.png)\n\n"
            f"{machine_text()}\n\n{text}\n\n{of_echoes}".rstrip()
            + "\n",
            encoding="utf-8",
        )


def region_mask(name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Boolean (I, J, K) of a hand-drawn region."""
    k, corners = REGIONS[name]
    plane = Image.new("1", shape[:2])
    ImageDraw.Draw(plane).polygon(list(corners), fill=1)
    mask = np.zeros(shape, dtype=bool)
    mask[:, :, k] = np.array(plane).T
    return mask


def published_table(fit: RelaxationFit) -> str:
    """The mean of each region, and whether it lies among the published ones."""
    rows = []
    for name in REGIONS:
        low, high, _ = PUBLISHED[KINDS.get(name, "muscle")]
        mean = float(np.nanmean(fit.time_ms[region_mask(name, fit.time_ms.shape)]))
        verdict = "inside" if low <= mean <= high else f"outside by {max(low - mean, mean - high):.1f}"
        rows.append((name, f"{mean:.1f}", f"{low:g}–{high:g}", verdict))
    return aligned_text(("region", "mean ms", "published ms", ""), rows)


def region_table(images: NDArray[np.float32], times_ms: list[float], fits: dict[str, RelaxationFit]) -> str:
    """A row for each region, a column for each way to fit."""
    start, _ = log_linear(np.maximum(images, 1), times_ms)
    rows = []
    for name in REGIONS:
        mask = region_mask(name, images.shape[1:])
        values = [start[mask], *(fit.time_ms[mask] for fit in fits.values())]
        known = [column[np.isfinite(column)] for column in values]
        rows.append(
            (name, str(mask.sum()), *(f"{one.mean():.1f} ± {one.std(ddof=1):.1f} ({one.size})" for one in known))
        )
    return aligned_text(("region", "voxels", "log-linear", *fits), rows)


def label_table(path: Path, found: QuantityMap) -> str:
    """Mean and sd inside each tissue of a label volume, and the median, which voxels of other tissue move less."""
    labels = read_label_map(path, read_tissue_table(path.parent.parent / "labels.tsv"))
    values = map_values(labels, found)
    rows = [
        (
            tissue.name,
            str(int(labels.mask(tissue.index).sum())),
            f"{values[tissue.index].mean or np.nan:.1f} ± {values[tissue.index].sd or np.nan:.1f}",
            f"{np.nanmedian(found.values[labels.mask(tissue.index)]):.1f}",
            values[tissue.index].reason,
        )
        for tissue in labels.tissues
        if tissue.index in values
    ]
    return aligned_text(("tissue", "voxels", "map_mean ± map_sd", "median", "reason"), rows)


def whole_table(fits: dict[str, RelaxationFit], seconds: dict[str, tuple[float, float]]) -> str:
    """Time and what became of each voxel."""
    rows = []
    for name, fit in fits.items():
        shown = fit.status != FitStatus.NO_SIGNAL
        failed = [fit.count(status) / shown.sum() for status in (FitStatus.OUT_OF_RANGE, FitStatus.NOT_CONVERGED)]
        r2 = np.nanpercentile(fit.r2, (5, 50))
        cells = [*(f"{spent:.1f}" for spent in seconds[name]), str(shown.sum()), *(f"{100 * x:.2f}" for x in failed)]
        rows.append((name, *cells, f"{r2[0]:.3f}", f"{r2[1]:.3f}", f"{fit.noise_sd or 0:.1f}"))
    columns = (
        "fit",
        "s",
        "CPU s",
        "voxels with signal",
        "out of range %",
        "not converged %",
        "R² 5 %",
        "R² median",
        "noise sd",
    )
    return aligned_text(columns, rows)


def independent_table(images: NDArray[np.float32], times_ms: list[float], fits: dict[str, RelaxationFit]) -> str:
    """Differences from scipy's own fit of the plain exponential, in every voxel of the regions."""
    times, plain = np.array(times_ms), fits["no noise floor"].time_ms
    differences: list[float] = []
    started = time.perf_counter()
    for name in REGIONS:
        for voxel in zip(*np.nonzero(region_mask(name, images.shape[1:])), strict=True):
            signals = images[(slice(None), *voxel)].astype(float)
            found, _ = curve_fit(lambda t, a, t2: a * np.exp(-t / t2), times, signals, p0=(signals[0], 40.0))
            differences.append(float(plain[voxel] - found[1]))
    each_us = 1e6 * (time.perf_counter() - started) / len(differences)
    absolute = np.abs(differences)
    row = (str(absolute.size), f"{np.nanmedian(absolute):.1e}", f"{np.nanmax(absolute):.1e}",
           str(int(np.isnan(absolute).sum())), f"{each_us:.0f}")  # fmt: skip
    return aligned_text(("voxels", "median |Δ| ms", "largest |Δ| ms", "failed here alone", "scipy's µs a voxel"), [row])


def synthetic_table(times_ms: list[float], voxels: int = 4000) -> str:
    """Mean error and spread of every way to fit, for decays of known time in Rician noise of known spread."""
    rows = []
    for t2_ms, snr, signals in synthetic(times_ms, voxels):
        start, _ = log_linear(signals, times_ms)
        columns = [start.ravel()]
        for rules in RULES.values():
            columns.append(fit_decay(signals, times_ms, rules, noise_sd=1 / snr).time_ms.ravel())
        known = [column[np.isfinite(column) & (column > 0)] for column in columns]
        rows.append((f"{t2_ms:g}", f"{snr:g}", *(f"{one.mean() - t2_ms:+.2f} ± {one.std():.2f}" for one in known)))
    return aligned_text(("T2 ms", "SNR at 0 ms", "log-linear", *RULES), rows)


def synthetic(times_ms: list[float], voxels: int) -> Iterator[tuple[float, float, NDArray[np.float64]]]:
    """T2, signal-to-noise ratio at time 0, and magnitudes (N, V, 1, 1) of amplitude 1."""
    generator = np.random.default_rng(20_240_601)
    for t2_ms in (15.0, 35.0, 60.0):
        for snr in (10.0, 20.0, 50.0):
            pure = np.exp(-np.array(times_ms) / t2_ms)[:, None, None, None]
            real, imaginary = generator.normal(0, 1 / snr, (2, len(times_ms), voxels, 1, 1))
            yield t2_ms, snr, np.hypot(pure + real, imaginary)


def draw(first: Volume, fit: RelaxationFit, scale: int = 2) -> Image.Image:
    """First echo with the regions, the map, and a bar of its colours, for some slices."""
    high = np.percentile(first.intensities, 98)
    panels = []
    for k in SHOWN_SLICES:
        gray = np.clip(first.intensities[:, :, k].T / high, 0, 1)
        left = Image.fromarray((255 * np.repeat(gray[..., None], 3, axis=2)).astype(np.uint8))
        right = Image.fromarray(colored(fit.time_ms[:, :, k].T))
        size = (left.width * scale, left.height * scale)
        left, right = left.resize(size, Image.Resampling.BICUBIC), right.resize(size, Image.Resampling.NEAREST)
        for name, (slice_index, corners) in REGIONS.items():
            if slice_index == k:
                outline = [(scale * (i + 0.5), scale * (j + 0.5)) for i, j in corners]
                for panel in (left, right):
                    ImageDraw.Draw(panel).polygon(outline, outline=(255, 60, 60))
                ImageDraw.Draw(left).text((outline[0][0] + 4, outline[0][1] - 14), name, fill=(255, 160, 160))
        panels.append((left, right))
    width, height = panels[0][0].size
    picture = Image.new("RGB", (width * len(panels), 2 * height + 30))
    for column, (left, right) in enumerate(panels):
        picture.paste(left, (column * width, 0))
        picture.paste(right, (column * width, height))
    bar = colored(np.broadcast_to(np.linspace(0.1, LONGEST_SHOWN_MS, 400, dtype=np.float32), (12, 400)))
    picture.paste(Image.fromarray(bar), (40, 2 * height + 10))
    pen = ImageDraw.Draw(picture)
    pen.text((10, 2 * height + 9), "0 ms", fill="white")
    pen.text((446, 2 * height + 9), f"{LONGEST_SHOWN_MS:g} ms and more", fill="white")
    return picture


def colored(values_ms: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (…, 3) of times; black where there is none."""
    place = np.clip(np.nan_to_num(values_ms) / LONGEST_SHOWN_MS, 0, 1) * (len(_COLORS) - 1)
    channels = [np.interp(place, np.arange(len(_COLORS)), _COLORS[:, channel]) for channel in range(3)]
    return np.where(np.isfinite(values_ms)[..., None], np.stack(channels, axis=-1), 0).astype(np.uint8)


if __name__ == "__main__":
    main()
