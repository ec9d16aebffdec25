"""Scans of a procedural knee: the slices a protocol would acquire, and the truth on the same grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from msksam_cli.core.geometry import Grid
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.errors import UsageError
from msksam_cli.phantom.knee import KneeShape, knee_label_map, sample_knee_shape
from msksam_cli.phantom.signal import SEQUENCES, Sequence, ideal_echoes, scanned

_FINEST_SLICE_MM = 0.9
_AXES_RAS = {
    "sagittal": ((0.0, -1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
    "coronal": ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0)),
    "axial": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
}


@dataclass(frozen=True)
class Protocol:
    """Where slices lie.

    Attributes:
        orientation: "sagittal", "coronal" or "axial".
        in_plane_mm: pixel spacing.
        slice_spacing_mm: between slice centres.
        slice_thickness_mm: of one slice; at most the spacing.
        slices: how many.
        field_of_view_mm: width and height of the image.
        centre_mm: world position of the middle of the stack.
        tilt_deg: turns of the stack about the world's x, y and z axes.
    """

    orientation: str = "sagittal"
    in_plane_mm: float = 0.5
    slice_spacing_mm: float = 3.0
    slice_thickness_mm: float = 3.0
    slices: int = 30
    field_of_view_mm: tuple[float, float] = (150.0, 150.0)
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 8.0)
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.orientation not in _AXES_RAS:
            raise UsageError(f"unknown orientation {self.orientation!r}", f"Use {', '.join(_AXES_RAS)}")
        if not 0 < self.slice_thickness_mm <= self.slice_spacing_mm + 1e-6 or self.in_plane_mm <= 0 or self.slices < 1:
            raise ValueError("a protocol needs positive spacings, 0 < thickness <= spacing, and a slice")

    @property
    def grid(self) -> Grid:
        """Voxels in order (column, row, slice), as a scanner stores them."""
        axes = _rotation(self.tilt_deg) @ np.array(_AXES_RAS[self.orientation]).T
        spacing = np.array([self.in_plane_mm, self.in_plane_mm, self.slice_spacing_mm])
        columns, rows = (max(1, round(length / self.in_plane_mm)) for length in self.field_of_view_mm)
        affine = np.eye(4)
        affine[:3, :3] = axes * spacing
        middle = (np.array([columns, rows, self.slices]) - 1) / 2
        affine[:3, 3] = np.array(self.centre_mm) - affine[:3, :3] @ middle
        return Grid((columns, rows, self.slices), affine)


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


def acquire(shape: KneeShape, sequence: Sequence, protocol: Protocol, seed: int) -> tuple[Volume, LabelMap]:
    """The first echo of a scan and its truth: thick slices average what lies in them, labels are the majority."""
    scan = acquire_scan(shape, sequence, protocol, seed, first_echo_only=True)
    return scan.echoes[0], scan.labels


def acquire_scan(
    shape: KneeShape, sequence: Sequence, protocol: Protocol, seed: int, first_echo_only: bool = False
) -> Scan:
    """All echoes of a scan and its truth; equal arguments give equal voxels."""
    grid = protocol.grid
    fine, weights = _sub_slices(protocol)
    labels = knee_label_map(shape, fine)
    echoes = []
    wanted = replace(sequence, echo_times_ms=sequence.echo_times_ms[:1]) if first_echo_only else sequence
    for echo, signal in enumerate(ideal_echoes(labels, wanted, seed)):
        stacked = signal.reshape(*grid.shape, len(weights))
        thick = np.tensordot(stacked, weights, axes=1).astype(np.float32)
        intensities = scanned(thick, grid, sequence, seed, echo)
        echoes.append(Volume(intensities, grid, shape.side, "knee"))
    values = _majority(labels.values.reshape(*grid.shape, len(weights)))
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


def _sub_slices(protocol: Protocol) -> tuple[Grid, NDArray[np.float32]]:
    """A grid with an odd number of thin slices per slice, and each thin slice's weight in its thick one."""
    count = 2 * max(0, round((protocol.slice_spacing_mm / _FINEST_SLICE_MM - 1) / 2)) + 1
    thin = protocol.slice_spacing_mm / count
    grid = protocol.grid
    affine = grid.affine.copy()
    step = affine[:3, 2] / count
    affine[:3, 2] = step
    affine[:3, 3] = affine[:3, 3] - step * (count // 2)
    offsets = (np.arange(count) - count // 2) * thin
    inside = np.clip((protocol.slice_thickness_mm / 2 - np.abs(offsets)) / thin + 0.5, 0, 1)
    weights = (inside / inside.sum()).astype(np.float32)
    return Grid((grid.shape[0], grid.shape[1], grid.shape[2] * count), affine), weights


def _majority(stacks: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The commonest value along the last axis; the middle one wins a tie."""
    middle = stacks[..., stacks.shape[-1] // 2]
    best = middle.astype(np.uint8)
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


def _rotation(angles_deg: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation matrix (3, 3): turns about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles_deg)):
        turn = np.eye(3)
        first, second = [(1, 2), (2, 0), (0, 1)][axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
