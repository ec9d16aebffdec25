"""Scans of procedural anatomy: the slices a protocol would acquire, and the truth on the same grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import REGIONS, tissues_of
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.phantom.artefacts import folded, moved
from msksam_cli.phantom.knee import KneeShape, knee_label_map, sample_knee_shape
from msksam_cli.phantom.protocol import Protocol, thin_slices
from msksam_cli.phantom.signal import SEQUENCES, Sequence, ideal_echoes, scanned

__all__ = ["Anatomy", "Protocol", "Scan", "acquire", "acquire_scan", "anatomy_of", "demo_study", "sampled"]


@dataclass(frozen=True, eq=False)
class Scan:
    """One acquired series with its truth.

    Attributes:
        description: as a scanner would name the series.
        sequence: how tissues were weighed.
        protocol: where slices lie.
        echoes: one volume per echo time of the sequence.
        labels: truth on the volumes' grid.
    """

    description: str
    sequence: Sequence
    protocol: Protocol
    echoes: tuple[Volume, ...]
    labels: LabelMap


@dataclass(frozen=True)
class Anatomy:
    """Something that can be scanned.

    Attributes:
        label_map: its labels on any grid.
        body_part: such as "knee", "" when unknown.
        side: "left", "right" or "" where there are no sides.
        infiltration: part of a tissue that has turned into fat, by label value.
    """

    label_map: Callable[[Grid], LabelMap]
    body_part: str = ""
    side: str = ""
    infiltration: Mapping[int, float] = field(default_factory=dict)


def anatomy_of(subject: Anatomy | KneeShape | LabelMap) -> Anatomy:
    """What a scanner needs to know of a subject; a label map is sampled by `sampled` where slices lie."""
    if isinstance(subject, Anatomy):
        return subject
    if isinstance(subject, KneeShape):
        return Anatomy(partial(knee_label_map, subject), "knee", subject.side)
    return Anatomy(partial(sampled, subject), _region_of(subject))


def sampled(labels: LabelMap, grid: Grid) -> LabelMap:
    """A label map on another grid by the nearest voxel, background outside."""
    to_voxels = np.linalg.inv(labels.grid.affine) @ grid.affine
    values = ndimage.affine_transform(
        labels.values, to_voxels[:3, :3], to_voxels[:3, 3], output_shape=grid.shape, order=0, cval=0
    )
    return LabelMap(values, grid, labels.tissues)


def acquire(
    subject: Anatomy | KneeShape | LabelMap, sequence: Sequence, protocol: Protocol, seed: int
) -> tuple[Volume, LabelMap]:
    """The first image of a scan and its truth: thick slices average what lies in them, labels are the majority."""
    scan = acquire_scan(subject, sequence.image(0), protocol, seed)
    return scan.echoes[0], scan.labels


def acquire_scan(subject: Anatomy | KneeShape | LabelMap, sequence: Sequence, protocol: Protocol, seed: int) -> Scan:
    """All images of a scan and its truth; equal arguments give equal voxels.

    Slices average what lies within their thickness and skip what lies in the gaps; what lies beyond the field of view
    folds in along the phase axis as far as the protocol says.
    """
    anatomy = anatomy_of(subject)
    grid = protocol.grid
    fine, weights, margin_px = thin_slices(protocol)
    labels = anatomy.label_map(fine)
    echoes = []
    for echo, signal in enumerate(ideal_echoes(labels, sequence, seed, anatomy.infiltration)):
        stacked = signal.reshape(*fine.shape[:2], grid.shape[2], len(weights))
        thick = folded(np.tensordot(stacked, weights, axes=1).astype(np.float32), margin_px, protocol.phase_axis)
        sway = np.random.default_rng([seed, 4])
        ghosted = moved(thick, protocol.motion_mm / protocol.in_plane_mm, protocol.phase_axis, sway)
        intensities = scanned(ghosted, grid, sequence, seed, echo)
        echoes.append(Volume(intensities, grid, anatomy.side, anatomy.body_part))
    inner = [slice(None)] * 3
    inner[protocol.phase_axis] = slice(margin_px, fine.shape[protocol.phase_axis] - margin_px)
    values = _majority(labels.values[tuple(inner)].reshape(*grid.shape, len(weights)))
    truth = LabelMap(values, grid, labels.tissues)
    return Scan(f"{protocol.orientation[:3]} {sequence.name}", sequence, protocol, tuple(echoes), truth)


def demo_study(seed: int) -> tuple[Scan, ...]:
    """One knee, three series: sagittal fat-suppressed PD, sagittal DESS, and a T2 map's multi-echo slices."""
    rng = np.random.default_rng(seed)
    shape = sample_knee_shape(rng)
    tilt = (float(rng.normal(0, 1.5)), 0.0, float(rng.normal(0, 3.0)))
    wanted = (
        ("pd-fs-tse", Protocol("sagittal", 0.5, 3.0, 3.0, 32, (150.0, 150.0), tilt_deg=tilt)),
        ("dess", Protocol("sagittal", 0.6, 1.2, 1.2, 84, (144.0, 144.0))),
        ("t2-multi-echo", Protocol("sagittal", 0.7, 4.0, 3.0, 12, (140.0, 140.0), tilt_deg=tilt)),
    )
    return tuple(
        acquire_scan(shape, SEQUENCES[name], protocol, seed * 101 + number)
        for number, (name, protocol) in enumerate(wanted)
    )


def _region_of(labels: LabelMap) -> str:
    """The region whose tissues a label map's own names fit best, "" when none fits."""
    names = {tissue.name for tissue in labels.tissues}
    fits = {region: len(names & {tissue.name for tissue in tissues_of(region)}) for region in REGIONS}
    best = max(REGIONS, key=lambda region: fits[region])
    return best if fits[best] else ""


def _majority(stacks: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The commonest value along the last axis; the middle one wins a tie."""
    middle = stacks[..., stacks.shape[-1] // 2]
    best = middle.copy()
    if stacks.shape[-1] == 1:
        return best
    most = (stacks == middle[..., None]).sum(axis=-1)
    for position in range(stacks.shape[-1]):
        candidate = stacks[..., position]
        votes = (stacks == candidate[..., None]).sum(axis=-1)
        better = votes > most
        best[better] = candidate[better]
        most[better] = votes[better]
    return best
