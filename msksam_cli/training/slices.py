"""Slices of labelled volumes to learn from: what a user's own cases become.

A slice is asked about in the frame of the decoder's low-res masks, where its labels are kept; boxes and points are
sampled there as for procedural planes, and told to the network in its model frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from msksam_cli.atlas.priors import THIN_GROUPS
from msksam_cli.core.slicing import plane_axes, slice_uint8, take_slice
from msksam_cli.core.tissues import TissueTable
from msksam_cli.core.volume import LabelMap, Volume
from msksam_cli.sam.frame import Frame
from msksam_cli.training.dataset import Batch
from msksam_cli.training.planes import Plane
from msksam_cli.training.questions import Question, sample_questions

MOST_TISSUES = 255
_LEAST_AREA_PX = 12

FeaturesOf = Callable[[NDArray[np.uint8]], NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class TrainingSlice:
    """One labelled slice.

    Attributes:
        subject: whom it shows.
        pixels: (rows, columns) uint8 grey levels.
        truth: (L, L) uint8, ranks of tissues in the low-res frame: 0 is background, 1 the table's first tissue.
        pixel_mm: side of a low-res pixel.
    """

    subject: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    pixel_mm: float


def training_slices(
    subject: str, volume: Volume, labels: LabelMap, tissues: TissueTable, *, low_res_side: int, most: int
) -> list[TrainingSlice]:
    """Slices of a volume on which a wanted tissue is large enough to be asked for, evenly spread over it.

    Args:
        subject: whom the volume shows.
        volume: intensities.
        labels: the truth on the same grid.
        tissues: what is wanted, at most `MOST_TISSUES`.
        low_res_side: side L of the decoder's low-res masks.
        most: most slices; 0 takes all.
    """
    axis, window = volume.grid.slice_axis, volume.window
    rows, columns = plane_axes(axis)
    spacing_mm = volume.grid.spacing_mm
    pixel_mm = float(np.sqrt(spacing_mm[rows] * spacing_mm[columns]))
    found = []
    for index in labelled_slices(labels, tissues, axis):
        truth = _low_res_truth(take_slice(labels.values, axis, index), tissues, low_res_side)
        if np.bincount(truth.ravel(), minlength=2)[1:].max() >= _LEAST_AREA_PX:
            found.append((index, truth))
    if most and len(found) > most:
        found = [found[number] for number in np.linspace(0, len(found) - 1, most).round().astype(int)]
    scale = max(volume.grid.shape[rows], volume.grid.shape[columns]) / low_res_side
    return [
        TrainingSlice(
            subject, slice_uint8(take_slice(volume.intensities, axis, index), window), truth, pixel_mm * scale
        )
        for index, truth in found
    ]


def labelled_slices(labels: LabelMap, tissues: TissueTable, slice_axis: int) -> list[int]:
    """Indices along an axis at which a wanted tissue has a voxel."""
    wanted = np.isin(labels.values, tissues.indices)
    return np.flatnonzero(wanted.any(axis=plane_axes(slice_axis))).tolist()


def _low_res_truth(values: NDArray[np.integer], tissues: TissueTable, side: int) -> NDArray[np.uint8]:
    """Ranks (L, L) of the tissue that covers most of each low-res pixel, where that is at least half of it."""
    frame = Frame((values.shape[0], values.shape[1]), side)
    rows, columns = frame.resized_shape
    truth = np.zeros((side, side), dtype=np.uint8)
    best = np.full((rows, columns), 127, dtype=np.uint8)
    for rank, index in enumerate(tissues.indices, start=1):
        mask = values == index
        if mask.any():
            share = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((columns, rows), Image.BILINEAR))
            truth[:rows, :columns][share > best] = rank
            best = np.maximum(best, share)
    return truth


class SliceBatches(Dataset[Batch]):
    """Batches of slices with questions; every index is its own random state.

    Subjects are drawn alike, however many slices they have.

    Args:
        slices: what to draw from.
        tissues: the table whose ranks the slices' truth holds.
        side_px: side of the model's input.
        images: slices in a batch.
        questions: questions a slice is asked.
        length: batches in all.
        seed: base of all randomness.
        features_of: looks up embeddings by pixels, when the encoder does not learn; else images are given, changed a
            little in contrast and noise.
    """

    def __init__(
        self,
        slices: Sequence[TrainingSlice],
        tissues: TissueTable,
        *,
        side_px: int,
        images: int,
        questions: int,
        length: int,
        seed: int,
        features_of: FeaturesOf | None = None,
    ) -> None:
        self._by_subject: dict[str, list[TrainingSlice]] = {}
        for one in slices:
            self._by_subject.setdefault(one.subject, []).append(one)
        self._subjects = sorted(self._by_subject)
        self._weights: Mapping[int, float] = {rank: 1.0 for rank in range(1, len(tissues) + 1)}
        self._thin = frozenset(rank for rank, tissue in enumerate(tissues, start=1) if tissue.group in THIN_GROUPS)
        self._side_px = side_px
        self._images = images
        self._questions = questions
        self._length = length
        self._seed = seed
        self._features_of = features_of

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self._length:
            raise IndexError(index)
        rng = np.random.default_rng((self._seed, index))
        drawn = [self._draw(rng) for _ in range(self._images)]
        asked = [questions for _, questions in drawn]
        low_res_px = self._side_px / drawn[0][0].truth.shape[0]
        kind = rng.random()
        boxes = np.stack([[q.box_xyxy for q in questions] for questions in asked])
        points = np.stack([[q.points_xy for q in questions] for questions in asked])
        batch = Batch(
            images=torch.empty(0),
            masks=torch.from_numpy(np.stack([[q.mask for q in questions] for questions in asked])),
            boxes_xyxy=torch.from_numpy(_model_px(boxes, low_res_px)),
            points_xy=torch.from_numpy(_model_px(points, low_res_px)),
            point_labels=torch.from_numpy(np.stack([[q.point_labels for q in questions] for questions in asked])),
            use_box=kind < 0.9,
            use_points=kind > 0.5,
            seed=index,
        )
        slices = [one for one, _ in drawn]
        if self._features_of is not None:
            features = np.stack([self._features_of(one.pixels) for one in slices])
            return replace(batch, embeddings=torch.from_numpy(features))
        frames = [Frame((one.pixels.shape[0], one.pixels.shape[1]), self._side_px) for one in slices]
        images = np.zeros((len(slices), self._side_px, self._side_px), dtype=np.uint8)
        for image, frame, one in zip(images, frames, slices, strict=True):
            rows, columns = frame.resized_shape
            image[:rows, :columns] = frame.resize(one.pixels)
        extents = torch.tensor([frame.resized_shape for frame in frames])
        return replace(batch, images=torch.from_numpy(images), extents=extents)

    def _draw(self, rng: np.random.Generator) -> tuple[TrainingSlice, list[Question]]:
        while True:
            slices = self._by_subject[self._subjects[int(rng.integers(len(self._subjects)))]]
            chosen = slices[int(rng.integers(len(slices)))]
            if self._features_of is None:
                chosen = varied(chosen, rng)
            plane = Plane(chosen.truth[None], chosen.pixel_mm, frozenset(), self._thin, dict(self._weights))
            questions = sample_questions(plane, self._questions, rng)
            if questions:
                return chosen, questions


def varied(one: TrainingSlice, rng: np.random.Generator) -> TrainingSlice:
    """The slice as another scanner might have shown it: contrast curve, gain and noise changed a little.

    >>> one = TrainingSlice("a", np.full((4, 5), 100, np.uint8), np.zeros((8, 8), np.uint8), 1.0)
    >>> varied(one, np.random.default_rng(0)).pixels.shape
    (4, 5)
    """
    levels = one.pixels.astype(np.float32) / 255.0
    levels = levels ** np.float32(np.exp(rng.normal(0.0, 0.2))) * np.float32(rng.uniform(0.9, 1.1))
    levels += rng.normal(0.0, rng.uniform(0.0, 0.03), levels.shape).astype(np.float32)
    return replace(one, pixels=np.clip(np.rint(levels * 255.0), 0, 255).astype(np.uint8))


def _model_px(low_res: NDArray[np.float32], low_res_px: float) -> NDArray[np.float32]:
    """Coordinates in model pixels of coordinates in low-res pixels, centres counted from 0 on both sides."""
    return ((low_res + 0.5) * low_res_px - 0.5).astype(np.float32)
