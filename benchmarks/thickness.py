"""How true cartilage thickness is: on shapes of known thickness, and on a real knee against another computation.

Shapes: plates and spherical shells on bone, drawn by their formula at voxel centres on oblique grids. The real knee is
measured a second time with nothing in common but the definition: surfaces by ITK's anti-aliasing level sets
(Whitaker 2000) in place of smoothed masks, rays along the bone's normal in place of nearest surfaces, and area from the
voxel faces of the bone, each weighed by how it faces (Cauchy), in place of a mesh.

python benchmarks/thickness.py [results folder] [data folder]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK
from machine import machine_text
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from truth_sets import DATA

from msksam_cli.core.geometry import Grid
from msksam_cli.core.terminology import TISSUES
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap
from msksam_cli.io.nifti import read_label_map
from msksam_cli.io.thickness_figure import Surface, thickness_png
from msksam_cli.measure.isosurface import box_around
from msksam_cli.measure.thickness import Thickness, cartilage_thickness, thickness_over_bone

KNEE = (
    "femoral-cartilage",
    "medial-tibial-cartilage",
    "lateral-tibial-cartilage",
    "patellar-cartilage",
    "femur",
    "tibia",
    "patella",
    "fibula",
    "lateral-meniscus",
    "medial-meniscus",
)
BONE_OF = {"femoral-cartilage": "femur", "patellar-cartilage": "patella"}
SPACINGS_MM = (
    (0.3, 0.3, 0.3),
    (0.365, 0.365, 0.7),
    (0.5, 0.5, 0.5),
    (0.5, 0.7, 1.5),
    (1.0, 1.0, 1.0),
    (0.5, 0.7, 3.0),
    (2.0, 2.0, 2.0),
    (3.0, 3.0, 3.0),
)
ANGLES_DEG = (90, 60, 35, 20, 8)
TURN = Rotation.from_euler("xyz", (17, -26, 38), degrees=True).as_matrix()
FIELD_MM = 48.0
GROUPS = (("3 or more", 3.0, np.inf), ("2 to 3", 2.0, 3.0), ("1 to 2", 1.0, 2.0), ("fewer than 1", 0.0, 1.0))
LIMIT_MM, LIMIT_PERCENT = 0.1, 3.0


@dataclass(frozen=True)
class Trial:
    """One shape on one grid, and what was measured on it."""

    shape: str
    spacing_mm: tuple[float, float, float]
    true_mm: float
    step_mm: float
    thickness: Thickness

    @property
    def error_mm(self) -> float:
        """Measured minus true mean."""
        return (self.thickness.mean_mm or 0.0) - self.true_mm

    @property
    def voxels_through(self) -> float:
        """Thickness in steps of the grid along the normal."""
        return self.true_mm / self.step_mm

    @property
    def within(self) -> bool:
        """Whether the mean is off by no more than 0.1 mm or 3 %."""
        return abs(self.error_mm) <= max(LIMIT_MM, self.true_mm * LIMIT_PERCENT / 100)

    def cells(self) -> str:
        """One row of the table."""
        spacing = " × ".join(f"{value:g}" for value in self.spacing_mm)
        percent = 100 * self.error_mm / self.true_mm
        mean, sd = self.thickness.mean_mm or 0, self.thickness.sd_mm or 0
        cells = (
            self.shape,
            spacing,
            f"{self.true_mm:g}",
            f"{mean:.3f}",
            f"{self.error_mm:+.3f}",
            f"{percent:+.1f}",
            f"{sd:.3f}",
            f"{self.voxels_through:.1f}",
            "yes" if self.within else "**no**",
        )
        return f"| {' | '.join(cells)} |"


def oblique_grid(spacing_mm: tuple[float, float, float], field_mm: float) -> Grid:
    """A turned grid about the origin."""
    shape = tuple(int(np.ceil(field_mm / step)) for step in spacing_mm)
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.diag(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def plate(spacing_mm: tuple[float, float, float], true_mm: float, angle_deg: float) -> Trial:
    """A plate of 30 × 30 mm on flat bone whose normal is tilted by an angle from the slices' normal."""
    grid = oblique_grid(spacing_mm, FIELD_MM)
    axes = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    in_plane = np.cos(0.5) * axes[:, 0] + np.sin(0.5) * axes[:, 1]
    normal = np.cos(np.radians(angle_deg)) * axes[:, 2] + np.sin(np.radians(angle_deg)) * in_plane
    one = np.cross(normal, axes[:, 0] + 0.1 * axes[:, 2])
    one /= np.linalg.norm(one)
    points = grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    height = points @ normal - 0.13
    on_plate = (np.abs(points @ one) < 15) & (np.abs(points @ np.cross(normal, one)) < 15)
    step = float(np.abs(normal @ grid.affine[:3, :3]).max())
    thickness = thickness_over_bone(height < 0, (height >= 0) & (height < true_mm) & on_plate, grid)
    return Trial(f"plate at {angle_deg}°", spacing_mm, true_mm, step, thickness)


def shell(spacing_mm: tuple[float, float, float], true_mm: float, radius_mm: float = 18.0) -> Trial:
    """A spherical shell on a ball of bone."""
    grid = oblique_grid(spacing_mm, 2 * (radius_mm + true_mm) + 12 * max(spacing_mm))
    centre = np.array([0.11, -0.23, 0.17])
    radius = np.linalg.norm(grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1)) - centre, axis=-1)
    bone, cartilage = radius < radius_mm, (radius >= radius_mm) & (radius < radius_mm + true_mm)
    return Trial("spherical shell", spacing_mm, true_mm, max(spacing_mm), thickness_over_bone(bone, cartilage, grid))


def trials() -> Iterator[Trial]:
    """Every shape, thickness and spacing."""
    for spacing in SPACINGS_MM:
        for true_mm in (1.5, 2.5, 4.0):
            yield shell(spacing, true_mm)
            for angle in ANGLES_DEG:
                yield plate(spacing, true_mm, angle)


def read_knee(data: Path) -> LabelMap:
    """The real label map with its names."""
    table = (replace(known(name), index=index) for index, name in enumerate(KNEE, start=1))
    return read_label_map(data / "knee_labels_dess" / "right_knee_labels.nii.gz", TissueTable(tuple(table)))


def known(name: str) -> Tissue:
    """The known structure of a name."""
    tissue = TISSUES.by_name(name)
    if tissue is None:
        raise KeyError(name)
    return tissue


def level_set(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """ITK's anti-aliased mask (I, J, K): above 0 inside, its zero the smooth surface."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    smooth = SimpleITK.AntiAliasBinary(image, maximumRMSError=0.01, numberOfIterations=100)
    return np.asarray(SimpleITK.GetArrayFromImage(smooth), dtype=np.float32)


def rays(
    bone: NDArray[np.bool_], cartilage: NDArray[np.bool_], spacing: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Mean and sd of thickness in mm along the bone's normals, and the area in mm² that carries cartilage."""
    inner, outer = (level_set(mask, tuple(spacing)) for mask in (bone, bone | cartilage))
    gradient = np.stack(
        [ndimage.gaussian_filter(inner, 1.5, order=np.eye(3, dtype=int)[a]) / spacing[a] for a in range(3)]
    )
    starts, weights, normals = [], [], []
    for axis in range(3):
        first, second = (np.moveaxis(bone, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        faces = np.argwhere(np.moveaxis(first != second, 0, axis)).astype(np.float64)
        faces[:, axis] += 0.5
        normal = -np.stack([ndimage.map_coordinates(part, faces.T, order=1) for part in gradient], axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        starts.append(faces)
        normals.append(normal / spacing)
        weights.append(np.abs(normal[:, axis]) * np.prod(np.delete(spacing, axis)))
    start, step, weight = np.concatenate(starts), np.concatenate(normals), np.concatenate(weights)
    enters = first_zero(inner, start - 1.5 * step, step, 3.0) - 1.5
    crossed = np.isfinite(enters)
    start, step, weight, enters = start[crossed], step[crossed], weight[crossed], enters[crossed]
    ahead = np.rint(start + (enters[:, None] + 0.6) * step).astype(int).clip(0, np.array(bone.shape) - 1)
    carries = cartilage[tuple(ahead.T)]
    begin = start[carries] + enters[carries, None] * step[carries]
    values, weight = first_zero(outer, begin + 0.05 * step[carries], step[carries], 12.0) + 0.05, weight[carries]
    found = np.isfinite(values)
    mean = np.average(values[found], weights=weight[found])
    return mean, float(np.sqrt(np.average((values[found] - mean) ** 2, weights=weight[found]))), float(weight.sum())


def first_zero(field: NDArray[np.float32], start: NDArray, step: NDArray, reach_mm: float) -> NDArray[np.float64]:
    """Distance in mm along rays (N,) at which a field first falls to 0, NaN where it does not."""
    stride = 0.1
    before = ndimage.map_coordinates(field, start.T, order=1, mode="nearest")
    found = np.where(before <= 0, 0.0, np.nan)
    for number in range(1, round(reach_mm / stride) + 1):
        now = ndimage.map_coordinates(field, (start + number * stride * step).T, order=1, mode="nearest")
        hit = np.isnan(found) & (now <= 0)
        found[hit] = stride * (number - 1 + before[hit] / (before[hit] - now[hit]))
        before = now
    return found


def knee_rows(labels: LabelMap) -> Iterator[tuple[str, Thickness]]:
    """A row per cartilage of the real knee: both computations, and what volume and areas alone say."""
    spacing = np.array(labels.grid.spacing_mm)
    bones = [tissue.index for tissue in labels.tissues if tissue.group == "bone"]
    boneless = replace(labels, values=np.where(np.isin(labels.values, bones), 0, labels.values))
    for name in KNEE[:4]:
        tissue = next(item for item in labels.tissues if item.name == name)
        box = ndimage.find_objects(labels.values)[tissue.index - 1]
        began = time.perf_counter()
        ours = cartilage_thickness(labels, tissue, box)
        seconds = time.perf_counter() - began
        part = labels.values[box_around(box, labels.grid.shape, 12)]
        bone = part == KNEE.index(BONE_OF.get(name, "tibia")) + 1
        mean, sd, area = rays(bone, part == tissue.index, spacing)
        alone = cartilage_thickness(boneless, tissue, box)
        volume = np.count_nonzero(part == tissue.index) * labels.grid.voxel_volume_mm3
        plain = volume / ((ours.covered_mm2 + ours.articular_mm2) / 2)
        cells = (
            name,
            f"{ours.mean_mm:.3f} ± {ours.sd_mm:.3f}",
            f"{mean:.3f} ± {sd:.3f}",
            f"{ours.mean_mm - mean:+.3f}",
            f"{plain:.3f}",
            f"{alone.mean_mm:.3f} ± {alone.sd_mm:.3f}",
            f"{ours.covered_mm2:.0f}",
            f"{area:.0f}",
            f"{ours.bare_mm2:.0f}",
            f"{seconds:.1f}",
        )
        yield f"| {' | '.join(cells)} |", ours


def report(rows: Sequence[str], made: Sequence[Trial]) -> str:
    """The page of results."""
    lines = [
        "# Cartilage thickness",
        "",
        f"`python benchmarks/thickness.py`, {machine_text()}",
        "",
        "## A real knee, measured twice",
        "",
        "Right knee, 384 × 384 × 160 voxels of 0.365 × 0.365 × 0.7 mm (`knee_labels_dess`: pymskt, MIT). Mean ± sd in",
        "mm over the covered bone. Second computation: ITK's anti-aliased level sets, rays of 0.1 mm steps, area from",
        "voxel faces. Volume over area: the voxels' volume over the mean of bone and articular area, both ours; it is",
        "less than the mean along normals wherever the surfaces are not parallel, as at every edge. Bones left out:",
        "what msksam says when only the cartilages are labelled, from face to face.",
        "",
        "| cartilage | msksam | second computation | difference | volume over area | bones left out | "
        "covered bone mm² | the same, second | enclosed bare bone mm² | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "![thickness over the bones](thickness.png)",
        "",
        "## Shapes of known thickness",
        "",
        "Shells on a ball of 18 mm, plates of 30 × 30 mm with upright edges on flat bone, drawn at voxel centres on",
        "grids turned by 17, −26 and 38°. A plate's angle is that of its normal from the slices' normal: at 90° slices",
        "cut it across, at 8° it lies nearly along them. Within: mean off by no more than "
        f"{LIMIT_MM:g} mm or {LIMIT_PERCENT:g} %.",
        "Voxels through: thickness over the longest step of the grid along the normal.",
        "",
        "| voxels through the plate | trials | within | largest error mm | largest error % |",
        "| --- | --- | --- | --- | --- |",
        *(
            _group_row(name, [trial for trial in made if low <= trial.voxels_through < high])
            for name, low, high in GROUPS
        ),
        "",
        "Cartilage of fewer than two voxels breaks up or swells to whole slices: the label map no longer says where",
        "its surface lies. sd is what the grid adds: the shapes have none.",
        "",
        "| shape | voxel mm | true mm | mean mm | error mm | error % | sd mm | voxels through | within |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(trial.cells() for trial in made),
    ]
    return "\n".join(lines) + "\n"


def _group_row(name: str, group: Sequence[Trial]) -> str:
    largest = max(abs(trial.error_mm) for trial in group)
    percent = max(abs(trial.error_mm) / trial.true_mm for trial in group)
    within = sum(trial.within for trial in group)
    return f"| {name} | {len(group)} | {within} | {largest:.3f} | {100 * percent:.1f} |"


def main() -> None:
    """Write thickness.md and thickness.png."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/results")
    data = Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    rows, measured = zip(*knee_rows(read_knee(data)), strict=True)
    surfaces = [Surface(name, one.points_mm, one.values_mm) for name, one in zip(KNEE, measured, strict=False)]
    (results / "thickness.png").write_bytes(thickness_png(surfaces))
    made = []
    for trial in trials():
        made.append(trial)
        print(trial.cells(), flush=True)
    text = report(rows, made)
    (results / "thickness.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
