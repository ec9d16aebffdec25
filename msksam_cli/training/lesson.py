"""From a batch to its loss: several rounds of questions, as segment-anything was trained.

The first round asks with a box, with points, or with both. Each later round adds one point where the last answer was
wrong and gives that answer back as a mask prompt (Kirillov et al., Segment Anything, ICCV 2023, appendix A).
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msksam_cli.sam.model import Sam, box_mask_prompt
from msksam_cli.training.dataset import Batch
from msksam_cli.training.losses import sam_loss


class Lesson(nn.Module):
    """A network in training; calling it with a batch gives the batch's loss.

    Args:
        sam: the network; parts that do not learn have `requires_grad` off.
        box_as_mask: whether boxes are also given as dense masks, see `box_mask_prompt`.
        rounds: rounds a question is asked.
        bf16: whether the arithmetic that bears it runs in bfloat16.
    """

    def __init__(self, sam: Sam, *, box_as_mask: bool = True, rounds: int = 1, bf16: bool = True) -> None:
        super().__init__()
        self.sam = sam
        self._box_as_mask = box_as_mask
        self._rounds = rounds
        self._bf16 = bf16

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss of all questions and rounds of a batch."""
        embeddings = self._embeddings(batch)  # (B, 256, h, w)
        truth = batch.masks.to(embeddings.device).float()  # (B, P, H, W), H = 4 h
        rng = np.random.default_rng(batch.seed)
        losses = [
            self._loss_of_image(embeddings[image : image + 1], batch, image, truth[image], rng)
            for image in range(len(embeddings))
        ]
        return torch.stack(losses).mean()

    def _embeddings(self, batch: Batch) -> Tensor:
        device = self.sam.device
        if batch.embeddings is not None:
            return batch.embeddings.to(device, torch.float32)
        images = batch.images.to(device, torch.float32)[:, None].expand(-1, 3, -1, -1)  # (B, 3, S, S)
        images = (images - self.sam.pixel_mean) / self.sam.pixel_std
        if batch.extents is not None:
            images = images * _inside(batch.extents.to(device), images.shape[-1])
        with self._arithmetic(device):
            return cast(Tensor, self.sam.image_encoder(images))

    def _loss_of_image(
        self, embedding: Tensor, batch: Batch, image: int, truth: Tensor, rng: np.random.Generator
    ) -> Tensor:
        device, side_px = embedding.device, self.sam.image_encoder.img_size
        boxes = batch.boxes_xyxy[image].to(device) if batch.use_box else None  # (P, 4)
        points: Tensor | None = None
        labels: Tensor | None = None
        if batch.use_points or boxes is None:
            points = batch.points_xy[image].to(device)  # (P, N, 2)
            labels = batch.point_labels[image].to(device)  # (P, N)
        mask_prompt = None
        if boxes is not None and self._box_as_mask:
            mask_prompt = box_mask_prompt(boxes, side_px, truth.shape[-1])  # (P, 1, H, W)
        losses = []
        for number in range(self._rounds):
            if mask_prompt is not None and number:
                xy, foreground = correction_points(mask_prompt > 0, truth[:, None] > 0.5, side_px, rng)
                points = xy if points is None else torch.cat([points, xy], dim=1)
                labels = foreground if labels is None else torch.cat([labels, foreground], dim=1)
            logits, scores = self._answer(embedding, points, labels, boxes, mask_prompt)
            losses.append(sam_loss(logits, scores, truth))
            best = scores.detach().argmax(dim=1)  # (P,)
            mask_prompt = logits.detach()[torch.arange(len(best), device=best.device), best][:, None]  # (P, 1, H, W)
        return torch.stack(losses).mean()

    def _answer(
        self,
        embedding: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask_prompt: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Low-res logits (P, 4, H, W) and IoU predictions (P, 4)."""
        sparse, dense = self.sam.prompt_encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=mask_prompt
        )
        with self._arithmetic(embedding.device):
            logits, scores = self.sam.mask_decoder.predict_masks(
                image_embeddings=embedding,
                image_pe=self.sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return logits.float(), scores.float()

    def _arithmetic(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bf16)


def correction_points(found: Tensor, truth: Tensor, side_px: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One point per mask, drawn from where it is wrong: foreground where something was missed, else background.

    A mask without an error gives a point inside the truth.

    Args:
        found: (P, 1, H, W) bool.
        truth: (P, 1, H, W) bool, each mask with some true pixels.
        side_px: side of the model's input.
        rng: source of the draw.

    Returns:
        Points (P, 1, 2) float32 in model pixels, and their labels (P, 1) int32, on the masks' device.
    """
    wanted, wrong = truth[:, 0].cpu().numpy(), (found ^ truth)[:, 0].cpu().numpy()
    low_res_px = side_px / truth.shape[-1]
    xy, labels = [], []
    for inside, mistaken in zip(wanted, wrong, strict=True):
        row, column = _draw(mistaken if mistaken.any() else inside, rng)
        xy.append(((column + 0.5) * low_res_px - 0.5, (row + 0.5) * low_res_px - 0.5))
        labels.append(int(inside[row, column]))
    points = torch.tensor(xy, dtype=torch.float32, device=truth.device)[:, None]
    return points, torch.tensor(labels, dtype=torch.int32, device=truth.device)[:, None]


def _draw(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of one true pixel."""
    row, column = np.unravel_index(int(rng.choice(np.flatnonzero(mask))), mask.shape)
    return int(row), int(column)


def _inside(extents: Tensor, side_px: int) -> Tensor:
    """(B, 1, S, S) float: 1 where an image lies, 0 where it is padding."""
    index = torch.arange(side_px, device=extents.device)
    rows, columns = index < extents[:, :1], index < extents[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()
