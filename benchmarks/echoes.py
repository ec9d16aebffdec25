"""Which image of a multi-echo series to segment: its first echo, the echo of best contrast, or all of them combined.

    python benchmarks/echoes.py drawn [--people N] [--prompts truth]    Dice on drawn knees; rows for each, resumes
    python benchmarks/echoes.py real                     pictures of the real multi-echo knee with the labels of each
    python benchmarks/echoes.py show [--keep]            the table over the rows that are there

Drawn knees are of people never drawn for training, scanned by the OAI's fat-suppressed T2 map, and by spin echoes
without fat suppression at the times of the real study (../shared/data/knee_t2_multiecho). Prompts come from the atlas
as ever, with its prior, or by `--prompts truth` from the truth and without a prior, so that the network alone is
measured and not how the atlas came to lie.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qc_worth import in_numbers_of
from relaxometry import OF_ECHOES, RESULT
from scipy import ndimage
from truth_sets import DATA, PHANTOM_SEED

from msksam_cli.atlas.priors import prompts_from_labels
from msksam_cli.core.atlases import Atlas
from msksam_cli.core.cores import cores
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.atlas_folder import find_atlas, read_atlas
from msksam_cli.io.embedding_store import DiskStore
from msksam_cli.io.figures import write_overlay
from msksam_cli.io.resources import cache_folder
from msksam_cli.io.result_store import ResultStore
from msksam_cli.io.study import read_series, scan_study
from msksam_cli.io.tables import aligned_text, read_csv, write_csv
from msksam_cli.measure.overlap import dice
from msksam_cli.phantom.acquisition import Protocol, acquire_scan
from msksam_cli.phantom.knee import sample_knee_shape
from msksam_cli.phantom.sequences import SEQUENCES
from msksam_cli.phantom.sequences import Sequence as Pulses
from msksam_cli.pipeline.fusion_weights import fusion_rules
from msksam_cli.pipeline.models import load_model
from msksam_cli.pipeline.segment_case import Setup, segment_with_atlas, segment_with_prompts

OUT = Path("msksam-out") / "echoes"
PROMPTS = ("atlas", "truth")
GROUPS = ("bone", "cartilage", "meniscus")
_NOTE = """\
Mean Dice over the tissues of a group, by `benchmarks/echoes.py`: three knees of people never drawn for training, 12
sagittal slices of 0.7 × 0.7 × 4 mm, scanned as the OAI's fat-suppressed T2 map and, with fat, at the times of the real
study. `segment` takes the first echo. The root of the sum of squares of all echoes has less noise. The echo of best
contrast is the one with the steepest edges, without noise's part in them, for the width of its display window; edges
over noise, the other measure, are best in the first echo of drawn knees and in the second of the real one. With prompts
from the truth only the image differs; with prompts from the atlas, so does the way the atlas comes to lie, which moves
Dice by more than the image does, to either side.

The real knee has no truth. No image's labels look better than another's (`echoes.py real`); similarity to the atlas is
0.087 in the first echo, 0.078 in that of best contrast and 0.082 combined, never enough to be trusted, and the body
side, which no tag tells, is decided one way in the first echo and the other way in both others.

The first echo stays, for no gain is consistent. From the truth's prompts, combined echoes gain in menisci and lose in
cartilage; from the atlas's they are better in 3 (bone), 1 (cartilage) and 3 (meniscus) of 6 scans. The echo of best
contrast loses bone and cartilage."""
_SCALE_PX, _ALONG = 1.5, ((0, 1, 0), (0, 0, 1))
PULSES: Mapping[str, Pulses] = {
    "T2 map, fat suppressed": SEQUENCES["t2-multi-echo"],
    "T2 map with fat": replace(
        SEQUENCES["t2-multi-echo"],
        repetition_time_ms=2450.0,
        echo_times_ms=tuple(6.312 * n for n in range(1, 9)),
        fat_suppression=0.0,
    ),
}
"""What a scan is called in the table → how it is made."""


def first(echoes: Sequence[Volume]) -> NDArray[np.float32]:
    """The image of the shortest time."""
    return echoes[0].intensities


def best_contrast(echoes: Sequence[Volume]) -> NDArray[np.float32]:
    """The image with the largest `contrast_in_window`; by `contrast_to_noise` the first image always is the best."""
    return max(echoes, key=contrast_in_window).intensities


def root_sum_of_squares(echoes: Sequence[Volume]) -> NDArray[np.float32]:
    """The images combined as scanners combine several gradient echoes (MEDIC, MERGE)."""
    return np.sqrt(np.sum([one.intensities.astype(np.float64) ** 2 for one in echoes], axis=0)).astype(np.float32)


CANDIDATES: Mapping[str, Callable[[Sequence[Volume]], NDArray[np.float32]]] = {
    "first": first,
    "best contrast": best_contrast,
    "root sum of squares": root_sum_of_squares,
}


def contrast_to_noise(volume: Volume) -> float:
    """Slope of edges (see `_edges`) over the sd of noise."""
    slope, noise_sd = _edges(volume)
    return slope / max(noise_sd, 1e-9)


def contrast_in_window(volume: Volume) -> float:
    """Slope of edges (see `_edges`) over the width of the window in which the network sees the image."""
    low, high = volume.window
    return _edges(volume)[0] / (high - low)


def _edges(volume: Volume) -> tuple[float, float]:
    """Root mean square of the in-plane slope a pixel at a scale of 1.5 pixels without noise's part, and the noise's sd.

    Noise by the mask of Immerkær (Computer Vision and Image Understanding 1996, 64:300) with the median in place of the
    mean; its part in a squared slope of Gaussian scale s is 1 / (8 π s⁴) of its variance along each axis.
    """
    planes = np.moveaxis(volume.intensities, volume.grid.slice_axis, 0).astype(np.float64)
    mask = np.outer((1.0, -2.0, 1.0), (1.0, -2.0, 1.0))
    noise_sd = float(np.median(np.abs(ndimage.convolve(planes, mask[None])))) / 0.6745 / 6.0
    squared = sum(ndimage.gaussian_filter(planes, (0, _SCALE_PX, _SCALE_PX), order=order) ** 2 for order in _ALONG)
    of_noise = 2 * noise_sd**2 / (8 * np.pi * _SCALE_PX**4)
    return float(np.sqrt(max(np.mean(squared) - of_noise, 0.0))), noise_sd


def combined(echoes: Sequence[Volume], candidate: str) -> Volume:
    """One volume from the echoes of a series."""
    return replace(echoes[0], intensities=CANDIDATES[candidate](echoes))


def main() -> None:
    """Draw and measure, look, or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drawn", "real", "show"))
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--prompts", choices=PROMPTS, default="atlas")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/relaxometry.md")
    options = parser.parse_args()
    if options.what == "drawn":
        drawn(options.people, options.prompts)
    elif options.what == "real":
        real()
    else:
        show(options.keep)


def drawn(people: int, prompts: str) -> None:
    """Measure every drawn scan that has no rows yet."""
    atlas = read_atlas(find_atlas("knee-v1"))
    for name, pulses in PULSES.items():
        for person in range(people):
            path = OUT / "rows" / prompts / f"{name}-{person}.csv"
            if not path.is_file():
                rows = _measured(name, pulses, person, atlas, prompts)
                write_csv(path, tuple(rows[0]), rows)


def _measured(name: str, pulses: Pulses, person: int, atlas: Atlas, prompts: str) -> list[dict[str, object]]:
    rng = np.random.default_rng((PHANTOM_SEED, 77, person))
    shape = sample_knee_shape(rng)
    tilt = (float(rng.normal(0, 1.5)), 0.0, float(rng.normal(0, 3.0)))
    protocol = Protocol("sagittal", 0.7, 4.0, 3.0, 12, (140.0, 140.0), tilt_deg=tilt)
    scan = acquire_scan(shape, pulses, protocol, PHANTOM_SEED + 7_700 + person)
    truth, shared = in_numbers_of(atlas, scan.labels)
    tissues = TissueTable(tuple(tissue for tissue in shared if tissue.group in GROUPS))
    setup = _setup(tissues)
    asked = prompts_from_labels(truth, tissues, truth.grid.slice_axis) if prompts == "truth" else None
    rows: list[dict[str, object]] = []
    known: dict[str, LabelMap] = {}
    for candidate in CANDIDATES:
        volume = combined(scan.echoes, candidate)
        if volume.sha256 not in known:
            done = segment_with_prompts(volume, asked, setup) if asked else segment_with_atlas(volume, atlas, setup)
            known[volume.sha256] = done.labels
        labels = known[volume.sha256]
        write_overlay(OUT / prompts / f"{name}-{person}-{candidate}.png", volume, labels, title=f"{name}, {candidate}")
        mine = [
            {"scan": name, "person": person, "image": candidate, "tissue": tissue.name, "group": tissue.group,
             "dice": dice(labels.mask(tissue.index), truth.mask(tissue.index))}
            for tissue in tissues
        ]  # fmt: skip
        rows += mine
        print(name, person, candidate, *(f"{group} {_mean(mine, group):.3f}" for group in GROUPS), flush=True)
    return rows


def _setup(tissues: TissueTable) -> Setup:
    model, root = load_model("msksam-small"), cache_folder()
    rules = fusion_rules("msksam-small", model)
    return Setup(tissues, model, DiskStore(root), rules, threads=cores(), results=ResultStore(root))


def real() -> None:
    """Labels of the real knee by each image, as pictures; there is no truth."""
    series = sorted(scan_study(DATA / "knee_t2_multiecho").series, key=lambda one: one.echo_time_ms or 0.0)
    echoes = [read_series(one)[0] for one in series]
    for one, volume in zip(series, echoes, strict=True):
        found = f"contrast to noise {contrast_to_noise(volume):.1f}, in window {contrast_in_window(volume):.4f}"
        print(f"TE {one.echo_time_ms} ms: {found}")
    atlas = read_atlas(find_atlas("knee-v1"))
    setup = _setup(TissueTable(tuple(tissue for tissue in atlas.tissues if tissue.group in GROUPS)))
    for candidate in CANDIDATES:
        volume = combined(echoes, candidate)
        done = segment_with_atlas(volume, atlas, setup)
        write_overlay(OUT / f"real-{candidate}.png", volume, done.labels, title=f"real knee, {candidate}")
        print(candidate, done.placed.fit if done.placed else "")


def show(keep: bool) -> None:
    """Print the tables, and keep them as a section of the results of relaxometry."""
    text = "\n\n".join(f"Prompts: {prompts}\n\n```\n{table(prompts)}\n```" for prompts in PROMPTS)
    print(text)
    if keep:
        kept = RESULT.read_text(encoding="utf-8").partition(OF_ECHOES)[0].rstrip()
        RESULT.write_text(f"{kept}\n\n{OF_ECHOES}\n\n{_NOTE}\n\n{text}\n", encoding="utf-8")


def table(prompts: str) -> str:
    """Mean Dice by scan, image and group over the knees, and each knee's own."""
    rows = [row for path in sorted((OUT / "rows" / prompts).glob("*.csv")) for row in read_csv(path)]
    lines = []
    for name in dict.fromkeys(row["scan"] for row in rows):
        people = sorted({row["person"] for row in rows if row["scan"] == name})
        for candidate in CANDIDATES:
            own = [row for row in rows if row["scan"] == name and row["image"] == candidate]
            cells = []
            for group in GROUPS:
                each = [_mean([row for row in own if row["person"] == person], group) for person in people]
                cells.append(f"{np.mean(each):.3f} ({', '.join(f'{one:.2f}' for one in each)})")
            lines.append((name, candidate, *cells))
    return aligned_text(("scan", "image", *(f"{group}: mean (each knee)" for group in GROUPS)), lines)


def _mean(rows: Sequence[Mapping[str, object]], group: str) -> float:
    """Mean Dice over the tissues of a group."""
    return float(np.mean([float(str(row["dice"])) for row in rows if row["group"] == group]))


if __name__ == "__main__":
    main()
