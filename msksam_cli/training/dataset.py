"""Batches drawn on the fly: every index is its own random state, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from msksam_cli.core.volume import LabelMap
from msksam_cli.phantom.tissues import TUMOUR
from msksam_cli.training.contrast import Levels, Sketch, render, sketch_images
from msksam_cli.training.planes import Plane, cut_plane, random_shapes, with_lesions, with_mottles
from msksam_cli.training.questions import Question, sample_questions
from msksam_cli.training.scanned import ScannedSlice, cut_scanned

_MOTTLED_SHARE = 0.5

LevelsOf = Callable[[np.random.Generator], Levels | None]


@dataclass(frozen=True)
class Batch:
    """Images with their questions.

    Attributes:
        images: (B, S, S) uint8, or the sketch they are still to be rendered from.
        masks: (B, P, S, S) bool.
        boxes_xyxy: (B, P, 4) float32, pixel centres.
        points_xy: (B, P, 3, 2) float32.
        point_labels: (B, P, 3) int32.
        use_box: whether the questions of this batch come with boxes.
        use_points: whether they come with points.
        seed: of whatever chance the questions' later rounds need.
        extents: (B, 2) int rows and columns that hold the image, beyond which it is padding; None when all do.
        embeddings: (B, 256, h, w) float16 of images that were encoded before; their `images` are then not looked at.
    """

    images: Tensor | Sketch
    masks: Tensor
    boxes_xyxy: Tensor
    points_xy: Tensor
    point_labels: Tensor
    use_box: bool
    use_points: bool
    seed: int = 0
    extents: Tensor | None = None
    embeddings: Tensor | None = None

    def images_on(self, device: str | torch.device) -> Tensor:
        """The images (B, S, S) uint8 on a device."""
        return render(self.images, device) if isinstance(self.images, Sketch) else self.images.to(device)


@dataclass(frozen=True, eq=False)
class _Shown:
    """What one image shows, the levels of its labels, and what is asked about it."""

    picture: Plane | NDArray[np.float32]
    levels: Levels | None
    questions: list[Question]


class PhantomBatches(Dataset[Batch]):
    """Batches of planes to be rendered.

    Args:
        label_maps: volumes to cut.
        levels: draws intensities per label for one image, or None for random contrast.
        side_px: side of the images.
        images: images in a batch.
        questions: questions an image is asked.
        length: batches in all.
        seed: base of all randomness.
        shapes_share: share of images that show random shapes.
        scanned: labelled slices of real scans.
        scanned_share: share of images that show them.
        lesion_share: share of anatomical planes with masses drawn into them.
    """

    def __init__(
        self,
        label_maps: Sequence[LabelMap],
        levels: LevelsOf,
        *,
        side_px: int,
        images: int,
        questions: int,
        length: int,
        seed: int,
        shapes_share: float,
        scanned: Sequence[ScannedSlice] = (),
        scanned_share: float = 0.0,
        lesion_share: float = 0.0,
    ) -> None:
        self._label_maps = label_maps
        self._levels = levels
        self._side_px = side_px
        self._images = images
        self._questions = questions
        self._length = length
        self._seed = seed
        self._shapes_share = shapes_share if label_maps else 1.0
        self._scanned = scanned
        self._scanned_share = scanned_share if scanned else 0.0
        self._lesion_share = lesion_share

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self._length:
            raise IndexError(index)
        rng = np.random.default_rng((self._seed, index))
        shown = [self._draw(rng) for _ in range(self._images)]
        kind = rng.random()
        asked = [one.questions for one in shown]
        return Batch(
            images=sketch_images([one.picture for one in shown], rng, [one.levels for one in shown]),
            masks=torch.from_numpy(np.stack([[q.mask for q in questions] for questions in asked])),
            boxes_xyxy=torch.from_numpy(np.stack([[q.box_xyxy for q in questions] for questions in asked])),
            points_xy=torch.from_numpy(np.stack([[q.points_xy for q in questions] for questions in asked])),
            point_labels=torch.from_numpy(np.stack([[q.point_labels for q in questions] for questions in asked])),
            use_box=kind < 0.9,
            use_points=kind > 0.5,
            seed=index,
        )

    def _draw(self, rng: np.random.Generator) -> _Shown:
        while True:
            picture, plane, levels = self._show(rng)
            questions = sample_questions(plane, self._questions, rng)
            if questions:
                return _Shown(picture, levels, questions)

    def _show(self, rng: np.random.Generator) -> tuple[Plane | NDArray[np.float32], Plane, Levels | None]:
        """What is shown, its labels, and the levels to draw them with: a scan, random shapes, or a cut of anatomy."""
        if rng.random() < self._scanned_share:
            return *cut_scanned(self._scanned[int(rng.integers(len(self._scanned)))], self._side_px, rng), None
        if rng.random() < self._shapes_share:
            shapes = random_shapes(self._side_px, rng)
            return shapes, shapes, None
        plane = cut_plane(self._label_maps[int(rng.integers(len(self._label_maps)))], self._side_px, rng)
        if rng.random() < _MOTTLED_SHARE:
            plane = with_mottles(plane, rng)
        if rng.random() < self._lesion_share:
            plane = with_lesions(plane, TUMOUR, rng)
        return plane, plane, self._levels(rng)
