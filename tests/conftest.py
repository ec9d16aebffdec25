"""A study, labels, an atlas and a network small enough to segment in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msksam_cli.core.geometry import Grid
from msksam_cli.core.tissues import Tissue, TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.io.nifti import form_from_grid, write_label_map, write_volume
from msksam_cli.io.tables import write_tissue_table

BONES = TissueTable((Tissue(2, "femur", "F", "#cc3333", "", "bone"), Tissue(5, "tibia", "T", "#3333cc", "", "bone")))
SPACING_MM = (0.5, 0.7, 3.0)
SHAPE = (26, 22, 6)


@dataclass(frozen=True)
class SmallStudy:
    """Folders of NIfTI images and of labels that say where their two bones are."""

    images: Path
    labels: Path

    def add(self, name: str, *, shift_px: int = 0, affine: np.ndarray | None = None) -> None:
        """Write one more case, each with other voxels."""
        grid = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]) if affine is None else affine)
        volume, labels = two_bones(grid, shift_px=shift_px)
        write_volume(self.images / f"{name}.nii.gz", volume, form_from_grid(grid))
        write_label_map(self.labels / f"{name}.nii.gz", labels, form_from_grid(grid))


def two_bones(grid: Grid, *, shift_px: float = 0, tissues: TissueTable = BONES) -> tuple[Volume, LabelMap]:
    """A large bright and a small dark ellipsoid in grey surroundings, unlike their mirror images."""
    i, j, k = (np.indices(grid.shape) + 0.5) / np.array(grid.shape)[:, None, None, None]
    i = i + shift_px / grid.shape[0]
    first = ((i - 0.35) / 0.27) ** 2 + ((j - 0.4) / 0.3) ** 2 + ((k - 0.45) / 0.4) ** 2 < 1
    second = ((i - 0.78) / 0.13) ** 2 + ((j - 0.65) / 0.2) ** 2 + ((k - 0.6) / 0.3) ** 2 < 1
    values = np.where(first, tissues.indices[0], np.where(second, tissues.indices[1], 0)).astype(np.uint8)
    grey = 300.0 + 400.0 * first - 200.0 * second + 40.0 * i + 5.0 * np.sin(37.0 * i * j + 11.0 * k)
    return Volume(np.rint(grey).astype(np.float32), grid), LabelMap(values, grid, tissues)


@pytest.fixture
def small_study(tmp_path: Path) -> SmallStudy:
    """An empty study with a table of its labels; `add` puts cases into it."""
    study = SmallStudy(tmp_path / "study", tmp_path / "truth" / "labels")
    write_tissue_table(tmp_path / "truth" / "labels.tsv", BONES)
    return study


def write_small_checkpoint(path: Path) -> None:
    """The bundled architecture at 64 px with random weights that give masks with edges."""
    import torch

    from msksam_cli.core.slicing import PREPROCESSING_VERSION
    from msksam_cli.sam.checkpoint import dump_checkpoint
    from msksam_cli.sam.model import build_sam

    torch.set_num_threads(1)
    torch.manual_seed(5)
    sam = build_sam("msksam_small", 64)
    path.write_bytes(dump_checkpoint(sam, "msksam_small", name="random", preprocessing=PREPROCESSING_VERSION))


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with what `write_small_checkpoint` writes."""
    path = tmp_path_factory.mktemp("model") / "random.safetensors"
    write_small_checkpoint(path)
    return path


@dataclass(frozen=True)
class SmallExport:
    """`small_checkpoint` exported by the command into a folder of models, and what the command told."""

    models: Path
    folder: Path
    told: dict[str, Any]


@pytest.fixture(scope="session")
def small_export(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallExport:
    from typer.testing import CliRunner

    from msksam_cli.app import app

    models = tmp_path_factory.mktemp("models")
    arguments = ["export-onnx", "--model", str(small_checkpoint), "--json"]
    done = CliRunner().invoke(app, arguments, env={"MSKSAM_MODELS": str(models)})
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    return SmallExport(models, Path(told["folder"]), told)


@pytest.fixture(scope="session")
def small_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the two bones, built from three cases by msksam itself; its side is unknown."""
    from msksam_cli.atlas.build import Naming, atlas_case, build_atlas
    from msksam_cli.io.atlas_folder import write_atlas

    grid = Grid((40, 36, 14), np.diag([2.0, 2.2, 5.0, 1.0]))
    cases = [atlas_case(*two_bones(grid, shift_px=shift), spacing_mm=3.0) for shift in (0, 1, 2)]
    folder = tmp_path_factory.mktemp("atlases") / "two-bones"
    write_atlas(folder, build_atlas(cases, Naming("two-bones"), spacing_mm=3.0, deformable=False))
    return folder


@pytest.fixture
def make_bones() -> Callable[..., tuple[Volume, LabelMap]]:
    """`two_bones`."""
    return two_bones
